"""Self-consistency: read many branches to their ends, and answer the most frequent answer.

Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in Language Models"
(arXiv 2203.11171), section 2. SC@64 is the baseline of AutoTTS (arXiv 2605.08083).
"""

from autotts_gym.controllers.helpers import read

#: Number of branches: the W of SC@W.
WIDTH = 64


def solve(episode):
    """Read WIDTH branches, or as many as the environment has, and answer the plurality.

    The sequential tokens are those of the longest branch. Under a token budget, the plurality
    counts the branches that could be read.
    """
    read(episode, 0, min(WIDTH, episode.max_branches))
    return episode.answer()
