"""The observation of ``AutoTTS-Decisions-v0``: features of each branch and of the episode.

They are functions of the observation of ``AutoTTS-v0`` and of a memory of earlier observations
(:mod:`autotts_gym.mdp.macro_memory`). The *leading* answer is the leader of the weighted vote, and
the plurality's until a branch has finished.
"""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import literal_unroll

from autotts_gym.mdp import actions
from autotts_gym.mdp import fields as f
from autotts_gym.mdp import state as s
from autotts_gym.mdp.fields import Field
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.macro_memory import Memory
from autotts_gym.mdp.macro_votes import Votes, is_null
from autotts_gym.mdp.observation import View
from autotts_gym.mdp.state import Records, record_type


class Feature(NamedTuple):
    """A feature, float32.

    Attributes:
        name: its name; policy files store it.
        meaning: what it holds.
        former_name: its name in policy files of version 0.1; empty if these do not have it.
    """

    name: str
    meaning: str
    former_name: str


#: Columns of ``branches``: features of an opened branch, from 0 to about 1.
BRANCH_FEATURES: Final = (
    Feature("running", "1 if it is active and its end was not revealed", "running"),
    Feature("finished", "1 if it is active and its end was revealed", "finished"),
    Feature("pruned", "1 if it was pruned", "pruned"),
    Feature("depth", "requested depth in mean lengths, clipped to 4, over 2", "depth"),
    Feature("depth_share", "requested depth over the depth limit", "share of the depth limit"),
    Feature("answer_age", "depth since its answer changed, mean lengths, up to 2", "steadiness"),
    Feature("has_leader", "1 if its answer is the leading one", "leads"),
    Feature("has_second", "1 if its answer is second in the weighted vote", "is second"),
    Feature("null_answer", "1 if its answer is a null answer", "null"),
    Feature("vote_weight", "weight of its vote, as if it were finished", "weight"),
    Feature("support", "share of active branches that have its answer", "support"),
    Feature("dissent", "consecutive probes unlike the leader, up to 8, over 8", "dissent"),
    Feature("confidence", "recorded confidence, clipped to [0, 1]; 0 without", "confidence"),
    Feature("unprobed", "depth requested since its last probe, mean lengths, up to 1", "unread"),
)

#: Entries of ``globals``: features of the episode. ln1p(x) is ln(1 + x).
GLOBAL_FEATURES: Final = (
    Feature("beta", "β", "beta"),
    Feature("log_price", "ln((1 − β) / β), clipped to ±6, over 3", "price"),
    Feature("spent", "tokens spent as a share of C, up to 2", "spent"),
    Feature("log_spent", "ln1p(tokens spent in mean lengths) / 4", "log spent"),
    Feature("log_clock", "ln1p(clock in mean lengths) / 4", "clock"),
    Feature("opened_share", "opened branches over N", "opened"),
    Feature("log_opened", "ln1p(opened branches) / 4", "log opened"),
    Feature("log_running", "ln1p(running branches) / 4", "running"),
    Feature("log_finished", "ln1p(finished branches) / 4", "finished"),
    Feature("log_pruned", "ln1p(pruned branches) / 4", "pruned"),
    Feature("null_share", "share of null answers among finished branches", "null"),
    Feature("leader_mass", "m / (1 + m), m the weight of the vote's leader", "first mass"),
    Feature("second_mass", "m / (1 + m), m the weight of the vote's second", "second mass"),
    Feature("leader_share", "the leader's share of all weight", "share"),
    Feature("margin", "the leader's share minus the second's", "margin"),
    Feature("log_leader_votes", "ln1p(finished branches with the leader) / 4", "first votes"),
    Feature("log_second_votes", "ln1p(finished branches with the second) / 4", "second votes"),
    Feature("log_answers", "ln1p(different answers of finished branches) / 4", "answers"),
    Feature("agreement", "share of running branches with the leading answer", "agreement"),
    Feature("plurality_share", "the plurality's share of active branches", "live share"),
    Feature("plurality_leads", "1 if the plurality is the leading answer", "live leads"),
    Feature("log_leader_age", "ln1p(macro-actions since the leader changed) / 4", "stable"),
    Feature("log_macro_actions", "ln1p(macro-actions taken) / 5", "taken"),
    Feature("mean_finished", "mean depth of finished branches, as depth", "mean finished"),
    Feature("shortest_finished", "smallest depth of finished branches", "shortest finished"),
    Feature("deepest_running", "largest depth of running branches", "oldest running"),
    Feature("shallowest_running", "smallest depth of running branches", "youngest running"),
    Feature("can_branch", "1 if BRANCH is legal", "room"),
)

