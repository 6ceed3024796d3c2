"""First finish search: run branches in parallel, and answer with the first that finishes.

Agarwal, Sengupta and Chakraborty 2025, "First Finish Search: Efficient Test-Time Scaling in Large
Language Models" (arXiv 2505.18149). Unlike there, all branches advance by whole intervals, so
several can finish in one round; the shortest then counts as first.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import answer_with, open_branches, probe_in_order


class Schedule(NamedTuple):
    """Parameters that β determines."""

    branches: int  # opened at the start


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]: 1 to 16 branches."""
    return Schedule(int(np.rint(1 + 15 * min(max(beta, 0.0), 1.0))))


def solve(episode, beta):
    """Extend all branches by an interval a round; answer the first that finishes with an answer.

    Branches that finish with a null answer are passed over. If none finishes with another, the
    plurality of the latest answers is the answer.
    """
    finished = np.empty(episode.max_branches, np.int64)
    tokens = np.empty(episode.max_branches, np.int64)
    open_branches(episode, schedule(beta).branches)
    count = 0
    moved = episode.opened
    while moved > 0:
        before = count
        count = probe_in_order(episode, finished, tokens, count)
        for i in finished[before:count]:
            if not episode.is_null(episode.latest(i)):
                return episode.answer(i)
        moved = episode.extend_all() + count - before
    return answer_with(episode, -1)
