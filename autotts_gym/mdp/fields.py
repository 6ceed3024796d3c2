"""The fields of an episode's state and the columns of its observation, each described once.

Record types (:mod:`autotts_gym.mdp.state`), observation arrays and spaces
(:mod:`autotts_gym.mdp.observation`), the shared memory of the sandbox and the tables of the
documentation follow from these lists. To add an observation column, add one entry to
``BRANCH_COLUMNS`` or ``GLOBAL_COLUMNS``.

This module imports neither numba nor numpy, so that a sandboxed process can load it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

# --- state ---------------------------------------------------------------------------------------


class Field(NamedTuple):
    """A field of a state record.

    Attributes:
        name: its name, ``record.name`` in compiled code and ``array["name"]`` in Python.
        meaning: what it holds, with its unit.
        hidden: whether controllers must not see it before the episode ends.
        dtype: of NumPy, such as ``"i8"``.
    """

    name: str
    meaning: str
    hidden: bool = False
    dtype: str = "i8"


#: One record per episode: counters, costs, and the configuration that the rules read.
LEDGER_FIELDS: Final = (
    Field("opened", "branches opened"),
    Field("classes", "answer classes revealed so far"),
    Field("steps", "actions taken, illegal ones included"),
    Field("ended", "1 after ANSWER or truncation"),
    Field("answer", "class that was answered, -1 for none"),
    Field("spent", "visible spent: tokens charged, reconciled where an end is revealed"),
    Field("clock", "visible clock, tokens"),
    Field("true_spent", "tokens billed", hidden=True),
    Field("true_clock", "clock by billed tokens", hidden=True),
    Field("probes", "probes taken, automatic ones included"),
    Field("interval", "Δ, tokens"),
    Field("depth_limit", "deepest branch of the environment, max n + 1, intervals"),
    Field("budget", "B, tokens; NO_BUDGET without a budget"),
    Field("billing", "BY_TOKENS or BY_INTERVAL, for branches opened from now on"),
    Field("probe_tokens", "tokens a probe costs; RECORDED: as recorded with each probe"),
    Field("extend_charge", "tokens the budget must cover for BRANCH and CONTINUE"),
    Field("probe_charge", "tokens the budget must cover for PROBE"),
    Field("auto_probe", "1: BRANCH and CONTINUE also probe"),
    Field("step_limit", "actions after which the episode is truncated"),
    Field("gold", "stored code of the gold answer, -1 if no branch gives it", hidden=True),
    Field("nulls", "offset of the question's null flags in Traces.nulls"),
    Field("question", "row of the question in the dataset", hidden=True),
    Field("has_generation_confidence", "1 if the environment records generation confidences"),
    Field("beta", "β", dtype="f8"),
    Field("latency_weight", "w, the weight of sequential tokens in the cost", dtype="f8"),
    Field("full_cost", "C, tokens", dtype="f8"),
    Field("full_latency", "L, tokens", dtype="f8"),
    Field("invalid_penalty", "reward subtracted for an illegal action", dtype="f8"),
)

#: One record per branch of an episode, of 56 bytes: most time of a step goes to reading memory.
BRANCH_FIELDS: Final = (
    Field("status", "UNOPENED, ACTIVE or PRUNED", dtype="i1"),
    Field("finished", "1 once a probe has revealed the end", dtype="i1"),
    Field("billing", "BY_TOKENS or BY_INTERVAL, fixed when the branch is opened", dtype="i1"),
    Field("latest", "class revealed by the latest probe, -1 before the first", dtype="i2"),
    Field("final", "stored code of the final answer", hidden=True, dtype="i2"),
    Field("requested", "requested depth, intervals", dtype="i4"),
    Field("revealed", "depth of the latest probe, intervals", dtype="i4"),
    Field("length", "n, probes before the end", hidden=True, dtype="i4"),
    Field("tokens", "T, tokens of the whole branch", hidden=True, dtype="i4"),
    Field("offset", "offset of the branch's probes in Traces.probes", hidden=True),
    Field("ready", "visible clock at which the requested text is ready, by charged tokens"),
    Field("ready_end", "the same by billed tokens, used once the end is revealed", hidden=True),
    Field("true_ready", "true clock at which the requested text is ready", hidden=True),
)

#: One record per question of a dataset.
QUESTION_FIELDS: Final = (
    Field("branches", "offset of the question's branches in Traces.branches"),
    Field("gold", "stored code of the gold answer, -1 if no branch gives it", hidden=True),
    Field("nulls", "offset of its null flags in Traces.nulls"),
    Field("store", "index of the trace store it comes from"),
)

#: One record per recorded branch of a dataset.
TRACE_FIELDS: Final = (
    Field("offset", "offset of its probes in Traces.probes"),
    Field("length", "n, probes before the end"),
    Field("tokens", "T, tokens of the whole branch"),
    Field("final", "stored code of the final answer"),
)

#: One record per finished episode.
RESULT_FIELDS: Final = (
    Field("correct", "1 if the answer is the gold answer"),
    Field("code", "stored code of the answer, -1 for the empty one"),
    Field("tokens", "true total tokens"),
    Field("sequential_tokens", "true sequential tokens"),
    Field("steps", "actions taken"),
    Field("probes", "probes taken"),
    Field("settled_tokens", "tokens spent when the answer was settled; -1 if not computed"),
)

# --- observation ---------------------------------------------------------------------------------

#: Largest value of an int16 column, and of a float column (Box bounds must be finite).
INT16_MAX: Final = 2**15 - 1
FLOAT_MAX: Final = 1e6

#: Value of the ledger field ``budget`` without a budget, and of ``step_limit`` without a limit.
NO_BUDGET: Final = 1 << 62

#: Value of the global column "remaining" without a budget.
UNLIMITED: Final = -1.0


class BranchColumn(NamedTuple):
    """A column of the observation with one int16 value per branch, key ``branch_NAME``.

    Attributes:
        name: the column's name.
        low, high: bounds.
        meaning: what it holds, with its unit.
        value: function of a branch record and the ledger; compiled by
            :mod:`autotts_gym.mdp.observation`, it must read visible fields only.
    """

    name: str
    low: int
    high: int
    meaning: str
    value: Callable[[Any, Any], Any]


BRANCH_COLUMNS: Final = (
    BranchColumn("status", 0, 2, "0 unopened, 1 active, 2 pruned", lambda b, _: b.status),
    BranchColumn("requested", 0, INT16_MAX, "requested depth, intervals", lambda b, _: b.requested),
    BranchColumn(
        "revealed", 0, INT16_MAX, "depth of the latest probe, intervals", lambda b, _: b.revealed
    ),
    BranchColumn(
        "latest", -1, INT16_MAX, "class of the latest probe; −1 none", lambda b, _: b.latest
    ),
    BranchColumn("finished", 0, 1, "1 once its end was revealed", lambda b, _: b.finished),
    BranchColumn(
        "unread",
        0,
        INT16_MAX,
        "tokens requested but not yet probed, at most 32,767",
        lambda b, ledger: min((b.requested - b.revealed) * ledger.interval, INT16_MAX),
    ),
)


class GlobalColumn(NamedTuple):
    """An entry of the observation's ``globals``, float32.

    Attributes:
        name: the entry's name.
        low, high: bounds; larger values are clipped to ``high``.
        meaning: what it holds, with its unit.
        value: function of the ledger, as for :class:`BranchColumn`.
        latency: whether it is shown only where sequential tokens can have a weight; such columns
            are the last.
    """

    name: str
    low: float
    high: float
    meaning: str
    value: Callable[[Any], Any]
    latency: bool = False


def _remaining(ledger: Any) -> Any:
    if ledger.budget >= NO_BUDGET:
        return UNLIMITED
    return max(ledger.budget - ledger.spent, 0) / ledger.full_cost


GLOBAL_COLUMNS: Final = (
    GlobalColumn("opened", 0.0, FLOAT_MAX, "branches opened", lambda ledger: ledger.opened),
    GlobalColumn(
        "spent",
        0.0,
        FLOAT_MAX,
        "visible spent, in units of C",
        lambda ledger: ledger.spent / ledger.full_cost,
    ),
    GlobalColumn(
        "remaining",
        UNLIMITED,
        FLOAT_MAX,
        "remaining budget, in units of C; −1 without a budget",
        _remaining,
    ),
    GlobalColumn(
        "clock",
        0.0,
        FLOAT_MAX,
        "visible clock, in units of C",
        lambda ledger: ledger.clock / ledger.full_cost,
    ),
    GlobalColumn("beta", 0.0, 1.0, "β", lambda ledger: ledger.beta),
    GlobalColumn(
        "latency_weight",
        0.0,
        1.0,
        "w, the weight of sequential tokens in the cost",
        lambda ledger: ledger.latency_weight,
        latency=True,
    ),
    GlobalColumn(
        "latency",
        0.0,
        FLOAT_MAX,
        "visible clock, in units of L",
        lambda ledger: ledger.clock / ledger.full_latency,
        latency=True,
    ),
)


def shown_globals(latency: bool) -> tuple[GlobalColumn, ...]:
    """The entries of ``globals`` in an environment.

    Args:
        latency: whether sequential tokens can have a weight in the cost.
    """
    return tuple(column for column in GLOBAL_COLUMNS if latency or not column.latency)


def _index(columns: tuple[Any, ...], name: str) -> int:
    return [column.name for column in columns].index(name)


# Rows of View.branches.
STATUS: Final = _index(BRANCH_COLUMNS, "status")
REQUESTED: Final = _index(BRANCH_COLUMNS, "requested")
REVEALED: Final = _index(BRANCH_COLUMNS, "revealed")
LATEST: Final = _index(BRANCH_COLUMNS, "latest")
FINISHED: Final = _index(BRANCH_COLUMNS, "finished")

# Entries of View.globals.
OPENED: Final = _index(GLOBAL_COLUMNS, "opened")
SPENT: Final = _index(GLOBAL_COLUMNS, "spent")
REMAINING: Final = _index(GLOBAL_COLUMNS, "remaining")
CLOCK: Final = _index(GLOBAL_COLUMNS, "clock")
BETA: Final = _index(GLOBAL_COLUMNS, "beta")
LATENCY_WEIGHT: Final = _index(GLOBAL_COLUMNS, "latency_weight")
LATENCY: Final = _index(GLOBAL_COLUMNS, "latency")
