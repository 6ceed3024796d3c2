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
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.observation import View

#: Depth at which the weight of a vote falls to 1/e, in mean lengths.
VOTE_DECAY: Final = 0.35


class WeightedVote(NamedTuple):
    """The weighted vote of finished branches; classes are -1 if there are none.

    Attributes:
        leader: class with the largest weight; the first by branch among equals.
        second: class with the second largest weight.
        leader_mass: sum of the leader's weights.
        second_mass: sum of the second's weights.
        total_mass: sum of all weights.
    """

    leader: Any
    second: Any
    leader_mass: Any
    second_mass: Any
    total_mass: Any


@inlined
def is_running(view: View, i: int) -> bool:
    """Whether branch ``i`` is active, and no probe has revealed its end."""
    return view.branches[f.STATUS, i] == s.ACTIVE and view.branches[f.FINISHED, i] == 0


@inlined
def is_null(view: View, answer: int) -> bool:
    """Whether a class is a null answer; False for -1."""
    return answer >= 0 and view.classes[o.NULL, min(answer, view.classes.shape[1] - 1)] != 0


@inlined
def _has_vote(view: View, i: int) -> bool:
    """Whether branch ``i`` is active and finished, with an answer that is not null."""
    if view.branches[f.STATUS, i] != s.ACTIVE or view.branches[f.FINISHED, i] == 0:
        return False
    return not is_null(view, view.branches[f.LATEST, i])


@inlined
def vote_weight(depth: int, mean_length: float) -> float:
    """Weight of the vote of a branch that ends at ``depth``; both in intervals."""
    return np.exp(-depth / (VOTE_DECAY * mean_length))


@compiled
def weighted_vote(view: View, mean_length: float):
    """Count the weighted vote of finished branches."""
    opened = int(view.globals[f.OPENED])
    leader, second, leader_mass, second_mass, total_mass = -1, -1, 0.0, 0.0, 0.0
    for i in range(opened):
        if not _has_vote(view, i):
            continue
        answer = view.branches[f.LATEST, i]
        total_mass += vote_weight(view.branches[f.REVEALED, i], mean_length)
        counted = False
        for j in range(i):
            counted = counted or (_has_vote(view, j) and view.branches[f.LATEST, j] == answer)
        if counted:
            continue
        mass = 0.0
        for j in range(i, opened):
            if _has_vote(view, j) and view.branches[f.LATEST, j] == answer:
                mass += vote_weight(view.branches[f.REVEALED, j], mean_length)
        if mass > leader_mass:
            leader, second, leader_mass, second_mass = answer, leader, mass, leader_mass
        elif mass > second_mass:
            second, second_mass = answer, mass
    return WeightedVote(leader, second, leader_mass, second_mass, total_mass)


@compiled
def plurality(view: View, finished: bool):
    """The most frequent class of active branches, and its number of votes; -1 and 0 for none.

    Args:
        view: observation.
        finished: count finished branches only.
    """
    opened = int(view.globals[f.OPENED])
    best, most = -1, 0
    for i in range(opened):
        answer = view.branches[f.LATEST, i]
        if view.branches[f.STATUS, i] != s.ACTIVE or answer < 0:
            continue
        if finished and view.branches[f.FINISHED, i] == 0:
            continue
        votes = 0
        for j in range(opened):
            counts = view.branches[f.FINISHED, j] != 0 or not finished
            active = view.branches[f.STATUS, j] == s.ACTIVE
            votes += active and counts and view.branches[f.LATEST, j] == answer
        if votes > most:
            best, most = answer, votes
    return best, most


@inlined
def leading_answer(view: View, mean_length: float) -> int:
    """Leader of the weighted vote; the plurality's class until a branch has finished."""
    leader = weighted_vote(view, mean_length).leader
    return leader if leader >= 0 else plurality(view, False)[0]
