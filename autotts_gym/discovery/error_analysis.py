"""Error analysis of episodes: why the answer of each episode is incorrect.

The logs of the episodes are replayed by the rules and compared with information that programs do
not have: the gold answer, and the final answers of all branches, unopened ones included. Every
episode with an incorrect answer gets one cause, the first of ``CAUSES`` that applies. As in the
rules, the plurality is the answer with the most votes; of several such answers, the one whose first
vote comes first in branch order.
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

#: The answer is correct.
CORRECT: Final = 0
#: The episode ended by an error or the step limit, or without an answer.
FAILED: Final = 1
#: The plurality of the latest revealed answers is correct, but the program gave another answer.
OVERRULED: Final = 2
#: The plurality of the active branches, read to their ends, is correct.
EARLY: Final = 3
#: The plurality of all opened branches, pruned ones included and read to their ends, is correct.
PRUNED: Final = 4
#: The plurality of all ``max_branches`` branches of the order, read to their ends, is correct.
NARROW: Final = 5
#: None of the above, but some of these branches end with the gold answer: a weighted vote could be
#: correct.
OUTVOTED: Final = 6
#: No branch ends with the gold answer: no vote over final answers could be correct.
ABSENT: Final = 7

#: Names of the causes, indexed by the constants above.
CAUSES: Final = (
    "correct", "failed", "overruled", "early", "pruned", "narrow", "outvoted", "absent",
)  # fmt: skip
#: Causes for which another program could have used a correct plurality.
AVOIDABLE: Final = (FAILED, OVERRULED, EARLY, PRUNED, NARROW)
#: Causes for which no plurality of final answers is correct.
UNAVOIDABLE: Final = (OUTVOTED, ABSENT)


@dataclass(frozen=True)
class EpisodeLogs:
    """Logs of K episodes of a program on one environment at one β.

    Attributes:
        env: name of the environment.
        store: its trace store.
        config: the episode config.
        beta: β.
        questions: int64[K], rows of the store.
        orders: int64[K, max_branches], the branch order of each episode.
        logs: K int32 arrays of action ids, see :mod:`autotts_gym.mdp.actions`.
        failures: messages of the errors that ended episodes, by index of the episode.

    Raises:
        ValueError: the values are inconsistent; the message names the episode.
    """

    env: str
    store: TraceStore
    config: EpisodeConfig
    beta: float
    questions: NDArray[np.int64]
    orders: NDArray[np.int64]
    logs: Sequence[NDArray[np.int32]]
    failures: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count, n = len(self.questions), self.config.max_branches
        if len(self.logs) != count:
            raise ValueError(f"there are {len(self.logs)} logs for {count} episodes")
        if self.orders.shape != (count, n):
            raise ValueError(f"orders must have the shape {(count, n)}, got {self.orders.shape}")
        if not count:
            return
        counts = self.store.tables.branch_counts
        if self.questions.min() < 0 or self.questions.max() >= len(counts):
            raise ValueError(f"questions must be within 0..{len(counts) - 1}")
        if self.orders.min() < 0 or (self.orders.max(axis=1) >= counts[self.questions]).any():
            raise ValueError("orders must contain only branches of their questions")
        if unknown := sorted(k for k in self.failures if not 0 <= k < count):
            raise ValueError(f"failures contains episode {unknown[0]} of {count} episodes")
        for k, log in enumerate(self.logs):  # compiled code does not check array bounds
            if len(log) and not 0 <= log.min() <= log.max() < actions.count(n):
                raise ValueError(
                    f"the log of episode {k} has action {log.min() if log.min() < 0 else log.max()}"
                    f", which is outside 0..{actions.count(n) - 1}"
                )
            if (opened := np.count_nonzero(log == actions.BRANCH)) > n:
                raise ValueError(f"the log of episode {k} opens {opened} branches of {n}")


@dataclass(frozen=True)
class ErrorAnalysis:
    """Error analysis of K episodes.

    Attributes:
        episodes: the logs of the episodes.
        cause: int8[K], index into ``CAUSES``.
        tokens: int64[K], true total tokens.
        settled: int64[K], settled tokens, see :mod:`autotts_gym.mdp.settled_tokens`.
        unread_tokens: int64[K], tokens of reading the active branches to their ends; 0 unless the
            cause is ``EARLY``.
        correct_share: float64[K], share of the question's recorded branches whose final answer is
            correct.
        full_vote: int64[K], stored code of the plurality of all ``max_branches`` branches of the
            order, read to their ends.
        gold: int64[K], stored code of the gold answer; -1 if no recorded branch gives it.
        opened, pruned, unread: int64[K], number of opened branches; of these, number of pruned
            branches, and of branches that are neither pruned nor known to be finished.
        opened_correct, pruned_correct, unread_correct: int64[K], how many of them have a correct
            final answer.
    """

    episodes: EpisodeLogs
    cause: NDArray[np.int8]
    tokens: NDArray[np.int64]
    settled: NDArray[np.int64]
    unread_tokens: NDArray[np.int64]
    correct_share: NDArray[np.float64]
    full_vote: NDArray[np.int64]
    gold: NDArray[np.int64]
    opened: NDArray[np.int64]
    opened_correct: NDArray[np.int64]
    pruned: NDArray[np.int64]
    pruned_correct: NDArray[np.int64]
    unread: NDArray[np.int64]
    unread_correct: NDArray[np.int64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """bool[K], whether the answer is correct."""
        correct: NDArray[np.bool_] = self.cause == CORRECT
        return correct

    @property
    def full_vote_correct(self) -> NDArray[np.bool_]:
        """bool[K], whether the vote of all branches is correct."""
        correct: NDArray[np.bool_] = (self.full_vote == self.gold) & (self.gold >= 0)
        return correct


def analyze_errors(episodes: EpisodeLogs) -> ErrorAnalysis:
    """Replay the logs of episodes and determine the cause of each incorrect answer.

    All branches are billed by the billing of the config. Token counts of published programs that
    read some branches under another billing therefore differ from the counts of the episode.
    """
    dataset = TraceDataset({episodes.env: episodes.store})
    final = _replay_logs(episodes, dataset)
    ledgers, branches = final.ledgers, final.branches
    question = dataset.questions[episodes.questions]
    gold = question["gold"]
    traces = question["branches"][:, None] + episodes.orders
    answers = dataset.traces.branches["final"][traces]
    answer_correct = (answers == gold[:, None]) & (gold >= 0)[:, None]
    latest, status = branches["latest"], branches["status"]
    opened, active, pruned = status != s.UNOPENED, status == s.ACTIVE, status == s.PRUNED
    unread = active & (branches["finished"] == 0)
    failed = ledgers["ended"] == 0
    failed[list(episodes.failures)] = True
    given, gold_seen = ledgers["answer"], final.gold_class >= 0

    def vote_correct(votes: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Whether the plurality of the final answers of some branches is correct."""
        correct: NDArray[np.bool_] = (_plurality(answers, votes) == gold) & (gold >= 0)
        return correct

    cause = np.select(
        [
            failed,
            gold_seen & (given == final.gold_class),
            gold_seen & (_plurality(latest, active & (latest >= 0)) == final.gold_class),
            vote_correct(active),
            vote_correct(opened),
            vote_correct(np.ones_like(opened)),
            answer_correct.any(axis=1),
        ],
        [FAILED, CORRECT, OVERRULED, EARLY, PRUNED, NARROW, OUTVOTED],
        ABSENT,
    ).astype(np.int8)
    stopped_early = active & (cause == EARLY)[:, None]
    return ErrorAnalysis(
        episodes=episodes,
        cause=cause,
        tokens=ledgers["true_spent"],
        settled=final.settled,
        unread_tokens=_unread_tokens(branches, stopped_early, episodes.store.card.interval),
        correct_share=_correct_shares(dataset)[episodes.questions],
        full_vote=_plurality(answers, np.ones_like(opened)),
        gold=gold,
        opened=opened.sum(axis=1),
        opened_correct=(opened & answer_correct).sum(axis=1),
        pruned=pruned.sum(axis=1),
        pruned_correct=(pruned & answer_correct).sum(axis=1),
        unread=unread.sum(axis=1),
        unread_correct=(unread & answer_correct).sum(axis=1),
    )


