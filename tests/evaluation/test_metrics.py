"""Intervals, paired differences and frontiers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from autotts_gym.evaluation.metrics import (
    METRICS,
    Estimate,
    Means,
    accuracy_at,
    area,
    common_grid,
    compare,
    cost_at,
    difference,
    macro,
    ratio,
    resample,
    undominated,
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


def resampled(*tables: dict[str, NDArray[Any]], **how: Any) -> list[Means]:
    return list(resample(dict(enumerate(tables)), **how).values())


# --- resampling ----------------------------------------------------------------------------------


def test_replicates_have_the_distribution_of_all_draws() -> None:
    """Two questions, two seeds: every draw written out, all equally likely."""
    tokens = np.array([[1.0, 10.0], [2.0, 30.0]])
    exact: Counter[float] = Counter()
    for questions in product(range(2), repeat=2):
        for seeds in product(product(range(2), repeat=2), repeat=2):
            drawn = [tokens[s, q] for q, of in zip(questions, seeds, strict=True) for s in of]
            exact[float(np.mean(drawn))] += 1
    count = 60_000
    (means,) = resampled(table(np.ones((2, 2)), tokens), replicates=count)
    found = Counter(means.replicates["tokens"].tolist())
    assert set(found) == set(exact)
    for value, times in exact.items():
        share = times / exact.total()
        assert found[value] / count == pytest.approx(share, abs=5 * np.sqrt(share / count))


def test_interval_is_that_of_questions_where_seeds_agree() -> None:
    """With seeds that all say the same, the spread is the binomial's over questions."""
    questions = 200
    right = np.tile(np.arange(questions) < 150, (7, 1))
    (means,) = resampled(table(right), replicates=8000)
    assert means.value["correct"] == 0.75
    spread = means.replicates["correct"].std()
    assert spread == pytest.approx(np.sqrt(0.75 * 0.25 / questions), rel=0.05)
    found = means.estimate("correct")
    assert (found.low, found.high) == pytest.approx((0.69, 0.81), abs=0.01)


def test_interval_takes_seeds_in() -> None:
    """Questions that are all alike: all the spread is that of the seeds."""
    right = np.tile((np.arange(400) < 100)[:, None], (1, 3))
    (means,) = resampled(table(right), replicates=8000)
    spread = np.sqrt(0.25 * 0.75 / 1200)
    assert means.replicates["correct"].std() == pytest.approx(spread, rel=0.05)


@pytest.mark.parametrize(("questions", "seeds"), [(30, 10), (60, 2), (100, 5)])
def test_intervals_cover_the_truth(questions: int, seeds: int) -> None:
    """Simulated benchmarks of known accuracy: 95% intervals hold it 95% of the time.

    Of an accuracy, and of a difference between rows that share what makes a question hard.
    """
    rng = np.random.default_rng(questions + seeds)
    times = 300
    held = np.zeros(2)
    for _ in range(times):
        hardness = rng.beta(0.9, 0.6, questions)  # mean 0.6
        better = hardness + (1 - hardness) * 0.1 * rng.random(questions)  # mean 0.62
        rows = [rng.random((seeds, questions)) < p for p in (hardness, better)]
        a, b = resampled(*map(table, rows), replicates=400, seed=int(rng.integers(1 << 30)))
        for which, (found, truth) in enumerate(
            [(a.estimate("correct"), 0.6), (difference(b, a, "correct"), 0.02)]
        ):
            held[which] += found.low <= truth <= found.high
    slack = 3 * np.sqrt(0.95 * 0.05 / times)
    accuracy, gain = held / times
    assert abs(accuracy - 0.95) < slack
    # Much of the difference is the noise of seeds, which is drawn twice: wide, as it says.
    assert 0.95 - slack < gain <= 1


