"""DeepConf offline: read all branches, keep those that end confidently, weight votes by confidence.

Fu et al. 2025, "Deep Think with Confidence" (arXiv 2508.15260), offline, by the *tail* confidence:
that of a branch's last window. Needs traces with generation confidences. ``deepconf_bottom10`` is
the form with the bottom 10 percent of windows.

Differences from the paper: a window is a whole number of intervals, of 2,048 tokens or a quarter of
the environment's mean branch if that is less; 64 branches instead of 512.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import (
    answer_most_confident,
    confidence_window,
    read,
    require_generation_confidence,
)

#: Maximum number of branches.
WIDTH = 64


class Schedule(NamedTuple):
    """Parameters that β determines."""

    kept: float  # percentage of the branches that vote


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]; the paper keeps 10 (β = 0) and 90 (β = 1)."""
    return Schedule(10 + 80 * min(max(beta, 0.0), 1.0))


def solve(episode, beta):
    """Read all branches to their ends, once probed; the most confident vote, by confidence.

    β changes who votes, not what is spent. Null answers do not vote.
    """
    require_generation_confidence(episode)
    window = confidence_window(episode)
    read(episode, 0, min(WIDTH, episode.max_branches))
    finished = np.empty(episode.max_branches, np.int64)
    tails = np.empty(episode.max_branches)
    count = 0
    for i in range(episode.opened):
        if episode.finished(i):
            finished[count] = i
            tails[count] = episode.generation_confidence(i, window)
            count += 1
    return answer_most_confident(episode, finished[:count], tails[:count], schedule(beta).kept)
