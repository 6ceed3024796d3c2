"""Comparison of a β sweep with a row."""

from __future__ import annotations

import numpy as np
import pytest
from episode_tables import episode_table, resample_tables

from autotts_gym.evaluation.comparison import compare_sweep


def test_comparison_within_both_costs() -> None:
    """The cheap point of the sweep has twice the row's latency, the other one half of it."""
    rng = np.random.default_rng(3)
    correct = rng.random((10, 30)) < 0.6
    ones = np.ones(correct.shape)
    tables = [
        episode_table(correct, cost * ones) | {"sequential_tokens": (latency * ones).ravel()}
        for cost, latency in ((100, 2000), (400, 500), (800, 1000))
    ]
    cheap, quick, row = resample_tables(*tables)
    free = compare_sweep([cheap, quick], row)
    assert free.cost.value == pytest.approx(100)
    both = compare_sweep([cheap, quick], row, within_both=True)
    # Half of the way in the logarithm, where the latency is that of the row.
    assert (both.cost.value, both.cost.low, both.cost.high) == pytest.approx((200, 200, 200))
    assert both.cost_ratio.value == pytest.approx(0.25)
    assert both.cost.share == 1
    assert free.all_better
    assert not both.all_better
    latency = compare_sweep([cheap, quick], row, "sequential_tokens", within_both=True)
    assert latency.cost.value == pytest.approx(500)
    slow = compare_sweep([cheap], row, within_both=True)
    assert np.isnan([slow.cost.value, slow.accuracy.value]).all()


def test_comparison_with_a_row_of_twice_the_cost() -> None:
    """One point of the sweep has the row's outcomes at half its cost on every question."""
    rng = np.random.default_rng(2)
    correct = rng.random((10, 30)) < 0.6
    worse = correct & (rng.random(correct.shape) < 0.5)
    cost = 100 + 50 * rng.random(correct.shape)
    cheap, half, row = resample_tables(
        episode_table(worse, cost / 4),
        episode_table(correct, cost / 2),
        episode_table(correct, cost),
    )
    comparison = compare_sweep([half, cheap], row)
    ratio, gain = comparison.cost_ratio, comparison.accuracy_gain
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((0.5, 0.5, 0.5))
    assert comparison.cost.value == pytest.approx(cost.mean() / 2)
    assert (gain.value, gain.low, gain.high) == pytest.approx((0, 0, 0))
    assert comparison.all_cheaper
    assert not comparison.all_better
    inverse = compare_sweep([row], half)
    # The sweep has no point as cheap as the row.
    assert np.isnan([inverse.accuracy.value, inverse.accuracy_gain.value]).all()
    assert inverse.accuracy.share == 0
    assert inverse.cost_ratio.value == pytest.approx(2)
    assert inverse.all_better
    assert not inverse.all_cheaper
