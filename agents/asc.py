"""Adaptive self-consistency: read branches one after another until the vote is confident.

Aggarwal et al. 2023, "Let's Sample Step by Step: Adaptive-Consistency for Efficient Reasoning and
Coding with LLMs" (arXiv 2305.11860), with the Beta stopping criterion; constants as in AutoTTS
(arXiv 2605.08083).
"""

import numpy as np

from autotts_gym.controllers.helpers import beta_confidence, leaders, read, vote

#: Maximum number of branches.
WIDTH = 64

#: Confidence in the plurality above which no further branch is read.
CONFIDENCE = 0.95


def solve(episode):
    """Read one branch at a time to its end; from the second on, stop once the vote is confident.

    Nothing is generated in parallel, because every probe decides whether another branch is needed:
    the sequential tokens equal the total tokens.
    """
    answers = np.empty(WIDTH, np.int64)
    votes = np.zeros(WIDTH, np.int64)
    slots = 0
    for i in range(min(WIDTH, episode.max_branches)):
        read(episode, i, i + 1)
        if i >= episode.opened or not episode.finished(i):
            break  # the budget ends before the branch does
        slots = vote(answers, votes, slots, episode.latest(i))
        _, first, second = leaders(votes, slots)
        if i > 0 and beta_confidence(first, second) > CONFIDENCE:
            break
    return episode.answer()