@dataclass(frozen=True)
class _FinalStates:
    """States of K episodes at their ends.

    Attributes:
        ledgers: LEDGER[K].
        branches: BRANCH[K, max_branches].
        gold_class: int64[K], answer class of the gold answer; -1 if no probe revealed it.
        settled: int64[K], settled tokens.
    """

    ledgers: s.Records
    branches: s.Records
    gold_class: NDArray[np.int64]
    settled: NDArray[np.int64]


def _replay_logs(episodes: EpisodeLogs, dataset: TraceDataset) -> _FinalStates:
    count, n = episodes.orders.shape
    recount = Recount.allocate(dataset, n)
    state = recount.episodes
    initial_ledger = episodes.config.ledger(episodes.store)[None]
    initial_branches = np.zeros(n, s.BRANCH)
    initial_branches["billing"] = BILLINGS[episodes.config.billing]
    final = _FinalStates(
        np.empty(count, s.LEDGER),
        np.empty((count, n), s.BRANCH),
        np.empty(count, np.int64),
        np.empty(count, np.int64),
    )
    for k, row in enumerate(episodes.questions.tolist()):
        order = np.ascontiguousarray(episodes.orders[k])
        log = np.ascontiguousarray(episodes.logs[k], np.int32)
        final.settled[k] = settle(
            recount, initial_ledger, dataset.questions, row, order, initial_branches, log
        )
        final.ledgers[k] = state.ledger[0]
        final.branches[k] = state.branches[0]
        gold = dataset.questions["gold"][row]
        final.gold_class[k] = state.codes[0, s.CLASS_OF, gold] if gold >= 0 else -1
    return final


