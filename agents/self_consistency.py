"""Self-consistency: read many branches to their ends and take the most common answer.

Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in Language Models"
(arXiv 2203.11171), section 2. SC@64 is what AutoTTS (arXiv 2605.08083) measures others against.
"""

#: Branches that are read: the W of SC@W.
WIDTH = 64


def solve(episode):
    """Read WIDTH branches (or as many as the environment has) and answer the plurality.

    Everything is requested before the first look, so that sequential tokens are those of the
    longest branch. Where a token budget stops that, what is outstanding is looked at, which frees
    the difference between what was charged and what the branches really took, and so on.
    """
    width = min(WIDTH, episode.max_branches)
    requested = True
    while requested:
        requested = False
        for i in range(width):
            if i == episode.opened and episode.can_branch():
                episode.branch()
                requested = True
            while i < episode.opened and episode.can_extend(i):
                episode.extend(i)
                requested = True
        episode.probe_all()
    return episode.answer()
