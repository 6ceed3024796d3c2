"""Voting, as the published controllers count: ties go to the answer that was counted first.

The functions are plain Python, and are compiled along with a controller that calls them. A vote is
kept in arrays, a slot for every different answer in the order in which they were first counted::

    answers = np.empty(64, np.int64)
    votes = np.zeros(64, np.int64)
    slots = 0
    slots = vote(answers, votes, slots, answer)
    winner, first, second = leaders(votes, slots)
"""

from __future__ import annotations

from math import comb
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Votes that the table of confidences covers.
MOST_VOTES: Final = 128


def _confidence_table() -> NDArray[np.float64]:
    """1 − F(1/2; a + 1, b + 1) for all a, b, from exact integers.

    With n = a + b + 1 it is 1 − 2^−n · Σ_{k>a} C(n, k), the chance that a fair coin's n throws
    show at most a heads.
    """
    table = np.zeros((MOST_VOTES + 1, MOST_VOTES + 1))
    for n in range(1, MOST_VOTES + 2):
        tail = 0
        for a in range(n - 1, -1, -1):
            tail += comb(n, a + 1)
            table[a, n - 1 - a] = 1 - tail / 2**n
    table[0, 0] = 0.0
    return table


_CONFIDENCE: Final = _confidence_table()


def beta_confidence(first: int, second: int) -> float:
    """Confidence that the leading answer is the majority, from the two highest counts.

    ``1 − F(1/2; first + 1, second + 1)`` with F the distribution function of Beta: the probability
    that the leader is drawn more often than the runner-up under a uniform prior (adaptive
    consistency, Aggarwal et al. 2023; AutoTTS, arXiv 2605.08083, appendix). 0 without votes.

    Args:
        first, second: votes of the two leading answers, ``first >= second >= 0``, at most 128 in
            all.
    """
    return _CONFIDENCE[first, second]  # type: ignore[no-any-return]


def vote(answers: NDArray[np.int64], votes: NDArray[np.int64], slots: int, answer: int) -> int:
    """Count one answer; returns the number of slots that are now in use."""
    for slot in range(slots):
        if answers[slot] == answer:
            votes[slot] += 1
            return slots
    answers[slots] = answer
    votes[slots] = 1
    return slots + 1


def leaders(votes: NDArray[np.int64], slots: int) -> tuple[int, int, int]:
    """Slot of the plurality (-1 without votes), its votes, and the votes of the runner-up."""
    winner, first, second = -1, 0, 0
    for slot in range(slots):
        if votes[slot] > first:
            winner, first, second = slot, votes[slot], first
        elif votes[slot] > second:
            second = votes[slot]
    return winner, first, second