#: Further entries of ``globals`` where sequential tokens can have a weight in the cost.
LATENCY_FEATURES: Final = (
    Feature("latency_weight", "w, the weight of sequential tokens in the cost", ""),
    Feature("latency", "clock as a share of L, up to 2", ""),
)

BRANCH_FEATURE_NAMES: Final = tuple(feature.name for feature in BRANCH_FEATURES)
GLOBAL_FEATURE_NAMES: Final = tuple(feature.name for feature in GLOBAL_FEATURES)
NUM_BRANCH_FEATURES: Final = len(BRANCH_FEATURES)
NUM_GLOBAL_FEATURES: Final = len(GLOBAL_FEATURES)
#: Entries of ``globals`` with those about latency.
NUM_ALL_GLOBAL_FEATURES: Final = len(GLOBAL_FEATURES + LATENCY_FEATURES)

#: Of these branch features, exactly one is 1 for an opened branch.
STATUS_FEATURES: Final = slice(0, 3)

BRANCH_RECORD: Final = record_type(
    tuple(Field(name, "", dtype="f4") for name in BRANCH_FEATURE_NAMES)
)
GLOBAL_RECORD: Final = record_type(
    tuple(Field(x.name, "", dtype="f4") for x in GLOBAL_FEATURES + LATENCY_FEATURES)
)


def table(features: tuple[Feature, ...], indent: str = "") -> str:
    """Features as a Markdown table, for docstrings."""
    rows = [f"| {i} | ``{x.name}`` | {x.meaning} |" for i, x in enumerate(features)]
    return f"\n{indent}".join(["| column | feature | meaning |", "| --- | --- | --- |", *rows])


class Counts(NamedTuple):
    """Numbers of branches in several states, and depths in intervals.

    ``finished_depth`` is a float: where all fields have one type, numba takes ``finished`` for the
    method of a controller's episode.
    """

    running: Any
    finished: Any
    pruned: Any
    null_answers: Any  # of finished branches
    leader_votes: Any  # of finished branches
    second_votes: Any  # of finished branches
    agreeing: Any  # running branches with the leading answer
    finished_depth: Any  # sum
    shortest_finished: Any  # 0 for none
    deepest_running: Any  # 0 for none
    shallowest_running: Any  # 0 for none


@compiled
def update_features(
    view: View,
    memory: Memory,
    votes: Votes,
    mean_length: float,
    depth_limit: int,
    branches: Records,
    record: Any,
) -> None:
    """Write the features that have changed. Those of branches that are not opened stay zero.

    Args:
        view: observation.
        memory: memory of the episode, after :func:`~autotts_gym.mdp.macro_memory.update_memory`.
        votes: the votes of the observation, which are still in ``memory.ballots``.
        mean_length: mean length of the environment's branches, intervals.
        depth_limit: of the environment, intervals.
        branches: BRANCH_RECORD[N], as this function left them after the last macro-action.
        record: a GLOBAL_RECORD.
    """
    counts = _update_branches(view, memory, mean_length, depth_limit, votes, branches)
    _update_globals(view, memory, votes, mean_length, counts, record)


@compiled
def _update_branches(
    view: View,
    memory: Memory,
    mean_length: float,
    depth_limit: int,
    votes: Votes,
    branches: Records,
):
    """Write the features of all opened branches; returns their :class:`Counts`."""
    leader = memory.episode.leader
    running = finished = pruned = null_answers = 0
    with_answer = max(votes.with_answer, 1)
    leader_votes = second_votes = agreeing = 0
    shortest_finished = deepest_running = shallowest_running = 0
    finished_depth = 0.0
    for i in range(int(view.globals[f.OPENED])):
        row, remembered = branches[i], memory.branches[i]
        if remembered.changed != 0:
            _update_branch(view, memory, mean_length, depth_limit, i, row)
        answer = view.branches[f.LATEST, i]
        row.null_answer = is_null(view, answer)
        row.dissent = min(remembered.dissent, 8) / 8
        if view.branches[f.STATUS, i] != s.ACTIVE:
            pruned += 1
            continue
        depth = int(view.branches[f.REQUESTED, i])
        if answer >= 0:
            row.has_leader = answer == leader
            row.has_second = answer == votes.second
            row.support = memory.ballots[remembered.slot].votes / with_answer
        if view.branches[f.FINISHED, i] != 0:
            finished += 1
            null_answers += row.null_answer > 0
            leader_votes += answer == votes.leader
            second_votes += answer == votes.second
            finished_depth += depth
            shortest_finished = depth if finished == 1 else min(shortest_finished, depth)
        else:
            running += 1
            agreeing += answer == leader
            deepest_running = max(deepest_running, depth)
            shallowest_running = depth if running == 1 else min(shallowest_running, depth)
    return Counts(
        running,
        finished,
        pruned,
        null_answers,
        leader_votes,
        second_votes,
        agreeing,
        finished_depth,
        shortest_finished,
        deepest_running,
        shallowest_running,
    )


