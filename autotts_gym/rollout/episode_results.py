"""Results of episodes played in bulk."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch import Batch
from autotts_gym.traces.store import TraceStore


@dataclass(frozen=True)
class EpisodeResults:
    """Results of K episodes, in the order in which ``play`` was given their questions.

    Attributes:
        correct: bool[K].
        answers: K strings; empty if the episode ended without an answer.
        tokens: int64[K], true total tokens.
        sequential_tokens: int64[K], true sequential tokens.
        actions: int64[K], number of actions.
        probes: int64[K], number of probes; each is one of the actions.
        settled_tokens: int64[K], tokens spent when the final answer last changed, see
            :mod:`autotts_gym.mdp.settled_tokens`; -1 if not computed.
        failures: error message by episode index, for episodes ended by an error or by the step
            limit. They count as incorrect, at the cost so far.
        logs: K arrays of int32, the action ids of each episode (:mod:`autotts_gym.mdp.actions`);
            empty if not kept.
    """

    correct: NDArray[np.bool_]
    answers: list[str]
    tokens: NDArray[np.int64]
    sequential_tokens: NDArray[np.int64]
    actions: NDArray[np.int64]
    probes: NDArray[np.int64]
    settled_tokens: NDArray[np.int64]
    failures: dict[int, str] = field(default_factory=dict)
    logs: list[NDArray[np.int32]] = field(default_factory=list)

    def __repr__(self) -> str:
        correct, failed = int(self.correct.sum()), len(self.failures)
        return (
            f"<EpisodeResults: {len(self.correct):,} episodes, {correct:,} correct, "
            f"{failed:,} failed>"
        )

    @classmethod
    def from_rows(
        cls,
        store: TraceStore,
        questions: NDArray[np.int64],
        results: s.Records,
        failures: dict[int, str],
        logs: list[NDArray[np.int32]] | None = None,
    ) -> EpisodeResults:
        """Build from the records that the rules write.

        Args:
            store: the traces.
            questions: int64[K], rows of the store.
            results: RESULT[K]; ``code`` is the store's code of the answer, -1 for no answer.
            failures: error message by episode index.
            logs: action ids of each episode.
        """
        answers = store.tables.answers
        return cls(
            correct=results["correct"] == 1,
            answers=[
                "" if code < 0 else answers[question][code]
                for question, code in zip(questions.tolist(), results["code"].tolist(), strict=True)
            ],
            tokens=results["tokens"],
            sequential_tokens=results["sequential_tokens"],
            actions=results["steps"],
            probes=results["probes"],
            settled_tokens=results["settled_tokens"],
            failures=failures,
            logs=logs or [],
        )


def failed_row(ledger: Any, settle: bool = False) -> s.Records:
    """Result record of an episode that ended without an answer: incorrect, at the cost so far.

    Args:
        ledger: the episode's current LEDGER record.
        settle: whether settled tokens are computed; they equal the total tokens here.

    Returns:
        A RESULT record.
    """
    row = np.zeros((), s.RESULT)
    row["code"] = -1
    row["tokens"] = ledger["true_spent"]
    row["sequential_tokens"] = ledger["true_clock"]
    row["steps"] = ledger["steps"]
    row["probes"] = ledger["probes"]
    row["settled_tokens"] = ledger["true_spent"] if settle else -1
    return row


def answered_rows(batch: Batch, episodes: NDArray[np.int64]) -> s.Records:
    """Result records of episodes of a batch that ended with ANSWER; without settled tokens.

    Args:
        batch: the batch.
        episodes: int64[K], the episodes.

    Returns:
        RESULT[K].
    """
    ledger = batch.ledger[episodes]
    rows = np.zeros(len(episodes), s.RESULT)
    rows["tokens"] = ledger["true_spent"]
    rows["sequential_tokens"] = ledger["true_clock"]
    rows["steps"] = ledger["steps"]
    rows["probes"] = ledger["probes"]
    rows["settled_tokens"] = -1
    answer = ledger["answer"]  # class number within the episode, by first appearance
    codes = batch.codes[episodes, s.CODE_OF, np.maximum(answer, 0)]
    rows["code"] = np.where(answer >= 0, codes, -1)
    rows["correct"] = (answer >= 0) & (rows["code"] == ledger["gold"])
    return rows


def answered_row(batch: Batch, e: int) -> s.Records:
    """The record of one episode, see :func:`answered_rows`."""
    row: s.Records = answered_rows(batch, np.array([e]))[0]
    return row
