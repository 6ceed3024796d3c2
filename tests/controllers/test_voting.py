"""Voting helpers: confidences against scipy's Beta distribution, and ties."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import betainc

from autotts_gym.controllers.helpers import MAX_VOTES, beta_confidence, leaders, vote

#: All a ≥ b ≥ 0 up to 64 votes, without (0, 0).
A, B = np.array([(a, b) for a in range(1, 65) for b in range(a + 1)]).T


def test_confidence_equals_the_beta_distribution() -> None:
    found = np.array([beta_confidence(a, b) for a, b in zip(A, B, strict=True)])
    np.testing.assert_allclose(found, 1 - betainc(A + 1, B + 1, 0.5), rtol=0, atol=1e-14)
    np.testing.assert_allclose(found, stats.beta.sf(0.5, A + 1, B + 1), rtol=0, atol=1e-14)


def test_confidence_is_exact_to_the_last_bit() -> None:
    """Controllers compare it with a threshold, where one bit can decide."""
    for a, b in [(int(a), int(b)) for a, b in zip(A, B, strict=True)]:
        n = a + b + 1
        tail = Fraction(sum(comb(n, k) for k in range(a + 1, n + 1)), 2**n)
        assert beta_confidence(a, b) == 1 - float(tail)


def test_confidence_at_the_limits() -> None:
    assert beta_confidence(0, 0) == 0
    assert beta_confidence(1, 0) == 0.75
    assert beta_confidence(5, 5) == pytest.approx(0.5)
    assert beta_confidence(MAX_VOTES, 0) == 1


@given(st.lists(st.integers(-1, 9), max_size=64))
def test_votes_equal_those_of_a_counter(answers: list[int]) -> None:
    slots = np.empty(64, np.int64)
    votes = np.zeros(64, np.int64)
    used = 0
    for answer in answers:
        used = vote(slots, votes, used, answer)
    counts = Counter(answers)  # in the order of first appearance, like the slots
    assert dict(zip(slots[:used].tolist(), votes[:used].tolist(), strict=True)) == counts
    assert slots[:used].tolist() == list(counts)
    ranked = [
        *counts.most_common(),
        (None, 0),
        (None, 0),
    ]  # stable sort: ties go to the first counted
    winner, first, second = leaders(votes, used)
    assert (first, second) == (ranked[0][1], ranked[1][1])
    assert (slots[winner] if winner >= 0 else None) == ranked[0][0]


@pytest.mark.parametrize(
    ("answers", "winner"),
    [([], None), ([4], 4), ([4, 7], 4), ([7, 4, 4, 7], 7), ([7, 4, 4], 4), ([3, 1, 2, 1, 2], 1)],
)
def test_ties_go_to_the_answer_that_was_counted_first(
    answers: list[int], winner: int | None
) -> None:
    slots, votes, used = np.empty(8, np.int64), np.zeros(8, np.int64), 0
    for answer in answers:
        used = vote(slots, votes, used, answer)
    best, _, _ = leaders(votes, used)
    assert (slots[best] if best >= 0 else None) == winner
