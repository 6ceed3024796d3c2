"""What became of a program's episodes, seen by one who knows the traces.

The logs are played once more by the rules, beside what no program can see: the right answer, and
how every branch ends, the ones that were never opened included. Every episode that came out wrong
has one cause, the first of ``CAUSES`` that applies. ("Plurality" is that of the rules: the answer
with the most votes; of several, the one whose first vote comes first in branch order.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import actions, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.settled_tokens import Recount, settle
from autotts_gym.mdp.trace_dataset import BILLINGS, EpisodeConfig, TraceDataset
from autotts_gym.traces.store import TraceStore

#: It came out right.
RIGHT: Final = 0
#: An error or the step limit ended it, or it gave no answer.
FAILED: Final = 1
#: The plurality of the latest answers shown was right, and it answered another.
OVERRULED: Final = 2
#: Its open branches, read to their ends, would have had the right plurality.
EARLY: Final = 3
#: The same of all branches that it opened, those that it pruned included.
PRUNED: Final = 4
#: The same of all ``max_branches`` branches of its order.
NARROW: Final = 5
#: None of these, though some of those branches end with the right answer: a weighted vote might.
OUTVOTED: Final = 6
#: None of those branches does: no vote over final answers could have been right.
ABSENT: Final = 7

#: Names of the above, in that order.
CAUSES: Final = (
    "right", "failed", "overruled", "early", "pruned", "narrow", "outvoted", "absent",
)  # fmt: skip
#: Lost by the program: a plurality was there to be had.
BY_PROGRAM: Final = (FAILED, OVERRULED, EARLY, PRUNED, NARROW)
#: Lost anyway: no plurality of whole branches was right.
ANYWAY: Final = (OUTVOTED, ABSENT)


@dataclass(frozen=True)
class Logged:
    """Episodes of a program on one environment at one β, as they were played.

    Attributes:
        env: the environment's name.
        store: its traces.
        terms: of play.
        beta: β.
        questions: int64[K], rows of the store.
        orders: int64[K, max_branches], the branches of each in the order in which they open.
        logs: K arrays of int32, the ids of their actions, see :mod:`autotts_gym.mdp.actions`.
        failures: message of the error that ended an episode, by its index.

    Raises:
        ValueError: these do not go together; the message says which episode and what of it.
    """

    env: str
    store: TraceStore
    terms: EpisodeConfig
    beta: float
    questions: NDArray[np.int64]
    orders: NDArray[np.int64]
    logs: Sequence[NDArray[np.int32]]
    failures: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, n = len(self.questions), self.terms.max_branches
        if len(self.logs) != count:
            raise ValueError(f"there are {len(self.logs)} logs of {count} episodes")
        if self.orders.shape != (count, n):
            raise ValueError(f"orders must have the shape {(count, n)}, got {self.orders.shape}")
        if not count:
            return
        counts = self.store.tables.branch_counts
        if self.questions.min() < 0 or self.questions.max() >= len(counts):
            raise ValueError(f"questions must stay within 0..{len(counts) - 1}")
        if self.orders.min() < 0 or (self.orders.max(axis=1) >= counts[self.questions]).any():
            raise ValueError("orders must name branches that their questions have")
        if strange := sorted(k for k in self.failures if not 0 <= k < count):
            raise ValueError(f"episode {strange[0]} failed, but there are {count} episodes")
        for k, log in enumerate(self.logs):  # compiled code looks at no bounds
            if len(log) and not 0 <= log.min() <= log.max() < actions.count(n):
                raise ValueError(
                    f"the log of episode {k} has action {log.min() if log.min() < 0 else log.max()}"
                    f", which is outside 0..{actions.count(n) - 1}"
                )
            if (opened := np.count_nonzero(log == actions.BRANCH)) > n:
                raise ValueError(f"the log of episode {k} opens {opened} branches of {n}")


@dataclass(frozen=True)
class EpisodeDiagnosis:
    """What became of K episodes.

    Attributes:
        logged: the episodes.
        cause: int8[K], ``RIGHT``, or why it came out wrong.
        tokens: int64[K], true total tokens.
        settled: int64[K], settled tokens, see :mod:`autotts_gym.mdp.settled_tokens`.
        reading_on: int64[K], tokens that it would have taken to read its open branches to their
            ends; 0 unless the cause is ``EARLY``.
        share: float64[K], share of the question's recorded branches that end right.
        all_read: int64[K], stored code of the plurality of all ``max_branches`` branches of the
            order, read whole.
        gold: int64[K], stored code of the right answer, -1 where no recorded branch gives it.
        opened, pruned, unread: int64[K], branches that were opened, and of these, branches that
            were pruned, and that were neither pruned nor seen to end.
        opened_right, pruned_right, unread_right: int64[K], how many of them end right.
    """

    logged: Logged
    cause: NDArray[np.int8]
    tokens: NDArray[np.int64]
    settled: NDArray[np.int64]
    reading_on: NDArray[np.int64]
    share: NDArray[np.float64]
    all_read: NDArray[np.int64]
    gold: NDArray[np.int64]
    opened: NDArray[np.int64]
    opened_right: NDArray[np.int64]
    pruned: NDArray[np.int64]
    pruned_right: NDArray[np.int64]
    unread: NDArray[np.int64]
    unread_right: NDArray[np.int64]

    @property
    def right(self) -> NDArray[np.bool_]:
        """bool[K], whether it came out right."""
        found: NDArray[np.bool_] = self.cause == RIGHT
        return found

    @property
    def all_right(self) -> NDArray[np.bool_]:
        """bool[K], whether reading all branches whole would have been right."""
        found: NDArray[np.bool_] = (self.all_read == self.gold) & (self.gold >= 0)
        return found


def look_back(logged: Logged) -> EpisodeDiagnosis:
    """Play logs once more, and see what became of the episodes.

    All branches are billed as the terms say: a published program's, some of which it may have read
    by other billing, come out otherwise than they were played.
    """
    replay = TraceDataset({logged.env: logged.store})
    seen = _replayed(logged, replay)
    ledgers, branches = seen.ledgers, seen.branches
    question = replay.questions[logged.questions]
    gold = question["gold"]
    finals = replay.traces.branches["final"][question["branches"][:, None] + logged.orders]
    ends_right = (finals == gold[:, None]) & (gold >= 0)[:, None]
    latest, status = branches["latest"], branches["status"]
    opened, active, pruned = status != s.UNOPENED, status == s.ACTIVE, status == s.PRUNED
    unread = active & (branches["finished"] == 0)
    failed = ledgers["ended"] == 0
    failed[list(logged.failures)] = True
    given, shown = ledgers["answer"], seen.gold_class >= 0

    def is_right(votes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether the final answers of some branches have the right plurality."""
        found: NDArray[np.bool_] = (_plurality(finals, votes) == gold) & (gold >= 0)
        return found

    cause = np.select(
        [
            failed,
            shown & (given == seen.gold_class),
            shown & (_plurality(latest, active & (latest >= 0)) == seen.gold_class),
            is_right(active),
            is_right(opened),
            is_right(np.ones_like(opened)),
            ends_right.any(axis=1),
        ],
        [FAILED, RIGHT, OVERRULED, EARLY, PRUNED, NARROW, OUTVOTED],
        ABSENT,
    ).astype(np.int8)
    return EpisodeDiagnosis(
        logged=logged,
        cause=cause,
        tokens=ledgers["true_spent"],
        settled=seen.settled,
        reading_on=_reading_on(branches, active & (cause == EARLY)[:, None], logged),
        share=_shares(replay)[logged.questions],
        all_read=_plurality(finals, np.ones_like(opened)),
        gold=gold,
        opened=opened.sum(axis=1),
        opened_right=(opened & ends_right).sum(axis=1),
        pruned=pruned.sum(axis=1),
        pruned_right=(pruned & ends_right).sum(axis=1),
        unread=unread.sum(axis=1),
        unread_right=(unread & ends_right).sum(axis=1),
    )


