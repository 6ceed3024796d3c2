"""Bootstrap confidence intervals and paired differences."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any

import numpy as np
import pytest
from episode_tables import episode_table, resample_tables
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.evaluation.bootstrap import (
    METRICS,
    Estimate,
    Means,
    common_grid,
    difference,
    macro_average,
    ratio,
    resample,
)


def test_replicates_follow_the_exact_distribution() -> None:
    """With two questions and two seeds, all equally likely draws can be enumerated."""
    tokens = np.array([[1.0, 10.0], [2.0, 30.0]])
    exact: Counter[float] = Counter()
    for questions in product(range(2), repeat=2):
        for seeds in product(product(range(2), repeat=2), repeat=2):
            drawn = [tokens[s, q] for q, row in zip(questions, seeds, strict=True) for s in row]
            exact[float(np.mean(drawn))] += 1
    count = 60_000
    (means,) = resample_tables(episode_table(np.ones((2, 2)), tokens), replicates=count)
    observed = Counter(means.replicates["tokens"].tolist())
    assert set(observed) == set(exact)
    for value, times in exact.items():
        share = times / exact.total()
        assert observed[value] / count == pytest.approx(share, abs=5 * np.sqrt(share / count))


def test_interval_is_binomial_over_questions_if_seeds_agree() -> None:
    questions = 200
    correct = np.tile(np.arange(questions) < 150, (7, 1))
    (means,) = resample_tables(episode_table(correct), replicates=8000)
    assert means.value["correct"] == 0.75
    spread = means.replicates["correct"].std()
    assert spread == pytest.approx(np.sqrt(0.75 * 0.25 / questions), rel=0.05)
    estimate = means.estimate("correct")
    assert (estimate.low, estimate.high) == pytest.approx((0.69, 0.81), abs=0.01)


def test_interval_includes_the_variance_between_seeds() -> None:
    """All questions have the same outcomes, so the whole spread is that of the seeds."""
    correct = np.tile((np.arange(400) < 100)[:, None], (1, 3))
    (means,) = resample_tables(episode_table(correct), replicates=8000)
    spread = np.sqrt(0.25 * 0.75 / 1200)
    assert means.replicates["correct"].std() == pytest.approx(spread, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("questions", "seeds"), [(30, 10), (60, 2), (100, 5)])
def test_interval_coverage(questions: int, seeds: int) -> None:
    """In simulated benchmarks, 95% intervals contain the true value 95% of the time.

    For an accuracy, and for a difference between rows that find the same questions hard.
    """
    rng = np.random.default_rng(questions + seeds)
    times = 300
    covered = np.zeros(2)
    for _ in range(times):
        hardness = rng.beta(0.9, 0.6, questions)  # mean 0.6
        better = hardness + (1 - hardness) * 0.1 * rng.random(questions)  # mean 0.62
        rows = [rng.random((seeds, questions)) < p for p in (hardness, better)]
        a, b = resample_tables(
            *map(episode_table, rows), replicates=400, seed=int(rng.integers(1 << 30))
        )
        for which, (estimate, truth) in enumerate(
            [(a.estimate("correct"), 0.6), (difference(b, a, "correct"), 0.02)]
        ):
            covered[which] += estimate.low <= truth <= estimate.high
    slack = 3 * np.sqrt(0.95 * 0.05 / times)
    accuracy, gain = covered / times
    assert abs(accuracy - 0.95) < slack
    # Much of the difference is seed noise, which is counted twice: the interval is too wide.
    assert 0.95 - slack < gain <= 1


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((5, 40)) < 0.5
    a, b = resample_tables(
        episode_table(correct, 3 + correct), episode_table(correct, 6 + 2 * correct)
    )
    same = difference(a, b, "correct")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    half = ratio(a, b, "tokens")
    assert (half.low, half.high) == pytest.approx((0.5, 0.5))


def test_seed_determines_the_replicates() -> None:
    correct = np.random.default_rng(1).random((3, 10)) < 0.5
    (one,), (two,) = (resample_tables(episode_table(correct)) for _ in range(2))
    np.testing.assert_array_equal(one.replicates["correct"], two.replicates["correct"])
    (other,) = resample_tables(episode_table(correct), seed=1)
    assert not np.array_equal(one.replicates["correct"], other.replicates["correct"])


def test_replicates_do_not_depend_on_other_rows() -> None:
    rng = np.random.default_rng(2)
    tables = [
        episode_table(rng.random((4, 9)) < 0.5, rng.integers(1, 10**6, (4, 9))) for _ in range(3)
    ]
    alone, together = resample_tables(tables[0])[0], resample_tables(*tables)[0]
    for metric in METRICS:
        np.testing.assert_array_equal(alone.replicates[metric], together.replicates[metric])


def test_environments_can_share_drawn_questions() -> None:
    """A column that depends on the question only then has equal replicates in both."""
    correct = np.tile(np.arange(20) % 3 == 0, (6, 1))
    by_seed = np.tile(np.arange(6)[:, None], (1, 20))
    (a,), (b,) = (
        resample_tables(episode_table(correct, by_seed), seed=seed, question_seed=7)
        for seed in (1, 2)
    )
    np.testing.assert_array_equal(a.replicates["correct"], b.replicates["correct"])
    assert not np.array_equal(a.replicates["tokens"], b.replicates["tokens"])


def test_one_question_has_no_interval() -> None:
    a, b = resample_tables(episode_table(np.array([[1], [0]])), episode_table(np.array([[1], [1]])))
    for estimate in (a.estimate("correct"), difference(b, a, "correct"), ratio(a, b, "correct")):
        assert estimate.value == 0.5
        assert np.isnan([estimate.low, estimate.high, estimate.share]).all()


def test_rows_must_have_the_same_episodes() -> None:
    with pytest.raises(ValueError, match=r"^a and b played different questions \(b has 3, a"):
        common_grid({"a": episode_table(np.ones((2, 3))), "b": episode_table(np.ones((2, 4)))})
    many, few = episode_table(np.ones((2, 3))), episode_table(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"^a and c played different seeds \(a has 1, c does not"):
        resample({"a": many, "b": many, "c": few})
    broken = episode_table(np.ones((2, 3)))
    broken["question"] = broken["question"][::-1]
    with pytest.raises(ValueError, match=r"^row: .* sorted by seed and question"):
        resample({"row": broken})
    assert common_grid({"a": episode_table(np.ones((2, 3)))}) == (2, 3)


def test_macro_average_weights_environments_equally() -> None:
    (few,) = resample_tables(episode_table(np.ones((1, 2))))
    (many,) = resample_tables(episode_table(np.zeros((1, 50))))
    both = macro_average([few, many])
    assert both.value["correct"] == 0.5
    np.testing.assert_array_equal(both.replicates["correct"], 0.5)


def test_macro_average_with_a_single_question_has_no_interval() -> None:
    (one,) = resample_tables(episode_table(np.ones((3, 1))))
    (many,) = resample_tables(episode_table(np.zeros((3, 5))))
    estimate = macro_average([one, many]).estimate("correct")
    assert estimate.value == 0.5
    assert np.isnan(estimate.low)


def test_undefined_value_has_no_interval() -> None:
    replicates = np.array([1.0, 2.0, np.nan, np.nan])
    undefined = Estimate.from_replicates(float("nan"), replicates)
    assert np.isnan([undefined.value, undefined.low, undefined.high]).all()
    assert undefined.share == 0.5
    defined = Estimate.from_replicates(1.5, replicates, level=1.0)
    assert (defined.low, defined.high, defined.share) == (1, 2, 0.5)


values = st.floats(0.1, 1e6)


@given(st.lists(st.tuples(values, values), min_size=1, max_size=20), values, values)
def test_differences_are_antisymmetric_and_ratios_reciprocal(
    drawn: list[tuple[float, float]], x: float, y: float
) -> None:
    columns = np.array(drawn)
    a, b = Means({"m": x}, {"m": columns[:, 0]}), Means({"m": y}, {"m": columns[:, 1]})
    one, two = difference(a, b, "m"), difference(b, a, "m")
    expected: Any = (-two.value, -two.high, -two.low)
    assert (one.value, one.low, one.high) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert ratio(a, b, "m").value * ratio(b, a, "m").value == pytest.approx(1)
    assert ratio(a, a, "m") == Estimate(1, 1, 1)


def test_ratio_to_zero_is_undefined() -> None:
    zero = Means({"m": 0.0}, {"m": np.array([0.0, 1.0])})
    estimate = ratio(Means({"m": 2.0}, {"m": np.array([3.0, 3.0])}), zero, "m")
    assert np.isnan(estimate.value)
    assert estimate.share == 0.5
