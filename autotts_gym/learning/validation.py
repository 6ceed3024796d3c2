"""Validation of policies during their training, against the Confidence Momentum Controller (CMC).

Policy and CMC play the same questions and branch orders every time, and the policy plays its most
likely actions: scores change because the policy changes, not because of sampling noise.
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

#: Values of β that a policy is validated at.
POLICY_BETAS: Final = tuple(np.linspace(0, 1, 9).tolist())
#: Values of β of the Confidence Momentum Controller that it is compared with.
CMC_BETAS: Final = (0.25, 0.5, 0.75, 1.0)
#: First seed of the branch orders, apart from the seeds that benchmarks start with.
_FIRST_SEED: Final = 1_000_000


@dataclass(frozen=True)
class ValidationScore:
    """Score of a policy on the validation episodes.

    Attributes:
        mean_return: mean return in units of a correct answer, after the price of tokens; over
            values of β, environments and questions.
        token_shares: for each environment and each of ``CMC_BETAS``, the policy's tokens at CMC's
            accuracy as a share of CMC's tokens; NaN where the policy is never as accurate.
    """

    mean_return: float
    token_shares: dict[str, list[float]]

    def card_entry(self) -> dict[str, Any]:
        """The score as plain values, for a card; None for NaN."""
        shares = {
            env: [round(share, 3) if np.isfinite(share) else None for share in shares]
            for env, shares in self.token_shares.items()
        }
        return {"return": round(self.mean_return, 4), "share_of_cmc_tokens": shares}

    @property
    def mean_token_share(self) -> float:
        """Geometric mean of the token shares that are not NaN; NaN if all are."""
        shares = np.array(list(self.token_shares.values()))
        shares = shares[np.isfinite(shares)]
        return float(np.exp(np.log(shares).mean())) if len(shares) else float("nan")

    @property
    def matched_fraction(self) -> float:
        """Fraction of CMC's accuracies that the policy reaches at some β."""
        return float(np.isfinite(np.array(list(self.token_shares.values()))).mean())


class Validation:
    """A fixed set of episodes that policies are validated on.

    Args:
        stores: environments by name.
        questions: rows of the questions; all by default.
        config: config of the policy's episodes.
        seeds: branch orders of each question.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        config: EpisodeConfig,
        seeds: int = 4,
    ) -> None:
        self._config = config
        self._stores = dict(stores)
        self._episodes: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]] = {}
        self._cmc: dict[str, tuple[Floats, Floats]] = {}
        cmc = load("cmc")
        for name, store in stores.items():
            all_rows = np.arange(store.card.questions) if questions is None else np.array(questions)
            rows = np.repeat(all_rows, seeds)
            order_seeds = np.tile(np.arange(_FIRST_SEED, _FIRST_SEED + seeds), len(all_rows))
            orders = branch_orders("random", order_seeds, rows, store, config.max_branches)
            self._episodes[name] = rows, orders
            self._cmc[name] = self._sweep(cmc, name, EpisodeConfig(config.max_branches), CMC_BETAS)

    def evaluate(self, policy: Policy, prices: TokenPrices) -> ValidationScore:
        """Score of a policy on these episodes."""
        agent = PolicyAgent.from_network(policy, prices)
        price = np.array([1 / prices.reward_beta(beta) - 1 for beta in POLICY_BETAS])
        returns, token_shares = [], {}
        for name, store in self._stores.items():
            tokens, accuracy = self._sweep(agent, name, self._config, POLICY_BETAS)
            full = store.card.mean_tokens * self._config.max_branches
            returns.append(float((accuracy - price * tokens / full).mean()))
            cmc_tokens, cmc_accuracy = self._cmc[name]
            needed = [float(cost_at(target, tokens, accuracy)) for target in cmc_accuracy]
            token_shares[name] = (np.array(needed) / cmc_tokens).tolist()
        return ValidationScore(float(np.mean(returns)), token_shares)

    def _sweep(
        self, agent: Agent, name: str, config: EpisodeConfig, betas: Sequence[float]
    ) -> tuple[Floats, Floats]:
        """Mean tokens and accuracy of an agent at each β, float64[len(betas)] each."""
        rollout = Rollout(agent, self._stores[name], config)
        results = [rollout.play(*self._episodes[name], beta) for beta in betas]
        return (
            np.array([episodes.tokens.mean() for episodes in results]),
            np.array([episodes.correct.mean() for episodes in results]),
        )