def test_differences_are_paired() -> None:
    rng = np.random.default_rng(0)
    right = rng.random((5, 40)) < 0.5
    a, b = resampled(table(right, 3 + right), table(right, 6 + 2 * right))
    same = difference(a, b, "correct")
    assert (same.value, same.low, same.high) == (0, 0, 0)
    half = ratio(a, b, "tokens")
    assert (half.low, half.high) == pytest.approx((0.5, 0.5))


def test_same_seed_same_replicates() -> None:
    right = np.random.default_rng(1).random((3, 10)) < 0.5
    (one,), (two,) = resampled(table(right)), resampled(table(right))
    np.testing.assert_array_equal(one.replicates["correct"], two.replicates["correct"])
    (other,) = resampled(table(right), seed=1)
    assert not np.array_equal(one.replicates["correct"], other.replicates["correct"])


def test_replicates_do_not_depend_on_the_other_rows() -> None:
    rng = np.random.default_rng(2)
    tables = [table(rng.random((4, 9)) < 0.5, rng.integers(1, 10**6, (4, 9))) for _ in range(3)]
    alone, among = resampled(tables[0])[0], resampled(*tables)[0]
    for metric in METRICS:
        np.testing.assert_array_equal(alone.replicates[metric], among.replicates[metric])


def test_environments_can_share_the_questions_that_are_drawn() -> None:
    """What depends on the question alone is then the same in both, whatever the seeds."""
    right = np.tile(np.arange(20) % 3 == 0, (6, 1))
    by_seed = np.tile(np.arange(6)[:, None], (1, 20))
    (a,), (b,) = (resampled(table(right, by_seed), seed=seed, question_seed=7) for seed in (1, 2))
    np.testing.assert_array_equal(a.replicates["correct"], b.replicates["correct"])
    assert not np.array_equal(a.replicates["tokens"], b.replicates["tokens"])


def test_one_question_has_no_interval() -> None:
    a, b = resampled(table(np.array([[1], [0]])), table(np.array([[1], [1]])))
    for found in (a.estimate("correct"), difference(b, a, "correct"), ratio(a, b, "correct")):
        assert found.value == 0.5
        assert np.isnan([found.low, found.high, found.share]).all()


def test_rows_must_have_played_the_same() -> None:
    with pytest.raises(ValueError, match=r"^a and b did not play the same questions \(b has 3, a"):
        common_grid({"a": table(np.ones((2, 3))), "b": table(np.ones((2, 4)))})
    many, few = table(np.ones((2, 3))), table(np.ones((1, 3)))
    with pytest.raises(ValueError, match=r"^a and c did not play the same seeds \(a has 1, c has"):
        resample({"a": many, "b": many, "c": few})
    broken = table(np.ones((2, 3)))
    broken["question"] = broken["question"][::-1]
    with pytest.raises(ValueError, match=r"^row: .* sorted by seed and question"):
        resample({"row": broken})
    assert common_grid({"a": table(np.ones((2, 3)))}) == (2, 3)


def test_macro_average_weighs_environments_alike() -> None:
    (few,), (many,) = resampled(table(np.ones((1, 2)))), resampled(table(np.zeros((1, 50))))
    both = macro([few, many])
    assert both.value["correct"] == 0.5
    np.testing.assert_array_equal(both.replicates["correct"], 0.5)


def test_macro_average_with_a_lone_question_has_no_interval() -> None:
    (one,), (many,) = resampled(table(np.ones((3, 1)))), resampled(table(np.zeros((3, 5))))
    found = macro([one, many]).estimate("correct")
    assert found.value == 0.5
    assert np.isnan(found.low)


def test_a_figure_that_is_not_there_has_no_interval() -> None:
    found = Estimate.of(float("nan"), np.array([1.0, 2.0, np.nan, np.nan]))
    assert np.isnan([found.value, found.low, found.high]).all()
    assert found.share == 0.5
    there = Estimate.of(1.5, np.array([1.0, 2.0, np.nan, np.nan]), level=1.0)
    assert (there.low, there.high, there.share) == (1, 2, 0.5)


figures = st.floats(0.1, 1e6)


