"""Parallel-Probe: grow all chains together, and stop when their vote has been stable for long.

Zheng et al. 2026, "Parallel-Probe: Towards Efficient Parallel Thinking via 2D Probing" (arXiv
2602.03845); constants as in AutoTTS (arXiv 2605.08083).
"""

import numpy as np

from autotts_gym.controllers.voting import leaders, vote

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


def _winner(episode):
    """The plurality of the latest answers of all chains that are not pruned, and how many are."""
    answers = np.empty(WIDTH, np.int64)
    votes = np.zeros(WIDTH, np.int64)
    slots = 0
    for i in range(episode.opened):
        if episode.active(i) and episode.latest(i) >= 0:
            slots = vote(answers, votes, slots, episode.latest(i))
    best, _, _ = leaders(votes, slots)
    return (answers[best] if best >= 0 else -1), votes.sum()


def _answer(episode, winner):
    """Answer with a class, by a branch whose latest answer it is."""
    for i in range(episode.opened):
        if winner >= 0 and episode.latest(i) == winner:
            return episode.answer(i)
    return episode.answer()


def solve(episode):
    """Play one episode; in every round all chains grow by an interval before the first look.

    Under a token budget, what is not affordable is left out.
    """
    width = min(WIDTH, episode.max_branches)
    off_track = np.zeros(WIDTH, np.int64)
    while episode.opened < width and episode.can_branch():
        episode.branch()
    episode.probe_all()
    last = -1
    stable = 0
    for t in range(ROUNDS):
        moved = episode.extend_all()
        moved += episode.probe_all()
        winner, live = _winner(episode)
        if t >= WARM_UP and live > 1:
            pruned = False
            for i in range(episode.opened):
                if episode.active(i) and not episode.finished(i):
                    off_track[i] = 0 if episode.latest(i) == winner else off_track[i] + 1
                    if off_track[i] >= PATIENCE:
                        episode.prune(i)
                        pruned = True
            if pruned:
                winner, live = _winner(episode)
                if live == 0:
                    return _answer(episode, last)
        stable = stable + 1 if t > 0 and winner == last else 0
        last = winner
        running = 0
        for i in range(episode.opened):
            running += episode.active(i) and not episode.finished(i)
        if stable >= STABILITY or running == 0 or moved == 0:
            break
    return _answer(episode, last)
