"""Scopes, paired estimates and frontiers of a benchmark's rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from autotts_gym.evaluation.analysis import Analysis, Row, Scope
from autotts_gym.evaluation.bootstrap import METRICS, Estimate
from autotts_gym.evaluation.runs import Run


def make_run(
    agent: str,
    beta: float | None = None,
    env: str = "e",
    *,
    correct: Any,
    tokens: Any = 100,
    sequential: Any = 10,
    failures: Sequence[tuple[int, int]] = (),
) -> Run:
    """A run from ``correct[seed, question]``; costs are broadcast to its shape."""
    correct = np.asarray(correct, bool)
    seeds, questions = correct.shape

    def column(values: Any) -> NDArray[np.int64]:
        return np.broadcast_to(np.asarray(values, np.int64), correct.shape).ravel()

    episodes = {
        "seed": np.repeat(np.arange(seeds), questions),
        "question": np.tile(np.arange(questions), seeds),
        "correct": correct.ravel(),
        "answer": [""] * correct.size,
        "tokens": column(tokens),
        "sequential_tokens": column(sequential),
        "actions": column(3),
        "probes": column(1),
    }
    return Run(agent, beta, env, False, episodes, dict.fromkeys(failures, "ValueError: no"))


def random_outcomes(
    seed: int, shape: tuple[int, int] = (4, 12), rate: float = 0.5
) -> NDArray[np.bool_]:
    return np.random.default_rng(seed).random(shape) < rate


def width(estimate: Estimate) -> float:
    return estimate.high - estimate.low


A, B = Row("a", None), Row("b", None)

# --- scopes --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("splits", "averages"),
    [
        ({}, {"average": ("w", "x", "y", "z")}),
        ({"w": "", "x": ""}, {"average": ("w", "x", "y", "z")}),
        (
            {"w": "search", "x": "search", "y": "held-out", "z": "held-out"},
            {"search average": ("w", "x"), "held-out average": ("y", "z")},
        ),
        (
            {"w": "held-out", "x": "search", "z": "held-out"},
            {"held-out average": ("w", "z")},
        ),
        ({"y": "search", "z": "search"}, {"average without a split": ("w", "x"),
                                          "search average": ("y", "z")}),
    ],
)  # fmt: skip
def test_scopes(splits: dict[str, str], averages: dict[str, tuple[str, ...]]) -> None:
    analysis = Analysis(
        [make_run("a", env=env, correct=random_outcomes(0)) for env in "wxyz"], splits
    )
    environments, splits_averages = analysis.scopes[:4], analysis.scopes[4:]
    assert environments == [Scope(env, (env,), splits.get(env, "")) for env in "wxyz"]
    assert {scope.name: scope.environments for scope in splits_averages} == averages
    assert all(scope.is_average for scope in splits_averages)
    assert not any(scope.is_average for scope in environments)


def test_rows_keep_the_order_of_the_runs() -> None:
    runs = [make_run("cmc", beta, correct=random_outcomes(0)) for beta in (1.0, 0.25)]
    analysis = Analysis(
        [
            *runs,
            make_run("a", correct=random_outcomes(1)),
            make_run("a", env="f", correct=random_outcomes(1)),
        ]
    )
    assert [str(row) for row in analysis.rows] == ["cmc β=1", "cmc β=0.25", "a"]
    first, second, average = analysis.scopes
    assert analysis.rows_in(first) == analysis.rows
    assert analysis.rows_in(first, "cmc") == [("cmc", 1.0), ("cmc", 0.25)]
    assert analysis.rows_in(second) == analysis.rows_in(average) == [A]


def test_averages_contain_complete_rows_only() -> None:
    runs = [make_run("a", env=env, correct=random_outcomes(k)) for k, env in enumerate("xyz")]
    analysis = Analysis([*runs, make_run("b", env="y", correct=random_outcomes(5))])
    *_, average = analysis.scopes
    assert analysis.rows_in(average) == [A]
    assert analysis.missing(average) == {B: ["x", "z"]}
    assert analysis.missing(analysis.scopes[1]) == {}
    with pytest.raises(ValueError, match="b is not in average: it was not played on x"):
        analysis.means(average, B)
    with pytest.raises(ValueError, match="b is not in average: no row was"):
        analysis.area(average, "b")
    with pytest.raises(ValueError, match="b is not in average"):
        analysis.compare(average, "a", B)
    assert [point.row for point in analysis.frontier(average)] == [A]


def test_rows_with_different_episodes_are_rejected() -> None:
    runs = [
        make_run("a", correct=random_outcomes(0)),
        make_run("cmc", 0.5, correct=random_outcomes(0, (3, 12))),
    ]
    with pytest.raises(ValueError, match=r"^e: a and cmc β=0.5 played different seeds \(a has 3"):
        Analysis(runs)
    other = make_run("cmc", 0.5, correct=random_outcomes(0))
    other.episodes["question"] = other.episodes["question"] + 1
    with pytest.raises(ValueError, match=r"^e: a and cmc β=0.5 played different questions"):
        Analysis([runs[0], other])
    with pytest.raises(ValueError, match=r"^e: two runs of a"):
        Analysis([runs[0], runs[0]])


def test_environments_of_one_benchmark_must_have_the_same_questions() -> None:
    runs = [
        make_run("a", env="x", correct=random_outcomes(0)),
        make_run("a", env="y", correct=random_outcomes(0, (4, 11))),
    ]
    assert len(Analysis(runs).scopes) == 3
    with pytest.raises(ValueError, match="x and y should hold the same questions, those of aime"):
        Analysis(runs, benchmarks={"x": "aime", "y": "aime"})


# --- estimates -----------------------------------------------------------------------------------


def test_estimates_are_means_over_episodes() -> None:
    rng = np.random.default_rng(3)
    runs = [
        make_run("a", env=env, correct=random_outcomes(k), tokens=rng.integers(1, 10**6, (4, 12)))
        for k, env in enumerate("xy")
    ]
    analysis = Analysis(runs)
    x, y, average = analysis.scopes
    for metric in METRICS:
        first, second = (np.mean(run.episodes[metric]) for run in runs)
        estimates = [analysis.estimate(scope, A, metric) for scope in (x, y, average)]
        values = [first, second, (first + second) / 2]
        assert [e.value for e in estimates] == pytest.approx(values)
        assert all(e.low <= e.value <= e.high for e in estimates)


def test_failed_episodes_count_as_wrong_at_their_cost() -> None:
    correct = np.ones((2, 4), bool)
    correct[1, 2] = False
    tokens = np.full((2, 4), 100)
    tokens[1, 2] = 900
    analysis = Analysis([make_run("a", correct=correct, tokens=tokens, failures=[(1, 2)])])
    (scope,) = analysis.scopes
    assert analysis.estimate(scope, A, "correct").value == 7 / 8
    assert analysis.estimate(scope, A, "tokens").value == 200


def test_estimates_of_an_environment_do_not_depend_on_other_runs() -> None:
    run = make_run("a", env="x", correct=random_outcomes(0))
    others = [
        make_run("b", env="y", correct=random_outcomes(1)),
        make_run("b", env="x", correct=random_outcomes(2)),
    ]
    scope = Scope("x", ("x",))
    alone, together, other = (
        analysis.means(scope, A).replicates["correct"]
        for analysis in (Analysis([run]), Analysis([*others, run]), Analysis([run], seed=1))
    )
    np.testing.assert_array_equal(alone, together)
    assert not np.array_equal(alone, other)


def test_pairing_makes_intervals_narrower() -> None:
    """Two rows that are correct on almost the same questions."""
    correct = random_outcomes(0, (5, 60))
    analysis = Analysis(
        [
            make_run("a", correct=correct),
            make_run("b", correct=correct ^ random_outcomes(1, (5, 60), 0.05)),
        ]
    )
    (scope,) = analysis.scopes
    paired = width(analysis.difference(scope, A, B, "correct"))
    apart = np.hypot(*(width(analysis.estimate(scope, row, "correct")) for row in (A, B)))
    assert 0 < paired < 0.6 * apart


def test_environments_draw_independently_unless_they_share_questions() -> None:
    """Averaging four environments halves the spread, unless their questions are the same."""
    correct = np.tile(random_outcomes(0, (1, 80)), (3, 1))
    runs = [make_run("a", env=env, correct=correct) for env in "wxyz"]
    apart, together = Analysis(runs), Analysis(runs, benchmarks=dict.fromkeys("wxyz", "aime"))
    one, *_, average = apart.scopes
    single, less, same = (
        analysis.means(scope, A).replicates["correct"].std()
        for analysis, scope in ((apart, one), (apart, average), (together, average))
    )
    assert less == pytest.approx(single / 2, rel=0.1)
    assert same == pytest.approx(single, rel=0.1)


@given(st.integers(0, 2**32), st.integers(2, 6), st.integers(1, 4))
def test_differences_and_ratios(seed: int, questions: int, seeds: int) -> None:
    rng = np.random.default_rng(seed)
    shape = seeds, questions
    runs = [
        make_run(
            agent, env=env, correct=rng.random(shape) < 0.5, tokens=rng.integers(1, 999, shape)
        )
        for agent in "ab"
        for env in "xy"
    ]
    analysis = Analysis(runs, replicates=50)
    for scope in analysis.scopes:
        one, two = (analysis.difference(scope, *rows, "correct") for rows in ((A, B), (B, A)))
        assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
        assert analysis.difference(scope, A, A, "tokens") == Estimate(0, 0, 0)
        assert analysis.ratio(scope, A, A, "tokens") == Estimate(1, 1, 1)
        ratios = [analysis.ratio(scope, *rows, "tokens").value for rows in ((A, B), (B, A))]
        assert ratios[0] * ratios[1] == pytest.approx(1)
        for agent in "ab":
            area = analysis.area(scope, agent)
            assert np.isnan(area.value) or 0 <= area.low <= area.high <= 1


# --- frontiers -----------------------------------------------------------------------------------


def test_frontier_share_of_replicates() -> None:
    """One row is dominated in every replicate, another one only in some."""
    correct = random_outcomes(0, (6, 40), 0.6)
    slips = correct & ~random_outcomes(1, (6, 40), 0.1)
    regained = slips | random_outcomes(2, (6, 40), 0.1)
    analysis = Analysis(
        [
            make_run("waste", correct=slips, tokens=900),
            make_run("best", correct=correct, tokens=500),
            make_run("cheap", correct=slips, tokens=100),
            make_run("close", correct=regained, tokens=600),
        ]
    )
    (scope,) = analysis.scopes
    points = analysis.frontier(scope)
    assert [point.row.agent for point in points] == ["cheap", "best", "close", "waste"]
    assert [point.cost for point in points] == [100, 500, 600, 900]
    cheap, best, close, waste = points
    assert cheap.on_frontier
    assert best.on_frontier
    assert not waste.on_frontier
    assert (cheap.share, waste.share) == (1, 0)
    assert best.share > 0.95
    values = [analysis.means(scope, Row(name, None)) for name in ("close", "best")]
    more = values[0].replicates["correct"] > values[1].replicates["correct"]
    assert close.share == more.mean()
    assert close.on_frontier == (values[0].value["correct"] > values[1].value["correct"])
    assert 0 < close.share < 1


def test_frontier_over_sequential_tokens() -> None:
    correct = random_outcomes(0)
    runs = [
        make_run("a", correct=correct, tokens=100, sequential=90),
        make_run("b", correct=correct, tokens=900, sequential=10),
    ]
    analysis = Analysis(runs)
    (scope,) = analysis.scopes
    assert [p.row for p in analysis.frontier(scope) if p.on_frontier] == [A]
    assert [p.row for p in analysis.frontier(scope, "sequential_tokens") if p.on_frontier] == [B]


def test_frontier_within_a_bound_of_the_other_cost() -> None:
    few, many = random_outcomes(0, rate=0.3), np.ones((4, 12), bool)
    analysis = Analysis(
        [
            make_run("slow", correct=many, tokens=50, sequential=random_costs(40, 60)),
            make_run("quick", correct=few, tokens=100, sequential=10),
            make_run("wide", correct=many, tokens=900, sequential=20),
        ]
    )
    (scope,) = analysis.scopes
    assert [p.row.agent for p in analysis.frontier(scope) if p.on_frontier] == ["slow"]
    points = analysis.frontier(scope, "tokens", bound=30)
    assert [(p.row.agent, p.on_frontier, p.share) for p in points] == [
        ("quick", True, 1),
        ("wide", True, 1),
    ]
    assert analysis.frontier(scope, "tokens", bound=5) == []
    # At the mean of the slow row, it is within the bound in about half of the replicates.
    mean = analysis.means(scope, Row("slow", None)).value["sequential_tokens"]
    slow = analysis.frontier(scope, "tokens", bound=mean)[0]
    assert slow.row.agent == "slow"
    assert 0.3 < slow.share < 0.7
    reverse = analysis.frontier(scope, "sequential_tokens", bound=200)
    assert [(p.row.agent, p.on_frontier) for p in reverse] == [("quick", True), ("slow", True)]


def random_costs(low: int, high: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(low, high, (4, 12))


def test_rows_that_no_other_row_dominates_in_both_costs() -> None:
    correct = random_outcomes(0)
    runs = [
        make_run("a", correct=correct, tokens=100, sequential=90),
        make_run("b", correct=correct, tokens=900, sequential=10),
        make_run("middle", correct=correct, tokens=500, sequential=50),
        make_run("worse", correct=correct, tokens=500, sequential=51),
    ]
    analysis = Analysis(runs)
    (scope,) = analysis.scopes
    found = analysis.tradeoffs(scope)
    assert [(p.row.agent, p.undominated, p.share) for p in found] == [
        ("a", True, 1),
        ("b", True, 1),
        ("middle", True, 1),
        ("worse", False, 0),
    ]
    assert (found[0].tokens, found[0].sequential_tokens) == (100, 90)
    assert found[0].accuracy == correct.mean()


def test_area_from_the_cheapest_to_the_most_expensive_row() -> None:
    all_correct, none, half = np.ones((2, 4)), np.zeros((2, 4)), np.tile([0, 1], (2, 2))
    analysis = Analysis(
        [
            make_run("cmc", 0.0, correct=half, tokens=10),
            make_run("cmc", 1.0, correct=all_correct, tokens=100, sequential=20),
            make_run("a", correct=none, tokens=1000),
        ]
    )
    (scope,) = analysis.scopes
    assert analysis.area(scope, "cmc").value == pytest.approx(0.75)
    assert analysis.area(scope, "a").value == 0
    # Half of the questions from cost 10 on, and all of them only at 20, where the axis ends.
    assert analysis.area(scope, "cmc", "sequential_tokens").value == pytest.approx(0.5)


def test_area_uses_the_range_of_each_replicate() -> None:
    """Expensive questions scale all rows alike, so the areas are the same in every replicate."""
    hardness = np.random.default_rng(0).integers(1, 10**6, 20)
    rows = {"cheap": 1, "middle": 10, "expensive": 100}
    analysis = Analysis(
        [
            make_run(agent, correct=np.ones((2, 20)), tokens=k * hardness)
            for agent, k in rows.items()
        ]
    )
    (scope,) = analysis.scopes
    for agent, area in {"cheap": 1, "middle": 0.5, "expensive": 0}.items():
        found = analysis.area(scope, agent)
        assert (found.value, found.low, found.high) == pytest.approx((area, area, area))
    assert width(analysis.estimate(scope, Row("expensive", None), "tokens")) > 0


def test_compare_at_equal_accuracy_and_equal_cost() -> None:
    """The row costs the geometric mean of two β, and has the outcomes of the cheaper one."""
    correct = random_outcomes(0, (4, 30), 0.4)
    more = correct | random_outcomes(1, (4, 30), 0.4)
    analysis = Analysis(
        [
            make_run("cmc", 0.0, correct=correct, tokens=100, sequential=30),
            make_run("cmc", 1.0, correct=more, tokens=10_000, sequential=30),
            make_run("a", correct=correct, tokens=1000, sequential=60),
        ]
    )
    (scope,) = analysis.scopes
    found = analysis.compare(scope, "cmc", A)
    assert (found.cost.value, found.cost.low, found.cost.high) == pytest.approx((100, 100, 100))
    assert found.cost_ratio.value == pytest.approx(0.1)
    assert found.all_better
    assert not found.all_cheaper
    gain = (more.mean() - correct.mean()) / 2
    assert found.accuracy_gain.value == pytest.approx(gain)
    assert found.accuracy.value == pytest.approx(correct.mean() + gain)
    assert found.accuracy_gain.low < gain < found.accuracy_gain.high
    by_clock = analysis.compare(scope, "cmc", A, "sequential_tokens")
    assert by_clock.cost.value == pytest.approx(30)
    assert by_clock.all_cheaper
    assert by_clock.accuracy_gain.value == pytest.approx(2 * gain)
    inverse = analysis.compare(scope, "a", Row("cmc", 1.0))
    assert np.isnan(inverse.cost.value)  # the sweep never reaches the accuracy
    assert 0 <= inverse.cost.share < 0.05


# --- edge cases ---------------------------------------------------------------------------------


def all_results(analysis: Analysis) -> list[Any]:
    """Every estimate, comparison and frontier of an analysis."""
    found: list[Any] = []
    for scope in analysis.scopes:
        rows = analysis.rows_in(scope)
        found.append(analysis.missing(scope))
        found += analysis.tradeoffs(scope)
        for cost in ("tokens", "sequential_tokens"):
            found += analysis.frontier(scope, cost)
            found += [analysis.area(scope, row.agent, cost) for row in rows]
            found += analysis.frontier(scope, cost, bound=50)
            for both in (False, True):
                found += [
                    analysis.compare(scope, a.agent, b, cost, within_both=both)
                    for a in rows
                    for b in rows
                ]
        for metric in METRICS:
            found += [analysis.estimate(scope, row, metric) for row in rows]
            found += [analysis.ratio(scope, a, b, metric) for a in rows for b in rows]
            found += [analysis.difference(scope, a, b, metric) for a in rows for b in rows]
    return found


def test_one_question_has_estimates_without_intervals() -> None:
    shape = (5, 1)
    analysis = Analysis(
        [
            make_run("a", env="x", correct=random_outcomes(0, shape)),
            make_run("cmc", 0.5, "x", correct=random_outcomes(1, shape), tokens=50),
            make_run("a", env="y", correct=random_outcomes(0)),
        ]
    )
    all_results(analysis)
    lone, many, average = analysis.scopes
    for scope in (lone, average):
        found = analysis.estimate(scope, A, "correct")
        assert 0 <= found.value <= 1
        assert np.isnan([found.low, found.high, found.share]).all()
    assert all(np.isnan(point.share) for point in analysis.frontier(lone))
    assert width(analysis.estimate(many, A, "correct")) > 0


@pytest.mark.parametrize("tokens", [0, 1, 10**12])
@pytest.mark.parametrize("correct", [np.zeros((1, 2)), np.ones((3, 4))], ids=["none", "all"])
def test_degenerate_rows_raise_no_warning(tokens: int, correct: NDArray[Any]) -> None:
    """Warnings are errors in the tests."""
    runs = [
        make_run("a", correct=correct, tokens=tokens, sequential=tokens),
        make_run("cmc", 0.0, correct=correct, tokens=0, sequential=0),
        make_run("cmc", 1.0, correct=correct, tokens=tokens, sequential=0),
    ]
    assert all_results(Analysis(runs, replicates=20))
    assert all_results(Analysis(runs[:1], replicates=1))


def test_no_runs() -> None:
    analysis = Analysis([])
    assert analysis.scopes == analysis.rows == []


def test_search_and_held_out_environments_are_not_averaged() -> None:
    """Without splits, those of the installed environments of these names."""
    names = [
        f"tinylm/{size}/{task}" for size in ("small", "medium") for task in ("chain", "chain-hard")
    ]
    runs = [make_run("a", env=name, correct=random_outcomes(k)) for k, name in enumerate(names)]
    averages = {s.name: s.environments for s in Analysis(runs, replicates=9).scopes if s.is_average}
    assert averages == {
        "search average": (names[0], names[2]),
        "held-out average": (names[1], names[3]),
    }
    together = Analysis(runs, {}, replicates=9).scopes[-1]
    assert together.environments == tuple(names)
    assert repr(runs[0]) == "<Run of a on tinylm/small/chain: 48 episodes>"