@given(st.lists(st.tuples(figures, figures), min_size=1, max_size=20), figures, figures)
def test_differences_are_antisymmetric_and_ratios_reciprocal(
    drawn: list[tuple[float, float]], x: float, y: float
) -> None:
    columns = np.array(drawn)
    a, b = Means({"m": x}, {"m": columns[:, 0]}), Means({"m": y}, {"m": columns[:, 1]})
    one, two = difference(a, b, "m"), difference(b, a, "m")
    expected = (-two.value, -two.high, -two.low)
    assert (one.value, one.low, one.high) == pytest.approx(expected, rel=1e-9, abs=1e-6)
    assert ratio(a, b, "m").value * ratio(b, a, "m").value == pytest.approx(1)
    assert ratio(a, a, "m") == Estimate(1, 1, 1)


def test_ratio_to_nothing_does_not_exist() -> None:
    nothing = Means({"m": 0.0}, {"m": np.array([0.0, 1.0])})
    found = ratio(Means({"m": 2.0}, {"m": np.array([3.0, 3.0])}), nothing, "m")
    assert np.isnan(found.value)
    assert found.share == 0.5


# --- frontiers -----------------------------------------------------------------------------------

points = st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=12)


@given(points)
def test_undominated_are_those_that_nothing_beats(rows: list[tuple[int, int]]) -> None:
    on = undominated(*np.array(rows, float).T)
    for i, (t, a) in enumerate(rows):
        beaten = any(u <= t and b >= a and (u, b) != (t, a) for u, b in rows)
        assert on[i] != beaten


@given(st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=1, max_size=5))
def test_replicates_have_frontiers_of_their_own(drawn: list[list[int]]) -> None:
    costs, accuracies = np.split(np.array(drawn, float), 2, axis=1)
    together = undominated(costs, accuracies)
    alone = [undominated(c, a) for c, a in zip(costs, accuracies, strict=True)]
    np.testing.assert_array_equal(together, alone)


def test_interpolation_is_linear_in_log_cost() -> None:
    costs, accuracies = np.array([100.0, 10.0, 1000.0]), np.array([0.6, 0.4, 0.7])
    assert cost_at(0.5, costs, accuracies) == pytest.approx(10**1.5)
    assert cost_at(0.3, costs, accuracies) == pytest.approx(10)
    assert np.isnan(cost_at(0.8, costs, accuracies))
    assert accuracy_at(10**2.5, costs, accuracies) == pytest.approx(0.65)
    assert accuracy_at(1000, costs, accuracies) == pytest.approx(0.7)
    assert accuracy_at(10**6, costs, accuracies) == pytest.approx(0.7)  # no more is to be had
    assert np.isnan(accuracy_at(5, costs, accuracies))


def test_interpolation_along_a_sweep_that_falls() -> None:
    costs, accuracies = np.array([10.0, 100, 1000]), np.array([0.4, 0.6, 0.5])
    assert cost_at(0.5, costs, accuracies) == pytest.approx(10**1.5)  # the first time
    for cost in (10**2.5, 10**3, 10**4):
        assert accuracy_at(cost, costs, accuracies) == pytest.approx(0.6)  # what was had before


sweeps = st.lists(
    st.tuples(st.integers(0, 1000), st.integers(0, 20).map(lambda n: n / 20)),
    min_size=1,
    max_size=6,
)


@given(sweeps, st.floats(0, 1), st.floats(1, 1200))
def test_cost_and_accuracy_are_each_others_inverse(
    sweep: Sequence[tuple[float, float]], accuracy: float, cost: float
) -> None:
    costs, accuracies = np.array(sweep, float).T
    needed = cost_at(accuracy, costs, accuracies)
    if np.isnan(needed):
        assert accuracies.max() < accuracy
    else:
        assert accuracy_at(needed * (1 + 1e-9), costs, accuracies) >= accuracy - 1e-6
        # Below 1, the axis ends.
        cheaper = accuracy_at(needed * 0.999, costs, accuracies) if needed > 1.01 else np.nan
        assert np.isnan(cheaper) or cheaper < accuracy
    reached = accuracy_at(cost, costs, accuracies)
    if np.isnan(reached):
        assert max(costs.min(), 1) > cost
    else:
        assert cost_at(reached - 1e-9, costs, accuracies) <= cost * (1 + 1e-6)
        assert reached <= accuracies.max() + 1e-12


