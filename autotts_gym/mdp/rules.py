"""The rules of the decision process: legality, transitions, billing, and the two costs.

Every environment type (single, vector, live) and bulk rollouts call these functions; nothing else
changes an :class:`~autotts_gym.mdp.state.EpisodeState`. Transitions assume that their action is
legal. After AutoTTS (arXiv 2605.08083), sections 3 and 4, with separate total tokens and sequential
tokens (the clock).

*Charge and reconcile.* A controller is charged Δ tokens for every interval that it requests; once
the end of a branch is revealed, the true bill replaces the charges. Nothing that is visible before
a probe depends on where a branch ends.
"""

from __future__ import annotations

from numba import literal_unroll

from autotts_gym.mdp import actions
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import ANSWER, ANSWER_BRANCH, BRANCH, CONTINUE, PROBE, PRUNE
from autotts_gym.mdp.fields import BRANCH_FIELDS, LEDGER_FIELDS
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.prefetch import prefetch
from autotts_gym.mdp.state import EpisodeState

#: Id of an action on a branch; compiled code only.
action_id = inlined(actions.action_id)

_LEDGER_NAMES = tuple(field.name for field in LEDGER_FIELDS)
_BRANCH_NAMES = tuple(field.name for field in BRANCH_FIELDS)

# --- legality ------------------------------------------------------------------------------------


@inlined
def affords_interval(episode: EpisodeState) -> bool:
    """Whether the budget covers one interval, and its probe under ``auto_probe``."""
    ledger = episode.ledger
    return ledger.spent + ledger.extend_charge <= ledger.budget


