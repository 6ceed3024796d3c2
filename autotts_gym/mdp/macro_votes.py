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

#: A record per answer, in the order of the branches that gave them first.
BALLOT_FIELDS: Final = (
    Field("answer", "class", dtype="i4"),
    Field("votes", "active branches with this answer", dtype="i4"),
    Field("finished", "finished ones among them", dtype="i4"),
    Field("ranked", "record k names the record whose answer finished as k-th", dtype="i4"),
    Field("mass", "sum of the weights of finished branches", dtype="f8"),
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
def _slot_of(memory: Records, ballots: Records, slots: int, i: int, answer: int) -> int:
    """The record of an answer among the first ``slots``, else ``slots``.

    Most branches have the answer that they had at the last count.
    """
    slot = memory[i].slot
    if slot >= slots or ballots[slot].answer != answer:
        slot = 0
        while slot < slots and ballots[slot].answer != answer:
            slot += 1
        memory[i].slot = slot
    return slot


@compiled
def _fill_ballots(view: View, memory: Records, ballots: Records):
    """Count the votes by answer.

    Returns:
        Number of answers, number of answers of finished branches, and the sum of all weights.
    """
    slots = ranks = 0
    total_mass = 0.0
    for i in range(int(view.globals[f.OPENED])):
        answer = view.branches[f.LATEST, i]
        if view.branches[f.STATUS, i] != s.ACTIVE or answer < 0:
            continue
        slot = _slot_of(memory, ballots, slots, i, answer)
        ballot = ballots[slot]
        if slot == slots:
            slots += 1
            ballot.answer = answer
            ballot.votes = 0
            ballot.finished = 0
            ballot.mass = 0.0
        ballot.votes += 1
        if view.branches[f.FINISHED, i] == 0:
            continue
        if ballot.finished == 0:
            ballots[ranks].ranked = slot
            ranks += 1
        ballot.finished += 1
        if not is_null(view, answer):
            ballot.mass += memory[i].weight
            total_mass += memory[i].weight
    return slots, ranks, total_mass


@compiled
def count_votes(view: View, memory: Records, ballots: Records):
    """Count the votes.

    Args:
        view: observation.
        memory: BRANCH_MEMORY[N], with the weight of each branch's vote; the records of their
            answers are written to it.
        ballots: BALLOT[N], overwritten.

    Returns:
        The :class:`Votes`.
    """
    slots, answers, total_mass = _fill_ballots(view, memory, ballots)
    plurality, plurality_votes, with_answer = -1, 0, 0
    for slot in range(slots):
        ballot = ballots[slot]
        with_answer += ballot.votes
        if ballot.votes > plurality_votes:
            plurality, plurality_votes = ballot.answer, ballot.votes
    leader, second, leader_mass, second_mass = -1, -1, 0.0, 0.0
    finished_plurality, most = -1, 0
    for rank in range(answers):
        ballot = ballots[ballots[rank].ranked]
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