def _plurality(answers: NDArray[np.int64], votes: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The plurality of each row, int64[K]; -1 for a row without votes.

    Args:
        answers: int64[K, N], answers of the branches in order; not negative where a branch votes.
        votes: bool[K, N], which branches vote.
    """
    count, _ = answers.shape
    size = int(answers.max(initial=0)) + 1
    cells = np.arange(count)[:, None] * size + answers
    tally = np.bincount(cells[votes], minlength=count * size)
    # argmax returns the first branch with the highest support, which resolves ties by first vote.
    support = np.where(votes, tally[np.where(votes, cells, 0)], 0)
    first = support.argmax(axis=1)[:, None]
    leader = np.take_along_axis(answers, first, axis=1)[:, 0]
    return np.where(votes.any(axis=1), leader, -1)


def _unread_tokens(
    branches: s.Records, selected: NDArray[np.bool_], interval: int
) -> NDArray[np.int64]:
    """Tokens of reading the selected branches to their ends, sums by episode, int64[K]."""
    bill = cast(Any, rules.bill).py_func
    tokens = np.zeros(len(branches), np.int64)
    delta = np.int64(interval)  # products with the narrower fields of a record do not overflow
    for k in np.flatnonzero(selected.any(axis=1)):
        for branch in branches[k, selected[k]].view(np.recarray):
            full = bill(branch, branch.length + 1, delta)
            tokens[k] += full - bill(branch, branch.requested, delta)
    return tokens


def _correct_shares(dataset: TraceDataset) -> NDArray[np.float64]:
    """Share of the recorded branches of each question with a correct final answer, float64[Q]."""
    gold = np.repeat(dataset.questions["gold"], dataset.branch_counts)
    correct = dataset.traces.branches["final"] == gold
    sums = np.add.reduceat(correct.astype(np.int64), dataset.questions["branches"])
    shares: NDArray[np.float64] = sums / dataset.branch_counts
    return shares
