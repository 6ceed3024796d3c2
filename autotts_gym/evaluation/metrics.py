"""Figures with intervals: what is resampled, and what is made of the replicates.

*What is resampled.* Questions, and the seeds (branch orders) within each question. A replicate
draws, within every environment, as many questions as there are, with replacement, and for each of
them, anew, as many seeds as there are, with replacement. Environments are fixed: an average is the
mean over them, and says nothing about other models or benchmarks. The recorded branches are fixed
too. Where several environments hold the same questions (one benchmark, several models), a replicate
draws the same questions in all of them: their errors are alike, and averaging does not remove them.
Intervals are percentiles of the replicates. Where an environment has one question, there is nothing
to draw from, and no interval.

Drawing seeds as well counts what they scatter a second time, for it is in the means of the
questions already (Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 3.8).
That never makes an interval too narrow. It is a little too wide where questions differ more than
seeds do; where a difference is nothing but the noise of seeds, its spread is √2 times too large.

*Paired.* A replicate draws the same questions and seeds for every row, so a difference between two
of them is a difference of replicates, and its interval is as narrow as their outcomes are alike.

The draws are made here, because ``scipy.stats.bootstrap`` draws from one level only, and calls a
function on every resample; here, one draw of weights and one matrix product serve all rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

#: Columns of the episodes' table that are averaged.
METRICS: Final = ("correct", "tokens", "sequential_tokens", "actions", "probes")

#: Replicates, by default.
REPLICATES: Final = 2000
#: Weights that are held at a time: few enough to stay in a processor's cache.
_CHUNK: Final = 1 << 18


@dataclass(frozen=True)
class Estimate:
    """A figure with its interval.

    Attributes:
        value: the figure itself; NaN where it does not exist.
        low, high: the interval; NaN where there is none.
        share: share of the replicates for which the figure exists (a sweep may not reach a
            target); NaN where nothing could be resampled. The interval is over these replicates
            alone, so where the share is not near 1 it is too narrow.
    """

    value: float
    low: float
    high: float
    share: float = 1.0

    @classmethod
    def of(cls, value: float, replicates: Floats, level: float = 0.95) -> Estimate:
        """The percentile interval of ``replicates``, float64[B], around ``value``."""
        found = replicates[np.isfinite(replicates)]
        share = len(found) / len(replicates) if len(replicates) else np.nan
        # An interval around nothing would be read as one around something.
        if np.isnan(value) or not len(found):
            return cls(value, np.nan, np.nan, share)
        tail = 50 * (1 - level)
        low, high = np.percentile(found, (tail, 100 - tail))
        return cls(value, float(low), float(high), share)


@dataclass(frozen=True)
class Means:
    """Means of one row of a benchmark (an agent at one β), and their replicates.

    Attributes:
        value: metric -> mean.
        replicates: metric -> float64[B]; float64[0] where nothing could be resampled.
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
    """The paired ratio a / b of a metric; it does not exist where b is 0."""
    return Estimate.of(
        float(_quotient(a.value[metric], b.value[metric])),
        _quotient(a.replicates[metric], b.replicates[metric]),
    )


def _quotient(a: Floats | float, b: Floats | float) -> Floats:
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    nothing: Floats = np.full(np.broadcast(a, b).shape, np.nan)
    return np.divide(a, b, out=nothing, where=b != 0)


# --- resampling ----------------------------------------------------------------------------------


