"""Figures with intervals: what is resampled, and what is made of the replicates.

*What is resampled.* Questions are what a benchmark samples; seeds (branch orders) only average
within them. A replicate draws, within every environment, as many questions as there are, with
replacement, and for each of them as many seeds as there are, with replacement. Environments are
fixed: a macro average is the mean over them. Intervals are percentiles of the replicates.

*Paired.* A replicate draws the same questions and seeds for every controller, so a difference
between two of them is a difference of replicates, and its interval is as narrow as their outcomes
are alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Columns of the episodes' table that are averaged.
METRICS: Final = ("correct", "tokens", "sequential_tokens", "actions")

_REPLICATES: Final = 2000
#: Draws at a time, which bounds memory. Another number draws other replicates from the same seed.
_CHUNK: Final = 1 << 22


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure itself.
        low, high: the interval.
        share: share of replicates for which the figure exists (a frontier may not reach a target).
    """

    value: float
    low: float
    high: float
    share: float = 1.0

    @classmethod
    def of(cls, value: float, replicates: Floats, level: float = 0.95) -> Estimate:
        """The percentile interval of ``replicates``, float64[B], around ``value``."""
        found = replicates[np.isfinite(replicates)]
        share = len(found) / len(replicates)
        if not len(found):
            return cls(value, np.nan, np.nan, share)
        tail = 50 * (1 - level)
        low, high = np.percentile(found, (tail, 100 - tail))
        return cls(value, float(low), float(high), share)


@dataclass(frozen=True)
class Means:
    """Means of one row of a benchmark (an agent at one β), and their replicates.

    Attributes:
        value: metric -> mean.
        replicates: metric -> float64[B].
    """

    value: Mapping[str, float]
    replicates: Mapping[str, Floats]

    def estimate(self, metric: str) -> Estimate:
        """A metric's mean with its interval."""
        return Estimate.of(self.value[metric], self.replicates[metric])


def difference(a: Means, b: Means, metric: str) -> Estimate:
    """The paired difference a − b of a metric."""
    return Estimate.of(
        a.value[metric] - b.value[metric], a.replicates[metric] - b.replicates[metric]
    )


def ratio(a: Means, b: Means, metric: str) -> Estimate:
    """The paired ratio a / b of a metric."""
    return Estimate.of(
        a.value[metric] / b.value[metric], a.replicates[metric] / b.replicates[metric]
    )


