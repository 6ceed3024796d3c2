"""Parallel-Probe: grow all chains together, and stop when their vote has been stable for long.

Zheng et al. 2026, "Parallel-Probe: Towards Efficient Parallel Thinking via 2D Probing" (arXiv
2602.03845); constants as in AutoTTS (arXiv 2605.08083).
"""

import numpy as np

#: Chains, all opened at the start.
WIDTH = 64

#: Rounds in a row with the same winner after which it is answered.
STABILITY = 40

#: Rounds in a row with another answer than the winner's after which a chain is pruned.
PATIENCE = 7

#: Rounds before chains are pruned.
WARM_UP = 15

#: Most rounds.
ROUNDS = 100


def _answer(episode, voted, winner):
    """Answer with a class, by the first chain that votes for it."""
    for i in range(episode.opened):
        if winner >= 0 and voted[i] == winner:
            return episode.answer(i)
    return episode.answer()


def solve(episode):
    """Play one episode; in every round all chains grow by an interval before the first look.

    Under a token budget, what is not affordable is left out.
    """
    running = np.arange(WIDTH)  # the first ``count`` are the chains neither pruned nor finished
    voted = np.full(WIDTH, -1)  # by chain, the answer that it showed last; -1 once it is pruned
    votes = np.zeros(WIDTH * (ROUNDS + 1), np.int64)  # by answer; they are no more than looks
    off_track = np.zeros(WIDTH, np.int64)

    # Nested, since numba counts references to every array that a function is handed.

    def look(count):
        """Probe the running chains and move their votes; how many still run, and how many looks."""
        looks = 0
        left = 0
        for k in range(count):
            i = running[k]
            finished = False
            if episode.can_probe(i):
                answer, finished = episode.probe(i)
                looks += 1
                if answer != voted[i]:
                    if voted[i] >= 0:
                        votes[voted[i]] -= 1
                    votes[answer] += 1
                    voted[i] = answer
            if not finished:
                running[left] = i
                left += 1
        return left, looks

    def plurality():
        """The plurality of the chains that are not pruned; ties go to the first in branch order."""
        winner = -1
        most = 0
        for answer in voted:
            if answer >= 0 and votes[answer] > most:
                winner = answer
                most = votes[answer]
        return winner

    def prune(count, winner):
        """Prune the running chains that have been off track for long; how many still run."""
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
    count, _ = look(episode.opened)
    last = -1
    stable = 0
    for t in range(ROUNDS):
        extended = 0
        for k in range(count):
            if episode.can_extend(running[k]):
                episode.extend(running[k])
                extended += 1
        count, looks = look(count)
        winner = plurality()
        if t >= WARM_UP:
            # Some chain always agrees with the winner, so that pruning never takes the last one.
            left = prune(count, winner)
            if left < count:
                count = left
                winner = plurality()
        stable = stable + 1 if t > 0 and winner == last else 0
        last = winner
        if stable >= STABILITY or count == 0 or extended + looks == 0:
            break
    return _answer(episode, voted, last)
