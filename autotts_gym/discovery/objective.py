"""What a program is worth: its β sweep over a search set.

The score of a program at β is its mean accuracy less what its tokens cost at that β's price λ(β) of
C (reading all branches whole), in right answers; over the sweep, prices go evenly on a logarithmic
scale (:mod:`autotts_gym.mdp.token_price`), from where a few branches are worth reading to next to
nothing. So one number rewards the whole frontier, and one knob is all that moves along it.
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
from autotts_gym.traces.store import TraceStore

BETAS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
PRICES: Final = TokenPrices(0.5, 0.005)
#: Seeds of branch orders that no benchmark begins with.
_FIRST_SEED: Final = 2_000_000
#: Draws of questions that intervals are made from.
_DRAWS: Final = 1000
#: Plays questions of an environment, by number: its number, int64[K] questions, int64[K, N] branch
#: orders, and β.
Play = Callable[[int, NDArray[np.int64], NDArray[np.int64], float], EpisodeResults]
#: How many times its cheapest tokens a sweep must spend at the other end.
SPAN: Final = 2.0


@dataclass(frozen=True)
class Curve:
    """A β sweep.

    Attributes:
        correct, tokens, sequential: float64[B, E, Q], means over branch orders; tokens in C.
    """

    correct: NDArray[np.float64]
    tokens: NDArray[np.float64]
    sequential: NDArray[np.float64]

    @property
    def by_question(self) -> NDArray[np.float64]:
        """The score of each question, float64[Q]."""
        price = np.array([1 / PRICES.beta(beta) - 1 for beta in BETAS])
        worth = self.correct - price[:, None, None] * self.tokens
        found: NDArray[np.float64] = worth.mean(axis=(0, 1))
        return found

    @property
    def score(self) -> float:
        return float(self.by_question.mean())

    def fault(self) -> str:
        """Why the knob is none: tokens must rise with it, to ``SPAN`` times as many; or nothing.

        A step down counts where it is more than two standard errors over questions.
        """
        spent = self.tokens.mean(axis=1)
        steps = np.diff(spent, axis=0)
        errors = steps.std(axis=1, ddof=1) / np.sqrt(steps.shape[1]) if steps.shape[1] > 1 else 0.0
        down = np.flatnonzero(steps.mean(axis=1) < -2 * errors - 1e-9)
        if len(down):
            b = int(down[0])
            return (
                f"tokens fall from β = {BETAS[b]:g} to {BETAS[b + 1]:g}: one knob must spend more "
                "as it rises"
            )
        low, high = spent[0].mean(), spent[-1].mean()
        if high < SPAN * low:
            return (
                f"β spans {high / max(low, 1e-12):.1f} times its cheapest tokens, and must at "
                f"least {SPAN:g} times"
            )
        return ""

    def facts(self) -> dict[str, Any]:
        """As plain values, by β: means of all with 95% intervals, and means by environment.

        Intervals are over questions, drawn anew; tokens are in C.
        """
        found: dict[str, Any] = {"beta": list(BETAS)}
        for name in ("accuracy", "tokens", "sequential"):
            values = self.correct if name == "accuracy" else getattr(self, name)
            found[name] = values.mean(axis=(1, 2)).round(6).tolist()
            found[f"{name}_interval"] = _interval(values.mean(axis=1)).round(6).tolist()
            found[f"{name}_by_environment"] = values.mean(axis=2).round(6).tolist()
        return found


def _interval(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """95% intervals of means over the last axis, float64[..., 2]."""
    count = values.shape[-1]
    times = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), size=_DRAWS)
    means = values @ times.T / count
    return np.moveaxis(np.quantile(means, [0.025, 0.975], axis=-1), 0, -1)


class SearchSet:
    """The questions that programs are scored on, always with the same branch orders.

    Args:
        stores: environments by name; they need not have the same questions, but as many.
        questions: their rows; all by default.
        seeds: branch orders of each question.
        terms: of play; the usual ones by default.

    Attributes:
        names, stores: the environments.
        questions, seeds, terms: as above.

    Raises:
        ValueError: the environments have not equally many questions.
    """

    def __init__(
        self,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None = None,
        seeds: int = 8,
        terms: EpisodeConfig | None = None,
    ) -> None:
        counts = {store.card.questions for store in stores.values()}
        if questions is None and len(counts) > 1:
            raise ValueError(
                f"the environments have {sorted(counts)} questions: name those to score by"
            )
        self.terms = terms = terms or EpisodeConfig()
        self.names, self.stores = list(stores), list(stores.values())
        self.questions = list(range(min(counts)) if questions is None else questions)
        self.seeds = seeds
        self._full = [terms.max_branches * store.card.mean_tokens for store in stores.values()]
        asked = np.repeat(np.array(self.questions, np.int64), seeds)
        drawn = np.tile(np.arange(_FIRST_SEED, _FIRST_SEED + seeds), len(self.questions))
        n = terms.max_branches
        self._orders = [
            dict(
                zip(
                    self.questions,
                    branch_orders("random", drawn, asked, store, n).reshape(-1, seeds, n),
                    strict=True,
                )
            )
            for store in stores.values()
        ]

    def sweep(self, play: Play, questions: Sequence[int] | None = None) -> Curve:
        """The β sweep of whoever plays, on all questions or on some."""
        rows = self.questions if questions is None else list(questions)
        shape = (len(BETAS), len(self.stores), len(rows))
        correct, tokens, sequential = (np.zeros(shape) for _ in range(3))
        asked = np.repeat(np.array(rows, np.int64), self.seeds)
        for e, full in enumerate(self._full):
            orders = np.concatenate([self._orders[e][q] for q in rows])
            for b, beta in enumerate(BETAS):
                played = play(e, asked, orders, beta)
                by_question = (len(rows), self.seeds)
                correct[b, e] = played.correct.reshape(by_question).mean(axis=1)
                tokens[b, e] = played.tokens.reshape(by_question).mean(axis=1) / full
                critical = played.sequential_tokens.reshape(by_question).mean(axis=1)
                sequential[b, e] = critical / full
        return Curve(correct, tokens, sequential)
