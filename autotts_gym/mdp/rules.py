"""The rules of the process, once: legality, transition, billing, the two costs.

Every face of the process (single, vector and live environment, evaluation in bulk) calls these
functions; nothing else changes an :class:`~autotts_gym.mdp.state.EpisodeState`. A transition takes for
granted that its action is legal. After AutoTTS (arXiv 2605.08083), sections 3 and 4, with two
costs told apart: total tokens, and sequential tokens (the clock).

*Charge and reconcile.* Until a branch's end is revealed, a controller is charged Δ for every
interval it requests; from then on, the true bill counts. So nothing that can be seen before a look
depends on where a branch ends.
"""

from __future__ import annotations

from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import ANSWER, ANSWER_BRANCH, BRANCH, CONTINUE, PROBE, PRUNE
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.state import EpisodeState

# --- legality ------------------------------------------------------------------------------------


@inlined
def affords_interval(episode: EpisodeState) -> bool:
    """Whether the budget covers an interval (and its probe, where each is probed)."""
    ledger = episode.ledger
    return ledger[s.SPENT] + ledger[s.EXTEND_CHARGE] <= ledger[s.BUDGET]


@inlined
def affords_probe(episode: EpisodeState) -> bool:
    """Whether the budget covers one more probe."""
    ledger = episode.ledger
    return ledger[s.SPENT] + ledger[s.PROBE_CHARGE] <= ledger[s.BUDGET]


@inlined
def can_branch(episode: EpisodeState) -> bool:
    return episode.ledger[s.OPENED] < episode.branches.shape[0] and affords_interval(episode)


@inlined
def may_grow(episode: EpisodeState, i: int) -> bool:
    """Whether branch ``i`` can be continued as far as the branch itself is concerned."""
    b = episode.branches[i]
    return (
        b[s.STATUS] == s.ACTIVE
        and b[s.FINISHED] == 0
        and b[s.REQUESTED] < episode.ledger[s.DEPTH_LIMIT]
    )


@inlined
def may_look(episode: EpisodeState, i: int) -> bool:
    """Whether branch ``i`` can be probed as far as the branch itself is concerned."""
    b = episode.branches[i]
    return (
        b[s.STATUS] == s.ACTIVE
        and b[s.REVEALED] < b[s.REQUESTED]
        and episode.ledger[s.AUTO_PROBE] == 0
    )


@inlined
def can_extend(episode: EpisodeState, i: int) -> bool:
    return may_grow(episode, i) and affords_interval(episode)


@inlined
def can_probe(episode: EpisodeState, i: int) -> bool:
    return may_look(episode, i) and affords_probe(episode)


@inlined
def can_prune(episode: EpisodeState, i: int) -> bool:
    return episode.branches[i, s.STATUS] == s.ACTIVE


@inlined
def can_answer(episode: EpisodeState, i: int) -> bool:
    return episode.branches[i, s.REVEALED] > 0


# --- transitions ---------------------------------------------------------------------------------


@inlined
def bill(branch, depth, interval):
    """True tokens of a branch that was requested to ``depth``: the sum over its intervals."""
    if branch[s.PRICING] == s.BY_TOKENS:
        if depth > branch[s.LENGTH]:
            return branch[s.TOKENS]
        return min(branch[s.TOKENS], depth * interval)
    if depth > branch[s.LENGTH]:
        return max(branch[s.TOKENS], branch[s.LENGTH] * interval)
    return depth * interval


@inlined
def extend(episode: EpisodeState, i: int) -> None:
    """CONTINUE(i): request one more interval. It does not block; past the end it costs nothing."""
    ledger = episode.ledger
    b = episode.branches[i]
    interval = ledger[s.INTERVAL]
    depth = b[s.REQUESTED]
    tokens = interval
    if depth >= b[s.LENGTH] or b[s.PRICING] == s.BY_TOKENS:  # otherwise the bill grows by Δ
        tokens = bill(b, depth + 1, interval) - bill(b, depth, interval)
    b[s.REQUESTED] = depth + 1
    ledger[s.SPENT] += interval
    ledger[s.TRUE_SPENT] += tokens
    b[s.READY] = max(b[s.READY], ledger[s.CLOCK]) + interval
    b[s.READY_END] = max(b[s.READY_END], ledger[s.CLOCK]) + tokens
    b[s.TRUE_READY] = max(b[s.TRUE_READY], ledger[s.TRUE_CLOCK]) + tokens


