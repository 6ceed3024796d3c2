"""Parallel-Probe: grow all branches together, and stop when their vote has been stable for long.

Zheng et al. 2026, "Parallel-Probe: Towards Efficient Parallel Thinking via 2D Probing" (arXiv
2602.03845); constants as in AutoTTS (arXiv 2605.08083).
"""

import numpy as np

#: Number of branches, all opened at the start.
WIDTH = 64

#: Number of consecutive rounds with the same winner after which it is answered.
STABILITY = 40

#: Number of consecutive rounds in disagreement with the winner after which a branch is pruned.
PATIENCE = 7

#: Number of rounds before branches are pruned.
WARM_UP = 15

#: Maximum number of rounds.
ROUNDS = 100


def _answer(episode, voted, winner):
    """Answer with a class, by the first branch that votes for it."""
    for i in range(episode.opened):
        if winner >= 0 and voted[i] == winner:
            return episode.answer(i)
    return episode.answer()


def solve(episode):
    """Play one episode; in every round all branches grow by an interval before the first probe.

    Actions that a token budget does not cover are skipped.
    """
    running = np.arange(WIDTH)  # the first ``count`` are neither pruned nor finished
    voted = np.full(WIDTH, -1)  # latest answer of each branch; -1 once it is pruned
    votes = np.zeros(WIDTH * (ROUNDS + 1), np.int64)  # of each answer; there is one per probe
    off_track = np.zeros(WIDTH, np.int64)  # consecutive rounds in disagreement, by branch

    # Nested functions, because numba counts references to every array that is passed as argument.

    def probe_running(count):
        """Probe the running branches, and update the votes.

        Returns:
            Number of branches that still run, and number of probes.
        """
        probes = 0
        left = 0
        for k in range(count):
            i = running[k]
            finished = False
            if episode.can_probe(i):
                answer, finished = episode.probe(i)
                probes += 1
                if answer != voted[i]:
                    if voted[i] >= 0:
                        votes[voted[i]] -= 1
                    votes[answer] += 1
                    voted[i] = answer
            if not finished:
                running[left] = i
                left += 1
        return left, probes

    def plurality():
        """The plurality of the branches that are not pruned; ties go to the first in order."""
        winner = -1
        most = 0
        for answer in voted:
            if answer >= 0 and votes[answer] > most:
                winner = answer
                most = votes[answer]
        return winner

    def prune(count, winner):
        """Prune running branches that disagree for long; returns how many still run."""
        left = 0
        for k in range(count):
            i = running[k]
            off_track[i] = 0 if voted[i] == winner else off_track[i] + 1
            if off_track[i] < PATIENCE:
                running[left] = i
                left += 1
            else:
                episode.prune(i)
                if voted[i] >= 0:
                    votes[voted[i]] -= 1
                    voted[i] = -1
        return left

    while episode.opened < min(WIDTH, episode.max_branches) and episode.can_branch():
        episode.branch()
    count, _ = probe_running(episode.opened)
    last = -1
    stable = 0
    for t in range(ROUNDS):
        extended = 0
        for k in range(count):
            if episode.can_extend(running[k]):
                episode.extend(running[k])
                extended += 1
        count, probes = probe_running(count)
        winner = plurality()
        if t >= WARM_UP:
            # At least one branch always agrees with the winner, so some branch remains.
            left = prune(count, winner)
            if left < count:
                count = left
                winner = plurality()
        stable = stable + 1 if t > 0 and winner == last else 0
        last = winner
        if stable >= STABILITY or count == 0 or extended + probes == 0:
            break
    return _answer(episode, voted, last)
