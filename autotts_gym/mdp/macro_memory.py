"""What macro-actions and their features remember of earlier observations of an episode."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from autotts_gym.mdp import fields as f
from autotts_gym.mdp import state as s
from autotts_gym.mdp.fields import Field
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.macro_votes import Votes, count_votes, is_running, vote_weight
from autotts_gym.mdp.observation import View
from autotts_gym.mdp.state import Records, record_type

#: Narrow types: most time of a step goes to reading memory.
BRANCH_MEMORY_FIELDS: Final = (
    Field("answer", "its class after the latest macro-action, -1 for none", dtype="i2"),
    Field("answer_since", "depth at which a probe revealed that class, intervals", dtype="i2"),
    Field("dissent", "consecutive probes whose class was not the leading answer", dtype="i2"),
    Field("probed", "depth of its latest probe, intervals", dtype="i2"),
    Field("requested", "its requested depth, intervals", dtype="i2"),
    Field("slot", "ballot of its answer", dtype="i2"),
    Field("status", "its status", dtype="i1"),
    Field("changed", "1 if the latest macro-action changed it", dtype="i1"),
    Field("weight", "weight of its vote, as if it ended at that depth", dtype="f8"),
)
EPISODE_MEMORY_FIELDS: Final = (
    Field("leader", "class of the leading answer, -1 for none", dtype="i4"),
    Field("leader_age", "macro-actions since the leading answer changed", dtype="i4"),
    Field("macro_actions", "macro-actions taken", dtype="i4"),
    Field("weighted_leader", "class of the weighted vote of finished branches", dtype="i4"),
    Field("finished_plurality", "class of most finished branches", dtype="i4"),
)
BRANCH_MEMORY: Final = record_type(BRANCH_MEMORY_FIELDS)
EPISODE_MEMORY: Final = record_type(EPISODE_MEMORY_FIELDS)


class Memory(NamedTuple):
    """The memory of one episode, in compiled code.

    Attributes:
        branches: BRANCH_MEMORY[N].
        episode: an EPISODE_MEMORY record.
        ballots: BALLOT[N], working memory.
    """

    branches: Records
    episode: Any
    ballots: Records


@compiled
def reset_memory(memory: Memory) -> None:
    """Set the memory to its state at the start of an episode."""
    for i in range(memory.branches.shape[0]):
        memory.branches[i].answer = -1
        memory.branches[i].answer_since = 0
        memory.branches[i].dissent = 0
        memory.branches[i].probed = 0
        memory.branches[i].requested = 0
        memory.branches[i].slot = 0
        memory.branches[i].status = s.UNOPENED
        memory.branches[i].changed = 0
        memory.branches[i].weight = 0.0
    memory.episode.leader = -1
    memory.episode.leader_age = 0
    memory.episode.macro_actions = 0
    memory.episode.weighted_leader = -1
    memory.episode.finished_plurality = -1


@inlined
def count_remembered(memory: Memory, view: View, mean_length: float) -> Votes:
    """Count the votes, after the weights of branches that were probed have been computed."""
    for i in range(int(view.globals[f.OPENED])):
        depth = view.branches[f.REVEALED, i]
        if depth != memory.branches[i].probed:
            memory.branches[i].weight = vote_weight(depth, mean_length)
    return count_votes(view, memory.branches, memory.ballots)


@compiled
def update_memory(memory: Memory, view: View, votes: Votes) -> None:
    """Update the memory after a macro-action; ``votes`` are those of :func:`count_remembered`."""
    leader = votes.leader if votes.leader >= 0 else votes.plurality
    for i in range(int(view.globals[f.OPENED])):
        branch = memory.branches[i]
        answer, depth = view.branches[f.LATEST, i], view.branches[f.REVEALED, i]
        requested, status = view.branches[f.REQUESTED, i], view.branches[f.STATUS, i]
        branch.changed = (
            depth != branch.probed or requested != branch.requested or status != branch.status
        )
        branch.requested = requested
        branch.status = status
        if answer != branch.answer:
            branch.answer = answer
            branch.answer_since = depth
        if answer < 0 or answer == leader:
            branch.dissent = 0
        elif is_running(view, i) and depth != branch.probed:
            branch.dissent += 1
        branch.probed = depth
    episode = memory.episode
    episode.macro_actions += 1
    episode.leader_age = episode.leader_age + 1 if leader == episode.leader else 0
    episode.leader = leader
    episode.weighted_leader = votes.leader
    episode.finished_plurality = votes.finished_plurality
