"""Bootstrap confidence intervals of benchmark metrics, paired between rows.

*Resampling.* Each replicate draws questions with replacement, as many as the environment has, and
for every drawn question draws seeds (branch orders) with replacement, as many as were played.
Environments are fixed: an average over environments does not generalise to other models or
benchmarks. The recorded branches are fixed as well. If several environments hold the same questions
(one benchmark, several models), a replicate draws the same questions in all of them, because their
errors are correlated. Intervals are percentiles of the replicates. An environment with a single
question has no interval.

*Bias.* The variance between seeds is counted twice, because the means of the questions already
contain it (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
Intervals are therefore conservative, never too narrow: slightly too wide if questions vary more
than seeds do, and √2 times too wide for a difference that is seed noise only.

*Pairing.* A replicate draws the same questions and seeds for every row. The interval of a
difference between two rows is computed from the differences of their replicates, so it is narrow if
the rows answer the same questions correctly.

``scipy.stats.bootstrap`` is not used: it resamples one level only and calls the statistic once per
resample. Here one draw of weights and one matrix product serve all rows and metrics.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from autotts_gym.utils.arrays import Floats, divide_or_nan

Key = TypeVar("Key", bound=Hashable)

#: Episode columns that are averaged.
METRICS: Final = ("correct", "tokens", "sequential_tokens", "actions", "probes")

#: Default number of replicates.
REPLICATES: Final = 2000
#: Number of weights computed at a time; they fit into the processor's cache.
_CHUNK: Final = 1 << 18


@dataclass(frozen=True)
class Estimate:
    """A value with its confidence interval.

    Attributes:
        value: point estimate; NaN if undefined.
        low, high: ends of the interval; NaN without an interval.
        share: share of the replicates in which the value is defined (a sweep may not reach a target
            accuracy); NaN without replicates. The interval covers these replicates only, so it is
            too narrow if the share is well below 1.
    """

    value: float
    low: float
    high: float
    share: float = 1.0

    @classmethod
    def from_replicates(cls, value: float, replicates: Floats, level: float = 0.95) -> Estimate:
        """Return ``value`` with the percentile interval of ``replicates``, float64[B]."""
        defined = replicates[np.isfinite(replicates)]
        share = len(defined) / len(replicates) if len(replicates) else np.nan
        # Without a value there is no interval either: it would suggest that the value exists.
        if np.isnan(value) or not len(defined):
            return cls(value, np.nan, np.nan, share)
        tail = 50 * (1 - level)
        low, high = np.percentile(defined, (tail, 100 - tail))
        return cls(value, float(low), float(high), share)


@dataclass(frozen=True)
class Means:
    """Metric means of one row (an agent at one β), and their bootstrap replicates.

    Attributes:
        value: metric -> mean.
        replicates: metric -> float64[B]; float64[0] if resampling is impossible (one question).
    """

    value: Mapping[str, float]
    replicates: Mapping[str, Floats]

    def estimate(self, metric: str) -> Estimate:
        """The mean of a metric with its interval."""
        return Estimate.from_replicates(self.value[metric], self.replicates[metric])


def difference(a: Means, b: Means, metric: str) -> Estimate:
    """The paired difference a − b of a metric."""
    return Estimate.from_replicates(
        a.value[metric] - b.value[metric], a.replicates[metric] - b.replicates[metric]
    )


def ratio(a: Means, b: Means, metric: str) -> Estimate:
    """The paired ratio a / b of a metric; undefined if b is 0."""
    return Estimate.from_replicates(
        float(divide_or_nan(a.value[metric], b.value[metric])),
        divide_or_nan(a.replicates[metric], b.replicates[metric]),
    )


def resample(
    tables: Mapping[Key, Mapping[str, Any]],
    *,
    replicates: int = REPLICATES,
    seed: int | Sequence[int] = 0,
    question_seed: int | Sequence[int] | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[Key, Means]:
    """Compute the means and replicates of rows that played the same episodes of one environment.

    Args:
        tables: columns of each row: ``seed``, ``question`` and ``metrics``, sorted by seed and
            question, with every question once per seed. Keys name the rows in error messages.
        replicates: B.
        seed: random seed. For a grid of a given size, the same seed draws the same questions and
            seeds, whatever the rows.
        question_seed: separate random seed of the questions, for environments that hold the same
            questions; ``seed`` draws both by default.
        metrics: columns that are averaged.

    Raises:
        ValueError: two rows played different questions or seeds, or a row lacks a question for some
            seed.
    """
    s, q = common_grid(tables)
    # values[question and seed, row and metric]
    values = np.stack(
        [
            np.asarray(table[metric], np.float64).reshape(s, q).T.ravel()
            for table in tables.values()
            for metric in metrics
        ],
        axis=-1,
    )
    shape = (-1, len(tables), len(metrics))
    means = values.mean(axis=0).reshape(shape)[0]
    if q == 1:
        drawn = np.empty((0, *shape[1:]))
    else:
        rng = np.random.default_rng(seed)
        question_rng = rng if question_seed is None else np.random.default_rng(question_seed)
        counts = question_rng.multinomial(q, np.full(q, 1 / q), replicates)
        drawn = (_replicate_sums(counts, s, rng, values) / (q * s)).reshape(shape)
    return {
        key: Means(
            {metric: float(means[row, m]) for m, metric in enumerate(metrics)},
            {metric: drawn[:, row, m] for m, metric in enumerate(metrics)},
        )
        for row, key in enumerate(tables)
    }


def _replicate_sums(
    counts: NDArray[np.int64], s: int, rng: np.random.Generator, values: Floats
) -> Floats:
    """Sum the values that each replicate draws; float64[B, V].

    Args:
        counts: int64[B, Q], how often a replicate draws each question; each draw draws s seeds.
        s: number of seeds.
        rng: generator of the seeds.
        values: float64[Q · s, V].
    """
    sums = []
    step = max(1, _CHUNK // len(values))
    for start in range(0, len(counts), step):
        chunk = counts[start : start + step]
        cells = np.repeat(np.arange(chunk.size) * s, chunk.ravel() * s)
        cells += rng.integers(s, size=len(cells))
        weights = np.bincount(cells, minlength=chunk.size * s).reshape(len(chunk), -1)
        sums.append(weights.astype(np.float64) @ values)
    return np.concatenate(sums)


def macro_average(parts: Sequence[Means]) -> Means:
    """Average one row's means over environments with equal weights.

    Args:
        parts: means on every environment, resampled with different seeds (and with the same
            ``question_seed`` if the questions are the same). The average has replicates only if all
            of them have.
    """
    metrics = [m for m in parts[0].value if all(m in part.value for part in parts)]
    count = min(len(part.replicates[m]) for part in parts for m in metrics)
    return Means(
        {m: float(np.mean([part.value[m] for part in parts])) for m in metrics},
        {m: np.mean([part.replicates[m][:count] for part in parts], axis=0) for m in metrics},
    )


def common_grid(tables: Mapping[Key, Mapping[str, Any]]) -> tuple[int, int]:
    """Return the numbers of seeds and questions, after checking that all rows have the same.

    Args:
        tables: columns ``seed`` and ``question`` of each row. Keys name the rows in error messages.

    Raises:
        ValueError: two rows played different questions or seeds, or the episodes of a row are not
            every question once per seed, sorted by seed and question.
    """
    grids = {key: _grid(key, table) for key, table in tables.items()}
    first, (seeds, questions) = next(iter(grids.items()))
    for key, (row_seeds, row_questions) in grids.items():
        for what, values, expected in (
            ("seeds", row_seeds, seeds),
            ("questions", row_questions, questions),
        ):
            if not np.array_equal(values, expected):
                example = np.setxor1d(values, expected)[0]
                has, lacks = (key, first) if example in values else (first, key)
                raise ValueError(
                    f"{first} and {key} played different {what} ({has} has {example}, {lacks} does "
                    "not): only rows with the same episodes can be compared"
                )
    return len(seeds), len(questions)


def _grid(key: Hashable, table: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    seeds, questions = np.unique(table["seed"]), np.unique(table["question"])
    complete = np.array_equal(
        np.asarray(table["question"]), np.tile(questions, len(seeds))
    ) and np.array_equal(np.asarray(table["seed"]), np.repeat(seeds, len(questions)))
    if not complete or not len(seeds):
        raise ValueError(
            f"{key}: expected every question once per seed, sorted by seed and question"
        )
    return seeds, questions
