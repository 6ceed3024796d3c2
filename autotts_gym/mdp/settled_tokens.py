"""Settled tokens: what an episode had spent when its outcome was there to stay.

The outcome is there to stay from the earliest moment after which the plurality (what ANSWER would
give) never again differs from the answer that was given in the end; what was spent afterwards only
confirmed it. No controller could know that moment, so it is found afterwards: the episode's actions
are played once more by the same rules, and the votes are counted along.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import BRANCH
from autotts_gym.mdp.jit import compiled, entry_point, inlined
from autotts_gym.mdp.state import EpisodeState
from autotts_gym.mdp.trace_dataset import TraceDataset


class Recount(NamedTuple):
    """Room for an episode that is played once more.

    Attributes:
        episode: the episode.
        vote_of: int64[max_branches], the class that each branch votes for, -1 for none.
        votes: int64[K], the votes of each class.
    """

    episode: EpisodeState
    vote_of: NDArray[np.int64]
    votes: NDArray[np.int64]

    @classmethod
    def allocate(cls, replay: TraceDataset, max_branches: int) -> Recount:
        return cls(
            EpisodeState.allocate(replay.traces, max_branches, replay.classes),
            np.empty(max_branches, np.int64),
            np.empty(replay.classes, np.int64),
        )


@inlined
def _leader(recount: Recount, most: int) -> int:
    """The first branch's class that has ``most`` votes, as ties go; -1 where there is no vote."""
    for i in range(recount.episode.ledger[s.OPENED]):
        vote = recount.vote_of[i]
        if vote >= 0 and recount.votes[vote] == most:
            return int(vote)
    return -1


@compiled
def settled_tokens(
    recount: Recount,
    terms: NDArray[np.int64],
    question: NDArray[np.int64],
    row: int,
    order: NDArray[np.int64],
    pricings: NDArray[np.int64],
    log: NDArray[np.int32],
) -> int:
    """The settled tokens of an episode; see above.

    That is the true cost right after the look (or the prune) that brought the last change of the
    plurality about, 0 where nothing ever did. Where the answer given is not the plurality in the
    end, and where none was given, it is the whole cost.

    Args:
        terms, question, row, order: what the episode began with, as for ``rules.begin``.
        pricings: int64[max_branches], the billing of each of its branches.
        log: int32[actions], the ids of its actions, all legal.
    """
    episode, vote_of, votes = recount.episode, recount.vote_of, recount.votes
    ledger, branches = episode.ledger, episode.branches
    rules.begin(episode, terms, question, row, order)
    vote_of[:] = -1
    votes[:] = 0
    most = 0
    plurality = -1
    settled = 0
    for action in log:
        if action == BRANCH:
            ledger[s.BILLING] = pricings[ledger[s.OPENED]]
        i = rules.act(episode, action)
        if i < 0:
            continue
        vote = branches[i, s.LATEST] if branches[i, s.STATUS] == s.ACTIVE else -1
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
                for c in range(ledger[s.CLASSES]):
                    most = max(most, votes[c])
        leader = _leader(recount, most)
        if leader != plurality:
            plurality = leader
            settled = ledger[s.TRUE_SPENT]
    if ledger[s.ENDED] == 0 or ledger[s.ANSWER] != plurality:
        return int(ledger[s.TRUE_SPENT])
    return int(settled)


@entry_point()
def settle(
    recount: Recount,
    terms: NDArray[np.int64],
    question: NDArray[np.int64],
    row: int,
    order: NDArray[np.int64],
    pricings: NDArray[np.int64],
    log: NDArray[np.int32],
) -> int:
    """:func:`settled_tokens` for Python."""
    return settled_tokens(recount, terms, question, row, order, pricings, log)
