"""The Confidence Momentum Controller (CMC).

The controller that AutoTTS discovered (arXiv 2605.08083, section 5 and appendix). The answers of
finished branches form a pool. The confidence of its plurality is smoothed over rounds, and the
controller stops when the smoothed confidence is high and not falling. Branches that agree with the
pool are extended faster, branches that keep disagreeing are pruned, and new branches are opened
while the confidence does not grow. β determines all parameters.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.helpers import beta_confidence, leaders, vote

MOST_BRANCHES = 64
MOST_ROUNDS = 500


class Schedule(NamedTuple):
    """Parameters that β determines; units are rounds, branches and intervals."""

    initial: int  # branches opened at the start
    ceiling: int  # maximum number of branches
    warm_up: int  # rounds before it may stop or prune
    patience: int  # consecutive disagreements after which a branch is pruned
    window: int  # rounds over which the trend is computed
    weight: float  # of the newest confidence in the moving average (EMA)
    stop: float  # EMA at which it stops
    slack: float  # fall of the EMA over the window that still counts as not falling
    aligned_burst: int  # intervals per round for branches that agree with the pool
    widening_burst: int  # branches opened when it widens
    trend: float  # rise of the EMA over the window up to which it widens
    completed: int  # finished branches required for stopping


def _nearest(value):
    """Round half to even."""
    return int(np.rint(value))


def _four_decimals(value):
    """``round(value, 4)``, equal to the last bit in compiled code."""
    scaled = value * 10_000
    nearest = np.rint(scaled)
    if abs(scaled - nearest) == 0.5:
        # A tie, unless the product was rounded: its rounding error, from halves of the factor with
        # exact products (Dekker 1971), decides the side.
        high = value * 134_217_729.0
        high = high - (high - value)
        error = (high * 10_000 - scaled) + (value - high) * 10_000
        if error != 0.0:
            nearest = np.floor(scaled) + (1.0 if error > 0.0 else 0.0)
    return nearest / 10_000


def schedule(beta):
    """The schedule at ``beta``, clipped to [0, 1]."""
    beta = min(max(beta, 0.0), 1.0)
    return Schedule(
        max(2, _nearest(2 + 6 * beta)),
        min(MOST_BRANCHES, _nearest(4 + 60 * beta)),
        max(2, _nearest(2 + 8 * beta)),
        max(3, _nearest(3 + 9 * beta)),
        max(2, _nearest(2 + 6 * beta)),
        _four_decimals(0.70 - 0.40 * beta),
        _four_decimals(0.85 + 0.12 * beta),
        _four_decimals(0.04 - 0.03 * beta),
        max(1, _nearest(1 + 2 * beta)),
        max(1, _nearest(1 + 3 * beta)),
        _four_decimals(0.04 - 0.03 * beta),
        max(2, _nearest(2 + 3 * beta)),
    )


def _probe(episode, running, first, count, pool, votes, representatives, answers):
    """Probe ``running[first:count]``; finished branches join the pool.

    Returns:
        Number of branches that still run, number of distinct answers in the pool, and number of
        branches that joined it.
    """
    left = first
    joined = 0
    for k in range(first, count):
        i = running[k]
        finished = False
        if episode.can_probe(i):
            answer, finished = episode.probe(i)
        if finished:
            before = answers
            answers = vote(pool, votes, answers, answer)
            if answers > before:
                representatives[before] = i
            joined += 1
        else:
            running[left] = i
            left += 1
    return left, answers, joined


def _prune(episode, running, count, disagreements, patience):
    """Prune branches that disagree for long, the longest first; keep two. Returns how many run."""
    over = 0
    for i in running[:count]:
        over += disagreements[i] >= patience
    for _ in range(min(over, count - 2)):
        at = 0
        for k in range(1, count):
            more = disagreements[running[k]] - disagreements[running[at]]
            if more > 0 or (more == 0 and running[k] < running[at]):
                at = k
        episode.prune(running[at])
        count -= 1
        for k in range(at, count):
            running[k] = running[k + 1]
    return count


def _sort(episode, running, count):
    """Sort the running branches by depth, deepest first; ties in branch order.

    Insertion sort, as they were sorted a round ago and few have to move.
    """
    for k in range(1, count):
        i = running[k]
        depth = episode.depth(i)
        at = k
        while at > 0:
            ahead = episode.depth(running[at - 1]) - depth
            if ahead > 0 or (ahead == 0 and running[at - 1] < i):
                break
            running[at] = running[at - 1]
            at -= 1
        running[at] = i


def solve(episode, beta):
    """Play one episode; β = 0 spends least, β = 1 most.

    Every round requests all intervals before the first probe, so its sequential tokens are those
    of its longest request. Actions that a token budget does not cover are skipped.
    """
    plan = schedule(beta)
    ceiling = min(plan.ceiling, episode.max_branches)
    pool = np.empty(MOST_BRANCHES, np.int64)  # distinct answers of finished branches
    votes = np.zeros(MOST_BRANCHES, np.int64)  # number of branches that gave each
    representatives = np.empty(MOST_BRANCHES, np.int64)  # first branch that gave each
    answers = 0  # number of distinct answers
    finished = 0  # number of branches in the pool
    winner = -1
    confidence = 0.0
    disagreements = np.zeros(MOST_BRANCHES, np.int64)
    running = np.empty(MOST_BRANCHES, np.int64)  # branches neither finished nor pruned
    count = 0  # their number
    history = np.zeros(plan.window)
    ema = 0.0
    opening = min(plan.initial, ceiling)
    episode.note("stop confidence", plan.stop)
    episode.note("slack", plan.slack)

    for r in range(-1, MOST_ROUNDS):
        moved = False
        if r >= 0:
            # 1. Add the pool's confidence to the average, for the first time in this round.
            ema = (1 - plan.weight) * ema + plan.weight * confidence
            warm = r >= plan.warm_up
            voting = warm and winner >= 0

            # 2. Prune branches that have disagreed for long, but keep two running.
            if voting:
                for i in running[:count]:
                    differs = episode.latest(i) != winner
                    disagreements[i] = disagreements[i] + 1 if differs else 0
                count = _prune(episode, running, count, disagreements, plan.patience)

            # 3. Continue the others, deepest first.
            _sort(episode, running, count)
            for i in running[:count]:
                aligned = voting and episode.latest(i) == winner
                for _ in range(plan.aligned_burst if aligned else 1):
                    if episode.can_extend(i):
                        episode.extend(i)
                        moved = True
            count, answers, joined = _probe(
                episode, running, 0, count, pool, votes, representatives, answers
            )

            # 4. Update the pool, and add its confidence to the average a second time.
            if joined > 0:
                best, first, second = leaders(votes, answers)
                winner = pool[best]
                confidence = beta_confidence(first, second)
                finished += joined
            ema = (1 - plan.weight) * ema + plan.weight * confidence
            history[r % plan.window] = ema
            # The oldest value of a full window is overwritten next.
            oldest = history[(r + 1) % plan.window] if r + 1 >= plan.window else history[0]
            trend = ema - oldest
            episode.note("confidence", confidence)
            episode.note("EMA", ema)
            episode.note("trend", trend)

            # 5. Stop if the average is high and not falling.
            if warm and finished >= plan.completed and ema >= plan.stop and trend >= -plan.slack:
                break

            # 6. Stop if no branch runs.
            if count == 0:
                break

            # 7. Open branches while the confidence does not grow.
            opening = 0
            if trend <= plan.trend and r >= max(1, plan.warm_up // 2) and ema < plan.stop:
                opening = min(plan.widening_burst, ceiling - episode.opened)

        older = count
        for _ in range(opening):
            if episode.can_branch():
                running[count] = episode.branch()
                count += 1
                moved = True
        count, answers, joined = _probe(
            episode, running, older, count, pool, votes, representatives, answers
        )
        if joined > 0:
            best, first, second = leaders(votes, answers)
            winner = pool[best]
            confidence = beta_confidence(first, second)
            finished += joined
        if not moved:
            break  # the token budget covers no further action

    best, _, _ = leaders(votes, answers)
    if best >= 0:
        return episode.answer(representatives[best])
    return episode.answer()
