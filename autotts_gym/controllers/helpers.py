"""Functions for controllers: reading branches, answering, voting, and generation confidence.

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
            if episode.extend_fully(i) > 0:
                requested = True
        episode.probe_all()


def open_branches(episode: Episode, count: int) -> None:
    """Open branches until ``count`` are open, or no further one can be opened."""
    while episode.opened < count and episode.can_branch():
        episode.branch()


def probe_in_order(
    episode: Episode, order: NDArray[np.int64], tokens: NDArray[np.int64], count: int
) -> int:
    """Probe every branch that can be probed, and list those that finish, the shortest first.

    Ties are in branch order. Lengths follow from the costs that a probe reveals: they are the
    branch's tokens, plus the tokens of the probe if probes cost any.

    Args:
        order, tokens: one entry per branch; the first ``count`` hold the branches that have
            finished before, and their lengths. Those that finish now are added behind them.
        count: number of branches that have finished before.

    Returns:
        Number of branches that have finished.
    """
    first = count
    for i in range(episode.opened):
        if not episode.can_probe(i):
            continue
        others = episode.spent - episode.depth(i) * episode.interval
        _, finished = episode.probe(i)
        if not finished:
            continue
        length = episode.spent - others
        at = count
        while at > first and tokens[at - 1] > length:
            order[at], tokens[at] = order[at - 1], tokens[at - 1]
            at -= 1
        order[at], tokens[at] = i, length
        count += 1
    return count


def answer_with(episode: Episode, answer: int) -> None:
    """End the episode with an answer that a branch has shown.

    Args:
        answer: its class. With -1, the plurality of the latest answers of the active branches that
            are not null.
    """
    if answer < 0:
        answers = np.empty(episode.max_branches, np.int64)
        votes = np.zeros(episode.max_branches, np.int64)
        slots = 0
        for i in range(episode.opened):
            shown = episode.active(i) and episode.revealed(i) > 0
            if shown and not episode.is_null(episode.latest(i)):
                slots = vote(answers, votes, slots, episode.latest(i))
        best, _, _ = leaders(votes, slots)
        if best >= 0:
            answer = answers[best]
    for i in range(episode.opened):
        if answer >= 0 and episode.latest(i) == answer:
            return episode.answer(i)
    return episode.answer()


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


def weighted_vote(
    answers: NDArray[np.int64],
    votes: NDArray[np.float64],
    slots: int,
    answer: int,
    weight: float,
) -> int:
    """Count one answer with a weight; returns the number of slots in use."""
    for slot in range(slots):
        if answers[slot] == answer:
            votes[slot] += weight
            return slots
    answers[slots] = answer
    votes[slots] = weight
    return slots + 1


def leaders(votes: NDArray[np.int64] | NDArray[np.float64], slots: int) -> tuple[int, float, float]:
    """Slot of the plurality (-1 without votes), its votes, and the votes of the runner-up."""
    winner, first, second = -1, 0, 0
    for slot in range(slots):
        if votes[slot] > first:
            winner, first, second = slot, votes[slot], first
        elif votes[slot] > second:
            second = votes[slot]
    return winner, first, second


def answer_most_confident(
    episode: Episode,
    branches: NDArray[np.int64],
    confidences: NDArray[np.float64],
    kept: float,
) -> None:
    """End the episode with the vote of the most confident branches, weighted by confidence.

    Args:
        branches: finished branches; null answers among theirs do not vote.
        confidences: of each of them, a measure of its confidence.
        kept: percentage of the branches that vote, the most confident ones.
    """
    if len(branches) == 0:
        answer_with(episode, -1)
        return
    threshold = percentile(confidences, 100 - kept)
    episode.note("threshold", threshold)
    answers = np.empty(len(branches), np.int64)
    votes = np.zeros(len(branches))
    slots = 0
    for k in range(len(branches)):
        answer = episode.latest(branches[k])
        confidence = confidences[k]
        if confidence >= threshold and confidence > 0 and not episode.is_null(answer):
            slots = weighted_vote(answers, votes, slots, answer, confidence)
    best, _, _ = leaders(votes, slots)
    answer_with(episode, answers[best] if best >= 0 else -1)


def require_generation_confidence(episode: Episode) -> None:
    """Check that the environment records generation confidences.

    Raises:
        ValueError: it does not.
    """
    if not episode.has_generation_confidence:
        raise ValueError(
            "this controller needs generation confidences, which these traces do not hold: collect "
            "traces with them (autotts collect records them by default)"
        )


def confidence_window(episode: Episode) -> int:
    """The window of DeepConf (arXiv 2508.15260) in whole intervals, at least 1.

    2,048 tokens as published, or a quarter of the environment's mean branch if that is less.
    """
    tokens = min(2048.0, episode.mean_tokens / 4)
    return max(1, int(np.rint(tokens / episode.interval)))


def percentile(values: NDArray[np.float64], percent: float) -> float:
    """Percentile with linear interpolation, as ``np.percentile``.

    A position within 1e-9 of a value is that value, so that rounding errors do not put the value
    below its own percentile.

    Args:
        values: float64[n], n at least 1.
        percent: from 0 to 100.
    """
    ordered = np.sort(values)
    position = percent / 100 * (len(values) - 1)
    nearest = int(np.rint(position))
    if abs(position - nearest) < 1e-9:
        return ordered[nearest]  # type: ignore[no-any-return]
    below = int(position)
    share = position - below
    return ordered[below] + share * (ordered[below + 1] - ordered[below])  # type: ignore[no-any-return]
