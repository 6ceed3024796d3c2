"""brevity: a discovered controller.

Command: autotts discover --env published --rounds 4 --out OUT
Environments: published/Qwen3-0.6B/aime24, published/Qwen3-1.7B/aime24, published/Qwen3-4B/aime24,
    published/Qwen3-8B/aime24
Lineage: 1-adaptive, 1-2-2, 2-0-2, 4-2-3, 5-final
Score: 0.6340 on the search set, 0.6252 on held-out questions
(correct answers, minus the price of their tokens, over a sweep of β).
"""

import numpy as np


def solve(episode, beta):
    """Play one episode; β = 0 spends least, β = 1 most."""
    weight_1 = 1.0
    drop_1 = 38.0
    stop_1 = 1.1 + 5.1 * beta
    stop_2 = -0.2 + 0.83 * beta
    stride = 2
    most = episode.max_branches
    running = np.empty(most, np.int64)  # branches that are still read
    count = 0
    pool = np.empty(most, np.int64)  # distinct answers of finished branches
    mass = np.zeros(most)  # weight of each answer
    voters = np.zeros(most, np.int64)  # number of branches that gave each
    representatives = np.empty(most, np.int64)  # first branch that gave each
    answers = 0.0  # number of distinct answers
    best = 0  # index of the leading answer
    margin = 0.0  # its lead
    votes = 0.0  # its votes
    while True:
        # 1. Open branches until enough are running.
        wanted = votes
        while (count < 1 or count < wanted) and episode.can_branch():
            running[count] = episode.branch()
            count += 1
        if count == 0:
            break

        # 2. Extend: all intervals are requested before the first probe.
        moved = False
        for i in running[:count]:
            for _ in range(stride):
                if episode.can_extend(i):
                    episode.extend(i)
                    moved = True

        # 3. Probe: count finished branches, and prune unpromising ones.
        left, voted = 0, False
        for i in running[:count]:
            if not episode.can_probe(i):
                continue
            answer, ended = episode.probe(i)
            moved = True
            depth = float(episode.depth(i))
            if ended:
                if episode.is_null(answer):
                    continue
                weight = weight_1
                at = 0
                while at < answers and pool[at] != answer:
                    at += 1
                if at == answers:
                    pool[at], representatives[at] = answer, i
                    answers += 1.0
                mass[at] += max(weight, 1e-6)
                voted = True
                voters[at] += 1
            elif depth > drop_1:
                if episode.can_prune(i):
                    episode.prune(i)
            else:
                running[left] = i
                left += 1
        count = left

        # 4. Find the leading answer and its lead.
        if voted:
            best, first = 0, 0.0
            second = 0.0
            total = 0.0
            for at in range(int(answers)):
                total += mass[at]
                if mass[at] > first:
                    second = first
                    best, first = at, mass[at]
                elif mass[at] > second:
                    second = mass[at]
            margin = (first - second) / total
            votes = float(voters[best])

        # 5. Stop when the leader is settled.
        if answers > 0 and min(votes - stop_1, margin - stop_2) > 0.0:
            break
        if not moved:
            break  # the token budget covers no further action

    if answers > 0:
        return episode.answer(representatives[best])
    return episode.answer()
