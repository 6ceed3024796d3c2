"""Pareto frontiers of accuracy against cost, and interpolation along a β sweep.

A *sweep* is the rows of one agent over β. Costs and accuracies are float64[..., P]: the points of
the sweep along the last axis, bootstrap replicates along the others.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from autotts_gym.utils.arrays import Floats, divide_or_nan


def on_frontier(
    costs: Floats, accuracies: Floats, others: Floats | None = None
) -> NDArray[np.bool_]:
    """Return which points are on the Pareto frontier; bool[..., P].

    A point is on it unless another point has at least its accuracy for at most its cost, and is
    strictly better in one of the two. Identical points are all on it or all off it.

    Args:
        costs, accuracies: float64[..., P].
        others: float64[..., P], a second cost, in which the other point must not be worse either.
    """
    on = np.ones(costs.shape, np.bool_)
    for i in range(costs.shape[-1]):
        cost, accuracy = costs[..., i, None], accuracies[..., i, None]
        no_worse = (cost <= costs) & (accuracy >= accuracies)
        better = (cost < costs) | (accuracy > accuracies)
        if others is not None:
            other = others[..., i, None]
            no_worse &= other <= others
            better |= other < others
        on &= ~(no_worse & better)
    return on


def cost_at(
    accuracy: Floats | float,
    costs: Floats,
    accuracies: Floats,
    bound: Floats | float = np.inf,
    others: Floats | None = None,
) -> Floats:
    """Return the lowest cost at which a sweep reaches an accuracy; float64[...].

    Interpolates linearly in the logarithm of the cost. NaN if the sweep never reaches the accuracy:
    nothing is extrapolated.

    Args:
        accuracy: float64[...].
        costs, accuracies: points of the sweep.
        bound: float64[...], the highest second cost.
        others: the second cost of the points; its logarithm is interpolated like the accuracy.
    """
    best = np.full(costs.shape[:-1], np.inf)
    accuracy, log_bound = np.asarray(accuracy, np.float64), _log(bound)
    for (x0, y0, z0), (x1, y1, z1) in _segments(costs, accuracies, others):
        low, high = _part_above(y0, y1, accuracy)
        low_z, high_z = _part_above(-z0, -z1, -log_bound)
        low, high = np.maximum(low, low_z), np.minimum(high, high_z)
        best = np.where(low <= high, np.minimum(best, _between(x0, x1, low)), best)
    return np.where(np.isfinite(best), np.exp(best), np.nan)


def accuracy_at(
    cost: Floats | float,
    costs: Floats,
    accuracies: Floats,
    bound: Floats | float = np.inf,
    others: Floats | None = None,
) -> Floats:
    """Return the highest accuracy of a sweep for at most a cost; float64[...].

    Interpolates linearly in the logarithm of the cost. Above the most expensive point, this is the
    sweep's highest accuracy; NaN below the cheapest point.

    Args:
        cost: float64[...].
        costs, accuracies, bound, others: as for :func:`cost_at`.
    """
    best = np.full(costs.shape[:-1], -np.inf)
    log_cost, log_bound = _log(cost), _log(bound)
    for (x0, y0, z0), (x1, y1, z1) in _segments(costs, accuracies, others):
        low, high = _part_above(-x0, -x1, -log_cost)
        low_z, high_z = _part_above(-z0, -z1, -log_bound)
        low, high = np.maximum(low, low_z), np.minimum(high, high_z)
        highest = np.maximum(_between(y0, y1, low), _between(y0, y1, high))
        best = np.where(low <= high, np.maximum(best, highest), best)
    return np.where(np.isfinite(best), best, np.nan)


def frontier_area(
    low: Floats | float, high: Floats | float, costs: Floats, accuracies: Floats
) -> Floats:
    """Return the mean accuracy of a sweep's frontier over the logarithm of the cost; float64[...].

    The frontier is a step function: the highest accuracy of any point with at most that cost, and 0
    below the cheapest point.

    Args:
        low, high: range of costs; the result is NaN if they are equal.
        costs, accuracies: points of the sweep.
    """
    x, y = _sorted_by_cost(costs, accuracies)
    first, last = (np.log(np.maximum(end, 1.0))[..., None] for end in (low, high))
    edges = np.clip(np.concatenate([x, np.broadcast_to(last, (*x.shape[:-1], 1))], -1), first, last)
    sums = (np.maximum.accumulate(y, axis=-1) * np.diff(edges, axis=-1)).sum(axis=-1)
    return divide_or_nan(sums, (last - first)[..., 0])


def _log(cost: Floats | float) -> Floats:
    """Logarithm of a cost; costs below 1 count as 1."""
    logs: Floats = np.log(np.maximum(np.asarray(cost, np.float64), 1.0))
    return logs


def _sorted_by_cost(costs: Floats, *columns: Floats) -> tuple[Floats, ...]:
    """Logarithms of the costs in ascending order, and the columns in this order."""
    order = np.argsort(costs, axis=-1, kind="stable")
    logs = _log(np.take_along_axis(costs, order, axis=-1))
    return logs, *(np.take_along_axis(column, order, axis=-1) for column in columns)


_Point = tuple[Floats, Floats, Floats]


def _segments(
    costs: Floats, accuracies: Floats, others: Floats | None
) -> Iterator[tuple[_Point, _Point]]:
    """The parts of a sweep between points of adjacent cost; one point is a segment by itself.

    Yields:
        The two ends: logarithm of the cost, accuracy, logarithm of the second cost (0 without).
    """
    second = np.ones(costs.shape) if others is None else others
    x, y, others_in_order = _sorted_by_cost(costs, accuracies, second)
    z = _log(others_in_order)
    last = costs.shape[-1] - 1
    for left in range(max(last, 1)):
        right = min(left + 1, last)
        yield (
            (x[..., left], y[..., left], z[..., left]),
            (x[..., right], y[..., right], z[..., right]),
        )


def _part_above(start: Floats, end: Floats, limit: Floats) -> tuple[Floats, Floats]:
    """The part of a segment, from 0 to 1, with values of at least ``limit``; (∞, −∞) if none."""
    crossing = divide_or_nan(limit - start, end - start)
    low = np.where(start >= limit, 0.0, np.where(end >= limit, crossing, np.inf))
    high = np.where(end >= limit, 1.0, np.where(start >= limit, crossing, -np.inf))
    return low, high


def _between(start: Floats, end: Floats, at: Floats) -> Floats:
    """The value of a segment at a place from 0 to 1; any value elsewhere."""
    inside = np.clip(at, 0.0, 1.0)
    return np.where(inside == 1, end, start + inside * (end - start))
