"""Comparison of a β sweep with a row."""

from __future__ import annotations

import numpy as np
import pytest
from episode_tables import episode_table, resample_tables

from autotts_gym.evaluation.comparison import compare_sweep


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