@compiled
def _update_branch(
    view: View, memory: Memory, mean_length: float, depth_limit: int, i: int, row: Any
) -> None:
    """Write the features of branch ``i`` that depend on it alone; set the others to zero."""
    for name in literal_unroll(BRANCH_FEATURE_NAMES):
        row[name] = 0
    requested, revealed = view.branches[f.REQUESTED, i], view.branches[f.REVEALED, i]
    is_active = view.branches[f.STATUS, i] == s.ACTIVE
    is_finished = view.branches[f.FINISHED, i] != 0
    row.running = is_active and not is_finished
    row.finished = is_active and is_finished
    row.pruned = not is_active
    row.depth = min(requested / mean_length, 4.0) / 2
    row.depth_share = requested / depth_limit
    if view.confidences.shape[0] > 0:
        row.confidence = min(max(view.confidences[i], 0.0), 1.0)
    if not is_finished:
        row.unprobed = min((requested - revealed) / mean_length, 1.0)
    if is_active and view.branches[f.LATEST, i] >= 0:
        age = revealed - memory.branches[i].answer_since + 1
        row.answer_age = min(age / mean_length, 2.0)
        row.vote_weight = memory.branches[i].weight


#: ln(1 + count) / 4 of small counts.
_LN1P: Final = np.array([math.log(1.0 + count) / 4.0 for count in range(512)])


@inlined
def _ln1p(value: float) -> float:
    return np.log(1.0 + value) / 4.0


@inlined
def _ln1p_of_count(count: int) -> float:
    return _LN1P[count] if count < len(_LN1P) else _ln1p(count)


@compiled
def _update_globals(
    view: View, memory: Memory, votes: Votes, mean_length: float, counts: Counts, record: Any
) -> None:
    """Write the features of the episode."""
    n = view.branches.shape[1]
    opened = int(view.globals[f.OPENED])
    beta = float(view.globals[f.BETA])
    spent = float(view.globals[f.SPENT])
    total_mass = max(votes.total_mass, 1e-9)
    if memory.episode.macro_actions == 0:  # β stays the same
        log_price = np.log(max(1 - beta, 1e-9)) - np.log(max(beta, 1e-9))
        record.beta = beta
        record.log_price = min(max(log_price, -6.0), 6.0) / 3
    record.spent = min(spent, 2.0)
    record.log_spent = _ln1p(spent * n)
    record.log_clock = _ln1p(float(view.globals[f.CLOCK]) * n)
    record.opened_share = opened / n
    record.log_opened = _ln1p_of_count(opened)
    record.log_running = _ln1p_of_count(counts.running)
    record.log_finished = _ln1p_of_count(counts.finished)
    record.log_pruned = _ln1p_of_count(counts.pruned)
    record.null_share = counts.null_answers / max(counts.finished, 1)
    record.leader_mass = votes.leader_mass / (1 + votes.leader_mass)
    record.second_mass = votes.second_mass / (1 + votes.second_mass)
    record.leader_share = votes.leader_mass / total_mass
    record.margin = (votes.leader_mass - votes.second_mass) / total_mass
    record.log_leader_votes = _ln1p_of_count(counts.leader_votes)
    record.log_second_votes = _ln1p_of_count(counts.second_votes)
    record.log_answers = _ln1p_of_count(votes.answers)
    record.agreement = counts.agreeing / max(counts.running, 1)
    record.plurality_share = votes.plurality_votes / max(votes.with_answer, 1)
    leading = votes.plurality
    record.plurality_leads = leading >= 0 and leading == memory.episode.leader
    record.log_leader_age = _ln1p_of_count(memory.episode.leader_age)
    record.log_macro_actions = _ln1p_of_count(memory.episode.macro_actions) * 0.8
    mean_finished = counts.finished_depth / max(counts.finished, 1)
    record.mean_finished = min(mean_finished / mean_length, 4.0) / 2
    record.shortest_finished = min(counts.shortest_finished / mean_length, 4.0) / 2
    record.deepest_running = min(counts.deepest_running / mean_length, 4.0) / 2
    record.shallowest_running = min(counts.shallowest_running / mean_length, 4.0) / 2
    record.can_branch = view.mask[actions.BRANCH]
    record.latency_weight = float(view.globals[f.LATENCY_WEIGHT])
    record.latency = min(float(view.globals[f.LATENCY]), 2.0)
