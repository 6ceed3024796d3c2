"""Pareto frontiers and interpolation along a β sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.evaluation.pareto import accuracy_at, cost_at, frontier_area, on_frontier

points = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=12)


@given(points)
def test_frontier_contains_the_undominated_points(rows: list[tuple[int, int]]) -> None:
    on = on_frontier(*np.array(rows, float).T)
    for i, (cost, accuracy) in enumerate(rows):
        dominated = any(c <= cost and a >= accuracy and (c, a) != (cost, accuracy) for c, a in rows)
        assert on[i] != dominated


@given(st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=5))
def test_each_replicate_has_its_own_frontier(drawn: list[list[int]]) -> None:
    costs, accuracies = np.split(np.array(drawn, float), 2, axis=1)
    together = on_frontier(costs, accuracies)
    alone = [on_frontier(c, a) for c, a in zip(costs, accuracies, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_interpolation_is_linear_in_log_cost() -> None:
    costs, accuracies = np.array([100.0, 10.0, 1000.0]), np.array([0.6, 0.4, 0.7])
    assert cost_at(0.5, costs, accuracies) == pytest.approx(10**1.5)
    assert cost_at(0.3, costs, accuracies) == pytest.approx(10)
    assert np.isnan(cost_at(0.8, costs, accuracies))
    assert accuracy_at(10**2.5, costs, accuracies) == pytest.approx(0.65)
    assert accuracy_at(1000, costs, accuracies) == pytest.approx(0.7)
    assert accuracy_at(10**6, costs, accuracies) == pytest.approx(0.7)  # constant above the sweep
    assert np.isnan(accuracy_at(5, costs, accuracies))


def test_interpolation_along_a_sweep_that_is_not_monotonic() -> None:
    costs, accuracies = np.array([10.0, 100, 1000]), np.array([0.4, 0.6, 0.5])
    assert cost_at(0.5, costs, accuracies) == pytest.approx(10**1.5)  # the first crossing
    for cost in (10**2.5, 10**3, 10**4):
        assert accuracy_at(cost, costs, accuracies) == pytest.approx(0.6)  # the highest so far


sweeps = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 20).map(lambda n: n / 20)),
    min_size=1,
    max_size=6,
)


@given(sweeps, st.floats(0, 1), st.floats(1, 1200))
def test_cost_at_and_accuracy_at_are_inverse(
    sweep: Sequence[tuple[float, float]], accuracy: float, cost: float
) -> None:
    costs, accuracies = np.array(sweep, float).T
    needed = cost_at(accuracy, costs, accuracies)
    if np.isnan(needed):
        assert accuracies.max() < accuracy
    else:
        assert accuracy_at(needed * (1 + 1e-9), costs, accuracies) >= accuracy - 1e-6
        # Costs below 1 count as 1.
        cheaper = accuracy_at(needed * 0.999, costs, accuracies) if needed > 1.01 else np.nan
        assert np.isnan(cheaper) or cheaper < accuracy
    reached = accuracy_at(cost, costs, accuracies)
    if np.isnan(reached):
        assert max(costs.min(), 1) > cost
    else:
        assert cost_at(reached - 1e-9, costs, accuracies) <= cost * (1 + 1e-6)
        assert reached <= accuracies.max() + 1e-12


@given(sweeps, st.floats(1, 100), st.floats(1.1, 100))
def test_area_equals_a_numerical_integral(
    sweep: Sequence[tuple[float, float]], low: float, factor: float
) -> None:
    costs, accuracies = np.array(sweep, float).T
    axis = np.exp(np.linspace(np.log(low), np.log(low * factor), 4001))
    middles = np.sqrt(axis[1:] * axis[:-1])
    heights = [
        max((a for c, a in zip(costs, accuracies, strict=True) if c <= x), default=0)
        for x in middles[::10]
    ]
    area = frontier_area(low, low * factor, costs, accuracies)
    assert 0 <= area <= 1
    assert area == pytest.approx(np.mean(heights), abs=0.03)


def test_area_is_the_mean_height() -> None:
    costs, accuracies = np.array([10.0, 100.0]), np.array([0.5, 1.0])
    assert frontier_area(10, 1000, costs, accuracies) == pytest.approx(0.75)
    assert frontier_area(1, 10, costs, accuracies) == pytest.approx(0)
    assert frontier_area(10, 100, costs[::-1], accuracies[::-1]) == pytest.approx(0.5)
    assert np.isnan(frontier_area(10, 10, costs, accuracies))


@given(
    st.integers(1, 4).flatmap(
        lambda p: st.lists(
            st.tuples(*[st.integers(0, 300)] * p, *[st.integers(0, 9)] * (p + 2)),
            min_size=1,
            max_size=6,
        )
    )
)
def test_replicates_are_independent(drawn: list[tuple[int, ...]]) -> None:
    """Functions of many replicates return what they return for each replicate alone."""
    columns = np.array(drawn, float)
    p = (columns.shape[1] - 2) // 2
    costs, accuracies = columns[:, :p], columns[:, p : 2 * p] / 9
    target, price = columns[:, -2] / 9, 30 * columns[:, -1]
    for function, at in ((cost_at, target), (accuracy_at, price)):
        together = function(at, costs, accuracies)
        alone = [function(a, c, y) for a, c, y in zip(at, costs, accuracies, strict=True)]
        np.testing.assert_array_equal(together, alone)
    together = frontier_area(price, price + target, costs, accuracies)
    alone = [
        frontier_area(low, low + more, c, y)
        for low, more, c, y in zip(price, target, costs, accuracies, strict=True)
    ]
    np.testing.assert_allclose(together, alone)