@compiled
def branch(episode: EpisodeState) -> int:
    """BRANCH: open the next branch and request its first interval; returns its index."""
    i = episode.ledger[s.OPENED]
    episode.ledger[s.OPENED] = i + 1
    recorded = episode.traces.branches[episode.order[i]]
    b = episode.branches[i]
    b[s.STATUS] = s.ACTIVE
    b[s.REQUESTED] = 0
    b[s.REVEALED] = 0
    b[s.LATEST] = -1
    b[s.FINISHED] = 0
    b[s.OFFSET] = recorded[s.TRACE_OFFSET]
    b[s.LENGTH] = recorded[s.TRACE_LENGTH]
    b[s.TOKENS] = recorded[s.TRACE_TOKENS]
    b[s.FINAL] = recorded[s.TRACE_FINAL]
    b[s.PRICING] = episode.ledger[s.BILLING]
    b[s.READY] = 0
    b[s.READY_END] = 0
    b[s.TRUE_READY] = 0
    extend(episode, i)
    return i


@inlined
def class_of(episode: EpisodeState, code: int) -> int:
    """Class of a stored answer code, numbered by first appearance in the episode."""
    known = episode.codes[s.CLASS_OF, code]
    if known >= 0:
        return int(known)
    new = episode.ledger[s.CLASSES]
    episode.ledger[s.CLASSES] = new + 1
    episode.codes[s.CLASS_OF, code] = new
    episode.codes[s.CODE_OF, new] = code
    return int(new)


@inlined
def probe(episode: EpisodeState, i: int) -> None:
    """PROBE(i): wait for branch ``i``'s requested text and reveal its answer there."""
    ledger = episode.ledger
    b = episode.branches[i]
    depth = b[s.REQUESTED]
    at = b[s.OFFSET] + depth - 1
    cost = ledger[s.PROBE_TOKENS]
    if depth <= b[s.LENGTH]:
        code = episode.traces.probes[at]
        if cost == s.RECORDED:
            cost = episode.traces.probe_tokens[at]
        ledger[s.CLOCK] = max(ledger[s.CLOCK], b[s.READY])
    else:
        code = b[s.FINAL]
        if cost == s.RECORDED:
            cost = 0  # the final answer stands in the branch's own text
        interval = ledger[s.INTERVAL]
        end = b[s.LENGTH] + 1
        ledger[s.SPENT] += bill(b, end, interval) - depth * interval
        ledger[s.CLOCK] = max(ledger[s.CLOCK], b[s.READY_END])
        b[s.FINISHED] = 1
        b[s.REQUESTED] = end
        depth = end
    ledger[s.SPENT] += cost
    ledger[s.TRUE_SPENT] += cost
    ledger[s.PROBES] += 1
    ledger[s.TRUE_CLOCK] = max(ledger[s.TRUE_CLOCK], b[s.TRUE_READY])
    b[s.REVEALED] = depth
    b[s.LATEST] = class_of(episode, code)


@inlined
def prune(episode: EpisodeState, i: int) -> None:
    """PRUNE(i): branch ``i`` neither votes nor grows any more; what it showed stays."""
    episode.branches[i, s.STATUS] = s.PRUNED


@compiled
def plurality(episode: EpisodeState) -> int:
    """Class with the most votes among the latest answers of active branches; -1 without any.

    Ties go to the class whose first vote, in branch order, comes first.
    """
    opened = episode.ledger[s.OPENED]
    branches = episode.branches
    best = -1
    most = 0
    for i in range(opened):
        latest = branches[i, s.LATEST]
        if branches[i, s.STATUS] != s.ACTIVE or latest < 0:
            continue
        votes = 0
        for j in range(opened):
            # A class's first vote comes with j = i; met again later, it cannot win any more.
            votes += branches[j, s.STATUS] == s.ACTIVE and branches[j, s.LATEST] == latest
        if votes > most:
            most = votes
            best = latest
    return best