def resample(
    tables: Sequence[Mapping[str, NDArray[Any]]], *, replicates: int = _REPLICATES, seed: int = 0
) -> list[Means]:
    """Means of rows that played the same questions and seeds of one environment, replicated.

    Args:
        tables: for each row, the columns ``seed``, ``question`` and those of ``METRICS``, sorted
            by seed and question, each question once per seed.
        replicates: B.
        seed: the same seed draws the same replicates.

    Raises:
        ValueError: the rows did not play the same episodes, or not every question once per seed.
    """
    seeds, questions = _grid(tables[0])
    for table in tables[1:]:
        if not all(
            np.array_equal(a, b) for a, b in zip(_grid(table), (seeds, questions), strict=True)
        ):
            raise ValueError("rows can be compared only where they played the same episodes")
    s, q = len(seeds), len(questions)
    # columns[question, seed, row and metric]
    columns = np.stack(
        [
            np.asarray(table[metric], np.float64).reshape(s, q).T
            for table in tables
            for metric in METRICS
        ],
        axis=-1,
    )
    flat = columns.reshape(q * s, -1)
    rng = np.random.default_rng(seed)
    parts = []
    step = max(1, _CHUNK // (q * s))
    for start in range(0, replicates, step):
        size = min(step, replicates - start)
        drawn = rng.multinomial(q, np.full(q, 1 / q), size)
        weights = rng.multinomial(drawn * s, np.full(s, 1 / s))
        parts.append(weights.reshape(size, q * s) @ flat / (q * s))
    means = np.concatenate(parts).reshape(replicates, len(tables), len(METRICS))
    values = flat.mean(axis=0).reshape(len(tables), len(METRICS))
    return [
        Means(
            {metric: float(values[row, m]) for m, metric in enumerate(METRICS)},
            {metric: means[:, row, m] for m, metric in enumerate(METRICS)},
        )
        for row in range(len(tables))
    ]


def macro(parts: Sequence[Means]) -> Means:
    """The mean over environments, each weighing the same; replicates are independent of each other.

    Args:
        parts: one row's means on every environment, resampled with different seeds.
    """
    return Means(
        {m: float(np.mean([part.value[m] for part in parts])) for m in METRICS},
        {m: np.mean([part.replicates[m] for part in parts], axis=0) for m in METRICS},
    )


def _grid(table: Mapping[str, NDArray[Any]]) -> tuple[NDArray[Any], NDArray[Any]]:
    seeds, questions = np.unique(table["seed"]), np.unique(table["question"])
    complete = np.array_equal(
        np.asarray(table["question"]), np.tile(questions, len(seeds))
    ) and np.array_equal(np.asarray(table["seed"]), np.repeat(seeds, len(questions)))
    if not complete:
        raise ValueError("every question must be there once per seed, sorted by seed and question")
    return seeds, questions


# --- frontiers -----------------------------------------------------------------------------------
# A sweep is one agent's rows over its β: tokens and accuracies, float64[..., points].


def pareto(tokens: Sequence[float], accuracies: Sequence[float]) -> list[int]:
    """Rows that no other beats: none has at least its accuracy for fewer tokens, by tokens."""
    order = sorted(range(len(tokens)), key=lambda i: (tokens[i], -accuracies[i]))
    kept: list[int] = []
    for i in order:
        if not kept or accuracies[i] > accuracies[kept[-1]]:
            kept.append(i)
    return kept


def tokens_at(accuracy: float, tokens: Floats, accuracies: Floats) -> float:
    """Fewest tokens at which a sweep reaches an accuracy, between its points linear in log-tokens.

    NaN where it never does: nothing is extrapolated.
    """
    order = np.argsort(tokens)
    x, y = np.log(tokens[order]), accuracies[order]
    if y[0] >= accuracy:
        return float(np.exp(x[0]))
    for left in range(len(x) - 1):
        if y[left + 1] >= accuracy:
            share = (accuracy - y[left]) / (y[left + 1] - y[left])
            return float(np.exp(x[left] + share * (x[left + 1] - x[left])))
    return float("nan")


def accuracy_at(tokens: float, sweep_tokens: Floats, accuracies: Floats) -> float:
    """Accuracy of a sweep at a number of tokens, linear in log-tokens; NaN outside its range."""
    order = np.argsort(sweep_tokens)
    x = np.log(sweep_tokens[order])
    return float(np.interp(np.log(tokens), x, accuracies[order], left=np.nan, right=np.nan))


def area(low: float, high: float, tokens: Floats, accuracies: Floats) -> float:
    """Mean height of a sweep's frontier over log-tokens from ``low`` to ``high``.

    The frontier is the best accuracy that some point reaches for at most so many tokens: a step
    function, 0 below the cheapest point.
    """
    order = np.argsort(tokens)
    best = np.maximum.accumulate(accuracies[order])
    edges = np.clip(np.log(tokens[order]), np.log(low), np.log(high))
    widths = np.diff(np.append(edges, np.log(high)))
    return float((best * widths).sum() / (np.log(high) - np.log(low)))


@dataclass(frozen=True)
class Comparison:
    """An agent's sweep against one row of another.

    Attributes:
        tokens: tokens of the sweep at the row's accuracy, and ``share`` of the row's own.
        accuracy: accuracy of the sweep at the row's tokens, and ``gain`` over the row's own.
    """

    tokens: Estimate
    share: Estimate
    accuracy: Estimate
    gain: Estimate


def compare(sweep: Sequence[Means], row: Means) -> Comparison:
    """Tokens at equal accuracy and accuracy at equal tokens, by interpolation along a β sweep.

    Every replicate interpolates along its own sweep and against its own row.
    """
    tokens = np.array([m.value["tokens"] for m in sweep])
    accuracies = np.array([m.value["correct"] for m in sweep])
    own_tokens, own_accuracy = row.value["tokens"], row.value["correct"]
    at = tokens_at(own_accuracy, tokens, accuracies)
    reached = accuracy_at(own_tokens, tokens, accuracies)
    drawn_tokens = np.stack([m.replicates["tokens"] for m in sweep], axis=-1)
    drawn_accuracies = np.stack([m.replicates["correct"] for m in sweep], axis=-1)
    drawn_at = np.empty(len(drawn_tokens))
    drawn_reached = np.empty(len(drawn_tokens))
    for b, (x, y) in enumerate(zip(drawn_tokens, drawn_accuracies, strict=True)):
        drawn_at[b] = tokens_at(row.replicates["correct"][b], x, y)
        drawn_reached[b] = accuracy_at(row.replicates["tokens"][b], x, y)
    return Comparison(
        tokens=Estimate.of(at, drawn_at),
        share=Estimate.of(at / own_tokens, drawn_at / row.replicates["tokens"]),
        accuracy=Estimate.of(reached, drawn_reached),
        gain=Estimate.of(reached - own_accuracy, drawn_reached - row.replicates["correct"]),
    )
