"""Concurrent Beta stopping: adaptive self-consistency, with all branches running in parallel.

The stopping rule is that of adaptive self-consistency (Aggarwal et al. 2023, "Let's Sample Step by
Step: Adaptive-Consistency for Efficient Reasoning and Coding with LLMs", arXiv 2305.11860). There,
branches are sampled one after the other. Here they all start together, and what still runs when
the finished ones agree is pruned: it takes the time of a parallel method, and part of its tokens.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import (
    answer_with,
    beta_confidence,
    leaders,
    open_branches,
    probe_in_order,
    vote,
)

#: Maximum number of branches.
WIDTH = 64


class Schedule(NamedTuple):
    """Parameters that β determines."""

    threshold: float  # confidence in the plurality above which the rest is pruned


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]; 0.95 is the published confidence."""
    return Schedule(0.90 + 0.10 * min(max(beta, 0.0), 1.0))


def solve(episode, beta):
    """Extend all branches by an interval a round; stop once the finished ones agree.

    Finished branches are counted in the order in which they finish, those of one round by length.
    Null answers do not vote. At β = 1 it never stops early.
    """
    enough = schedule(beta).threshold
    finished = np.empty(episode.max_branches, np.int64)
    tokens = np.empty(episode.max_branches, np.int64)
    answers = np.empty(episode.max_branches, np.int64)
    votes = np.zeros(episode.max_branches, np.int64)
    open_branches(episode, WIDTH)
    count = slots = 0
    winner = -1
    moved = episode.opened
    while moved > 0:
        before = count
        count = probe_in_order(episode, finished, tokens, count)
        for i in finished[before:count]:
            if not episode.is_null(episode.latest(i)):
                slots = vote(answers, votes, slots, episode.latest(i))
        best, first, second = leaders(votes, slots)
        if best >= 0:
            winner = answers[best]
        confidence = beta_confidence(first, second)
        episode.note("confidence", confidence)
        if confidence > enough:
            break
        moved = episode.extend_all() + count - before
    return answer_with(episode, winner)
