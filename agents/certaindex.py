"""Certaindex: read waves of branches until the entropy of their answers is low.

Fu et al. 2024, "Efficiently Serving LLM Reasoning Programs with Certaindex" (arXiv 2412.20993; the
system is Dynasor), in its form for self-consistency. There, certaindex steers how a server shares
its capacity among questions; here, it decides when one question stops. The form for one chain is
``answer_convergence``.
"""

from math import log
from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import answer_with, leaders, read, vote

#: Number of branches in a wave.
WAVE = 5

#: Maximum number of branches.
WIDTH = 64


class Schedule(NamedTuple):
    """Parameters that β determines."""

    certaindex: float  # at which it stops


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]."""
    return Schedule(0.5 + 0.45 * min(max(beta, 0.0), 1.0))


def _certaindex(votes, slots):
    """(ln n − H) / ln n for n votes with entropy H: 1 if all agree; 0 with fewer than 2 votes."""
    total, weighted = 0, 0.0
    for slot in range(slots):
        total += votes[slot]
        weighted += votes[slot] * log(votes[slot])
    # ln n − H is the mean over the votes of the logarithm of their answer's count.
    return weighted / (total * log(total)) if total > 1 else 0.0


def solve(episode, beta):
    """Read waves of branches to their ends; from the second on, stop when certaindex is high.

    Votes are counted in branch order. Null answers do not vote.
    """
    enough = schedule(beta).certaindex
    width = min(WIDTH, episode.max_branches)
    answers = np.empty(width, np.int64)
    votes = np.zeros(width, np.int64)
    slots = 0
    for start in range(0, width, WAVE):
        stop = min(start + WAVE, width)
        read(episode, start, stop)
        for i in range(start, min(stop, episode.opened)):
            if episode.finished(i) and not episode.is_null(episode.latest(i)):
                slots = vote(answers, votes, slots, episode.latest(i))
        certaindex = _certaindex(votes, slots)
        episode.note("certaindex", certaindex)
        if start > 0 and certaindex >= enough - 1e-9:  # a value that is met exactly counts
            break
        if episode.opened < stop:
            break  # the budget is spent
    best, _, _ = leaders(votes, slots)
    return answer_with(episode, answers[best] if best >= 0 else -1)
