"""Results of episodes that were played in bulk."""

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
    """Results of K episodes, in the order in which they were asked for.

    Attributes:
        correct: bool[K].
        answers: K strings; empty where nothing was answered.
        tokens: int64[K], true total tokens.
        sequential_tokens: int64[K], the true clock at the end, tokens.
        actions: int64[K].
        probes: int64[K], looks taken; each is one of the actions.
        settled_tokens: int64[K], tokens that had been spent when the answer was there to stay, see
            :mod:`autotts_gym.mdp.settled_tokens`; -1 where they were not asked for.
        failures: message of the error that ended an episode, by its index (being cut off by the
            step limit is one); such an episode counts as wrong, at what it had cost by then.
        logs: K arrays of int32, the ids of the actions of each, see :mod:`autotts_gym.mdp.actions`;
            empty where they were not asked for.
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
    def of(
        cls,
        store: TraceStore,
        questions: NDArray[np.int64],
        results: NDArray[np.int64],
        failures: dict[int, str],
        logs: list[NDArray[np.int32]] | None = None,
    ) -> EpisodeResults:
        """Episodes from what was played, int64[K, RESULT_SIZE] of :mod:`autotts_gym.mdp.rules`."""
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


def cut_off(ledger: NDArray[np.int64], settle: bool = False) -> NDArray[np.int64]:
    """The result of an episode that did not get to its answer: wrong, at what it had cost.

    Args:
        ledger: of the episode as it stands, int64[LEDGER_SIZE].
        settle: whether its settled tokens are asked for: it never settled, so they are all.

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


def answered(batch: Batch, e: int) -> NDArray[np.int64]:
    """The result of an episode of a batch that has got to its answer, but for settled tokens.

    Returns:
        int64[RESULT_SIZE].
    """
    row = cut_off(batch.ledger[e])
    answer = batch.ledger[e, s.ANSWER]
    if answer >= 0:
        row[rules.CODE] = batch.codes[e, s.CODE_OF, answer]
        row[rules.RIGHT] = row[rules.CODE] == batch.ledger[e, s.GOLD]
    return row
