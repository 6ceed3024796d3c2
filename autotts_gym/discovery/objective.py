"""The objective of the search: the score of a program's β sweep over a search set.

The score at β and at a weight w of latency is the mean accuracy minus the cost, in correct answers
per question: ``λ(β) · ((1 − w) · tokens / C + w · sequential / L)``. C is the number of tokens of
reading all branches to their ends, and L the expected length of the longest of them. The prices λ
are spaced evenly on a logarithmic scale (:mod:`autotts_gym.mdp.token_price`): at β = 0 only a few
branches are worth their tokens, at β = 1 tokens cost next to nothing. The mean over β and over
the weights rewards the whole frontier of accuracy and both costs in one number.
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
#: branch orders (int64[K, N] with its N, maximum number of branches), β and the weight of latency.
PlayEpisodes = Callable[[int, NDArray[np.int64], NDArray[np.int64], float, float], EpisodeResults]
#: Smallest accepted ratio of the tokens at β = 1 to the tokens at β = 0.
MIN_SPAN: Final = 2.0
#: Smallest accepted ratio of the tokens at a β to those at the β before.
MIN_RISE: Final = 1.01


def price_at(beta: float) -> float:
    """Price λ(β) of C tokens, in correct answers."""
    return 1 / PRICES.reward_beta(beta) - 1


@dataclass(frozen=True)
class Curve:
    """Results of a sweep over β and over weights of latency.

    The sweep has P points: for each weight of latency, all values of β in order.

    Attributes:
        correct: float64[P, E, Q], share of correct answers by point, environment and question;
            means over branch orders.
        tokens: float64[P, E, Q], total tokens in C.
        sequential: float64[P, E, Q], sequential tokens in L.
        latency: weights of latency.
    """

    correct: NDArray[np.float64]
    tokens: NDArray[np.float64]
    sequential: NDArray[np.float64]
    latency: tuple[float, ...] = (0.0,)

    @property
    def points(self) -> list[tuple[float, float]]:
        """β and weight of latency of each point."""
        return [(beta, weight) for weight in self.latency for beta in BETAS]

    @property
    def scores(self) -> NDArray[np.float64]:
        """Score by environment and question, float64[E, Q]."""
        prices = np.array([price_at(beta) for beta, _ in self.points])[:, None, None]
        weights = np.array([weight for _, weight in self.points])[:, None, None]
        costs = (1 - weights) * self.tokens + weights * self.sequential
        means: NDArray[np.float64] = (self.correct - prices * costs).mean(axis=0)
        return means

    @property
    def by_question(self) -> NDArray[np.float64]:
        """Score of each question, float64[Q]."""
        means: NDArray[np.float64] = self.scores.mean(axis=0)
        return means

    @property
    def score(self) -> float:
        """Mean score over β, environments and questions."""
        return float(self.by_question.mean())

    def rejection(self) -> str:
        """Why the β sweep is rejected; empty if it is accepted.

        Tokens must rise from every β to the next, to ``MIN_RISE`` times as many, within two
        standard errors over questions, and must reach ``MIN_SPAN`` times the tokens at β = 0. This
        holds for every weight of latency.
        """
        count = len(BETAS)
        for k, weight in enumerate(self.latency):
            reason = self._rejection(self.tokens[k * count : (k + 1) * count].mean(axis=1))
            if reason:
                return reason if len(self.latency) == 1 else f"latency {weight:g}: {reason}"
        return ""

    @staticmethod
    def _rejection(spent: NDArray[np.float64]) -> str:
        """Why tokens, float64[B, Q], do not rise with β; empty if they do."""
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
        """Plain values by point: overall means with 95% intervals, and means by environment.

        Intervals are percentile bootstrap intervals over questions. Tokens are in C, and sequential
        tokens in L.
        """
        values: dict[str, Any] = {
            "beta": [beta for beta, _ in self.points],
            "latency": [weight for _, weight in self.points],
        }
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
        config: episode config; by default the default one, with the default number of branches of
            each environment.
        latency: weights of latency, each in [0, 1], at which programs are played.

    Attributes:
        names, stores: names and trace stores of the environments, as lists.
        configs: episode config of each environment, with weight of latency 0.
        questions, seeds, latency: as above.
        full_tokens, longest: C and L of each environment, tokens.

    Raises:
        ValueError: the environments have different numbers of questions and ``questions`` is None;
            a weight of latency is not in [0, 1], or there is none.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None = None,
        seeds: int = 8,
        config: EpisodeConfig | None = None,
        latency: Sequence[float] = (0.0,),
    ) -> None:
        counts = {store.card.questions for store in stores.values()}
        if questions is None and len(counts) > 1:
            raise ValueError(
                f"the environments have {sorted(counts)} questions: give the rows to search on"
            )
        in_range = all(0 <= weight <= 1 for weight in latency)
        if not latency or len(set(latency)) != len(latency) or not in_range:
            raise ValueError(f"latency must list different weights in [0, 1], got {list(latency)}")
        self.names, self.stores = list(stores), list(stores.values())
        self.configs = [config or EpisodeConfig(default_width([store])) for store in self.stores]
        self.latency = tuple(latency)
        self.questions = list(range(min(counts)) if questions is None else questions)
        self.seeds = seeds
        widths = [config.max_branches for config in self.configs]
        sized = list(zip(self.stores, widths, strict=True))
        self.full_tokens = [width * store.card.mean_tokens for store, width in sized]
        self.longest = [store.longest_tokens(width) for store, width in sized]
        rows = np.repeat(np.array(self.questions, np.int64), seeds)
        order_seeds = np.tile(np.arange(_FIRST_SEED, _FIRST_SEED + seeds), len(self.questions))
        self._orders = [
            dict(
                zip(
                    self.questions,
                    branch_orders("random", order_seeds, rows, store, n).reshape(-1, seeds, n),
                    strict=True,
                )
            )
            for store, n in sized
        ]

    @property
    def shares_questions(self) -> bool:
        """Whether several environments have the same questions, with traces of different models."""
        questions = [(store.tables.texts, store.tables.golds) for store in self.stores]
        has_texts = all(all(texts) for texts, _ in questions)
        return len(questions) > 1 and has_texts and all(q == questions[0] for q in questions)

    def episodes(
        self, environment: int, questions: Sequence[int] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The episodes of an environment, question by question.

        Args:
            environment: its index.
            questions: rows of the questions; all of the search set by default.

        Returns:
            Rows of the questions, int64[K], and branch orders, int64[K, N of the environment].
        """
        rows = self.questions if questions is None else questions
        orders = np.concatenate([self._orders[environment][q] for q in rows])
        return np.repeat(np.array(rows, np.int64), self.seeds), orders

    def sweep(
        self,
        play: PlayEpisodes,
        questions: Sequence[int] | None = None,
        environments: Sequence[int] | None = None,
        *,
        uses_latency: bool = True,
    ) -> Curve:
        """Run a sweep over β and the weights of latency.

        Args:
            play: plays episodes of one environment.
            questions: rows of the questions; all of the search set by default.
            environments: indices of the environments; all by default.
            uses_latency: whether the program depends on the weight of latency. If not, it is
                played once.
        """
        rows = self.questions if questions is None else list(questions)
        chosen = list(range(len(self.stores))) if environments is None else list(environments)
        shape = (len(self.latency), len(BETAS), len(chosen), len(rows))
        correct, tokens, sequential = (np.zeros(shape) for _ in range(3))
        by_question = (len(rows), self.seeds)
        for at, e in enumerate(chosen):
            repeated, orders = self.episodes(e, rows)
            for k, weight in enumerate(self.latency if uses_latency else self.latency[:1]):
                for b, beta in enumerate(BETAS):
                    results = play(e, repeated, orders, beta, weight)
                    spent = results.tokens / self.full_tokens[e]
                    clock = results.sequential_tokens / self.longest[e]
                    place = k if uses_latency else slice(None), b, at
                    correct[place] = results.correct.reshape(by_question).mean(axis=1)
                    tokens[place] = spent.reshape(by_question).mean(axis=1)
                    sequential[place] = clock.reshape(by_question).mean(axis=1)
        flat = (len(self.latency) * len(BETAS), len(chosen), len(rows))
        return Curve(
            correct.reshape(flat), tokens.reshape(flat), sequential.reshape(flat), self.latency
        )
