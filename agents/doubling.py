"""Doubling: read 2 branches, then as many again, until a large share of all votes agrees.

The schedule that inference gateways deploy: waves of 2, 2, 4, 8, … branches, up to 64 in all, each
read in parallel. It has no paper; its rule of a fixed share is deployed with 75 %.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import answer_with, leaders, read, vote

#: Number of branches in the first wave.
FIRST = 2

#: Maximum number of branches.
WIDTH = 64


class Schedule(NamedTuple):
    """Parameters that β determines."""

    share: float  # of the votes that the leading answer needs


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]; a share of 0.75 is the deployed one."""
    return Schedule(0.55 + 0.40 * min(max(beta, 0.0), 1.0))


def solve(episode, beta):
    """Read waves of branches to their ends; stop when the leader has its share of all votes.

    Votes are counted in branch order. Null answers do not vote.
    """
    share = schedule(beta).share
    width = min(WIDTH, episode.max_branches)
    answers = np.empty(width, np.int64)
    votes = np.zeros(width, np.int64)
    slots = total = 0
    winner = -1
    start, stop = 0, min(FIRST, width)
    while start < stop:
        read(episode, start, stop)
        for i in range(start, min(stop, episode.opened)):
            if episode.finished(i) and not episode.is_null(episode.latest(i)):
                slots = vote(answers, votes, slots, episode.latest(i))
                total += 1
        best, first, _ = leaders(votes, slots)
        if best >= 0:
            winner = answers[best]
            episode.note("share", first / total)
            if first >= share * total - 1e-9:  # a share that is met exactly counts
                break
        if episode.opened < stop:
            break  # the budget is spent
        start, stop = stop, min(2 * stop, width)
    return answer_with(episode, winner)
