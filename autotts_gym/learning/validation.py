"""Validation of policies during their training, against the Confidence Momentum Controller (CMC).

Policy and CMC play the same questions and branch orders every time, and the policy plays its most
likely actions: scores change because the policy changes, not because of sampling noise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

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
        mean_return: mean return in units of a correct answer, after the price of tokens and, with
            latency weights, of sequential tokens; over weights, values of β, environments and
            questions.
        token_shares: at the lowest latency weight, for each environment and each of ``CMC_BETAS``,
            the policy's tokens at CMC's accuracy as a share of CMC's tokens; NaN where the policy
            is never as accurate.
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


class _Sweep(NamedTuple):
    """Means over episodes, float64 with an axis of β."""

    tokens: Floats
    accuracy: Floats
    sequential: Floats


class Validation:
    """A fixed set of episodes that policies are validated on.

    Args:
        stores: environments by name.
        questions: rows of the questions; all by default.
        config: config of the policy's episodes.
        seeds: branch orders of each question.
        latency_weights: values of w at which policies are validated, in ascending order.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        config: EpisodeConfig,
        seeds: int = 4,
        *,
        latency_weights: Sequence[float] = (0.0,),
    ) -> None:
        self._configs = [replace(config, latency_weight=weight) for weight in latency_weights]
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
            sweep = self._sweep(cmc, name, EpisodeConfig(config.max_branches), CMC_BETAS)
            self._cmc[name] = sweep.tokens, sweep.accuracy

    def evaluate(self, policy: Policy, prices: TokenPrices) -> ValidationScore:
        """Score of a policy on these episodes."""
        agent = PolicyAgent.from_network(policy, prices)
        price = np.array([1 / prices.reward_beta(beta) - 1 for beta in POLICY_BETAS])
        returns, token_shares = [], {}
        for name, store in self._stores.items():
            width = self._configs[0].max_branches
            full, longest = store.card.mean_tokens * width, store.longest_tokens(width)
            sweeps = [self._sweep(agent, name, config, POLICY_BETAS) for config in self._configs]
            for config, sweep in zip(self._configs, sweeps, strict=True):
                weight = config.latency_weight
                cost = (1 - weight) * sweep.tokens / full + weight * sweep.sequential / longest
                returns.append(float((sweep.accuracy - price * cost).mean()))
            cmc_tokens, cmc_accuracy = self._cmc[name]
            tokens, accuracy, _ = sweeps[0]
            needed = [float(cost_at(target, tokens, accuracy)) for target in cmc_accuracy]
            token_shares[name] = (np.array(needed) / cmc_tokens).tolist()
        return ValidationScore(float(np.mean(returns)), token_shares)

    def _sweep(
        self, agent: Agent, name: str, config: EpisodeConfig, betas: Sequence[float]
    ) -> _Sweep:
        """Means of an agent's episodes at each β."""
        rollout = Rollout(agent, self._stores[name], config)
        results = [rollout.play(*self._episodes[name], beta) for beta in betas]
        return _Sweep(
            np.array([episodes.tokens.mean() for episodes in results]),
            np.array([episodes.correct.mean() for episodes in results]),
            np.array([episodes.sequential_tokens.mean() for episodes in results]),
        )
