"""Decisions: actions that come up together, as one, for a horizon of tens of steps.

An episode of ``AutoTTS-v0`` takes hundreds of actions, most of which follow from a few choices.
Here a *decision* stands for a bundle of actions: open two branches and look at them, read on with
all of them, answer by a weighted vote. What a bundle holds follows from what can be seen, it is
laid down before the first of its actions, and it is played action by action by the same rules, so
that rewards and costs are the sums of theirs.

The module has what decides what a bundle holds, and the summary of an episode that a decision is
made from. Both are functions of the observation of ``AutoTTS-v0`` and of a little memory, which is
one of earlier observations. Votes of finished branches are also counted with weights that fall
with the branch's length, exp(−depth / (0.35 · mean length)): branches that end early are right
more often than those that go on for long.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from autotts_gym.mdp import actions, fields
from autotts_gym.mdp import observation as o
from autotts_gym.mdp import state as s
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.observation import View
from autotts_gym.mdp.rules import action_id

# --- decisions -----------------------------------------------------------------------------------

#: Names by id. ``N`` stands for branches or intervals.
NAMES: Final = (
    "ANSWER",  # by the plurality of active branches
    "ANSWER_FINISHED",  # by the plurality of finished ones
    "ANSWER_WEIGHTED",  # by their weighted vote; null answers abstain
    "WIDEN_1",  # open branches, and look at each
    "WIDEN_2",
    "WIDEN_4",
    "WIDEN_8",
    "DEEPEN_1",  # continue all that run by intervals, then look at each
    "DEEPEN_4",
    "READ",  # the same up to 1.4 times the mean length
    "DEEPEN_LEADERS_4",  # only those whose latest answer leads
    "DEEPEN_OLDEST_4",  # only the two deepest
    "DEEPEN_YOUNGEST_4",  # only the shallowest one
    "PRUNE_DISSENTERS",  # that run, and differed from the leading answer at three looks
    "PRUNE_OLDEST",  # the deepest one that runs
)
COUNT: Final = len(NAMES)

ANSWER: Final = 0
ANSWER_FINISHED: Final = 1
ANSWER_WEIGHTED: Final = 2
WIDEN: Final = 3  # the first of four
DEEPEN_1: Final = 7
DEEPEN_4: Final = 8
READ: Final = 9
DEEPEN_LEADERS: Final = 10
DEEPEN_OLDEST: Final = 11
DEEPEN_YOUNGEST: Final = 12
PRUNE_DISSENTERS: Final = 13
PRUNE_OLDEST: Final = 14

STRIDE: Final = 4  # intervals
OLDEST: Final = 2  # branches
PATIENCE: Final = 3  # looks
LONG: Final = 1.4  # mean lengths
FADE: Final = 0.35  # mean lengths, in which a vote's weight falls to 1/e

# --- memory: int32[N + 1, 4], a row a branch and one for the episode ------------------------------
SEEN: Final = 0  # the latest answer at the decision before, -1 for none
SINCE: Final = 1  # depth at which it was first seen without a change since, intervals
DISSENT: Final = 2  # looks in sequence that differed from the leading answer
LOOKED: Final = 3  # depth of the latest look, intervals
LEADER: Final = 0  # of the episode: the leading answer's class, -1 for none
STABLE: Final = 1  # decisions for which it has led
TAKEN: Final = 2  # decisions
MEMORY_SIZE: Final = 4

# --- the summary ---------------------------------------------------------------------------------

#: Columns of what is told of a branch, all within 0 and about 1.
BRANCH_FEATURES: Final = (
    "running",
    "finished",
    "pruned",
    "depth",  # in mean lengths, up to 4, over 2
    "share of the depth limit",
    "steadiness",  # intervals since its answer changed, in mean lengths, up to 2
    "leads",  # its answer is the leading one
    "is second",
    "null",
    "weight",  # of its vote, if it is or were finished
    "support",  # share of active branches that have its answer
    "dissent",  # looks at which it differed from the leader, up to 8, over 8
    "confidence",  # recorded, 0 without
    "unread",  # requested beyond its latest look, in mean lengths, up to 1
)
#: Entries of what is told of the episode.
FEATURES: Final = (
    "beta",
    "price",  # log of what C costs in terms of a right answer, (1 − β) / β, within ±6, over 3
    "spent",  # in C
    "log spent",  # ln(1 + spent in mean lengths) / 4
    "clock",  # ln(1 + clock in mean lengths) / 4
    "opened",  # share of N
    "log opened",  # ln(1 + branches) / 4, as the next ones
    "running",
    "finished",
    "pruned",
    "null",  # share of finished ones
    "first mass",  # weight of the leading answer, m / (1 + m)
    "second mass",
    "share",  # of the leading answer in all weight
    "margin",  # of the first over the second, of their sum
    "first votes",  # of finished branches, unweighted, ln(1 + votes) / 4
    "second votes",
    "answers",  # different ones of finished branches, ln(1 + answers) / 4
    "agreement",  # share of running branches whose answer leads
    "live share",  # of the plurality among all active branches
    "live leads",  # whether that plurality is the leading answer
    "stable",  # ln(1 + decisions for which the leader led) / 4
    "taken",  # ln(1 + decisions) / 5
    "mean finished",  # depth of finished branches, in mean lengths over 2, as the next ones
    "shortest finished",
    "oldest running",
    "youngest running",
    "room",  # whether a branch can be opened
)
BRANCH_SIZE: Final = len(BRANCH_FEATURES)
SIZE: Final = len(FEATURES)


def longest(max_branches: int, depth: int) -> int:
    """The most actions that a bundle can hold."""
    return max_branches * (depth + 1) + 1


class Tally(NamedTuple):
    """The votes of finished branches, as floats; classes are -1 where there is none."""

    leader: Any
    second: Any
    first_mass: Any
    second_mass: Any
    mass: Any


@inlined
def _runs(view: View, i: int) -> bool:
    """Whether branch ``i`` is active and was not seen to end."""
    return view.branches[fields.STATUS, i] == s.ACTIVE and view.branches[fields.FINISHED, i] == 0


@inlined
def _votes(view: View, i: int) -> bool:
    """Whether branch ``i`` is active, was seen to end, and has an answer that is not null."""
    if view.branches[fields.STATUS, i] != s.ACTIVE or view.branches[fields.FINISHED, i] == 0:
        return False
    return not _null(view, view.branches[fields.LATEST, i])


@inlined
def _null(view: View, answer: int) -> bool:
    return answer >= 0 and view.classes[o.NULL, min(answer, view.classes.shape[1] - 1)] != 0


@inlined
def _weight(depth: int, mean: float) -> float:
    return np.exp(-depth / (FADE * mean))


@compiled
def _tally(view: View, mean: float):
    """The weighted vote of finished branches; ties go to the answer that was first, by branch."""
    opened = int(view.globals[fields.OPENED])
    leader, second, first, runner_up, total = -1, -1, 0.0, 0.0, 0.0
    for i in range(opened):
        if not _votes(view, i):
            continue
        answer = view.branches[fields.LATEST, i]
        total += _weight(view.branches[fields.REVEALED, i], mean)
        known = False
        for j in range(i):
            known = known or (_votes(view, j) and view.branches[fields.LATEST, j] == answer)
        if known:
            continue
        mass = 0.0
        for j in range(i, opened):
            if _votes(view, j) and view.branches[fields.LATEST, j] == answer:
                mass += _weight(view.branches[fields.REVEALED, j], mean)
        if mass > first:
            leader, second, first, runner_up = answer, leader, mass, first
        elif mass > runner_up:
            second, runner_up = answer, mass
    return Tally(leader, second, first, runner_up, total)


@compiled
def _plurality(view: View, finished: bool):
    """Leading class, and its votes, of active branches, or of those that finished."""
    opened = int(view.globals[fields.OPENED])
    best, most = -1, 0
    for i in range(opened):
        answer = view.branches[fields.LATEST, i]
        if view.branches[fields.STATUS, i] != s.ACTIVE or answer < 0:
            continue
        if finished and view.branches[fields.FINISHED, i] == 0:
            continue
        votes = 0
        for j in range(opened):
            counts = view.branches[fields.FINISHED, j] != 0 or not finished
            active = view.branches[fields.STATUS, j] == s.ACTIVE
            votes += active and counts and view.branches[fields.LATEST, j] == answer
        if votes > most:
            best, most = answer, votes
    return best, most


@inlined
def leading(view: View, mean: float) -> int:
    """The leading answer: by weight where something has finished, by plurality until then."""
    found = _tally(view, mean).leader
    return found if found >= 0 else _plurality(view, False)[0]


# --- memory --------------------------------------------------------------------------------------


@compiled
def forget(memory) -> None:
    """The memory of an episode that starts."""
    memory[:] = 0
    memory[:, SEEN] = -1


@compiled
def remember(memory, view: View, mean: float) -> None:
    """Take in what a decision has revealed."""
    n = memory.shape[0] - 1
    leader = leading(view, mean)
    for i in range(int(view.globals[fields.OPENED])):
        answer = view.branches[fields.LATEST, i]
        if answer != memory[i, SEEN]:
            memory[i, SEEN] = answer
            memory[i, SINCE] = view.branches[fields.REVEALED, i]
        if answer < 0 or answer == leader:
            memory[i, DISSENT] = 0
        elif _runs(view, i) and view.branches[fields.REVEALED, i] != memory[i, LOOKED]:
            memory[i, DISSENT] += 1
        memory[i, LOOKED] = view.branches[fields.REVEALED, i]
    memory[n, TAKEN] += 1
    memory[n, STABLE] = memory[n, STABLE] + 1 if leader == memory[n, LEADER] else 0
    memory[n, LEADER] = leader


# --- bundles -------------------------------------------------------------------------------------


@inlined
def _continues(view: View, memory, decision: int, i: int, picked: int, leader: int) -> bool:
    """Whether branch ``i`` is one that a decision to deepen is about; it can be continued."""
    if decision == DEEPEN_LEADERS:
        return view.branches[fields.LATEST, i] == leader
    if decision in (DEEPEN_OLDEST, DEEPEN_YOUNGEST):
        return i == picked
    return True


@inlined
def _can_extend(view: View, i: int) -> bool:
    return view.mask[action_id(actions.CONTINUE, i, view.branches.shape[1])] != 0


@compiled
def _extreme(view: View, oldest: bool, but: int) -> int:
    """The deepest branch that can be continued, or the shallowest; -1 for none.

    Of equals the first; ``but`` is left out.
    """
    best = -1
    for i in range(int(view.globals[fields.OPENED])):
        if i == but or not _can_extend(view, i):
            continue
        ahead = 1
        if best >= 0:
            ahead = view.branches[fields.REQUESTED, i] - view.branches[fields.REQUESTED, best]
        if best < 0 or (ahead > 0 if oldest else ahead < 0):
            best = i
    return best


@compiled
def _speaker(view: View, answer: int, finished: bool) -> int:
    """The first active branch that gives an answer; ``finished``: of those that have ended."""
    for i in range(int(view.globals[fields.OPENED])):
        speaks = (
            view.branches[fields.STATUS, i] == s.ACTIVE
            and view.branches[fields.LATEST, i] == answer
        )
        if speaks and (view.branches[fields.FINISHED, i] != 0 or not finished):
            return i
    return -1


@compiled
def bundle(view: View, memory, mean: float, depth_limit: int, decision: int, log) -> int:
    """Write the actions of a decision, and return how many.

    0 stands for a decision that cannot be made here; ``log`` then begins with an action that is
    illegal, so that it costs what illegal actions cost. Later actions of a bundle can become
    illegal by what earlier ones cost, under a token budget, and are then left out by those who
    play it.

    Args:
        view: of the episode.
        memory: int32[N + 1, 4].
        mean: length of a branch, intervals.
        depth_limit: of the environment, intervals.
        decision: id.
        log: int32[>= N (depth limit + 1) + 1].
    """
    n = memory.shape[0] - 1
    opened = int(view.globals[fields.OPENED])
    log[0] = actions.BRANCH if opened == n else action_id(actions.CONTINUE, opened, n)  # illegal
    if decision <= ANSWER_WEIGHTED:
        speaker = -1
        if decision == ANSWER_FINISHED:
            answer, _ = _plurality(view, True)
            speaker = _speaker(view, answer, True) if answer >= 0 else -1
        elif decision == ANSWER_WEIGHTED:
            answer = _tally(view, mean).leader
            speaker = _speaker(view, answer, True) if answer >= 0 else -1
        log[0] = actions.ANSWER if speaker < 0 else action_id(actions.ANSWER_BRANCH, speaker, n)
        return 1
    if decision < DEEPEN_1:
        if view.mask[actions.BRANCH] == 0:
            return 0
        wanted = min(1 << (decision - WIDEN), n - opened)
        for k in range(wanted):
            log[k] = actions.BRANCH
            log[wanted + k] = action_id(actions.PROBE, opened + k, n)
        return 2 * wanted
    if decision >= PRUNE_DISSENTERS:
        leader = memory[n, LEADER]
        count = 0
        oldest = _extreme(view, True, -1)
        for i in range(opened):
            if decision == PRUNE_DISSENTERS:
                chosen = _runs(view, i) and leader >= 0 and memory[i, DISSENT] >= PATIENCE
            else:
                chosen = i == oldest
            if chosen and view.mask[action_id(actions.PRUNE, i, n)] != 0:
                log[count] = action_id(actions.PRUNE, i, n)
                count += 1
        return count
    stride = 1 if decision == DEEPEN_1 else STRIDE
    target = int(np.ceil(LONG * mean))
    leader = memory[n, LEADER]
    rounds = OLDEST if decision == DEEPEN_OLDEST else 1
    count = 0
    picked = -1
    for _ in range(rounds):
        if decision in (DEEPEN_OLDEST, DEEPEN_YOUNGEST):
            picked = _extreme(view, decision == DEEPEN_OLDEST, picked)
        for i in range(opened):
            if not _can_extend(view, i) or not _continues(
                view, memory, decision, i, picked, leader
            ):
                continue
            depth = view.branches[fields.REQUESTED, i]
            goal = max(target, depth) if decision == READ else depth + stride
            for _ in range(min(goal, depth_limit) - depth):
                log[count] = action_id(actions.CONTINUE, i, n)
                count += 1
    requests = count
    last = -1
    for k in range(requests):  # all text is requested before the first look
        if log[k] != last:
            last = log[k]
            branch = last - action_id(actions.CONTINUE, 0, n)
            log[count] = action_id(actions.PROBE, branch, n)
            count += 1
    return count


@compiled
def show_mask(view: View, memory, mean: float, mask) -> None:
    """Which decisions can be made: those whose bundle holds something. int8[COUNT]."""
    n = memory.shape[0] - 1
    leader = memory[n, LEADER]
    target = int(np.ceil(LONG * mean))
    mask[:WIDEN] = 1
    mask[WIDEN:DEEPEN_1] = view.mask[actions.BRANCH]
    mask[DEEPEN_1:] = 0
    for i in range(int(view.globals[fields.OPENED])):
        if _can_extend(view, i):
            mask[DEEPEN_1] = mask[DEEPEN_4] = 1
            mask[DEEPEN_OLDEST] = mask[DEEPEN_YOUNGEST] = mask[PRUNE_OLDEST] = 1
            if view.branches[fields.REQUESTED, i] < target:
                mask[READ] = 1
            if view.branches[fields.LATEST, i] == leader:
                mask[DEEPEN_LEADERS] = 1
        if _runs(view, i) and leader >= 0 and memory[i, DISSENT] >= PATIENCE:
            mask[PRUNE_DISSENTERS] = 1


# --- the summary ---------------------------------------------------------------------------------


@inlined
def _log(count: float) -> float:
    return np.log(1.0 + count) / 4.0


@compiled
def summarize(view: View, memory, mean: float, depth_limit: int, branches, totals) -> None:
    """Write what a decision is made from: float32[N, BRANCH_SIZE] and float32[SIZE]."""
    n = memory.shape[0] - 1
    opened = int(view.globals[fields.OPENED])
    tally = _tally(view, mean)
    leader = memory[n, LEADER]
    live, live_votes = _plurality(view, False)
    running = finished = nulls = pruned = agreeing = answers = voters = 0
    first_votes = second_votes = 0
    depths = 0.0
    shortest = oldest = 0.0
    youngest = np.inf
    branches[:] = 0
    for i in range(opened):
        row = branches[i]
        depth = view.branches[fields.REQUESTED, i] / mean
        answer = view.branches[fields.LATEST, i]
        row[3] = min(depth, 4.0) / 2
        row[4] = view.branches[fields.REQUESTED, i] / depth_limit
        row[8] = _null(view, answer)
        row[11] = min(memory[i, DISSENT], 8) / 8
        if view.confidences.shape[0] > 0:
            row[12] = min(max(view.confidences[i], 0.0), 1.0)
        if view.branches[fields.FINISHED, i] == 0:
            unread = view.branches[fields.REQUESTED, i] - view.branches[fields.REVEALED, i]
            row[13] = min(unread / mean, 1.0)
        if view.branches[fields.STATUS, i] != s.ACTIVE:
            row[2] = 1
            pruned += 1
            continue
        if answer >= 0:
            row[5] = min((view.branches[fields.REVEALED, i] - memory[i, SINCE] + 1) / mean, 2.0)
            row[6] = answer == leader
            row[7] = answer == tally.second
            row[9] = _weight(view.branches[fields.REVEALED, i], mean)
            supporters = 0
            before = False
            for j in range(opened):
                if (
                    view.branches[fields.STATUS, j] == s.ACTIVE
                    and view.branches[fields.LATEST, j] == answer
                ):
                    supporters += 1
                    before = before or (j < i and view.branches[fields.FINISHED, j] != 0)
            row[10] = supporters
            voters += 1
            if view.branches[fields.FINISHED, i] != 0 and not before:
                answers += 1
        if view.branches[fields.FINISHED, i] != 0:
            row[1] = 1
            finished += 1
            nulls += row[8] > 0
            first_votes += answer == tally.leader
            second_votes += answer == tally.second
            depths += depth
            shortest = depth if finished == 1 else min(shortest, depth)
        else:
            row[0] = 1
            running += 1
            agreeing += answer == leader
            oldest = max(oldest, depth)
            youngest = min(youngest, depth)
    for i in range(opened):
        branches[i, 10] /= max(voters, 1)
    beta = float(view.globals[fields.BETA])
    spent = float(view.globals[fields.SPENT])
    mass = max(tally.mass, 1e-9)
    price = np.log(max(1 - beta, 1e-9)) - np.log(max(beta, 1e-9))
    totals[0] = beta
    totals[1] = min(max(price, -6.0), 6.0) / 3
    totals[2] = min(spent, 2.0)
    totals[3] = _log(spent * n)
    totals[4] = _log(float(view.globals[fields.CLOCK]) * n)
    totals[5] = opened / n
    totals[6] = _log(opened)
    totals[7] = _log(running)
    totals[8] = _log(finished)
    totals[9] = _log(pruned)
    totals[10] = nulls / max(finished, 1)
    totals[11] = tally.first_mass / (1 + tally.first_mass)
    totals[12] = tally.second_mass / (1 + tally.second_mass)
    totals[13] = tally.first_mass / mass
    totals[14] = (tally.first_mass - tally.second_mass) / mass
    totals[15] = _log(first_votes)
    totals[16] = _log(second_votes)
    totals[17] = _log(answers)
    totals[18] = agreeing / max(running, 1)
    totals[19] = live_votes / max(voters, 1)
    totals[20] = live >= 0 and live == leader
    totals[21] = _log(memory[n, STABLE])
    totals[22] = _log(memory[n, TAKEN]) * 0.8
    totals[23] = min(depths / max(finished, 1), 4.0) / 2
    totals[24] = min(shortest, 4.0) / 2
    totals[25] = min(oldest, 4.0) / 2
    totals[26] = min(youngest, 4.0) / 2 if running > 0 else 0.0
    totals[27] = view.mask[actions.BRANCH]
