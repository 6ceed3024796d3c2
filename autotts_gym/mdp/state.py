"""What one episode consists of, as arrays that compiled code reads and changes in place.

An :class:`EpisodeState` is a tuple of views: one row of the arrays that a
:class:`~autotts_gym.mdp.batch.Batch` allocates for many episodes side by side. It holds the state
that a controller may see and, beside it, what the rules must know and a controller must not
(ends not yet revealed, true bills). What may be seen is told by the observation and by the
controllers' handle; see "State" in ``docs/process.md``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

# --- ledger: one int64 row an episode ------------------------------------------------------------
OPENED: Final = 0  # branches opened
CLASSES: Final = 1  # answer classes seen so far
STEPS: Final = 2  # actions taken, illegal ones included
ENDED: Final = 3  # 1 once ANSWER was given (or the episode was cut off)
ANSWER: Final = 4  # class that was answered, -1 for none
SPENT: Final = 5  # visible spent, tokens: charged, and reconciled where an end is revealed
CLOCK: Final = 6  # visible clock, tokens
TRUE_SPENT: Final = 7  # hidden: what was really billed, tokens
TRUE_CLOCK: Final = 8  # hidden: the clock by what was really billed, tokens
PROBES: Final = 9  # looks taken, automatic ones included
INTERVAL: Final = 10  # Δ, tokens
DEPTH_LIMIT: Final = 11  # deepest branch of the environment, max n + 1, intervals
BUDGET: Final = 12  # B, tokens; NO_BUDGET where there is none
BILLING: Final = 13  # BY_TOKENS or BY_INTERVAL, for branches opened from now on
PROBE_TOKENS: Final = 14  # tokens a probe costs; RECORDED: what the traces say of each
EXTEND_CHARGE: Final = 15  # what the budget must cover for BRANCH and CONTINUE, tokens
PROBE_CHARGE: Final = 16  # what the budget must cover for PROBE, tokens
AUTO_PROBE: Final = 17  # 1: BRANCH and CONTINUE also probe
STEP_LIMIT: Final = 18  # actions after which the episode is cut off
GOLD: Final = 19  # hidden: stored code of the gold answer, -1 if no branch gives it
NULLS: Final = 20  # where the question's null flags begin in Traces.nulls
QUESTION: Final = 21  # hidden: row of the question among those that are played
LEDGER_SIZE: Final = 22

# The ledger's terms: what is agreed before an episode starts and the same for all of a store's.
TERMS: Final = slice(INTERVAL, STEP_LIMIT + 1)
TERMS_SIZE: Final = STEP_LIMIT + 1 - INTERVAL

NO_BUDGET: Final = 1 << 62
RECORDED: Final = -1

BY_TOKENS: Final = 0
BY_INTERVAL: Final = 1

# --- branches: one int64 row a branch; the first five columns are those that are observed -------
STATUS: Final = 0  # UNOPENED, ACTIVE or PRUNED
REQUESTED: Final = 1  # requested depth, intervals
REVEALED: Final = 2  # depth of the latest probe, intervals
LATEST: Final = 3  # class that the latest probe showed, -1 before the first
FINISHED: Final = 4  # 1 once a probe has shown the end
OFFSET: Final = 5  # hidden: where the branch's probes begin in Traces.probes
LENGTH: Final = 6  # hidden: n, probes before the end
TOKENS: Final = 7  # hidden: T, tokens of the whole branch
FINAL: Final = 8  # hidden: stored code of the final answer
PRICING: Final = 9  # the branch's billing, fixed when it is opened
READY: Final = 10  # visible clock at which the requested text is ready, by what was charged
READY_END: Final = 11  # hidden: the same by what was billed; counts once the end is revealed
TRUE_READY: Final = 12  # hidden: true clock at which the requested text is ready
OBSERVED: Final = 5
BRANCH_SIZE: Final = 16  # padded to two cache lines

UNOPENED: Final = 0
ACTIVE: Final = 1
PRUNED: Final = 2

# --- codes: the two directions between stored answer codes and the episode's classes -------------
CLASS_OF: Final = 0  # stored code -> class by first appearance, -1 if not seen yet
CODE_OF: Final = 1  # class -> stored code

# --- columns of a row of questions ---------------------------------------------------------------
Q_BRANCHES: Final = 0  # where the question's branches begin in Traces.branches
Q_GOLD: Final = 1  # stored code of the gold answer, -1 if no branch gives it
Q_NULLS: Final = 2  # where its null flags begin in Traces.nulls
Q_STORE: Final = 3  # which store it comes from
QUESTION_SIZE: Final = 4

# --- columns of Traces.branches ------------------------------------------------------------------
TRACE_OFFSET: Final = 0
TRACE_LENGTH: Final = 1
TRACE_TOKENS: Final = 2
TRACE_FINAL: Final = 3


class Traces(NamedTuple):
    """The recorded branches that are played; read-only.

    Attributes:
        probes: int16[P], stored codes of the probes' answers, branch after branch.
        branches: int64[B, 4], a row a branch: first probe, n, T (tokens), code of the final answer.
        confidences: float32[P], the probes' confidences; empty where none were recorded.
        probe_tokens: int32[P], tokens each probe cost; empty where not recorded.
        nulls: uint8[A], for every (question, answer class) whether it is a null answer.
    """

    probes: NDArray[np.int16]
    branches: NDArray[np.int64]
    confidences: NDArray[np.float32]
    probe_tokens: NDArray[np.int32]
    nulls: NDArray[np.uint8]


class EpisodeState(NamedTuple):
    """One episode; see the column names above.

    Attributes:
        ledger: int64[LEDGER_SIZE].
        branches: int64[max_branches, BRANCH_SIZE].
        codes: int16[2, K], K the most answer classes of any question.
        order: int64[max_branches], row in ``Traces.branches`` of the branch that opens as i-th.
        traces: what was recorded.
    """

    ledger: NDArray[np.int64]
    branches: NDArray[np.int64]
    codes: NDArray[np.int16]
    order: NDArray[np.int64]
    traces: Traces

    @classmethod
    def allocate(cls, traces: Traces, max_branches: int, classes: int) -> EpisodeState:
        """Room for one episode over ``traces``; ``classes`` is K."""
        return cls(
            np.zeros(LEDGER_SIZE, np.int64),
            np.zeros((max_branches, BRANCH_SIZE), np.int64),
            np.zeros((2, classes), np.int16),
            np.zeros(max_branches, np.int64),
            traces,
        )
