"""How a policy does in the midst of its training, against the Confidence Momentum Controller.

Both play the same questions and branch orders every time, a policy by its likeliest decisions, so
that its figures move because the policy has, and not by the luck of the draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_agent import PolicyAgent
from autotts_gym.controllers.policy_network import Policy
from autotts_gym.evaluation.pareto import cost_at
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.arrays import Floats

#: Knobs at which a policy plays, and β at which the Confidence Momentum Controller does.
KNOBS: Final = tuple(np.linspace(0, 1, 9).tolist())
BETAS: Final = (0.25, 0.5, 0.75, 1.0)
#: Seeds of branch orders that no benchmark begins with.
_FIRST_SEED: Final = 1_000_000


@dataclass(frozen=True)
class ValidationScore:
    """What came of a trial.

    Attributes:
        reward: mean return in right answers, after the price of tokens, over knobs, environments
            and questions.
        shares: by environment, the share of CMC's tokens at which the policy is as accurate, one
            for each of ``BETAS``; NaN where it nowhere is.
    """

    reward: float
    shares: dict[str, list[float]]

    def facts(self) -> dict[str, Any]:
        """The same as plain values, for a card; None stands for what does not exist."""
        shares = {
            env: [round(share, 3) if np.isfinite(share) else None for share in of]
            for env, of in self.shares.items()
        }
        return {"return": round(self.reward, 4), "share_of_cmc_tokens": shares}

    @property
    def share(self) -> float:
        """The geometric mean of those that exist; NaN where none does."""
        found = np.array(list(self.shares.values()))
        found = found[np.isfinite(found)]
        return float(np.exp(np.log(found).mean())) if len(found) else float("nan")

    @property
    def reached(self) -> float:
        """How many of CMC's accuracies the policy has at all, as a share."""
        return float(np.isfinite(np.array(list(self.shares.values()))).mean())


class Validation:
    """Episodes to be played time and again.

    Args:
        stores: environments by name.
        questions: rows of the questions; all by default.
        terms: of play.
        seeds: branch orders of each question.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        terms: EpisodeConfig,
        seeds: int = 4,
    ) -> None:
        self._terms = terms
        self._stores = dict(stores)
        self._episodes: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self._rival: dict[str, tuple[Floats, Floats]] = {}
        cmc = load("cmc")
        for name, store in stores.items():
            rows = np.arange(store.card.questions) if questions is None else np.array(questions)
            asked = np.repeat(rows, seeds)
            drawn = np.tile(np.arange(_FIRST_SEED, _FIRST_SEED + seeds), len(rows))
            orders = branch_orders("random", drawn, asked, store, terms.max_branches)
            self._episodes[name] = asked, orders
            self._rival[name] = self._sweep(cmc, name, EpisodeConfig(terms.max_branches), BETAS)

    def play(self, policy: Policy, prices: TokenPrices) -> ValidationScore:
        """How a policy does now."""
        agent = PolicyAgent.of(policy, prices)
        price = np.array([1 / prices.beta(knob) - 1 for knob in KNOBS])
        rewards, shares = [], {}
        for name, store in self._stores.items():
            tokens, right = self._sweep(agent, name, self._terms, KNOBS)
            full = store.card.mean_tokens * self._terms.max_branches
            rewards.append(float((right - price * tokens / full).mean()))
            their_tokens, their_right = self._rival[name]
            needed = [float(cost_at(accuracy, tokens, right)) for accuracy in their_right]
            shares[name] = (np.array(needed) / their_tokens).tolist()
        return ValidationScore(float(np.mean(rewards)), shares)

    def _sweep(
        self, agent: Agent, name: str, terms: EpisodeConfig, betas: Sequence[float]
    ) -> tuple[Floats, Floats]:
        """Mean tokens and accuracy of an agent along its knob, float64[len(betas)] each."""
        rollout = Rollout(agent, self._stores[name], terms)
        played = [rollout.play(*self._episodes[name], beta) for beta in betas]
        return (
            np.array([episodes.tokens.mean() for episodes in played]),
            np.array([episodes.correct.mean() for episodes in played]),
        )
