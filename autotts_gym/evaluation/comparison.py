"""Comparison of a β sweep with a row: cost at equal accuracy, and accuracy at equal cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from autotts_gym.evaluation.bootstrap import Estimate, Means
from autotts_gym.evaluation.pareto import accuracy_at, cost_at
from autotts_gym.utils.arrays import Floats, divide_or_nan


@dataclass(frozen=True)
class Comparison:
    """An agent's β sweep compared with one row of another agent.

    Within both of the row's costs, the sweep must not have a higher second cost than the row.

    Attributes:
        cost: lowest cost at which the sweep reaches the row's accuracy, tokens.
        cost_ratio: that cost divided by the row's cost.
        accuracy: highest accuracy of the sweep for at most the row's cost.
        accuracy_gain: that accuracy minus the row's accuracy.
        all_better: the cheapest point of the sweep reaches the row's accuracy already, so ``cost``
            is the cost of that point: an upper bound.
        all_cheaper: the most expensive point of the sweep costs less than the row, so the sweep
            reaches ``accuracy`` for less than the row's cost.
    """

    cost: Estimate
    cost_ratio: Estimate
    accuracy: Estimate
    accuracy_gain: Estimate
    all_better: bool
    all_cheaper: bool


#: The second cost of each cost.
OTHER_COST: Final = {"tokens": "sequential_tokens", "sequential_tokens": "tokens"}


def compare_sweep(
    sweep: Sequence[Means], row: Means, cost: str = "tokens", *, within_both: bool = False
) -> Comparison:
    """Compare a sweep with a row by interpolation along β.

    Every bootstrap replicate interpolates along its own sweep and compares with its own row.

    Args:
        sweep: the agent's rows in any order, at least one.
        row: the row to compare with.
        cost: ``"tokens"`` or ``"sequential_tokens"``.
        within_both: the sweep must not have more of the other of these two than the row either.
    """
    costs, drawn_costs = _columns(sweep, cost)
    accuracies, drawn_accuracies = _columns(sweep, "correct")
    others, drawn_others = _columns(sweep, OTHER_COST[cost])
    bound: float = np.inf
    drawn_bound: Floats | float = np.inf
    if within_both:
        bound, drawn_bound = row.value[OTHER_COST[cost]], row.replicates[OTHER_COST[cost]]
    row_cost, drawn_row_cost = row.value[cost], row.replicates[cost]
    row_accuracy, drawn_row_accuracy = row.value["correct"], row.replicates["correct"]
    points, drawn = (
        (costs, accuracies, bound, others),
        (
            drawn_costs,
            drawn_accuracies,
            drawn_bound,
            drawn_others,
        ),
    )
    needed = float(cost_at(row_accuracy, *points))
    drawn_needed = cost_at(drawn_row_accuracy, *drawn)
    reached = float(accuracy_at(row_cost, *points))
    drawn_reached = accuracy_at(drawn_row_cost, *drawn)
    cheapest = costs.argmin()
    return Comparison(
        cost=Estimate.from_replicates(needed, drawn_needed),
        cost_ratio=Estimate.from_replicates(
            float(divide_or_nan(needed, row_cost)), divide_or_nan(drawn_needed, drawn_row_cost)
        ),
        accuracy=Estimate.from_replicates(reached, drawn_reached),
        accuracy_gain=Estimate.from_replicates(
            reached - row_accuracy, drawn_reached - drawn_row_accuracy
        ),
        all_better=bool(accuracies[cheapest] >= row_accuracy and others[cheapest] <= bound),
        all_cheaper=bool(costs.max() < row_cost),
    )


def _columns(sweep: Sequence[Means], metric: str) -> tuple[Floats, Floats]:
    """A metric of the rows of a sweep, float64[P], and its replicates, float64[B, P]."""
    values = np.array([means.value[metric] for means in sweep])
    return values, np.stack([means.replicates[metric] for means in sweep], axis=-1)
