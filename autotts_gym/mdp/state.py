"""The state of episodes: arrays that compiled code reads and changes in place.

:class:`EpisodeArrays` holds the state of E episodes, :class:`EpisodeState` the views of one of
them. The state has visible fields, which observations and the episodes of controllers are made
from, and hidden ones (true costs, ends that are not yet revealed), which only the rules read. See
"State" in ``docs/process.md``; ``autotts_gym.mdp.fields`` lists the fields.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.fields import (
    BRANCH_FIELDS,
    LEDGER_FIELDS,
    QUESTION_FIELDS,
    RESULT_FIELDS,
    TRACE_FIELDS,
    Field,
)
from autotts_gym.mdp.fields import NO_BUDGET as NO_BUDGET
from autotts_gym.mdp.jit import inlined
from autotts_gym.mdp.packed_arrays import Axes

# Values of the ledger field "probe_tokens" and of the field "billing".
RECORDED: Final = -1
BY_TOKENS: Final = 0
BY_INTERVAL: Final = 1

# Values of the branch field "status".
UNOPENED: Final = 0
ACTIVE: Final = 1
PRUNED: Final = 2

# Rows of codes: from stored answer codes to the episode's classes, and back; and votes by class,
# which a function that counts votes overwrites.
CLASS_OF: Final = 0  # stored code -> class by first appearance, -1 before it is revealed
CODE_OF: Final = 1  # class -> stored code
VOTES: Final = 2
CODE_ROWS: Final = 3


def record_type(fields: tuple[Field, ...]) -> np.dtype[np.void]:
    """Record type of some fields."""
    layout: Any = {
        "names": [field.name for field in fields],
        "formats": [field.dtype for field in fields],
    }
    kind: np.dtype[np.void] = np.dtype(layout, align=True)
    return kind


LEDGER: Final = record_type(LEDGER_FIELDS)
BRANCH: Final = record_type(BRANCH_FIELDS)
QUESTION: Final = record_type(QUESTION_FIELDS)
TRACE: Final = record_type(TRACE_FIELDS)
RESULT: Final = record_type(RESULT_FIELDS)

Records = NDArray[np.void]


class Traces(NamedTuple):
    """Recorded branches, read-only.

    Attributes:
        probes: int16[P], stored codes of the probes' answers, branch after branch.
        branches: TRACE[B], one record per recorded branch.
        confidences: float32[P], confidence of each probe; empty if not recorded.
        probe_tokens: int32[P], token cost of each probe; empty if not recorded.
        nulls: uint8[A], for every (question, answer class), 1 if it is a null answer.
        confidence_sums: float32[P + B], sum of the token confidences of each interval: the row of
            interval k of branch b is ``branches[b].offset + b + k - 1``; empty if not recorded.
        confidence_tokens: int32[P + B], number of tokens in that sum; empty if not recorded.
    """

    probes: Annotated[NDArray[np.int16], Axes(np.int16, 1)]
    branches: Annotated[Records, Axes(TRACE, 1)]
    confidences: Annotated[NDArray[np.float32], Axes(np.float32, 1)]
    probe_tokens: Annotated[NDArray[np.int32], Axes(np.int32, 1)]
    nulls: Annotated[NDArray[np.uint8], Axes(np.uint8, 1)]
    confidence_sums: Annotated[NDArray[np.float32], Axes(np.float32, 1)]
    confidence_tokens: Annotated[NDArray[np.int32], Axes(np.int32, 1)]


class EpisodeState(NamedTuple):
    """Views of the state of one episode, in compiled code.

    Attributes:
        ledger: a LEDGER record.
        branches: BRANCH[N].
        codes: int16[3, K], K the largest number of answer classes of any question.
        order: int64[N], row in ``Traces.branches`` of the branch that is opened as i-th.
        traces: the recorded branches.
    """

    ledger: Any
    branches: Records
    codes: NDArray[np.int16]
    order: NDArray[np.int64]
    traces: Traces


class EpisodeArrays(NamedTuple):
    """The state of E episodes: fields as in :class:`EpisodeState`, with a leading axis of E.

    Attributes:
        ledger: LEDGER[E].
        branches: BRANCH[E, N].
        codes: int16[E, 3, K].
        order: int64[E, N].
        traces: shared by all episodes.
    """

    ledger: Annotated[Records, Axes(LEDGER, 1)]
    branches: Annotated[Records, Axes(BRANCH, 2)]
    codes: Annotated[NDArray[np.int16], Axes(np.int16, 3)]
    order: Annotated[NDArray[np.int64], Axes(np.int64, 2)]
    traces: Traces

    @classmethod
    def allocate(
        cls, traces: Traces, classes: int, max_branches: int, num_envs: int = 1
    ) -> EpisodeArrays:
        """Arrays of ``num_envs`` episodes over ``traces``; ``classes`` is K."""
        return cls(
            np.zeros(num_envs, LEDGER),
            np.zeros((num_envs, max_branches), BRANCH),
            np.zeros((num_envs, CODE_ROWS, classes), np.int16),
            np.zeros((num_envs, max_branches), np.int64),
            traces,
        )


@inlined
def state_of(arrays: EpisodeArrays, e: int) -> EpisodeState:
    """The state of episode ``e``; compiled code only."""
    return EpisodeState(
        arrays.ledger[e], arrays.branches[e], arrays.codes[e], arrays.order[e], arrays.traces
    )
