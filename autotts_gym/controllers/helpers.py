"""Functions for controllers: reading branches to their ends, and voting.

They are plain Python, and are compiled along with a controller that calls them. Votes are counted
as in the published controllers, where ties go to the answer that was counted first. They are kept
in two arrays with a slot per distinct answer, in the order of first counting::

    answers = np.empty(64, np.int64)
    votes = np.zeros(64, np.int64)
    slots = 0
    slots = vote(answers, votes, slots, answer)
    winner, first, second = leaders(votes, slots)
"""

from __future__ import annotations

from math import comb
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from autotts_gym.controllers.episode import Episode

#: Maximum total of votes that :func:`beta_confidence` covers.
MAX_VOTES: Final = 128

MOST_VOTES: Final = MAX_VOTES  # earlier name, which existing controllers may import


def read(episode: Episode, start: int, stop: int) -> None:
    """Read branches ``start`` to ``stop − 1`` to their ends, opening unopened ones.

    All intervals are requested before the first probe, so the latency is that of the longest
    branch. If a token budget stops the requests, probing frees the difference between the charged
    and the actual tokens of finished branches, and the requests continue. Branches beyond the
    budget stay unfinished or unopened.
    """
    requested = True
    while requested:
        requested = False
        for i in range(start, stop):
            if i == episode.opened and episode.can_branch():
                episode.branch()
                requested = True
            while i < episode.opened and episode.can_extend(i):
                episode.extend(i)
                requested = True
        episode.probe_all()


def _confidence_table() -> NDArray[np.float64]:
    """1 − F(1/2; a + 1, b + 1) for all a, b, from exact integers.

    With n = a + b + 1 it equals 1 − 2^−n · Σ_{k>a} C(n, k): the probability of at most a heads in
    n tosses of a fair coin.
    """
    table = np.zeros((MAX_VOTES + 1, MAX_VOTES + 1))
    for n in range(1, MAX_VOTES + 2):
        tail = 0
        for a in range(n - 1, -1, -1):
            tail += comb(n, a + 1)
            table[a, n - 1 - a] = 1 - tail / 2**n
    table[0, 0] = 0.0
    return table


_CONFIDENCE: Final = _confidence_table()


def beta_confidence(first: int, second: int) -> float:
    """Confidence that the leading answer is the majority, from the two highest counts.

    ``1 − F(1/2; first + 1, second + 1)`` with F the distribution function of Beta: the probability,
    under a uniform prior, that the leader is sampled more often than the runner-up (adaptive
    consistency, Aggarwal et al. 2023; AutoTTS, arXiv 2605.08083, appendix). 0 without votes.

    Args:
        first, second: votes of the two leading answers, ``first >= second >= 0``, at most 128 in
            total.
    """
    return _CONFIDENCE[first, second]  # type: ignore[no-any-return]


def vote(answers: NDArray[np.int64], votes: NDArray[np.int64], slots: int, answer: int) -> int:
    """Count one answer; returns the number of slots in use."""
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