@inlined
def answer(episode: EpisodeState, answer_class: int) -> None:
    """End the episode with a class (-1: the empty answer)."""
    episode.ledger[s.ANSWER] = answer_class
    episode.ledger[s.ENDED] = 1


@inlined
def is_right(episode: EpisodeState) -> bool:
    """Whether what was answered is the gold answer; an empty answer never is."""
    given = episode.ledger[s.ANSWER]
    return given >= 0 and episode.codes[s.CODE_OF, given] == episode.ledger[s.GOLD]


# --- one action by its id ------------------------------------------------------------------------


@inlined
def act(episode: EpisodeState, action: int) -> int:
    """Play one action id.

    Returns the branch it touched, -1 if it touched none (ANSWER), or -2 if it was illegal and
    changed nothing but the count of steps.
    """
    ledger = episode.ledger
    ledger[s.STEPS] += 1
    if action == ANSWER:
        answer(episode, plurality(episode))
        return -1
    if action == BRANCH:
        if not can_branch(episode):
            return -2
        i = branch(episode)
        if ledger[s.AUTO_PROBE] == 1:
            probe(episode, i)
        return i
    max_branches = episode.branches.shape[0]
    block, i = CONTINUE, action - 2
    while i >= max_branches:  # three times at most, which is faster than to divide
        block += 1
        i -= max_branches
    if block == CONTINUE:
        if not can_extend(episode, i):
            return -2
        extend(episode, i)
        if ledger[s.AUTO_PROBE] == 1:
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
        answer(episode, episode.branches[i, s.LATEST])
        return -1
    return -2


@compiled
def begin(episode: EpisodeState, terms, question, row: int, order) -> None:
    """The first state of an episode.

    Args:
        episode: whatever it held before is gone.
        terms: int64[TERMS_SIZE], the ledger's terms.
        question: int64[QUESTION_SIZE], the question that is played, and ``row`` its number.
        order: int64[max_branches], the question's branches in the order in which they open.
    """
    ledger = episode.ledger
    ledger[: s.INTERVAL] = 0
    ledger[s.ANSWER] = -1
    for i in range(s.TERMS_SIZE):
        ledger[s.INTERVAL + i] = terms[i]
    ledger[s.GOLD] = question[s.Q_GOLD]
    ledger[s.NULLS] = question[s.Q_NULLS]
    ledger[s.QUESTION] = row
    episode.branches[:] = 0
    episode.branches[:, s.LATEST] = -1
    episode.codes[s.CLASS_OF] = -1
    for i in range(len(order)):
        episode.order[i] = question[s.Q_BRANCHES] + order[i]


# Columns of a result.
RIGHT = 0
CODE = 1  # stored code of the answer, -1 for the empty one
TOKENS = 2
SEQUENTIAL_TOKENS = 3
STEPS = 4
PROBES = 5
SETTLED_TOKENS = 6  # see mdp.settling; -1 where it was not asked for
RESULT_SIZE = 7


@compiled
def conclude(episode: EpisodeState, result) -> None:
    """Write the true figures of an episode that has ended into int64[RESULT_SIZE]."""
    ledger = episode.ledger
    given = ledger[s.ANSWER]
    result[RIGHT] = is_right(episode)
    result[CODE] = episode.codes[s.CODE_OF, given] if given >= 0 else -1
    result[TOKENS] = ledger[s.TRUE_SPENT]
    result[SEQUENTIAL_TOKENS] = ledger[s.TRUE_CLOCK]
    result[STEPS] = ledger[s.STEPS]
    result[PROBES] = ledger[s.PROBES]
    result[SETTLED_TOKENS] = -1
