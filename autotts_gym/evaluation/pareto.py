"""Pareto frontiers of accuracy against cost, and interpolation along a β sweep.

A *sweep* is the rows of one agent over β. Costs and accuracies are float64[..., P]: the points of
the sweep along the last axis, bootstrap replicates along the others.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from autotts_gym.utils.arrays import Floats, divide_or_nan


def on_frontier(costs: Floats, accuracies: Floats) -> NDArray[np.bool_]:
    """Return which points are on the Pareto frontier; bool[..., P].

    A point is on it unless another point has at least its accuracy for at most its cost, and is
    strictly better in one of the two. Identical points are all on it or all off it.
    """
    on = np.ones(costs.shape, np.bool_)
    for i in range(costs.shape[-1]):
        cost, accuracy = costs[..., i, None], accuracies[..., i, None]
        better = (cost < costs) | (accuracy > accuracies)
        on &= ~((cost <= costs) & (accuracy >= accuracies) & better)
    return on


def cost_at(accuracy: Floats | float, costs: Floats, accuracies: Floats) -> Floats:
    """Return the lowest cost at which a sweep reaches an accuracy; float64[...].

    Interpolates linearly in the logarithm of the cost. NaN if the sweep never reaches the accuracy:
    nothing is extrapolated.
    """
    accuracy = np.asarray(accuracy, np.float64)
    x, y = _sorted_by_cost(costs, accuracies)
    reached = y >= accuracy[..., None]
    right = reached.argmax(axis=-1)
    left = np.maximum(right - 1, 0)
    (x0, y0), (x1, y1) = _point(x, y, left), _point(x, y, right)
    # All points left of the first one that reaches the accuracy are below it.
    weight = np.where(left < right, divide_or_nan(accuracy - y0, y1 - y0), 0)
    return np.where(reached.any(axis=-1), np.exp(x0 + weight * (x1 - x0)), np.nan)


def accuracy_at(cost: Floats | float, costs: Floats, accuracies: Floats) -> Floats:
    """Return the highest accuracy of a sweep for at most a cost; float64[...].

    Interpolates linearly in the logarithm of the cost. Above the most expensive point, this is the
    sweep's highest accuracy; NaN below the cheapest point.
    """
    at = np.log(np.maximum(cost, 1.0))
    x, y = _sorted_by_cost(costs, accuracies)
    count = (x <= at[..., None]).sum(axis=-1)
    left, right = np.maximum(count - 1, 0), np.minimum(count, x.shape[-1] - 1)
    (x0, y0), (x1, y1) = _point(x, y, left), _point(x, y, right)
    between = y0 + np.nan_to_num(divide_or_nan(at - x0, x1 - x0)) * (y1 - y0)
    best = np.take_along_axis(np.maximum.accumulate(y, axis=-1), left[..., None], axis=-1)[..., 0]
    return np.where(count > 0, np.maximum(best, np.where(left < right, between, best)), np.nan)


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


def _sorted_by_cost(costs: Floats, accuracies: Floats) -> tuple[Floats, Floats]:
    """Logarithms of the costs in ascending order, and the accuracies. Costs below 1 count as 1."""
    order = np.argsort(costs, axis=-1, kind="stable")
    logs = np.log(np.maximum(np.take_along_axis(costs, order, axis=-1), 1.0))
    return logs, np.take_along_axis(accuracies, order, axis=-1)


def _point(x: Floats, y: Floats, index: NDArray[np.int64]) -> tuple[Floats, Floats]:
    index = index[..., None]
    return (
        np.take_along_axis(x, index, axis=-1)[..., 0],
        np.take_along_axis(y, index, axis=-1)[..., 0],
    )
