"""Answer convergence: extend a single branch until its last probes agree.

Liu and Wang 2025, "Answer Convergence as a Signal for Early Stopping in Reasoning" (arXiv
2506.02536), answer consistency; the rule of Dynasor (Fu et al. 2024, "Efficiently Serving LLM
Reasoning Programs with Certaindex").
"""

import numpy as np


def agreeing_probes(beta):
    """Number of consecutive probes that must agree: 2 at β = 0, 6 at β = 0.5, 10 at β = 1."""
    return int(np.rint(2 + 8 * min(max(beta, 0.0), 1.0)))


def solve(episode, beta):
    """Extend one branch interval by interval; answer once its last k probes are equal.

    Null answers never count as agreement. A branch that ends earlier gives its final answer.
    """
    needed = agreeing_probes(beta)
    if not episode.can_branch():
        return episode.answer()
    i = episode.branch()
    answer = -1
    agreeing = 0
    while episode.can_probe(i):
        latest, finished = episode.probe(i)
        agreeing = agreeing + 1 if latest == answer else 1
        answer = latest
        if finished or (agreeing >= needed and not episode.is_null(answer)):
            break
        if not episode.can_extend(i):
            break
        episode.extend(i)
    return episode.answer()
