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


def _look(episode, i, pool, votes, speakers, answers):
    """Probe branch ``i``; where it is finished, its answer joins the pool."""
    if not episode.can_probe(i):
        return answers
    answer, finished = episode.probe(i)
    if not finished:
        return answers
    joined = vote(pool, votes, answers, answer)
    if joined > answers:
        speakers[answers] = i
    return joined


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
    disagreements = np.zeros(MOST_BRANCHES, np.int64)
    running = np.empty(MOST_BRANCHES, np.int64)
    history = np.zeros(plan.window)
    ema = 0.0
    opening = min(plan.initial, ceiling)
    episode.note("stop confidence", plan.stop)
    episode.note("slack", plan.slack)

    for r in range(-1, MOST_ROUNDS):
        moved = False
        if r >= 0:
            # 1. The pool as it stands; the average takes it in for the first time this round.
            best, first, second = leaders(votes, answers)
            winner = pool[best] if best >= 0 else -1
            warm = r >= plan.warm_up
            ema = (1 - plan.weight) * ema + plan.weight * beta_confidence(first, second)

            # 2. Abandon what has disagreed for long, but leave two that still run.
            if warm and winner >= 0:
                live = 0
                for i in range(episode.opened):
                    if episode.active(i) and not episode.finished(i):
                        live += 1
                        differs = episode.latest(i) != winner
                        disagreements[i] = disagreements[i] + 1 if differs else 0
                for _ in range(live - 2):
                    worst = -1
                    for i in range(episode.opened):
                        if (
                            episode.active(i)
                            and not episode.finished(i)
                            and disagreements[i] >= plan.patience
                            and (worst < 0 or disagreements[i] > disagreements[worst])
                        ):
                            worst = i
                    if worst < 0:
                        break
                    episode.prune(worst)

            # 3. Continue the rest, the deepest first (branch order among equals).
            count = 0
            for i in range(episode.opened):
                if episode.active(i) and not episode.finished(i):
                    at = count
                    while at > 0 and episode.depth(running[at - 1]) < episode.depth(i):
                        running[at] = running[at - 1]
                        at -= 1
                    running[at] = i
                    count += 1
            for k in range(count):
                i = running[k]
                aligned = warm and winner >= 0 and episode.latest(i) == winner
                for _ in range(plan.aligned_burst if aligned else 1):
                    if episode.can_extend(i):
                        episode.extend(i)
                        moved = True
            for k in range(count):
                answers = _look(episode, running[k], pool, votes, speakers, answers)

            # 4. The pool anew: the average takes it in a second time, for the same round.
            best, first, second = leaders(votes, answers)
            confidence = beta_confidence(first, second)
            ema = (1 - plan.weight) * ema + plan.weight * confidence
            history[r % plan.window] = ema
            # The oldest value of a full window is the one that is overwritten next.
            oldest = history[(r + 1) % plan.window] if r + 1 >= plan.window else history[0]
            trend = ema - oldest
            episode.note("confidence", confidence)
            episode.note("EMA", ema)
            episode.note("trend", trend)

            # 5. Stop where the average is high and not falling.
            if warm and votes.sum() >= plan.completed and ema >= plan.stop and trend >= -plan.slack:
                break

            # 6. Nothing runs any more.
            live = 0
            for i in range(episode.opened):
                live += episode.active(i) and not episode.finished(i)
            if live == 0:
                break

            # 7. Widen while confidence does not grow.
            opening = 0
            if trend <= plan.trend and r >= max(1, plan.warm_up // 2) and ema < plan.stop:
                opening = min(plan.widening_burst, ceiling - episode.opened)

        opened = episode.opened
        for _ in range(opening):
            if episode.can_branch():
                episode.branch()
                moved = True
        for i in range(opened, episode.opened):
            answers = _look(episode, i, pool, votes, speakers, answers)
        if not moved:
            break  # a token budget allows nothing more

    best, first, second = leaders(votes, answers)
    if best >= 0:
        return episode.answer(speakers[best])
    return episode.answer()
