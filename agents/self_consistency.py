"""Self-consistency: read many branches to their ends and take the most common answer.

Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in Language Models"
(arXiv 2203.11171), section 2. SC@64 is what AutoTTS (arXiv 2605.08083) measures others against.
"""

from autotts_gym.controllers.reading import read

#: Branches that are read: the W of SC@W.
WIDTH = 64


def solve(episode):
    """Read WIDTH branches (or as many as the environment has) and answer the plurality.

    Sequential tokens are those of the longest branch. Under a token budget, the plurality of what
    could be read.
    """
    read(episode, 0, min(WIDTH, episode.max_branches))
    return episode.answer()
