"""Lines below the table of a benchmark."""

from __future__ import annotations

import numpy as np
from episode_tables import episode_table, resample_tables

from autotts_gym.cli.benchmark_table import _cost
from autotts_gym.evaluation.comparison import compare_sweep


def test_cost_of_a_sweep_that_never_has_the_accuracy_within_the_bound() -> None:
    correct = np.random.default_rng(3).random((10, 30)) < 0.6
    ones = np.ones(correct.shape)
    slow, row = resample_tables(
        episode_table(correct, 400 * ones) | {"sequential_tokens": (2000 * ones).ravel()},
        episode_table(correct, 800 * ones) | {"sequential_tokens": (1000 * ones).ravel()},
    )
    tokens = compare_sweep([slow], row, within_both=True)
    assert _cost(tokens, "tokens") == "never"
    latency = compare_sweep([slow], row, "sequential_tokens", within_both=True)
    expected = "at most 2.0k sequential tokens (ratio 2.00 [2.00, 2.00])"
    assert _cost(latency, "sequential tokens") == expected
