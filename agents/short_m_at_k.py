"""short-m@k: run k branches in parallel, and vote among the m that finish first.

Hassid et al. 2025, "Don't Overthink it. Preferring Shorter Thinking Chains for Improved LLM
Reasoning" (arXiv 2505.17813), with m = 3. Unlike there, all branches advance by whole intervals, so
several can finish in one round; the shorter then count as first. The paper compares the lengths of
thinking, this controller those of whole branches.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import answer_with, open_branches, probe_in_order

#: Number of branches that vote: the m of short-m@k.
VOTERS = 3


class Schedule(NamedTuple):
    """Parameters that β determines."""

    branches: int  # opened at the start: the k of short-m@k


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]: 3 to 16 branches."""
    return Schedule(int(np.rint(3 + 13 * min(max(beta, 0.0), 1.0))))


def _winner(episode, finished, tokens):
    """The plurality of finished branches; ties go to the answer with the shortest branch."""
    best, most, shortest = -1, 0, 0
    for i in finished:
        answer = episode.latest(i)
        if episode.is_null(answer):
            continue
        votes, length = 0, 0
        for k in range(len(finished)):
            if episode.latest(finished[k]) == answer:
                length = tokens[k] if votes == 0 else min(length, tokens[k])
                votes += 1
        if votes > most or (votes == most and length < shortest):
            best, most, shortest = answer, votes, length
    return best


def solve(episode, beta):
    """Extend all branches by an interval a round until m have finished; answer their plurality.

    Null answers do not vote. If all m are null, the next branch that finishes with an answer
    decides.
    """
    finished = np.empty(episode.max_branches, np.int64)
    tokens = np.empty(episode.max_branches, np.int64)
    open_branches(episode, schedule(beta).branches)
    count = 0
    voters = 0  # the first of ``finished`` that vote
    winner = -1
    moved = episode.opened
    while moved > 0:
        before = count
        count = probe_in_order(episode, finished, tokens, count)
        while voters < count and (voters < VOTERS or winner < 0):
            voters += 1
            winner = _winner(episode, finished[:voters], tokens[:voters])
        if voters >= VOTERS and winner >= 0:
            break
        moved = episode.extend_all() + count - before
    return answer_with(episode, winner)
