"""The Confidence Momentum Controller (CMC).

The controller that AutoTTS found (arXiv 2605.08083, section 5 and appendix): answers of finished
branches form a pool, the confidence of its plurality is smoothed over rounds, and the search
stops when the smoothed confidence is high and not falling. Branches that agree with the pool run
ahead, those that keep disagreeing are abandoned, and new ones are opened while confidence does
not grow. Everything follows from one knob, β.
"""

from typing import NamedTuple

import numpy as np

from autotts_gym.controllers.voting import beta_confidence, leaders, vote

MOST_BRANCHES = 64
MOST_ROUNDS = 500


class Schedule(NamedTuple):
    """What β decides; rounds, branches and intervals, unless a comment says otherwise."""

    initial: int  # branches opened at the start
    ceiling: int  # most branches that are ever open
    warm_up: int  # rounds before anything is stopped or abandoned
    patience: int  # disagreements in a row after which a branch is abandoned
    window: int  # rounds over which the trend is taken
    weight: float  # of the newest confidence in the moving average (EMA)
    stop: float  # EMA at which the search stops
    slack: float  # fall of the EMA over the window that still counts as not falling
    aligned_burst: int  # intervals a round for branches that agree with the pool
    widening_burst: int  # branches opened when the search widens
    trend: float  # rise of the EMA over the window up to which the search widens
    completed: int  # finished branches that stopping takes


def _nearest(value):
    """Round half to even."""
    return int(np.rint(value))


def _four_decimals(value):
    """``round(value, 4)``, to the last bit also where it is compiled."""
    scaled = value * 10_000
    nearest = np.rint(scaled)
    if abs(scaled - nearest) == 0.5:
        # Half way only as far as the product is exact: its error, from halves of the factor whose
        # own products are exact (Dekker 1971), tells to which side it belongs.
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


def _look(episode, running, first, count, pool, votes, speakers, answers):
    """Probe the running branches from place ``first`` on; what is finished joins the pool.

    Returns how many still run, the different answers in the pool, and how many branches joined.
    """
    left = first
    joined = 0
    for k in range(first, count):
        i = running[k]
        finished = False
        if episode.can_probe(i):
            answer, finished = episode.probe(i)
        if finished:
            known = answers
            answers = vote(pool, votes, answers, answer)
            if answers > known:
                speakers[known] = i
            joined += 1
        else:
            running[left] = i
            left += 1
    return left, answers, joined


def _abandon(episode, running, count, disagreements, patience):
    """Prune who has disagreed for long, the longest first, but leave two; how many still run."""
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
    """Sort the running branches, the deepest first (branch order among equals).

    They were sorted a round ago, so that few have to move.
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

    In every round all text is requested before the first look, so that a round costs the latency
    of its longest request. Under a token budget, what is not affordable is left out.
    """
    plan = schedule(beta)
    ceiling = min(plan.ceiling, episode.max_branches)
    pool = np.empty(MOST_BRANCHES, np.int64)  # different answers of finished branches,
    votes = np.zeros(MOST_BRANCHES, np.int64)  # how many gave each,
    speakers = np.empty(MOST_BRANCHES, np.int64)  # and the first branch that did
    answers = 0  # different ones in the pool
    finished = 0  # branches in it
    winner = -1
    confidence = 0.0
    disagreements = np.zeros(MOST_BRANCHES, np.int64)
    running = np.empty(MOST_BRANCHES, np.int64)  # neither finished nor abandoned,
    count = 0  # and how many
    history = np.zeros(plan.window)
    ema = 0.0
    opening = min(plan.initial, ceiling)
    episode.note("stop confidence", plan.stop)
    episode.note("slack", plan.slack)

    for r in range(-1, MOST_ROUNDS):
        moved = False
        if r >= 0:
            # 1. The pool as it stands; the average takes it in for the first time this round.
            ema = (1 - plan.weight) * ema + plan.weight * confidence
            warm = r >= plan.warm_up
            voting = warm and winner >= 0

            # 2. Abandon what has disagreed for long, but leave two that still run.
            if voting:
                for i in running[:count]:
                    differs = episode.latest(i) != winner
                    disagreements[i] = disagreements[i] + 1 if differs else 0
                count = _abandon(episode, running, count, disagreements, plan.patience)

            # 3. Continue the rest, the deepest first (branch order among equals).
            _sort(episode, running, count)
            for i in running[:count]:
                aligned = voting and episode.latest(i) == winner
                for _ in range(plan.aligned_burst if aligned else 1):
                    if episode.can_extend(i):
                        episode.extend(i)
                        moved = True
            count, answers, joined = _look(
                episode, running, 0, count, pool, votes, speakers, answers
            )

            # 4. The pool anew: the average takes it in a second time, for the same round.
            if joined > 0:
                best, first, second = leaders(votes, answers)
                winner = pool[best]
                confidence = beta_confidence(first, second)
                finished += joined
            ema = (1 - plan.weight) * ema + plan.weight * confidence
            history[r % plan.window] = ema
            # The oldest value of a full window is the one that is overwritten next.
            oldest = history[(r + 1) % plan.window] if r + 1 >= plan.window else history[0]
            trend = ema - oldest
            episode.note("confidence", confidence)
            episode.note("EMA", ema)
            episode.note("trend", trend)

            # 5. Stop where the average is high and not falling.
            if warm and finished >= plan.completed and ema >= plan.stop and trend >= -plan.slack:
                break

            # 6. Nothing runs any more.
            if count == 0:
                break

            # 7. Widen while confidence does not grow.
            opening = 0
            if trend <= plan.trend and r >= max(1, plan.warm_up // 2) and ema < plan.stop:
                opening = min(plan.widening_burst, ceiling - episode.opened)

        older = count
        for _ in range(opening):
            if episode.can_branch():
                running[count] = episode.branch()
                count += 1
                moved = True
        count, answers, joined = _look(
            episode, running, older, count, pool, votes, speakers, answers
        )
        if joined > 0:
            best, first, second = leaders(votes, answers)
            winner = pool[best]
            confidence = beta_confidence(first, second)
            finished += joined
        if not moved:
            break  # a token budget allows nothing more

    best, _, _ = leaders(votes, answers)
    if best >= 0:
        return episode.answer(speakers[best])
    return episode.answer()
