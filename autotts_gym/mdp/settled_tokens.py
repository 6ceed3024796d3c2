"""Settled tokens: the tokens that an episode had spent when its final answer last changed.

The answer is settled at the earliest step after which the plurality (the answer of ANSWER) never
again differs from the answer that the episode ends with; everything spent afterwards confirmed it.
No controller can recognise that step while it plays, so it is computed afterwards: the episode's
actions are played again by the same rules, and the votes are counted along.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import BRANCH
from autotts_gym.mdp.jit import compiled, entry_point, inlined
from autotts_gym.mdp.packed_arrays import Axes, pack
from autotts_gym.mdp.state import EpisodeArrays, Records, state_of
from autotts_gym.mdp.trace_dataset import TraceDataset


class Recount(NamedTuple):
    """Arrays for playing an episode again.

    Attributes:
        episodes: the state of one episode.
        vote_of: int64[max_branches], the class that each branch votes for, -1 for none.
        votes: int64[K], number of votes of each class.
    """

    episodes: EpisodeArrays
    vote_of: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    votes: Annotated[NDArray[np.int64], Axes(np.int64, 1)]

    @classmethod
    def allocate(cls, dataset: TraceDataset, max_branches: int) -> Recount:
        """Arrays for one episode over ``dataset``."""
        return cls(
            EpisodeArrays.allocate(dataset.traces, dataset.classes, max_branches),
            np.empty(max_branches, np.int64),
            np.empty(dataset.classes, np.int64),
        )


@inlined
def _leader(vote_of, votes, opened: int, most: int) -> int:
    """Class with ``most`` votes that the earliest branch votes for; -1 without any vote."""
    for i in range(opened):
        vote = vote_of[i]
        if vote >= 0 and votes[vote] == most:
            return int(vote)
    return -1


@compiled
def settled_tokens(
    recount: Recount,
    initial: Records,
    question: Records,
    row: int,
    order: NDArray[np.int64],
    branches: Records,
    log: NDArray[np.int32],
) -> int:
    """Settled tokens of an episode; see the module's docstring.

    They are the true tokens right after the probe or prune that changed the plurality last, 0 if
    none did. If the episode ended with another answer than the plurality, or without one, they are
    its total tokens.

    Args:
        recount: arrays to play it in.
        initial, question, row, order: the episode's start, as for ``rules.begin``.
        branches: BRANCH[max_branches], the branches at the episode's end, for their billing.
        log: int32[actions], the ids of its actions, all legal.
    """
    episode, vote_of, votes = state_of(recount.episodes, 0), recount.vote_of, recount.votes
    ledger = episode.ledger
    rules.begin(episode, initial, question, row, order, 0.0)
    vote_of[:] = -1
    votes[:] = 0
    most = 0
    plurality = -1
    settled = 0
    for action in log:
        if action == BRANCH:
            ledger.billing = branches[ledger.opened].billing
        i = rules.act(episode, action)
        if i < 0:
            continue
        b = episode.branches[i]
        vote = b.latest if b.status == s.ACTIVE else -1
        before = vote_of[i]
        if vote == before:
            continue
        vote_of[i] = vote
        if vote >= 0:
            votes[vote] += 1
            most = max(most, votes[vote])
        if before >= 0:
            votes[before] -= 1
            if votes[before] == most - 1:
                most = 0
                for c in range(ledger.classes):
                    most = max(most, votes[c])
        leader = _leader(vote_of, votes, ledger.opened, most)
        if leader != plurality:
            plurality = leader
            settled = ledger.true_spent
    if ledger.ended == 0 or ledger.answer != plurality:
        return int(ledger.true_spent)
    return int(settled)


@entry_point(packed=Recount)
def _settle(recount, initial, questions, row, order, branches, log):
    return settled_tokens(recount, initial[0], questions[row], row, order, branches, log)


def settle(
    recount: Recount,
    initial: Records,
    questions: Records,
    row: int,
    order: NDArray[np.int64],
    branches: Records,
    log: NDArray[np.int32],
) -> int:
    """:func:`settled_tokens`, for Python.

    Args:
        recount, row, order, branches, log: as for :func:`settled_tokens`.
        initial: LEDGER[1].
        questions: QUESTION[Q], those of the dataset.
    """
    return int(_settle(pack(recount), initial, questions, row, order, branches, log))
