"""thrift: spends fewest tokens where latency costs nothing, and less time as latency costs more.

Found by: autotts discover --by regression --patient --env published
    --env qwen2.5-coder-0.5b/problems --env smollm2-135m/tables --latency 0,0.5 --rounds 1
    --attempts 4 --out thrift
    (deterministic: it has no seed)
Environments: published/Qwen3-0.6B/aime24, published/Qwen3-1.7B/aime24, published/Qwen3-4B/aime24,
    published/Qwen3-8B/aime24, qwen2.5-coder-0.5b/problems, smollm2-135m/tables
Lineage: 1-0, 2-final. The reading policy is that of balance with 6 branches less at the start. A
    person had chosen the constants of the four patient reading policies on the same questions, the
    slopes of the widths in w included.
Score: 0.5712 out of fold (fitted again to other questions, or without one of the environments),
    0.5716 on the search set (correct answers minus the price of tokens and latency, mean over a
    sweep of β and both weights).

Votes, tokens, margin, share, the number of answers and the answers of running branches count
equally: their fitted coefficients are the same. The slope of the threshold in β is the logarithm
of the range of prices. With the weight of latency w, more branches run at once, and it stops
earlier: w = 0.25 takes about as long as CMC.
"""

import math

import numpy as np


def solve(episode, beta):
    """Play one episode; β = 0 spends fewest tokens, β = 1 most.

    Where the weight of latency w is higher, it spends more tokens in less time.
    """
    latency = episode.latency_weight
    fade = 0.5  # a vote falls by this power of e per mean branch of length
    longest = 1.4  # branches are dropped at this length
    haste = 0.2  # ... and earlier with more votes
    width = -1.0 + 8.0 * beta + 16.0 * latency  # branches at the start
    growth = beta + latency  # branches that are added for each that finishes
    scale = 1.5  # the logarithm of the gain rate falls by this for each unit of evidence
    # Its logarithm without evidence, minus that of the price.
    threshold = 7.7 + 4.6 * beta - 1.7 * latency
    limit = episode.max_branches
    running = np.empty(limit, np.int64)  # indices of the running branches
    count = 0  # number of running branches
    pool = np.empty(limit, np.int64)  # different answers of finished branches
    mass = np.zeros(limit)  # total weight of each answer
    voters = np.zeros(limit, np.int64)  # number of votes for each answer
    first_branch = np.empty(limit, np.int64)  # first branch that gave each answer
    answers = 0.0  # number of different answers
    finished = 0.0  # number of finished branches, null answers included
    best = 0  # index of the leading answer in the pool
    leader = -1  # the leading answer
    share = 0.0  # its share of all weight
    margin = 0.0  # its margin over the second answer, as a share of all weight
    votes = 0.0  # number of its votes
    unit = episode.interval / episode.mean_tokens  # an interval, in mean branches
    while True:
        # 1. Open branches up to the width.
        wanted = width + growth * finished
        while (count < 1 or count < wanted) and episode.can_branch():
            running[count] = episode.branch()
            count += 1
        if count == 0:
            break

        # 2. Extend the running branches. All text is requested before the first probe.
        moved = False
        for i in running[:count]:
            if episode.can_extend(i):
                episode.extend(i)
                moved = True

        # 3. Probe the running branches, count finished ones, drop unpromising ones.
        left, voted = 0, False
        for i in running[:count]:
            if not episode.can_probe(i):
                continue
            answer, ended = episode.probe(i)
            moved = True
            length = episode.depth(i) * unit
            if ended:
                finished += 1.0
                if episode.is_null(answer):
                    continue
                weight = math.exp(-max(fade * length, 0.0))
                at = 0
                while at < answers and pool[at] != answer:
                    at += 1
                if at == answers:
                    pool[at], first_branch[at] = answer, i
                    answers += 1.0
                mass[at] += max(weight, 1e-6)
                voted = True
                voters[at] += 1
            elif length > longest - haste * math.log1p(max(votes, 0.0)):
                if episode.can_prune(i):
                    episode.prune(i)
            else:
                running[left] = i
                left += 1
        count = left

        # 4. Find the leading answer.
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
            share = first / total
            margin = (first - second) / total
            votes = float(voters[best])
        if answers > 0:
            leader = pool[best]
        agreeing, others = 0.0, 0.0  # running branches with the leading, with another answer
        for i in running[:count]:
            if episode.latest(i) == leader:
                agreeing += 1.0
            elif not episode.is_null(episode.latest(i)):
                others += 1.0
        live = (agreeing - others) / (agreeing + others + 2.0)

        # 5. Stop when reading on gains less than its price.
        work = episode.spent / episode.mean_tokens  # in mean branches
        counts = math.log1p(max(votes, 0.0)) + math.log1p(max(work, 0.0)) + math.log1p(answers)
        evidence = counts + margin + live + share
        if answers > 0 and scale * evidence > threshold:
            break
        if not moved:
            break  # no action is left within the token budget

    if answers > 0:
        return episode.answer(first_branch[best])
    return episode.answer()
