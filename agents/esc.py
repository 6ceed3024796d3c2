"""Early-stopping self-consistency: read branches in windows, stop at a window that agrees.

Li et al. 2024, "Escape Sky-high Cost: Early-stopping Self-Consistency for Multi-step Reasoning"
(arXiv 2401.10480); constants as in AutoTTS (arXiv 2605.08083).
"""

from autotts_gym.controllers.reading import read

#: Branches of a window.
WINDOW = 8

#: Most branches that are read.
WIDTH = 64


def solve(episode):
    """Read windows of branches to their ends; a window whose answers are all equal answers.

    A window is requested whole before the first look at it, so that its latency is that of its
    longest branch.
    """
    width = min(WIDTH, episode.max_branches)
    window = min(WINDOW, width)
    for start in range(0, width // window * window, window):
        read(episode, start, start + window)
        if episode.opened < start + window:
            break  # the budget is spent
        agreed = True
        for i in range(start, start + window):
            same = episode.latest(i) == episode.latest(start)
            agreed = agreed and episode.finished(i) and same
        if agreed:
            return episode.answer(start)
    return episode.answer()
