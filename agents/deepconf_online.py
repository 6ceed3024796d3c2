"""DeepConf online: prune branches of low confidence while they run, and weight votes by it.

Fu et al. 2025, "Deep Think with Confidence" (arXiv 2508.15260), online with a consensus threshold
of 0.95. Needs traces with generation confidences.

Differences from the paper: confidences are those of windows of whole intervals, probed once per
interval; the window is 2,048 tokens, or a quarter of the environment's mean branch if that is less;
64 branches instead of 512; all branches after the warm-up start together, and consensus is checked
after each of their rounds; the tokens of the warm-up are billed.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import (
    answer_with,
    confidence_window,
    leaders,
    open_branches,
    percentile,
    probe_in_order,
    read,
    require_generation_confidence,
    weighted_vote,
)

#: Maximum number of branches.
WIDTH = 64

#: Number of warm-up branches.
WARM_UP = 16

#: Share of the weight that the leading answer needs to stop.
CONSENSUS = 0.95


class Schedule(NamedTuple):
    """Parameters that β determines."""

    kept: float  # percentage of the warm-up branches above the threshold: the paper's η


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]; the paper uses η = 10 (β = 0) and 90 (β = 1)."""
    return Schedule(10 + 80 * min(max(beta, 0.0), 1.0))


def solve(episode, beta):
    """Read the warm-up whole, then run the others; prune those below its confidence threshold.

    The threshold is a percentile of the lowest confidences of the warm-up branches. Branches below
    it do not vote, the warm-up's included, and null answers do not vote.
    """
    require_generation_confidence(episode)
    window = confidence_window(episode)
    width = min(WIDTH, episode.max_branches)
    warm = min(WARM_UP, width)
    read(episode, 0, warm)
    finished = np.empty(width, np.int64)
    tokens = np.empty(width, np.int64)
    lowest = np.empty(width)
    count = 0
    for i in range(episode.opened):
        if episode.finished(i):
            finished[count] = i
            lowest[count] = episode.lowest_confidence(i, window)
            count += 1
    threshold = percentile(lowest[:count], 100 - schedule(beta).kept) if count > 0 else -np.inf
    episode.note("threshold", threshold)

    answers = np.empty(width, np.int64)
    votes = np.zeros(width)
    slots = counted = 0  # finished[counted:count] have not voted yet
    winner = -1
    open_branches(episode, width)
    moved = 1
    while moved > 0:
        earlier = count
        count = probe_in_order(episode, finished, tokens, count)
        for i in finished[counted:count]:
            weight = episode.lowest_confidence(i, window)
            if weight >= threshold and weight > 0 and not episode.is_null(episode.latest(i)):
                slots = weighted_vote(answers, votes, slots, episode.latest(i), weight)
        counted = count
        for i in range(warm, episode.opened):
            full = episode.finished(i) or episode.revealed(i) >= window
            if full and episode.active(i) and episode.lowest_confidence(i, window) < threshold:
                episode.prune(i)
        best, first, _ = leaders(votes, slots)
        if best >= 0:
            winner = answers[best]
            share = first / votes[:slots].sum()
            episode.note("share", share)
            if share >= CONSENSUS - 1e-9:  # a share that is met exactly counts
                break
        moved = episode.extend_all() + count - earlier
    return answer_with(episode, winner)
