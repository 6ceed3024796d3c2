"""Length and confidence of correct and wrong branches, against counts by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.mdp.generation_confidence import lowest_confidence, mean_confidence
from autotts_gym.traces.separation import (
    branch_confidence,
    group_window,
    separation,
)
from autotts_gym.traces.store import Branch, Question, TraceStore

INTERVAL = 10

branches_of_question = st.lists(
    st.tuples(st.booleans(), st.sampled_from([math.nan, 1.0, 2.0, 2.5, 3.0])), min_size=1
)


@given(st.lists(branches_of_question, min_size=1))
def test_separation_counts_pairs(questions: list[list[tuple[bool, float]]]) -> None:
    above, pairs = 0.0, 0
    for branches in questions:
        for right, a in branches:
            for other, b in branches:
                if right and not other and not math.isnan(a + b):
                    above += (a > b) + (a == b) / 2
                    pairs += 1
    measured = separation(
        np.repeat(np.arange(len(questions)), [len(branches) for branches in questions]),
        np.array([right for branches in questions for right, _ in branches]),
        np.array([score for branches in questions for _, score in branches]),
    )
    assert measured == pytest.approx(above / pairs if pairs else math.nan, nan_ok=True)


def test_separation_of_no_branch() -> None:
    assert math.isnan(separation(np.array([0]), np.array([True]), np.array([math.nan])))


@st.composite
def recorded_branches(draw: st.DrawFn) -> Branch:
    tokens = draw(st.integers(1, 8 * INTERVAL))
    n = (tokens - 1) // INTERVAL
    counts = [INTERVAL] * n + [tokens - n * INTERVAL]
    if draw(st.booleans()):
        counts = [0] * len(counts)
    sums = [draw(st.integers(0, 200)) * (count > 0) for count in counts]
    return Branch(["1"] * n, tokens, "1", confidence_sums=sums, confidence_tokens=counts)


def expected_lowest(sums: Sequence[float], counts: Sequence[int], window: int) -> float:
    """As the handle of an episode gives it to a controller, for a finished branch."""
    whole = len(counts) - (counts[-1] < INTERVAL)
    lowest = lowest_confidence(sums, counts, 0, whole, window)
    return lowest if lowest >= 0 else mean_confidence(sums, counts, 0, len(counts), len(counts))


@given(st.lists(recorded_branches(), min_size=1), st.integers(1, 5))
def test_branch_confidence_is_that_of_the_process(branches: list[Branch], window: int) -> None:
    tables = TraceStore.from_branches([Question("q", "1", branches)], INTERVAL).tables
    measured = branch_confidence(tables, INTERVAL, window)
    for b, branch in enumerate(branches):
        assert branch.confidence_sums is not None
        assert branch.confidence_tokens is not None
        sums, counts = list(branch.confidence_sums), list(branch.confidence_tokens)
        if sum(counts) == 0:
            assert math.isnan(measured.mean[b])
            assert math.isnan(measured.lowest[b])
            continue
        assert measured.mean[b] == pytest.approx(sum(sums) / sum(counts))
        assert measured.lowest[b] == pytest.approx(expected_lowest(sums, counts, window))


def test_traces_without_confidence() -> None:
    tables = TraceStore.from_branches([Question("q", "1", [Branch([], 5, "1")])], INTERVAL).tables
    assert np.isnan(branch_confidence(tables, INTERVAL, 1)).all()


@pytest.mark.parametrize(("mean", "window"), [(134.0, 2), (10.0, 1), (400.0, 6)])
def test_group_window(mean: float, window: int) -> None:
    """A quarter of the mean branch, at least one interval."""
    assert group_window(mean, 16) == window
