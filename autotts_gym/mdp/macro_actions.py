"""Macro-actions: bundles of actions of ``AutoTTS-v0`` for episodes of tens of steps.

An episode of ``AutoTTS-v0`` takes hundreds of actions, most of which follow from a few choices. A
macro-action is a bundle of actions, such as: open two branches and probe each, continue all
branches, answer by the weighted vote. The bundle depends on the observation and on a memory of
earlier observations (:mod:`autotts_gym.mdp.macro_memory`). It is fixed before its first action, and
played action by action under the rules of ``AutoTTS-v0``; rewards and costs are sums over its
actions.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from autotts_gym.mdp import actions
from autotts_gym.mdp import fields as f
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import ANSWER_BRANCH, CONTINUE, PROBE, PRUNE
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.macro_memory import Memory
from autotts_gym.mdp.macro_votes import is_running
from autotts_gym.mdp.observation import View
from autotts_gym.mdp.rules import action_id

# --- ids -----------------------------------------------------------------------------------------


class MacroAction(NamedTuple):
    """A macro-action.

    Attributes:
        name: its name; policy files store it.
        meaning: the actions that it consists of.
    """

    name: str
    meaning: str


#: The macro-actions, by id.
MACRO_ACTIONS: Final = (
    MacroAction("ANSWER", "answer by the plurality of active branches"),
    MacroAction("ANSWER_FINISHED", "answer by the plurality of finished branches"),
    MacroAction("ANSWER_WEIGHTED", "answer by the weighted vote of finished branches"),
    MacroAction("WIDEN_1", "open a branch, then probe it"),
    MacroAction("WIDEN_2", "open two branches, then probe each"),
    MacroAction("WIDEN_4", "open four branches, then probe each"),
    MacroAction("WIDEN_8", "open eight branches, then probe each"),
    MacroAction("DEEPEN_1", "continue all running branches by an interval, then probe each"),
    MacroAction("DEEPEN_4", "continue all running branches by four intervals, then probe each"),
    MacroAction("READ", "continue all running branches to 1.4 mean lengths, then probe each"),
    MacroAction("DEEPEN_LEADERS_4", "DEEPEN_4 of branches whose class is the leading answer"),
    MacroAction("DEEPEN_OLDEST_4", "DEEPEN_4 of the two deepest running branches"),
    MacroAction("DEEPEN_YOUNGEST_4", "DEEPEN_4 of the shallowest running branch"),
    MacroAction(
        "PRUNE_DISSENTERS", "prune running branches that dissented from the leader at three probes"
    ),
    MacroAction("PRUNE_OLDEST", "prune the deepest running branch"),
)
NAMES: Final = tuple(action.name for action in MACRO_ACTIONS)
NUM_MACRO_ACTIONS: Final = len(NAMES)

ANSWER: Final = NAMES.index("ANSWER")
ANSWER_FINISHED: Final = NAMES.index("ANSWER_FINISHED")
ANSWER_WEIGHTED: Final = NAMES.index("ANSWER_WEIGHTED")
WIDEN_1: Final = NAMES.index("WIDEN_1")
WIDEN_2: Final = NAMES.index("WIDEN_2")
WIDEN_4: Final = NAMES.index("WIDEN_4")
WIDEN_8: Final = NAMES.index("WIDEN_8")
DEEPEN_1: Final = NAMES.index("DEEPEN_1")
DEEPEN_4: Final = NAMES.index("DEEPEN_4")
READ: Final = NAMES.index("READ")
DEEPEN_LEADERS_4: Final = NAMES.index("DEEPEN_LEADERS_4")
DEEPEN_OLDEST_4: Final = NAMES.index("DEEPEN_OLDEST_4")
DEEPEN_YOUNGEST_4: Final = NAMES.index("DEEPEN_YOUNGEST_4")
PRUNE_DISSENTERS: Final = NAMES.index("PRUNE_DISSENTERS")
PRUNE_OLDEST: Final = NAMES.index("PRUNE_OLDEST")

DEEPEN_INTERVALS: Final = 4  # of the macro-actions that end with _4
OLDEST_BRANCHES: Final = 2  # that DEEPEN_OLDEST_4 continues
DISSENT_LIMIT: Final = 3  # dissenting probes in sequence before PRUNE_DISSENTERS prunes a branch
READ_LENGTH: Final = 1.4  # depth that READ continues to, mean lengths


def table(indent: str = "") -> str:
    """The macro-actions as a Markdown table, for docstrings."""
    rows = [
        f"| {i} | ``{action.name}`` | {action.meaning} |" for i, action in enumerate(MACRO_ACTIONS)
    ]
    return f"\n{indent}".join(["| id | macro-action | bundle |", "| --- | --- | --- |", *rows])


def max_runs(max_branches: int) -> int:
    """Largest number of runs of a bundle, each of one action that is repeated."""
    return 2 * max_branches + 1


# --- choice of branches --------------------------------------------------------------------------


@inlined
def _can_extend(view: View, i: int) -> bool:
    return view.mask[action_id(actions.CONTINUE, i, view.branches.shape[1])] != 0


@inlined
def _is_dissenter(view: View, memory: Memory, i: int) -> bool:
    """Whether PRUNE_DISSENTERS prunes branch ``i``, if that is legal."""
    leader, dissent = memory.episode.leader, memory.branches[i].dissent
    return is_running(view, i) and leader >= 0 and dissent >= DISSENT_LIMIT


@inlined
def _is_deepened(view: View, memory: Memory, macro_action: int, i: int, picked: int) -> bool:
    """Whether a macro-action continues branch ``i``, if that is legal.

    ``picked`` is the branch of DEEPEN_OLDEST_4 or DEEPEN_YOUNGEST_4.
    """
    if macro_action == DEEPEN_LEADERS_4:
        return view.branches[f.LATEST, i] == memory.episode.leader
    if macro_action in (DEEPEN_OLDEST_4, DEEPEN_YOUNGEST_4):
        return i == picked
    return True


@compiled
def _deepest(view: View, sign: int, excluded: int) -> int:
    """The branch with the largest ``sign · requested depth`` among those that can be extended.

    Returns:
        The first such branch, but not ``excluded``; -1 for none.
    """
    best = -1
    for i in range(int(view.globals[f.OPENED])):
        if i == excluded or not _can_extend(view, i):
            continue
        if (
            best < 0
            or sign * view.branches[f.REQUESTED, i] > sign * view.branches[f.REQUESTED, best]
        ):
            best = i
    return best


@compiled
def _branch_with_answer(view: View, answer: int, finished: bool) -> int:
    """The first active branch with a class, -1 for none; ``finished``: among finished branches."""
    for i in range(int(view.globals[f.OPENED])):
        active = view.branches[f.STATUS, i] == s.ACTIVE
        if not active or view.branches[f.LATEST, i] != answer:
            continue
        if view.branches[f.FINISHED, i] != 0 or not finished:
            return i
    return -1


# --- bundles -------------------------------------------------------------------------------------


@compiled
def expand(
    view: View, memory: Memory, mean_length: float, depth_limit: int, macro_action: int, queue
) -> int:
    """Write the actions of a macro-action to ``queue``, as runs of one action that is repeated.

    If the macro-action is illegal, ``queue`` starts with an illegal action, which has the same
    penalty. Under a token budget, earlier actions of a bundle can make later ones illegal; the
    caller skips these.

    Args:
        view: observation.
        memory: memory of the episode.
        mean_length: mean length of the environment's branches, intervals.
        depth_limit: of the environment, intervals.
        macro_action: id.
        queue: int32[>= max_runs, 2], id of the action and number of times.

    Returns:
        Number of runs; 0 if the macro-action is illegal.
    """
    n = memory.branches.shape[0]
    opened = int(view.globals[f.OPENED])
    # Illegal: CONTINUE of a branch that is not open, or BRANCH where all are.
    _write_run(queue, 0, actions.BRANCH if opened == n else _action_on(view, CONTINUE, opened), 1)
    if macro_action <= ANSWER_WEIGHTED:
        return _expand_answer(view, memory, macro_action, queue)
    if macro_action < DEEPEN_1:
        return _expand_widen(view, 1 << (macro_action - WIDEN_1), queue)
    if macro_action >= PRUNE_DISSENTERS:
        return _expand_prune(view, memory, macro_action, queue)
    return _expand_deepen(view, memory, mean_length, depth_limit, macro_action, queue)


@inlined
def _write_run(queue, k: int, action: int, times: int) -> None:
    queue[k, 0] = action
    queue[k, 1] = times


@inlined
def _action_on(view: View, block: int, i: int) -> int:
    return action_id(block, i, view.branches.shape[1])


@compiled
def _expand_answer(view: View, memory: Memory, macro_action: int, queue) -> int:
    answer = -1
    if macro_action == ANSWER_FINISHED:
        answer = memory.episode.finished_plurality
    elif macro_action == ANSWER_WEIGHTED:
        answer = memory.episode.weighted_leader
    branch = _branch_with_answer(view, answer, True) if answer >= 0 else -1
    action = actions.ANSWER if branch < 0 else _action_on(view, ANSWER_BRANCH, branch)
    _write_run(queue, 0, action, 1)
    return 1


@compiled
def _expand_widen(view: View, count: int, queue) -> int:
    if view.mask[actions.BRANCH] == 0:
        return 0
    opened = int(view.globals[f.OPENED])
    count = min(count, view.branches.shape[1] - opened)
    for k in range(count):
        _write_run(queue, k, actions.BRANCH, 1)
        _write_run(queue, count + k, _action_on(view, PROBE, opened + k), 1)
    return 2 * count


@compiled
def _expand_prune(view: View, memory: Memory, macro_action: int, queue) -> int:
    oldest = _deepest(view, 1, -1)
    count = 0
    for i in range(int(view.globals[f.OPENED])):
        chosen = i == oldest
        if macro_action == PRUNE_DISSENTERS:
            chosen = _is_dissenter(view, memory, i)
        prune = _action_on(view, PRUNE, i)
        if chosen and view.mask[prune] != 0:
            _write_run(queue, count, prune, 1)
            count += 1
    return count


@compiled
def _expand_deepen(
    view: View, memory: Memory, mean_length: float, depth_limit: int, macro_action: int, queue
) -> int:
    intervals = 1 if macro_action == DEEPEN_1 else DEEPEN_INTERVALS
    read_depth = int(np.ceil(READ_LENGTH * mean_length))
    count = 0
    picked = -1
    for _ in range(OLDEST_BRANCHES if macro_action == DEEPEN_OLDEST_4 else 1):
        if macro_action in (DEEPEN_OLDEST_4, DEEPEN_YOUNGEST_4):
            picked = _deepest(view, 1 if macro_action == DEEPEN_OLDEST_4 else -1, picked)
        for i in range(int(view.globals[f.OPENED])):
            if not _can_extend(view, i) or not _is_deepened(view, memory, macro_action, i, picked):
                continue
            depth = view.branches[f.REQUESTED, i]
            target = max(read_depth, depth) if macro_action == READ else depth + intervals
            times = min(target, depth_limit) - depth
            if times > 0:
                _write_run(queue, count, _action_on(view, CONTINUE, i), times)
                count += 1
    # Probe after all requests, so that the branches generate in parallel.
    requested = count
    for k in range(requested):
        branch = queue[k, 0] - _action_on(view, CONTINUE, 0)
        _write_run(queue, requested + k, _action_on(view, PROBE, branch), 1)
    return 2 * requested


@compiled
def update_mask(view: View, memory: Memory, mean_length: float, mask) -> None:
    """Write which macro-actions are legal: those with a bundle that is not empty.

    Args:
        view: observation.
        memory: memory of the episode.
        mean_length: mean length of the environment's branches, intervals.
        mask: int8[NUM_MACRO_ACTIONS].
    """
    read_depth = int(np.ceil(READ_LENGTH * mean_length))
    mask[:WIDEN_1] = 1
    mask[WIDEN_1:DEEPEN_1] = view.mask[actions.BRANCH]
    mask[DEEPEN_1:] = 0
    for i in range(int(view.globals[f.OPENED])):
        if _can_extend(view, i):
            mask[DEEPEN_1] = mask[DEEPEN_4] = 1
            mask[DEEPEN_OLDEST_4] = mask[DEEPEN_YOUNGEST_4] = mask[PRUNE_OLDEST] = 1
            if view.branches[f.REQUESTED, i] < read_depth:
                mask[READ] = 1
            if view.branches[f.LATEST, i] == memory.episode.leader:
                mask[DEEPEN_LEADERS_4] = 1
        if _is_dissenter(view, memory, i):
            mask[PRUNE_DISSENTERS] = 1
