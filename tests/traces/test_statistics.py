"""Statistics of small stores counted by hand, and of the published traces."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from autotts_gym.traces import statistics
from autotts_gym.traces.published_statistics import PUBLISHED_AIME24
from autotts_gym.traces.statistics import Statistics, compare, describe
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.traces.synthetic_traces import generate

ROOT = Path(__file__).parents[2]
PUBLISHED = Path(os.environ.get("AUTOTTS_PUBLISHED", ROOT / "../shared/data/autotts_release"))


def store_of(*questions: tuple[str, list[tuple[str, int, str]]]) -> TraceStore:
    """A store with Δ = 100 from (gold, [("probe probe ...", tokens, final), ...])."""
    return TraceStore.from_branches(
        [
            Question(f"q{i}", gold, [Branch(p.split(), t, f) for p, t, f in branches])
            for i, (gold, branches) in enumerate(questions)
        ],
        100,
    )


@pytest.fixture(scope="module")
def small() -> Statistics:
    # Question 0: gold 7; its plurality is 7 (two votes of four).
    # Question 1: gold 5; no branch gives it, the three give 1, 1 and No.
    return describe(
        store_of(
            (
                "7",
                [
                    ("No 3 7", 350, "7"),  # depths 1/4, 2/4, 3/4; settled at 3/4
                    ("7 7 7", 250, "7"),  # settled at 1/4; T falls 50 short
                    ("3", 150, "3"),  # depth 1/2
                    ("2", 150, "4"),  # changes at the very end
                ],
            ),
            ("5", [("1 1 1", 400, "1"), ("", 400, "1"), ("1", 400, "No")]),
        )
    )


def test_counts_and_accuracy(small: Statistics) -> None:
    assert (small.questions, small.branches, small.interval) == (2, 7, 100)
    assert small.accuracy == pytest.approx((2 / 4 + 0) / 2)
    assert small.plurality == pytest.approx(0.5)
    assert small.pass_any == pytest.approx(0.5)
    assert small.plurality_wrong == pytest.approx(0.5)
    assert small.accuracy_deciles == pytest.approx([0.05 * i for i in range(11)])
    assert small.final_nulls == pytest.approx((0 + 1 / 3) / 2)


def test_lengths(small: Statistics) -> None:
    tokens = [350, 250, 150, 150, 400, 400, 400]
    assert small.tokens_mean == pytest.approx((225 + 400) / 2)
    assert small.tokens_cv == pytest.approx(np.std(tokens) / np.mean(tokens))
    assert small.tokens_cv_within == pytest.approx(np.std(tokens[:4]) / 225 / 2)
    assert small.tokens_quantiles[0] == 150
    assert small.tokens_quantiles[3] == 350  # the median
    assert small.tokens_quantiles[-1] == 400
    assert small.intervals_mean == pytest.approx(((4 + 4 + 2 + 2) / 4 + (4 + 1 + 2) / 3) / 2)
    assert small.overhang_quantiles[0] == pytest.approx(-0.5)
    assert small.overhang_quantiles[-1] == pytest.approx(4)
    assert small.length_correlation == pytest.approx(-1)  # two questions make a line
    # Geometric means of question 0: correct sqrt(350 * 250), wrong 150; question 1 has none.
    assert small.wrong_length == pytest.approx(150 / math.sqrt(350 * 250))


def test_probes_by_depth(small: Statistics) -> None:
    # Tenth 2 (depth 1/4): question 0 shows No, 7; question 1 shows 1.
    assert small.null_by_depth[2] == pytest.approx((1 / 2 + 0) / 2)
    assert small.accuracy_by_depth[2] == pytest.approx((1 / 2 + 0) / 2)
    # No and 7 tie, and No was counted first.
    assert small.plurality_by_depth[2] == 0
    # Tenth 5 (depth 1/2): question 0 shows 3, 7, 3, 2; question 1 shows 1, 1.
    assert small.accuracy_by_depth[5] == pytest.approx((1 / 4 + 0) / 2)
    assert small.plurality_by_depth[5] == 0
    # Tenth 7 (depth 3/4): question 0 shows 7, 7.
    assert small.accuracy_by_depth[7] == pytest.approx((1 + 0) / 2)
    assert small.plurality_by_depth[7] == pytest.approx(0.5)
    for empty in (0, 1, 3, 4, 6, 8, 9):
        assert math.isnan(small.accuracy_by_depth[empty])


def test_settled_and_changes(small: Statistics) -> None:
    first = (3 / 4 + 1 / 4 + 1 / 2 + 1) / 4
    second = (1 / 4 + 1 + 1) / 3  # a branch without probes settles at its end
    assert small.settled == pytest.approx((first + second) / 2)
    # Only "2 -> 4" and "1 -> No" change after 3/4; the change at 3/4 does not count.
    assert small.late_changes == pytest.approx((1 / 4 + 1 / 3) / 2)
    assert small.changes == pytest.approx(((2 + 0 + 0 + 1) / 4 + (0 + 0 + 1) / 3) / 2)


def test_agreement(small: Statistics) -> None:
    # Wrong finals: 3 and 4 (a pair, unequal), 1 and 1 (a pair, equal); the null one is left out.
    assert small.wrong_agreement == pytest.approx(1 / 2)
    # Depth 1/2: 3, 3, 2 of different branches (one pair of three), and 1, 1 (one of one).
    assert small.agreement_by_depth[5] == pytest.approx((1 + 1) / (3 + 1))
    # Depth 1/4: one wrong probe a question, no pair.
    assert math.isnan(small.agreement_by_depth[2])


def test_agreement_excludes_pairs_within_a_branch() -> None:
    # 30 intervals: a tenth of depth holds three probes of the branch itself.
    of_two = describe(store_of(("0", [(" ".join("1" * 29), 3000, "1"), ("2 " * 29, 3000, "2")])))
    assert set(of_two.agreement_by_depth) == {0.0}
    of_one = describe(store_of(("0", [(" ".join("1" * 29), 3000, "1")])))
    assert all(map(math.isnan, of_one.agreement_by_depth))


def test_first_answer_breaks_ties() -> None:
    tied = [("", 10, "1"), ("", 10, "2")]
    # In random order, each of the two wins half of the time; in stored order, "1" wins.
    for gold, wrong in (("1", 0), ("2", 1)):
        result = describe(store_of((gold, tied)))
        assert result.plurality == pytest.approx(0.5, abs=0.2)
        assert result.plurality_wrong == wrong


def test_votes_of_64_of_128_branches() -> None:
    # 65 of 128 are correct: nearly even in a random half, and 1 - C(63, 64) / C(128, 64) = 1.
    branches = [("", 10, "1")] * 65 + [("", 10, "2")] * 63
    result = describe(store_of(("1", branches)))
    assert 0.3 < result.plurality < 0.8
    assert result.pass_any == 1
    # One of 128 is correct: a random half contains it with probability 1/2.
    rare = describe(store_of(("1", [("", 10, "1")] + [("", 10, "2")] * 127)))
    assert rare.pass_any == pytest.approx(0.5)
    assert rare.plurality == 0


def test_no_probes_at_all() -> None:
    result = describe(store_of(("1", [("", 10, "1")])))
    assert all(map(math.isnan, result.null_by_depth))
    assert (result.settled, result.late_changes, result.changes) == (1, 0, 0)
    assert math.isnan(result.length_correlation)
    assert math.isnan(result.wrong_length)
    assert math.isnan(result.wrong_agreement)


def test_result_does_not_depend_on_the_block_size(monkeypatch: pytest.MonkeyPatch) -> None:
    store = generate(questions=7, branches=5, seed=3)
    whole = describe(store)
    assert whole == describe(store)
    monkeypatch.setattr(statistics, "_BLOCK", 2)
    assert dataclasses.astuple(describe(store)) == dataclasses.astuple(whole)


def test_compare() -> None:
    a, b = PUBLISHED_AIME24["Qwen3-4B"], PUBLISHED_AIME24["Qwen3-8B"]
    table = compare(a, b, ("4B", "8B"))
    assert [column.header for column in table.columns] == ["", "4B", "8B", "difference"]
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(table)
    text = console.export_text()
    rows = {
        cells[1].strip(): [cell.strip() for cell in cells[2:5]]
        for cells in (line.split("│") for line in text.splitlines())
        if len(cells) > 4
    }
    assert rows["one of 64 correct"] == ["89.1%", "92.8%", "-3.7%"]
    assert rows["tokens, mean"] == ["13851", "14229", "-378"]
    assert rows["tokens most"] == ["41482", "41470", "+12"]
    assert "correct probes, depth 0.9 to 1.0" in rows
    every = sum(len(v) if isinstance(v, tuple) else 1 for v in dataclasses.astuple(a))
    assert table.row_count == every


@pytest.mark.slow
@pytest.mark.parametrize("model", PUBLISHED_AIME24)
def test_published_statistics_match_the_published_traces(model: str) -> None:
    path = PUBLISHED / model / "aime24.json"
    if not path.exists():
        pytest.skip(
            f"the published traces are not at {path}; set AUTOTTS_PUBLISHED to their folder"
        )
    data = json.loads(path.read_text("utf-8"))
    store = TraceStore.from_branches(
        [
            Question(q["question"], q["gold_answer"], [Branch(*b) for b in q["each_branch"]])
            for q in data
        ],
        500,
    )
    measured = describe(store)
    for item in dataclasses.fields(Statistics):
        expected = getattr(PUBLISHED_AIME24[model], item.name)
        # The stored statistics have four decimals; tokens are integers.
        tolerance = 0.51 if item.name in ("tokens_mean", "tokens_quantiles") else 0.51e-4
        assert getattr(measured, item.name) == pytest.approx(
            expected, abs=tolerance, rel=0, nan_ok=True
        ), item.name


def test_published_plurality_matches_the_published_table() -> None:
    # SC@64 on AIME24 in arXiv 2605.08083: 21.4, 72.5, 80.0, 80.4 (over 100 branch orders).
    expected = {"Qwen3-0.6B": 0.214, "Qwen3-1.7B": 0.725, "Qwen3-4B": 0.800, "Qwen3-8B": 0.804}
    measured = {model: figures.plurality for model, figures in PUBLISHED_AIME24.items()}
    assert measured == pytest.approx(expected, abs=0.005)