@inlined
def affordable_intervals(episode: EpisodeState, most: int) -> int:
    """How many intervals the budget covers, requested one after the other without probes.

    Args:
        episode: the episode.
        most: at least 1; the result is at most this number.
    """
    ledger = episode.ledger
    left = ledger.budget - ledger.spent - ledger.extend_charge
    if (most - 1) * ledger.interval <= left:  # the common case, without a division
        return most
    return max(left // ledger.interval + 1, 0)


@inlined
def affords_probe(episode: EpisodeState) -> bool:
    """Whether the budget covers one more probe."""
    ledger = episode.ledger
    return ledger.spent + ledger.probe_charge <= ledger.budget


@inlined
def can_branch(episode: EpisodeState) -> bool:
    return episode.ledger.opened < episode.branches.shape[0] and affords_interval(episode)


@inlined
def can_grow(episode: EpisodeState, i: int) -> bool:
    """Whether the state of branch ``i`` permits CONTINUE, the budget aside."""
    b = episode.branches[i]
    return b.status == s.ACTIVE and b.finished == 0 and b.requested < episode.ledger.depth_limit


@inlined
def has_unread_text(episode: EpisodeState, i: int) -> bool:
    """Whether the state of branch ``i`` permits PROBE, the budget aside."""
    b = episode.branches[i]
    return b.status == s.ACTIVE and b.revealed < b.requested and episode.ledger.auto_probe == 0


@inlined
def can_extend(episode: EpisodeState, i: int) -> bool:
    return can_grow(episode, i) and affords_interval(episode)


@inlined
def can_probe(episode: EpisodeState, i: int) -> bool:
    return has_unread_text(episode, i) and affords_probe(episode)


@inlined
def can_prune(episode: EpisodeState, i: int) -> bool:
    return episode.branches[i].status == s.ACTIVE


@inlined
def can_answer(episode: EpisodeState, i: int) -> bool:
    return episode.branches[i].revealed > 0


@inlined
def is_legal(episode: EpisodeState, action: int) -> bool:
    """Whether an action id is legal in an episode that has not ended."""
    if action == ANSWER:
        return True
    if action == BRANCH:
        return can_branch(episode)
    max_branches = episode.branches.shape[0]
    block, i = CONTINUE, action - 2
    while i >= max_branches:
        block += 1
        i -= max_branches
    if block == CONTINUE:
        return can_extend(episode, i)
    if block == PROBE:
        return can_probe(episode, i)
    if block == PRUNE:
        return can_prune(episode, i)
    return can_answer(episode, i)


# --- transitions ---------------------------------------------------------------------------------


@inlined
def bill(branch, depth, interval):
    """Billed tokens of a branch that was requested to ``depth``, summed over its intervals."""
    if branch.billing == s.BY_TOKENS:
        if depth > branch.length:
            return branch.tokens
        return min(branch.tokens, depth * interval)
    if depth > branch.length:
        return max(branch.tokens, branch.length * interval)
    return depth * interval


@inlined
def extend_by(episode: EpisodeState, i: int, count: int) -> None:
    """``count`` times CONTINUE(i), in closed form; ``count`` is at least 1.

    The bill never falls with depth, so after the first request no other one changes the maxima.
    """
    ledger = episode.ledger
    b = episode.branches[i]
    interval = ledger.interval
    depth = b.requested
    end = depth + count
    charge = count * interval
    tokens = charge
    if end > b.length or b.billing == s.BY_TOKENS:  # else the bill grows by Δ at each request
        tokens = bill(b, end, interval) - bill(b, depth, interval)
    b.requested = end
    prefetch(episode.traces.probes, b.offset + end - 1)  # a probe reads it
    ledger.spent += charge
    ledger.true_spent += tokens
    b.ready = max(b.ready, ledger.clock) + charge
    b.ready_end = max(b.ready_end, ledger.clock) + tokens
    b.true_ready = max(b.true_ready, ledger.true_clock) + tokens


@inlined
def extend(episode: EpisodeState, i: int) -> None:
    """CONTINUE(i): request one more interval. Does not block; free past the end of the branch."""
    extend_by(episode, i, 1)


@compiled
def branch(episode: EpisodeState) -> int:
    """BRANCH: open the next branch and request its first interval; returns its index."""
    i = episode.ledger.opened
    episode.ledger.opened = i + 1
    recorded = episode.traces.branches[episode.order[i]]
    b = episode.branches[i]
    b.status = s.ACTIVE
    b.requested = 0
    b.revealed = 0
    b.latest = -1
    b.finished = 0
    b.offset = recorded.offset
    b.length = recorded.length
    b.tokens = recorded.tokens
    b.final = recorded.final
    b.billing = episode.ledger.billing
    b.ready = 0
    b.ready_end = 0
    b.true_ready = 0
    extend(episode, i)
    return i


@inlined
def class_of(episode: EpisodeState, code: int) -> int:
    """Class of a stored answer code; classes are numbered by first appearance in the episode."""
    known = episode.codes[s.CLASS_OF, code]
    if known >= 0:
        return int(known)
    new = episode.ledger.classes
    episode.ledger.classes = new + 1
    episode.codes[s.CLASS_OF, code] = new
    episode.codes[s.CODE_OF, new] = code
    return int(new)


@inlined
def probe(episode: EpisodeState, i: int) -> None:
    """PROBE(i): wait for the requested text of branch ``i`` and reveal its answer there."""
    ledger = episode.ledger
    b = episode.branches[i]
    depth = b.requested
    at = b.offset + depth - 1
    cost = ledger.probe_tokens
    if depth <= b.length:
        code = episode.traces.probes[at]
        if cost == s.RECORDED:
            cost = episode.traces.probe_tokens[at]
        ledger.clock = max(ledger.clock, b.ready)
    else:
        code = b.final
        if cost == s.RECORDED:
            cost = 0  # the final answer is part of the branch's text
        interval = ledger.interval
        end = b.length + 1
        ledger.spent += bill(b, end, interval) - depth * interval
        ledger.clock = max(ledger.clock, b.ready_end)
        b.finished = 1
        b.requested = end
        depth = end
    ledger.spent += cost
    ledger.true_spent += cost
    ledger.probes += 1
    ledger.true_clock = max(ledger.true_clock, b.true_ready)
    b.revealed = depth
    b.latest = class_of(episode, code)


@inlined
def prune(episode: EpisodeState, i: int) -> None:
    """PRUNE(i): remove branch ``i`` from the vote and from generation; its probes stay visible."""
    episode.branches[i].status = s.PRUNED


@compiled
def plurality(episode: EpisodeState) -> int:
    """Class with the most votes among the latest answers of active branches; -1 without any.

    Ties go to the class whose first vote, in branch order, comes first.
    """
    opened = episode.ledger.opened
    branches = episode.branches
    votes = episode.codes[s.VOTES]
    for answer_class in range(episode.ledger.classes):
        votes[answer_class] = 0
    for i in range(opened):
        if branches[i].status == s.ACTIVE and branches[i].latest >= 0:
            votes[branches[i].latest] += 1
    best = -1
    most = 0
    for i in range(opened):
        latest = branches[i].latest
        if branches[i].status == s.ACTIVE and latest >= 0 and votes[latest] > most:
            most = votes[latest]
            best = latest
    return best


@inlined
def answer(episode: EpisodeState, answer_class: int) -> None:
    """End the episode with an answer class (-1: the empty answer)."""
    episode.ledger.answer = answer_class
    episode.ledger.ended = 1


@inlined
def is_correct(episode: EpisodeState) -> bool:
    """Whether the episode was answered with the gold answer; an empty answer never is."""
    given = episode.ledger.answer
    return given >= 0 and episode.codes[s.CODE_OF, given] == episode.ledger.gold


# --- actions by their ids ------------------------------------------------------------------------


@inlined
def act(episode: EpisodeState, action: int) -> int:
    """Play one action id.

    Returns the index of the branch it changed, -1 for ANSWER, or -2 for an illegal action, which
    changes nothing but the number of steps.
    """
    ledger = episode.ledger
    ledger.steps += 1
    if action == ANSWER:
        answer(episode, plurality(episode))
        return -1
    if action == BRANCH:
        if not can_branch(episode):
            return -2
        i = branch(episode)
        if ledger.auto_probe == 1:
            probe(episode, i)
        return i
    max_branches = episode.branches.shape[0]
    block, i = CONTINUE, action - 2
    while i >= max_branches:  # at most three times, faster than a division
        block += 1
        i -= max_branches
    if block == CONTINUE:
        if not can_extend(episode, i):
            return -2
        extend(episode, i)
        if ledger.auto_probe == 1:
            probe(episode, i)
        return i
    if block == PROBE:
        if not can_probe(episode, i):
            return -2
        probe(episode, i)
        return i
    if block == PRUNE:
        if not can_prune(episode, i):
            return -2
        prune(episode, i)
        return i
    if block == ANSWER_BRANCH and can_answer(episode, i):
        answer(episode, episode.branches[i].latest)
        return -1
    return -2


@compiled
def begin(episode: EpisodeState, initial, question, row: int, order, beta: float) -> int:
    """Set the initial state of an episode; its previous content is discarded.

    Only the branches and classes of the previous episode are cleared: the others are as the last
    call left them, or this is the first one.

    Args:
        episode: the state to initialise.
        initial: LEDGER record, see :meth:`~autotts_gym.mdp.trace_dataset.EpisodeConfig.ledger`.
        question: QUESTION record.
        row: row of the question in the dataset.
        order: int64[max_branches], the question's branches in the order in which they open.
        beta: β.

    Returns:
        Number of branches of the previous episode, all if there was none.
    """
    ledger, codes = episode.ledger, episode.codes
    used = len(order)
    if ledger.interval > 0:
        used = ledger.opened
        for known in range(ledger.classes):
            codes[s.CLASS_OF, codes[s.CODE_OF, known]] = -1
    else:
        codes[s.CLASS_OF] = -1
    for name in literal_unroll(_LEDGER_NAMES):
        ledger[name] = initial[name]
    ledger.gold = question.gold
    ledger.nulls = question.nulls
    ledger.question = row
    ledger.beta = beta
    for i in range(used):
        b = episode.branches[i]
        for name in literal_unroll(_BRANCH_NAMES):
            b[name] = 0
        b.latest = -1
    for i in range(len(order)):
        episode.order[i] = question.branches + order[i]
    return used


@compiled
def conclude(episode: EpisodeState, result) -> None:
    """Write the true figures of an ended episode to a RESULT record."""
    ledger = episode.ledger
    given = ledger.answer
    result.correct = is_correct(episode)
    result.code = episode.codes[s.CODE_OF, given] if given >= 0 else -1
    result.tokens = ledger.true_spent
    result.sequential_tokens = ledger.true_clock
    result.steps = ledger.steps
    result.probes = ledger.probes
    result.settled_tokens = -1