@dataclass(frozen=True)
class _Replayed:
    """How episodes stand at their ends.

    Attributes:
        ledgers: LEDGER[K].
        branches: BRANCH[K, max_branches].
        gold_class: int64[K], the class of the right answer; -1 where it was never shown.
        settled: int64[K], settled tokens.
    """

    ledgers: s.Records
    branches: s.Records
    gold_class: NDArray[np.int64]
    settled: NDArray[np.int64]


def _replayed(logged: Logged, replay: TraceDataset) -> _Replayed:
    count, n = logged.orders.shape
    recount = Recount.allocate(replay, n)
    state = recount.episodes
    initial = logged.terms.ledger(logged.store)[None]
    billed = np.zeros(n, s.BRANCH)
    billed["billing"] = BILLINGS[logged.terms.billing]
    seen = _Replayed(
        np.empty(count, s.LEDGER),
        np.empty((count, n), s.BRANCH),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    for k, row in enumerate(logged.questions.tolist()):
        order = np.ascontiguousarray(logged.orders[k])
        log = np.ascontiguousarray(logged.logs[k], np.int32)
        seen.settled[k] = settle(recount, initial, replay.questions, row, order, billed, log)
        seen.ledgers[k] = state.ledger[0]
        seen.branches[k] = state.branches[0]
        gold = replay.questions["gold"][row]
        seen.gold_class[k] = state.codes[0, s.CLASS_OF, gold] if gold >= 0 else -1
    return seen


def _plurality(answers: NDArray[np.int64], votes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The plurality of each row, -1 where nobody votes.

    Args:
        answers: int64[K, N], of each branch in order, not negative where it votes.
        votes: bool[K, N], which branches vote.
    """
    count, _ = answers.shape
    size = int(answers.max(initial=0)) + 1
    cells = np.arange(count)[:, None] * size + answers
    tally = np.bincount(cells[votes], minlength=count * size)
    # A class has its count from its first vote on: the first branch with the most votes has it.
    support = np.where(votes, tally[np.where(votes, cells, 0)], 0)
    first = support.argmax(axis=1)[:, None]
    leader = np.take_along_axis(answers, first, axis=1)[:, 0]
    return np.where(votes.any(axis=1), leader, -1)


def _reading_on(
    branches: s.Records, which: NDArray[np.bool_], logged: Logged
) -> NDArray[np.int64]:
    """Tokens from where branches stand to their ends, sums by episode, int64[K]."""
    bill = cast(Any, rules.bill).py_func
    interval = logged.store.card.interval
    found = np.zeros(len(branches), np.int64)
    for k in np.flatnonzero(which.any(axis=1)):
        for branch in branches[k, which[k]].view(np.recarray):
            whole = bill(branch, branch.length + 1, interval)
            found[k] += whole - bill(branch, branch.requested, interval)
    return found


def _shares(replay: TraceDataset) -> NDArray[np.float64]:
    """Share of the recorded branches of every question that end right, float64[Q]."""
    gold = np.repeat(replay.questions["gold"], replay.branch_counts)
    right = replay.traces.branches["final"] == gold
    sums = np.add.reduceat(right.astype(np.int64), replay.questions["branches"])
    found: NDArray[np.float64] = sums / replay.branch_counts
    return found
