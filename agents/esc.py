"""Early-stopping self-consistency: read branches in windows, and stop at a unanimous window.

Li et al. 2024, "Escape Sky-high Cost: Early-stopping Self-Consistency for Multi-step Reasoning"
(arXiv 2401.10480); constants as in AutoTTS (arXiv 2605.08083).
"""

from autotts_gym.controllers.helpers import read

#: Number of branches in a window.
WINDOW = 8

#: Maximum number of branches.
WIDTH = 64


def solve(episode):
    """Read windows of branches to their ends; answer as soon as a window's answers are all equal.

    A window is requested as a whole before its first probe, so its sequential tokens are those of
    its longest branch.
    """
    width = min(WIDTH, episode.max_branches)
    window = min(WINDOW, width)
    for start in range(0, width // window * window, window):
        read(episode, start, start + window)
        if episode.opened < start + window:
            break  # the budget is spent
        unanimous = True
        for i in range(start, start + window):
            same = episode.latest(i) == episode.latest(start)
            unanimous = unanimous and episode.finished(i) and same
        if unanimous:
            return episode.answer(start)
    return episode.answer()
