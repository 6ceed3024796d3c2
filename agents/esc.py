"""Early-stopping self-consistency: read branches in windows, stop at a window that agrees.

Li et al. 2024, "Escape Sky-high Cost: Early-stopping Self-Consistency for Multi-step Reasoning"
(arXiv 2401.10480); constants as in AutoTTS (arXiv 2605.08083).
"""

#: Branches of a window.
WINDOW = 8

#: Most branches that are read.
WIDTH = 64


def solve(episode):
    """Read windows of branches to their ends; a window whose answers are all equal answers.

    A window is requested whole before the first look at it, so that its latency is that of its
    longest branch. Under a token budget, what is outstanding is looked at where nothing more can
    be requested, which frees what was charged beyond the ends, and so on.
    """
    width = min(WIDTH, episode.max_branches)
    window = min(WINDOW, width)
    for start in range(0, width // window * window, window):
        requested = True
        while requested:
            requested = False
            for i in range(start, start + window):
                if i == episode.opened and episode.can_branch():
                    episode.branch()
                    requested = True
                while i < episode.opened and episode.can_extend(i):
                    episode.extend(i)
                    requested = True
            episode.probe_all()
        if episode.opened < start + window:
            break  # the budget is spent
        agreed = True
        for i in range(start, start + window):
            same = episode.latest(i) == episode.latest(start)
            agreed = agreed and episode.finished(i) and same
        if agreed:
            return episode.answer(start)
    return episode.answer()
