"""The margin rule of MARS: against sums over single branches, and at its limits."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.controllers.margin_stopping import (
    Ballots,
    calibrated_gamma,
    leading_answer,
    observe,
    safe_leader,
)

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: Class (-1 without an answer), weight, and probability of switching, of one branch.
BRANCH = st.tuples(
    st.integers(-1, 4), st.sampled_from([0.0, 0.5, 1.0, 3.25]), st.sampled_from([0.0, 0.25, 1.0])
)


@pytest.fixture(scope="module")
def description() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module("mars_description")


def ballots(branches: list[tuple[int, float, float]]) -> Ballots:
    shown, weights, switching = zip(*branches, strict=True)
    return Ballots(np.array(shown), np.array(weights, float), np.array(switching, float))


def described(module: ModuleType, branches: list[tuple[int, float, float]]) -> list[object]:
    return [module.Ballot(None if a < 0 else str(a), w, q) for a, w, q in branches]


@given(
    st.lists(BRANCH, min_size=1, max_size=20),
    st.integers(0, 100),
    st.sampled_from([0.5, 0.75, 1.0, 1.5]),
)
def test_the_rule_equals_sums_over_branches(
    description: ModuleType, branches: list[tuple[int, float, float]], gamma: int, scale: float
) -> None:
    expected = description.safe_leader(described(description, branches), gamma / 100, scale)
    found = safe_leader(ballots(branches), float(gamma), scale)
    assert (None if found < 0 else str(found)) == expected


@given(st.lists(st.lists(BRANCH, min_size=6, max_size=6), min_size=1, max_size=5))
def test_gamma_equals_its_description(
    description: ModuleType, checkpoints: list[list[tuple[int, float, float]]]
) -> None:
    """With true switches, which are 0 or 1."""
    rounded = [[(a, w, float(q > 0)) for a, w, q in rows] for rows in checkpoints]
    expected = description.calibrated_gamma([described(description, rows) for rows in rounded])
    parts = zip(*(ballots(rows) for rows in rounded), strict=True)
    history = Ballots(*(np.stack(part) for part in parts))
    assert calibrated_gamma(history, 6) == round(100 * expected)


def test_votes_and_ties() -> None:
    none = [(-1, 1.0, 0.0), (2, 0.0, 0.0)]
    assert leading_answer(ballots(none)) == safe_leader(ballots(none), 100.0, 1.0) == -1
    tie = [(3, 1.0, 0.0), (1, 1.0, 0.0)]
    assert leading_answer(ballots(tie)) == 3
    assert safe_leader(ballots(tie), 100.0, 1.0) == -1  # a margin of 0 is not safe
    assert safe_leader(ballots([*tie, (1, 1.0, 0.0)]), 100.0, 1.0) == 1


def test_an_unseen_answer_is_a_challenger() -> None:
    """Two of three leave at 2γ each: the leader's 3 votes do not exceed 4."""
    branches = [(0, 1.0, 0.0), (0, 1.0, 1.0), (0, 1.0, 1.0)]
    assert safe_leader(ballots(branches), 100.0, 1.0) == -1
    assert safe_leader(ballots(branches), 74.0, 1.0) == 0
    assert safe_leader(ballots(branches), 75.0, 1.0) == -1  # 3 > 3 is false, exactly
    assert safe_leader(ballots(branches), 75.0, 0.99) == 0


def test_few_branches_are_not_calibrated() -> None:
    history = Ballots(np.zeros((1, 6), int), np.ones((1, 6)), np.zeros((1, 6)))
    assert calibrated_gamma(history, 3) == 100
    assert calibrated_gamma(history, 6) == 50  # 0 + 1/√6, but at least 0.5
    empty = Ballots(np.zeros((0, 6), int), np.ones((0, 6)), np.zeros((0, 6)))
    assert calibrated_gamma(empty, 6) == 100


def test_features() -> None:
    """Depth, confidence, changes, streak, trend after the answers 7 7 8 7 7."""
    features, found = np.zeros(5), []
    answers = [7, 7, 8, 7, 7]
    for depth, (answer, confidence) in enumerate(
        zip(answers, [5.0, 6.0, 4.0, 4.5, 4.5], strict=True), 1
    ):
        observe(features, depth, confidence, depth > 1 and answer == answers[depth - 2])
        found.append(features.tolist())
    assert found == [
        [1, 5.0, 0, 1, 0.0],
        [2, 6.0, 0, 2, 1.0],
        [3, 4.0, 1, 1, -2.0],
        [4, 4.5, 2, 1, 0.5],
        [5, 4.5, 2, 2, 0.0],
    ]