@given(sweeps, st.floats(1, 100), st.floats(1.1, 100))
def test_area_is_what_a_sum_over_the_axis_finds(
    sweep: Sequence[tuple[float, float]], low: float, factor: float
) -> None:
    costs, accuracies = np.array(sweep, float).T
    axis = np.exp(np.linspace(np.log(low), np.log(low * factor), 4001))
    middles = np.sqrt(axis[1:] * axis[:-1])
    heights = [
        max((a for c, a in zip(costs, accuracies, strict=True) if c <= x), default=0)
        for x in middles[::10]
    ]
    found = area(low, low * factor, costs, accuracies)
    assert 0 <= found <= 1
    assert found == pytest.approx(np.mean(heights), abs=0.03)


def test_area_is_the_mean_height() -> None:
    costs, accuracies = np.array([10.0, 100.0]), np.array([0.5, 1.0])
    assert area(10, 1000, costs, accuracies) == pytest.approx(0.75)
    assert area(1, 10, costs, accuracies) == pytest.approx(0)
    assert area(10, 100, costs[::-1], accuracies[::-1]) == pytest.approx(0.5)
    assert np.isnan(area(10, 10, costs, accuracies))


@given(
    st.integers(1, 4).flatmap(
        lambda p: st.lists(
            st.tuples(*[st.integers(0, 300)] * p, *[st.integers(0, 9)] * (p + 2)),
            min_size=1,
            max_size=6,
        )
    )
)
def test_replicates_are_worked_out_one_by_one(drawn: list[tuple[int, ...]]) -> None:
    """What is found for many at once is what is found for each."""
    columns = np.array(drawn, float)
    p = (columns.shape[1] - 2) // 2
    costs, accuracies = columns[:, :p], columns[:, p : 2 * p] / 9
    target, price = columns[:, -2] / 9, 30 * columns[:, -1]
    for function, at in ((cost_at, target), (accuracy_at, price)):
        together = function(at, costs, accuracies)
        alone = [function(a, c, y) for a, c, y in zip(at, costs, accuracies, strict=True)]
        np.testing.assert_array_equal(together, alone)
    together = area(price, price + target, costs, accuracies)
    alone = [
        area(low, low + more, c, y)
        for low, more, c, y in zip(price, target, costs, accuracies, strict=True)
    ]
    np.testing.assert_allclose(together, alone)


def test_comparison_finds_half_the_tokens() -> None:
    """A sweep that is exactly the row at half its cost, question by question."""
    rng = np.random.default_rng(2)
    right = rng.random((10, 30)) < 0.6
    worse = right & (rng.random(right.shape) < 0.5)
    cost = 100 + 50 * rng.random(right.shape)
    rows = [table(worse, cost / 4), table(right, cost / 2), table(right, cost)]
    cheap, half, row = resampled(*rows)
    found = compare([half, cheap], row)
    assert (found.share.value, found.share.low, found.share.high) == pytest.approx((0.5, 0.5, 0.5))
    assert found.cost.value == pytest.approx(cost.mean() / 2)
    assert (found.gain.value, found.gain.low, found.gain.high) == pytest.approx((0, 0, 0))
    assert found.all_cheaper
    assert not found.all_better
    back = compare([row], half)
    assert np.isnan([back.accuracy.value, back.gain.value]).all()  # the row costs less
    assert back.accuracy.share == 0
    assert back.share.value == pytest.approx(2)
    assert back.all_better
    assert not back.all_cheaper
