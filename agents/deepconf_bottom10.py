"""DeepConf offline, by the bottom 10 percent of the windows of each branch.

Fu et al. 2025, "Deep Think with Confidence" (arXiv 2508.15260), offline: a branch is as confident
as the mean of the lowest tenth of its windows. Needs traces with generation confidences.
``deepconf_offline`` is the form with the last window.

Differences from the paper: a window is a whole number of intervals, of 2,048 tokens or a quarter of
the environment's mean branch if that is less, and one window ends at every interval; 64 branches
instead of 512.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import (
    answer_most_confident,
    confidence_window,
    open_branches,
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
    """Read all branches to their ends, probed at every interval; the most confident vote.

    A probe reveals the confidence of the window that ends there, so every interval is probed. β
    changes who votes, not what is spent. A branch without a full window counts with its mean over
    all tokens. Null answers do not vote.
    """
    require_generation_confidence(episode)
    window = confidence_window(episode)
    width = min(WIDTH, episode.max_branches)
    means = np.empty((width, episode.depth_limit))  # of the full windows of each branch
    windows = np.zeros(width, np.int64)  # their number
    open_branches(episode, width)
    moved = episode.probe_all()
    last = np.zeros(width, np.int64)  # depth of the last window
    while moved > 0:
        for i in range(episode.opened):
            depth = episode.revealed(i)
            if depth > last[i] and depth >= window and not episode.finished(i):
                means[i, windows[i]] = episode.generation_confidence(i, window)
                windows[i] += 1
                last[i] = depth
        moved = episode.extend_all() + episode.probe_all()

    finished = np.empty(width, np.int64)
    bottoms = np.empty(width)
    count = 0
    for i in range(episode.opened):
        if not episode.finished(i):
            continue  # the budget ends before the branch does
        finished[count] = i
        lowest = np.sort(means[i, : windows[i]])[: max(1, windows[i] // 10)]
        total = 0.0
        for mean in lowest:
            total += mean
        found = len(lowest) > 0
        bottoms[count] = total / len(lowest) if found else episode.generation_confidence(i)
        count += 1
    return answer_most_confident(episode, finished[:count], bottoms[:count], schedule(beta).kept)
