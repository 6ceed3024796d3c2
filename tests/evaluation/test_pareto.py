"""Pareto frontiers and interpolation along a β sweep."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

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


@given(
    st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(1, 9)), min_size=1, max_size=12
    )
)
def test_frontier_of_two_costs(rows: list[tuple[int, int, int]]) -> None:
    on = on_frontier(*np.array(rows, float).T)
    for i, row in enumerate(rows):
        cost, accuracy, other = row
        dominated = any(
            c <= cost and a >= accuracy and o <= other and (c, a, o) != row for c, a, o in rows
        )
        assert on[i] != dominated
    for k in (0, 2):  # what one cost does not dominate, two do not
        costs, accuracies = np.array(rows, float).T[[k, 1]]
        alone = on_frontier(costs, accuracies)
        unique = [rows.count(row) == 1 for row in rows]
        same = [[r[k] == row[k] and r[1] == row[1] for r in rows].count(True) for row in rows]
        assert all(on[i] for i in np.flatnonzero(alone) if unique[i] and same[i] == 1)


points_of_two_costs = st.lists(
    st.tuples(st.integers(1, 1000), st.integers(0, 20).map(lambda n: n / 20), st.integers(1, 1000)),
    min_size=1,
    max_size=5,
)


@given(points_of_two_costs, st.floats(0, 1), st.integers(1, 1000), st.integers(1, 1000))
def test_sweeps_within_two_costs(
    sweep: list[tuple[float, float, float]], accuracy: float, cost: int, bound: int
) -> None:
    """Against a dense sampling of the lines between points of adjacent cost."""
    costs, accuracies, others = np.array(sorted(sweep, key=lambda p: p[0]), float).T
    x, z = np.log(costs), np.log(others)
    share = np.linspace(0, 1, 501)
    lines = [
        np.concatenate([[v[0]], *(a + share * (b - a) for a, b in pairwise(v))])
        for v in (x, accuracies, z)
    ]
    slack = 1e-9
    inside = lines[2] <= np.log(bound) + slack
    needed = cost_at(accuracy, costs, accuracies, bound, others)
    reached = accuracy_at(cost, costs, accuracies, bound, others)
    enough = inside & (lines[1] >= accuracy - slack)
    cheap = inside & (lines[0] <= np.log(cost) + slack)
    step = max((abs(np.diff(line)).max(initial=0) for line in lines), default=0) + 1e-6
    if enough.any() and not np.isnan(needed):
        assert np.log(needed) <= lines[0][enough].min() + 1e-6
    if not np.isnan(needed):
        near = abs(lines[0] - np.log(needed)) <= step
        assert (near & (lines[1] >= accuracy - step) & (lines[2] <= np.log(bound) + step)).any()
    strict = (lines[2] <= np.log(bound) - slack) & (lines[1] >= accuracy + slack)
    assert not (strict.any() and np.isnan(needed))
    if not np.isnan(reached):
        assert reached >= lines[1][cheap].max(initial=0) - 1e-6
        near = (lines[0] <= np.log(cost) + step) & (lines[2] <= np.log(bound) + step)
        assert (near & (lines[1] >= reached - step)).any()
    else:
        assert not ((lines[2] < np.log(bound) - slack) & (lines[0] < np.log(cost) - slack)).any()


def test_cost_within_a_bound() -> None:
    costs, accuracies = np.array([10.0, 1000.0]), np.array([0.4, 0.6])
    others = np.array([900.0, 9.0])  # the cheap point is slow
    assert cost_at(0.4, costs, accuracies) == pytest.approx(10)
    assert cost_at(0.4, costs, accuracies, 90, others) == pytest.approx(100)
    assert cost_at(0.55, costs, accuracies, 90, others) == pytest.approx(10**2.5)
    assert np.isnan(cost_at(0.4, costs, accuracies, 5, others))
    assert accuracy_at(100, costs, accuracies, 90, others) == pytest.approx(0.5)
    assert np.isnan(accuracy_at(50, costs, accuracies, 90, others))


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