def resample(
    tables: Mapping[Key, Mapping[str, Any]],
    *,
    replicates: int = REPLICATES,
    seed: int | Sequence[int] = 0,
    question_seed: int | Sequence[int] | None = None,
    metrics: Sequence[str] = METRICS,
) -> dict[Key, Means]:
    """Means of rows that played the same questions and seeds of one environment, replicated.

    Args:
        tables: for each row, by what it is called in errors, the columns ``seed``, ``question``
            and those of ``metrics``, sorted by seed and question, each question once per seed.
        replicates: B.
        seed: what the replicates are drawn from. The same seed draws the same questions and seeds
            of a grid of the same size, whatever the rows.
        question_seed: what the questions are drawn from, where environments share them; by default
            ``seed`` is for both.
        metrics: the columns that are averaged.

    Raises:
        ValueError: two rows did not play the same questions and seeds, or one did not play every
            question once per seed.
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
        times = question_rng.multinomial(q, np.full(q, 1 / q), replicates)
        drawn = (_sums(times, s, rng, values) / (q * s)).reshape(shape)
    return {
        key: Means(
            {metric: float(means[row, m]) for m, metric in enumerate(metrics)},
            {metric: drawn[:, row, m] for m, metric in enumerate(metrics)},
        )
        for row, key in enumerate(tables)
    }


def _sums(times: NDArray[np.int64], s: int, rng: np.random.Generator, values: Floats) -> Floats:
    """Sums over what the replicates draw; float64[B, V].

    Args:
        times: int64[B, Q], how often a replicate draws each question; each time, it draws s seeds.
        values: float64[Q · s, V].
    """
    sums = []
    step = max(1, _CHUNK // len(values))
    for start in range(0, len(times), step):
        some = times[start : start + step]
        cells = np.repeat(np.arange(some.size) * s, some.ravel() * s)
        cells += rng.integers(s, size=len(cells))
        weights = np.bincount(cells, minlength=some.size * s).reshape(len(some), -1)
        sums.append(weights.astype(np.float64) @ values)
    return np.concatenate(sums)


def macro(parts: Sequence[Means]) -> Means:
    """The mean over environments, each weighing the same.

    Args:
        parts: one row's means on every environment, resampled from different seeds (and from the
            same ``question_seed`` where the questions are the same). Where one of them could not
            be resampled, neither can the mean.
    """
    metrics = [m for m in parts[0].value if all(m in part.value for part in parts)]
    count = min(len(part.replicates[m]) for part in parts for m in metrics)
    return Means(
        {m: float(np.mean([part.value[m] for part in parts])) for m in metrics},
        {m: np.mean([part.replicates[m][:count] for part in parts], axis=0) for m in metrics},
    )


def common_grid(tables: Mapping[Key, Mapping[str, Any]]) -> tuple[int, int]:
    """How many seeds and questions rows have played, the same for all of them.

    Args:
        tables: the columns ``seed`` and ``question`` of each row, by what it is called in errors.

    Raises:
        ValueError: two rows did not play the same ones, or one did not play every question once
            per seed, sorted by seed and question.
    """
    grids = {key: _grid(key, table) for key, table in tables.items()}
    first, (seeds, questions) = next(iter(grids.items()))
    for key, (own_seeds, own_questions) in grids.items():
        for what, own, others in (
            ("seeds", own_seeds, seeds),
            ("questions", own_questions, questions),
        ):
            if not np.array_equal(own, others):
                odd = np.setxor1d(own, others)[0]
                has, lacks = (key, first) if odd in own else (first, key)
                raise ValueError(
                    f"{first} and {key} did not play the same {what} ({has} has {odd}, {lacks} has "
                    "not): rows can be compared only over the same episodes"
                )
    return len(seeds), len(questions)


def _grid(key: Hashable, table: Mapping[str, Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    seeds, questions = np.unique(table["seed"]), np.unique(table["question"])
    complete = np.array_equal(
        np.asarray(table["question"]), np.tile(questions, len(seeds))
    ) and np.array_equal(np.asarray(table["seed"]), np.repeat(seeds, len(questions)))
    if not complete or not len(seeds):
        raise ValueError(
            f"{key}: every question must be there once per seed, sorted by seed and question"
        )
    return seeds, questions


# --- frontiers -----------------------------------------------------------------------------------
# A sweep is one agent's rows over its β. Costs and accuracies are float64[..., P], a point of the
# sweep along the last axis, and a replicate along the others.


def undominated(costs: Floats, accuracies: Floats) -> NDArray[np.bool_]:
    """Which points are on the Pareto frontier; bool[..., P].

    A point is, where no other is at least as accurate for at most the same cost, and better in one
    of the two. Of points that are alike, all are or none is.
    """
    on = np.ones(costs.shape, np.bool_)
    for i in range(costs.shape[-1]):
        cost, accuracy = costs[..., i, None], accuracies[..., i, None]
        better = (cost < costs) | (accuracy > accuracies)
        on &= ~((cost <= costs) & (accuracy >= accuracies) & better)
    return on


def cost_at(accuracy: Floats | float, costs: Floats, accuracies: Floats) -> Floats:
    """Least cost for which a sweep has at least an accuracy; float64[...].

    Between the sweep's points it is linear in the logarithm of the cost. NaN where it nowhere has
    that accuracy: nothing is extrapolated.
    """
    accuracy = np.asarray(accuracy, np.float64)
    x, y = _by_cost(costs, accuracies)
    reached = y >= accuracy[..., None]
    right = reached.argmax(axis=-1)
    left = np.maximum(right - 1, 0)
    (x0, y0), (x1, y1) = _at(x, y, left), _at(x, y, right)
    # The points to the left of the first one that has the accuracy have not.
    found = np.exp(x0 + np.where(left < right, _quotient(accuracy - y0, y1 - y0), 0) * (x1 - x0))
    return np.where(reached.any(axis=-1), found, np.nan)


def accuracy_at(cost: Floats | float, costs: Floats, accuracies: Floats) -> Floats:
    """Highest accuracy that a sweep has for at most a cost; float64[...].

    Between the sweep's points it is linear in the logarithm of the cost. Beyond the dearest point
    there is nothing more to be had than up to it; NaN below the cheapest.
    """
    at = np.log(np.maximum(cost, 1.0))
    x, y = _by_cost(costs, accuracies)
    count = (x <= at[..., None]).sum(axis=-1)
    left, right = np.maximum(count - 1, 0), np.minimum(count, x.shape[-1] - 1)
    (x0, y0), (x1, y1) = _at(x, y, left), _at(x, y, right)
    between = y0 + np.nan_to_num(_quotient(at - x0, x1 - x0)) * (y1 - y0)
    best = np.take_along_axis(np.maximum.accumulate(y, axis=-1), left[..., None], axis=-1)[..., 0]
    return np.where(count > 0, np.maximum(best, np.where(left < right, between, best)), np.nan)


def area(low: Floats | float, high: Floats | float, costs: Floats, accuracies: Floats) -> Floats:
    """Mean height of a sweep's frontier over the logarithm of the cost, from low to high.

    The frontier is the highest accuracy that some point has for at most so much: a step function,
    0 below the cheapest point. float64[...], NaN where low and high are the same.
    """
    x, y = _by_cost(costs, accuracies)
    first, last = (np.log(np.maximum(end, 1.0))[..., None] for end in (low, high))
    edges = np.clip(np.concatenate([x, np.broadcast_to(last, (*x.shape[:-1], 1))], -1), first, last)
    sums = (np.maximum.accumulate(y, axis=-1) * np.diff(edges, axis=-1)).sum(axis=-1)
    return _quotient(sums, (last - first)[..., 0])


def _by_cost(costs: Floats, accuracies: Floats) -> tuple[Floats, Floats]:
    """Logarithms of the costs, rising, and the accuracies. A cost below 1 counts as 1."""
    order = np.argsort(costs, axis=-1, kind="stable")
    logs = np.log(np.maximum(np.take_along_axis(costs, order, axis=-1), 1.0))
    return logs, np.take_along_axis(accuracies, order, axis=-1)


def _at(x: Floats, y: Floats, point: NDArray[np.int64]) -> tuple[Floats, Floats]:
    index = point[..., None]
    return (
        np.take_along_axis(x, index, axis=-1)[..., 0],
        np.take_along_axis(y, index, axis=-1)[..., 0],
    )


@dataclass(frozen=True)
class Comparison:
    """An agent's sweep against one row of another.

    Attributes:
        cost: least cost for which the sweep has at least the row's accuracy, tokens; and ``share``,
            that of the row's own.
        accuracy: highest accuracy that the sweep has for at most the row's cost, and ``gain`` over
            the row's own.
        all_better: the sweep's cheapest point has the row's accuracy already, so ``cost`` is that
            point's.
        all_cheaper: the sweep's dearest point costs less than the row, so ``accuracy`` is had for
            less than the row's cost.
    """

    cost: Estimate
    share: Estimate
    accuracy: Estimate
    gain: Estimate
    all_better: bool
    all_cheaper: bool


def compare(sweep: Sequence[Means], row: Means, cost: str = "tokens") -> Comparison:
    """Cost at equal accuracy and accuracy at equal cost, by interpolation along a β sweep.

    Every replicate interpolates along its own sweep and against its own row.

    Args:
        sweep: the agent's rows, in any order; one will do.
        cost: ``"tokens"`` or ``"sequential_tokens"``.
    """
    costs = np.array([means.value[cost] for means in sweep])
    accuracies = np.array([means.value["correct"] for means in sweep])
    drawn_costs = np.stack([means.replicates[cost] for means in sweep], axis=-1)
    drawn_accuracies = np.stack([means.replicates["correct"] for means in sweep], axis=-1)
    own, drawn_own = row.value[cost], row.replicates[cost]
    right, drawn_right = row.value["correct"], row.replicates["correct"]
    needed = float(cost_at(right, costs, accuracies))
    drawn_needed = cost_at(drawn_right, drawn_costs, drawn_accuracies)
    reached = float(accuracy_at(own, costs, accuracies))
    drawn_reached = accuracy_at(drawn_own, drawn_costs, drawn_accuracies)
    return Comparison(
        cost=Estimate.of(needed, drawn_needed),
        share=Estimate.of(float(_quotient(needed, own)), _quotient(drawn_needed, drawn_own)),
        accuracy=Estimate.of(reached, drawn_reached),
        gain=Estimate.of(reached - right, drawn_reached - drawn_right),
        all_better=bool(accuracies[costs.argmin()] >= right),
        all_cheaper=bool(costs.max() < own),
    )
