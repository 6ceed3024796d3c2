"""Results of episodes played in bulk."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.batch import Batch
from autotts_gym.traces.store import TraceStore


@dataclass(frozen=True)
class EpisodeResults:
    """Results of K episodes, in the order of the request.

    Attributes:
        correct: bool[K].
        answers: K strings; empty if the episode ended without an answer.
        tokens: int64[K], true total tokens.
        sequential_tokens: int64[K], true sequential tokens.
        actions: int64[K], number of actions.
        probes: int64[K], number of probes; each is one of the actions.
        settled_tokens: int64[K], tokens spent when the final answer last changed, see
            :mod:`autotts_gym.mdp.settled_tokens`; -1 if not computed.
        failures: error message by episode index, for episodes that an error or the step limit
            ended. They count as incorrect, at the cost so far.
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

    @classmethod
    def from_rows(
        cls,
        store: TraceStore,
        questions: NDArray[np.int64],
        results: NDArray[np.int64],
        failures: dict[int, str],
        logs: list[NDArray[np.int32]] | None = None,
    ) -> EpisodeResults:
        """Build from result rows, int64[K, RESULT_SIZE] (:mod:`autotts_gym.mdp.rules`)."""
        answers = store.tables.answers
        return cls(
            correct=results[:, rules.RIGHT] == 1,
            answers=[
                "" if code < 0 else answers[question][code]
                for question, code in zip(
                    questions.tolist(), results[:, rules.CODE].tolist(), strict=True
                )
            ],
            tokens=results[:, rules.TOKENS],
            sequential_tokens=results[:, rules.SEQUENTIAL_TOKENS],
            actions=results[:, rules.STEPS],
            probes=results[:, rules.PROBES],
            settled_tokens=results[:, rules.SETTLED_TOKENS],
            failures=failures,
            logs=logs or [],
        )


def failed_row(ledger: NDArray[np.int64], settle: bool = False) -> NDArray[np.int64]:
    """Result row of an episode that ended without an answer: incorrect, at the cost so far.

    Args:
        ledger: int64[LEDGER_SIZE], the episode's current ledger.
        settle: whether settled tokens are computed; they equal the total tokens here.

    Returns:
        int64[RESULT_SIZE].
    """
    row = np.zeros(rules.RESULT_SIZE, np.int64)
    row[rules.CODE] = -1
    row[rules.TOKENS] = ledger[s.TRUE_SPENT]
    row[rules.SEQUENTIAL_TOKENS] = ledger[s.TRUE_CLOCK]
    row[rules.STEPS] = ledger[s.STEPS]
    row[rules.PROBES] = ledger[s.PROBES]
    row[rules.SETTLED_TOKENS] = ledger[s.TRUE_SPENT] if settle else -1
    return row


def answered_row(batch: Batch, e: int) -> NDArray[np.int64]:
    """Result row of the batch's episode ``e``, which has answered; without settled tokens.

    Returns:
        int64[RESULT_SIZE].
    """
    row = failed_row(batch.ledger[e])
    answer = batch.ledger[e, s.ANSWER]
    if answer >= 0:
        row[rules.CODE] = batch.codes[e, s.CODE_OF, answer]
        row[rules.RIGHT] = row[rules.CODE] == batch.ledger[e, s.GOLD]
    return row
