"""Intervals, paired differences and frontiers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from autotts_gym.evaluation.metrics import (
    METRICS,
    Means,
    accuracy_at,
    area,
    compare,
    difference,
    macro,
    pareto,
    ratio,
    resample,
    tokens_at,
)


def table(correct: NDArray[Any], tokens: NDArray[Any] | None = None) -> dict[str, NDArray[Any]]:
    """Columns of ``correct[seed, question]``; tokens are 1 unless given."""
    seeds, questions = correct.shape
    ones = np.ones(correct.size)
    columns = dict.fromkeys(METRICS, ones)
    columns["correct"] = correct.ravel().astype(float)
    if tokens is not None:
        columns["tokens"] = tokens.ravel().astype(float)
    return columns | {
        "seed": np.repeat(np.arange(seeds), questions),
        "question": np.tile(np.arange(questions), seeds),
    }


def test_interval_is_that_of_questions_where_seeds_agree() -> None:
    """With seeds that all say the same, the spread is the binomial's over questions."""
    questions = 200
    right = np.tile(np.arange(questions) < 150, (7, 1))
    (means,) = resample([table(right)], replicates=8000)
    assert means.value["correct"] == 0.75
    spread = means.replicates["correct"].std()
    assert spread == pytest.approx(np.sqrt(0.75 * 0.25 / questions), rel=0.05)
    found = means.estimate("correct")
    assert (found.low, found.high) == pytest.approx((0.69, 0.81), abs=0.01)


def test_interval_takes_seeds_in() -> None:
    """One question: all the spread is that of its seeds."""
    right = (np.arange(400) < 100).reshape(400, 1)
    (means,) = resample([table(right)], replicates=8000)
    assert means.replicates["correct"].std() == pytest.approx(np.sqrt(0.25 * 0.75 / 400), rel=0.05)


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((5, 40)) < 0.5
    a, b = resample([table(right, 3 + right), table(right, 6 + 2 * right)])
    same = difference(a, b, "correct")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    half = ratio(a, b, "tokens")
    assert (half.low, half.high) == pytest.approx((0.5, 0.5))


def test_same_seed_same_replicates() -> None:
    right = np.random.default_rng(1).random((3, 10)) < 0.5
    (one,), (two,) = resample([table(right)]), resample([table(right)])
    np.testing.assert_array_equal(one.replicates["correct"], two.replicates["correct"])
    (other,) = resample([table(right)], seed=1)
    assert not np.array_equal(one.replicates["correct"], other.replicates["correct"])


def test_rows_must_have_played_the_same() -> None:
    with pytest.raises(ValueError, match="the same episodes"):
        resample([table(np.ones((2, 3))), table(np.ones((2, 4)))])
    broken = table(np.ones((2, 3)))
    broken["question"] = broken["question"][::-1]
    with pytest.raises(ValueError, match="sorted by seed and question"):
        resample([broken])


def test_macro_average_weighs_environments_alike() -> None:
    (few,), (many,) = resample([table(np.ones((1, 2)))]), resample([table(np.zeros((1, 50)))])
    assert macro([few, many]).value["correct"] == 0.5


points = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=12)


@given(points)
def test_pareto_keeps_what_nothing_beats(rows: list[tuple[int, int]]) -> None:
    kept = pareto([t for t, _ in rows], [a for _, a in rows])
    for i, (t, a) in enumerate(rows):
        beaten = any(u <= t and b >= a and (u, b) != (t, a) for u, b in rows)
        assert not (i in kept and beaten)
        # what is left out is beaten, or stands there twice
        assert i in kept or beaten or (t, a) in [rows[k] for k in kept]


def test_interpolation_is_linear_in_log_tokens() -> None:
    tokens, accuracies = np.array([100.0, 10.0, 1000.0]), np.array([0.6, 0.4, 0.7])
    assert tokens_at(0.5, tokens, accuracies) == pytest.approx(10**1.5)
    assert tokens_at(0.3, tokens, accuracies) == pytest.approx(10)
    assert np.isnan(tokens_at(0.8, tokens, accuracies))
    assert accuracy_at(10**2.5, tokens, accuracies) == pytest.approx(0.65)
    assert np.isnan(accuracy_at(5, tokens, accuracies))
    # the first time that it is reached, where accuracy falls again
    assert tokens_at(0.5, np.array([10.0, 100, 1000]), np.array([0.4, 0.6, 0.5])) < 100


def test_area_is_the_mean_height() -> None:
    tokens, accuracies = np.array([10.0, 100.0]), np.array([0.5, 1.0])
    assert area(10, 1000, tokens, accuracies) == pytest.approx(0.75)
    assert area(1, 10, tokens, accuracies) == pytest.approx(0)
    assert area(10, 100, tokens[::-1], accuracies[::-1]) == pytest.approx(0.5)


def test_comparison_finds_half_the_tokens() -> None:
    """A sweep that is exactly the row at half its cost, question by question."""
    rng = np.random.default_rng(2)
    right = rng.random((10, 30)) < 0.6
    worse = right & (rng.random(right.shape) < 0.5)
    cost = 100 + 50 * rng.random(right.shape)
    rows = [table(worse, cost / 4), table(right, cost / 2), table(right, cost)]
    cheap, half, row = resample(rows)
    found = compare([cheap, half], row)
    assert (found.share.value, found.share.low, found.share.high) == pytest.approx((0.5, 0.5, 0.5))
    assert np.isnan(found.accuracy.value)  # the row lies beyond the sweep
    assert found.accuracy.share == 0
    assert isinstance(half, Means)
