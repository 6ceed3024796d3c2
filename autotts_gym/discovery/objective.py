"""The objective of the search: the score of a program's β sweep over a search set.

The score at β is the mean accuracy minus the cost of the tokens, in correct answers per question.
Tokens are measured in C, the tokens of reading all branches to their ends, and cost λ(β) per C. The
prices λ are spaced evenly on a logarithmic scale (:mod:`autotts_gym.mdp.token_price`): at β = 0
only a few branches are worth their tokens, at β = 1 tokens cost next to nothing. The mean over β
rewards the whole accuracy-cost frontier in one number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.traces.branch_width import default_width
from autotts_gym.traces.store import TraceStore

#: Values of β at which programs are played.
BETAS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
#: Price of C at β = 0 and at β = 1, in correct answers.
PRICES: Final = TokenPrices(0.5, 0.005)
#: First seed of branch orders; benchmarks start elsewhere, so that the orders differ.
_FIRST_SEED: Final = 2_000_000
#: Number of bootstrap resamples of the questions.
_RESAMPLES: Final = 1000
#: Plays episodes of one environment. Arguments: index of the environment, questions (int64[K]),
#: branch orders (int64[K, max_branches]) and β.
PlayEpisodes = Callable[[int, NDArray[np.int64], NDArray[np.int64], float], EpisodeResults]
#: Smallest accepted ratio of the tokens at β = 1 to the tokens at β = 0.
MIN_SPAN: Final = 2.0
#: Smallest accepted ratio of the tokens at a β to those at the β before.
MIN_RISE: Final = 1.01


def price_at(beta: float) -> float:
    """Price λ(β) of C tokens, in correct answers."""
    return 1 / PRICES.reward_beta(beta) - 1


@dataclass(frozen=True)
class Curve:
    """Results of a β sweep.

    Attributes:
        correct: float64[B, E, Q], share of correct answers by β, environment and question; means
            over branch orders.
        tokens: float64[B, E, Q], total tokens in C.
        sequential: float64[B, E, Q], sequential tokens in C.
    """

    correct: NDArray[np.float64]
    tokens: NDArray[np.float64]
    sequential: NDArray[np.float64]

    @property
    def by_question(self) -> NDArray[np.float64]:
        """Score of each question, float64[Q]."""
        prices = np.array([price_at(beta) for beta in BETAS])
        scores = self.correct - prices[:, None, None] * self.tokens
        means: NDArray[np.float64] = scores.mean(axis=(0, 1))
        return means

    @property
    def score(self) -> float:
        """Mean score over β, environments and questions."""
        return float(self.by_question.mean())

    def rejection(self) -> str:
        """Why the β sweep is rejected; empty if it is accepted.

        Tokens must rise from every β to the next, to ``MIN_RISE`` times as many, within two
        standard errors over questions, and must reach ``MIN_SPAN`` times the tokens at β = 0.
        """
        spent = self.tokens.mean(axis=1)
        rises = spent[1:] - MIN_RISE * spent[:-1]  # beyond the smallest that is accepted
        errors = rises.std(axis=1, ddof=1) / np.sqrt(rises.shape[1]) if rises.shape[1] > 1 else 0.0
        flat = np.flatnonzero(rises.mean(axis=1) < -2 * errors - 1e-9)
        if len(flat):
            b = int(flat[0])
            how = "fall" if spent[b + 1].mean() < spent[b].mean() else "hardly rise"
            return (
                f"tokens {how} from β = {BETAS[b]:g} to {BETAS[b + 1]:g}: a program must spend "
                f"more at every step of β, at least {MIN_RISE:g} times as many tokens"
            )
        low, high = spent[0].mean(), spent[-1].mean()
        if high < MIN_SPAN * low:
            return (
                f"tokens at β = 1 are {high / max(low, 1e-12):.1f} times the tokens at β = 0; they "
                f"must be at least {MIN_SPAN:g} times as many"
            )
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values by β: overall means with 95% intervals, and means by environment.

        Intervals are percentile bootstrap intervals over questions. Tokens are in C.
        """
        values: dict[str, Any] = {"beta": list(BETAS)}
        for name in ("accuracy", "tokens", "sequential"):
            array = self.correct if name == "accuracy" else getattr(self, name)
            values[name] = array.mean(axis=(1, 2)).round(6).tolist()
            values[f"{name}_interval"] = _bootstrap(array.mean(axis=1)).round(6).tolist()
            values[f"{name}_by_environment"] = array.mean(axis=2).round(6).tolist()
        return values


def _bootstrap(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """95% percentile bootstrap intervals of means over the last axis, float64[..., 2]."""
    count = values.shape[-1]
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), _RESAMPLES)
    means = values @ weights.T / count
    return np.moveaxis(np.quantile(means, [0.025, 0.975], axis=-1), 0, -1)


class SearchSet:
    """The questions on which programs are scored, with fixed branch orders.

    Args:
        stores: trace stores by name. Their questions may differ, but not their number of questions.
        questions: rows of the questions; all by default.
        seeds: number of branch orders per question.
        config: episode config; the default config by default.

    Attributes:
        names, stores: names and trace stores of the environments, as lists.
        questions, seeds, config: as above.

    Raises:
        ValueError: the environments have different numbers of questions and ``questions`` is None.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None = None,
        seeds: int = 8,
        config: EpisodeConfig | None = None,
    ) -> None:
        counts = {store.card.questions for store in stores.values()}
        if questions is None and len(counts) > 1:
            raise ValueError(
                f"the environments have {sorted(counts)} questions: give the rows to search on"
            )
        config = config or EpisodeConfig(default_width(stores.values()))
        self.config = config
        self.names, self.stores = list(stores), list(stores.values())
        self.questions = list(range(min(counts)) if questions is None else questions)
        self.seeds = seeds
        self._full_tokens = [
            config.max_branches * store.card.mean_tokens for store in stores.values()
        ]
        rows = np.repeat(np.array(self.questions, np.int64), seeds)
        order_seeds = np.tile(np.arange(_FIRST_SEED, _FIRST_SEED + seeds), len(self.questions))
        n = config.max_branches
        self._orders = [
            dict(
                zip(
                    self.questions,
                    branch_orders("random", order_seeds, rows, store, n).reshape(-1, seeds, n),
                    strict=True,
                )
            )
            for store in stores.values()
        ]

    def sweep(self, play: PlayEpisodes, questions: Sequence[int] | None = None) -> Curve:
        """Run a β sweep on all questions, or on the given rows."""
        rows = self.questions if questions is None else list(questions)
        shape = (len(BETAS), len(self.stores), len(rows))
        correct, tokens, sequential = (np.zeros(shape) for _ in range(3))
        repeated = np.repeat(np.array(rows, np.int64), self.seeds)
        by_question = (len(rows), self.seeds)
        for e, full in enumerate(self._full_tokens):
            orders = np.concatenate([self._orders[e][q] for q in rows])
            for b, beta in enumerate(BETAS):
                results = play(e, repeated, orders, beta)
                correct[b, e] = results.correct.reshape(by_question).mean(axis=1)
                tokens[b, e] = results.tokens.reshape(by_question).mean(axis=1) / full
                critical = results.sequential_tokens.reshape(by_question).mean(axis=1)
                sequential[b, e] = critical / full
        return Curve(correct, tokens, sequential)
