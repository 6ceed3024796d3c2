"""Votes on the answer of an episode, counted from its observation; compiled code only.

The vote of a finished branch is weighted by exp(−depth / (0.35 · mean length)): branches that end
early are correct more often than long ones.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np

from autotts_gym.mdp import fields as f
from autotts_gym.mdp import observation as o
from autotts_gym.mdp import state as s
from autotts_gym.mdp.fields import Field
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.observation import View
from autotts_gym.mdp.state import Records, record_type

#: Depth at which the weight of a vote falls to 1/e, in mean lengths.
VOTE_DECAY: Final = 0.35

#: A record per answer, in the order of the branches that gave them first; ``slot`` is of a branch.
BALLOT_FIELDS: Final = (
    Field("answer", "class", dtype="i4"),
    Field("votes", "active branches with this answer", dtype="i4"),
    Field("finished", "finished ones among them", dtype="i4"),
    Field("is_ranked", "1 once the weighted vote has been compared with the others", dtype="i4"),
    Field("mass", "sum of the weights of finished branches", dtype="f8"),
    Field("slot", "record of the answer of the branch with this index", dtype="i8"),
)
BALLOT: Final = record_type(BALLOT_FIELDS)


class Votes(NamedTuple):
    """The votes of active branches; classes are -1 if there are none.

    Of several answers with equally many votes, the one that a branch gave first comes first.

    Attributes:
        leader: class with the largest weight among finished branches, without null answers.
        second: class with the second largest weight.
        leader_mass: sum of the leader's weights.
        second_mass: sum of the second's weights.
        total_mass: sum of all weights.
        plurality: class of most branches, null answers included.
        plurality_votes: number of its branches.
        finished_plurality: class of most finished branches, null answers included.
        with_answer: active branches that have been probed.
        answers: different answers of finished branches.
    """

    leader: Any
    second: Any
    leader_mass: Any
    second_mass: Any
    total_mass: Any
    plurality: Any
    plurality_votes: Any
    finished_plurality: Any
    with_answer: Any
    answers: Any


@inlined
def is_running(view: View, i: int) -> bool:
    """Whether branch ``i`` is active, and no probe has revealed its end."""
    return view.branches[f.STATUS, i] == s.ACTIVE and view.branches[f.FINISHED, i] == 0


@inlined
def is_null(view: View, answer: int) -> bool:
    """Whether a class is a null answer; False for -1."""
    return answer >= 0 and view.classes[o.NULL, min(answer, view.classes.shape[1] - 1)] != 0


@inlined
def vote_weight(depth: int, mean_length: float) -> float:
    """Weight of the vote of a branch that ends at ``depth``; both in intervals."""
    return np.exp(-depth / (VOTE_DECAY * mean_length))


@inlined
def _has_answer(view: View, i: int) -> bool:
    return view.branches[f.STATUS, i] == s.ACTIVE and view.branches[f.LATEST, i] >= 0


@compiled
def _fill_ballots(view: View, memory: Records, ballots: Records):
    """Count the votes by answer; returns the number of answers, and the sum of all weights."""
    slots = 0
    total_mass = 0.0
    for i in range(int(view.globals[f.OPENED])):
        if not _has_answer(view, i):
            continue
        answer = view.branches[f.LATEST, i]
        slot = 0
        while slot < slots and ballots[slot].answer != answer:
            slot += 1
        ballot = ballots[slot]
        if slot == slots:
            slots += 1
            ballot.answer = answer
            ballot.votes = 0
            ballot.finished = 0
            ballot.is_ranked = 0
            ballot.mass = 0.0
        ballots[i].slot = slot
        ballot.votes += 1
        if view.branches[f.FINISHED, i] != 0:
            ballot.finished += 1
            if not is_null(view, answer):
                ballot.mass += memory[i].weight
                total_mass += memory[i].weight
    return slots, total_mass


@compiled
def count_votes(view: View, memory: Records, ballots: Records):
    """Count the votes.

    Args:
        view: observation.
        memory: BRANCH_MEMORY[N], with the weight of each branch's vote.
        ballots: BALLOT[N], overwritten.

    Returns:
        The :class:`Votes`.
    """
    slots, total_mass = _fill_ballots(view, memory, ballots)
    plurality, plurality_votes, with_answer, answers = -1, 0, 0, 0
    for slot in range(slots):
        ballot = ballots[slot]
        with_answer += ballot.votes
        answers += ballot.finished > 0
        if ballot.votes > plurality_votes:
            plurality, plurality_votes = ballot.answer, ballot.votes
    leader, second, leader_mass, second_mass = -1, -1, 0.0, 0.0
    finished_plurality, most = -1, 0
    # In the order of the first finished branch with each answer.
    for i in range(int(view.globals[f.OPENED])):
        if not _has_answer(view, i) or view.branches[f.FINISHED, i] == 0:
            continue
        ballot = ballots[ballots[i].slot]
        if ballot.is_ranked == 1:
            continue
        ballot.is_ranked = 1
        if ballot.finished > most:
            finished_plurality, most = ballot.answer, ballot.finished
        if is_null(view, ballot.answer):
            continue
        if ballot.mass > leader_mass:
            second, second_mass = leader, leader_mass
            leader, leader_mass = ballot.answer, ballot.mass
        elif ballot.mass > second_mass:
            second, second_mass = ballot.answer, ballot.mass
    return Votes(
        leader,
        second,
        leader_mass,
        second_mass,
        total_mass,
        plurality,
        plurality_votes,
        finished_plurality,
        with_answer,
        answers,
    )
