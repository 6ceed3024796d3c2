"""The observation of an episode: its arrays, its space, and incremental updates.

An observation is one flat dictionary of fixed-size arrays; ``ARRAYS`` lists them, and the table in
:class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv` is made from that list. It depends on the
visible state only. The arrays are updated in place, branch by branch, and copied once when an
environment returns them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from autotts_gym.mdp import actions, rules
from autotts_gym.mdp import fields as f
from autotts_gym.mdp import state as s
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.state import EpisodeState

# Rows of View.classes.
VOTES: Final = 0
NULL: Final = 1


class View(NamedTuple):
    """The arrays of one observation; N branches, D intervals, M answer classes, A actions.

    In a :class:`~autotts_gym.mdp.batch.Batch` of E episodes, every array has one more axis, as the
    annotations of the fields have it.
    It is the first (``plane``: int16[E, N, D]), except in ``branches`` (int16[C, E, N]) and
    ``classes`` (int16[2, E, M]), where the values of one column are contiguous.

    Attributes:
        plane: int16[N, D], or int16[N, 0] without planes.
        confidence_plane: float32[N, D], or float32[N, 0] without planes or confidences.
        branches: int16[C, N], one row for each of ``fields.BRANCH_COLUMNS``.
        confidences: float32[N], or float32[0] without confidences.
        classes: int16[2, M], rows ``VOTES`` and ``NULL``. Column M − 1 is shared by all further
            classes.
        globals: float32[G], one entry for each of ``fields.GLOBAL_COLUMNS``.
        mask: int8[A], 1 for each legal action.
    """

    plane: Annotated[NDArray[np.int16], Axes(np.int16, 3)]
    confidence_plane: Annotated[NDArray[np.float32], Axes(np.float32, 3)]
    branches: Annotated[NDArray[np.int16], Axes(np.int16, 3)]
    confidences: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    classes: Annotated[NDArray[np.int16], Axes(np.int16, 3)]
    globals: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    mask: Annotated[NDArray[np.int8], Axes(np.int8, 2)]


@inlined
def view_of(arrays: View, e: int) -> View:
    """The observation of episode ``e`` of a batch; compiled code only."""
    return View(
        arrays.plane[e],
        arrays.confidence_plane[e],
        arrays.branches[:, e],
        arrays.confidences[e],
        arrays.classes[:, e],
        arrays.globals[e],
        arrays.mask[e],
    )


# --- the list of arrays --------------------------------------------------------------------------


class ObservedArray(NamedTuple):
    """One array of the observation.

    Attributes:
        key: its key in the dictionary.
        dtype: its dtype.
        shape: its length: ``"N"``, ``"M"``, ``"A"``, ``"G"`` or ``"N · D"``.
        low, high: bounds of the values; an upper bound of None means N.
        meaning: description for the documentation.
        select: function from the arrays of a batch to this array, with a first axis of episodes.
        plane: whether it is left out with ``observation="compact"``.
        confidences: whether it is left out if the traces have no confidences.
    """

    key: str
    dtype: type[np.generic]
    shape: str
    low: float
    high: float | None
    meaning: str
    select: Callable[[View], NDArray[Any]]
    plane: bool = False
    confidences: bool = False


def _branch_array(row: int, column: f.BranchColumn) -> ObservedArray:
    return ObservedArray(
        f"branch_{column.name}",
        np.int16,
        "N",
        column.low,
        column.high,
        column.meaning,
        lambda view: view.branches[row],
    )


#: Every array of an observation, in the order of the table in the documentation.
ARRAYS: Final = (
    ObservedArray(
        "plane",
        np.int16,
        "N · D",
        -1,
        f.INT16_MAX,
        "at i · D + k, the class that a probe of branch i revealed after interval k + 1; −1 none",
        lambda view: view.plane.reshape(len(view.mask), -1),
        plane=True,
    ),
    *(_branch_array(row, column) for row, column in enumerate(f.BRANCH_COLUMNS)),
    ObservedArray(
        "class_votes",
        np.int16,
        "M",
        0,
        None,
        "active branches whose latest answer is in this class",
        lambda view: view.classes[VOTES],
    ),
    ObservedArray(
        "class_null",
        np.int16,
        "M",
        0,
        1,
        "1 for a null answer",
        lambda view: view.classes[NULL],
    ),
    ObservedArray(
        "globals",
        np.float32,
        "G",
        min(column.low for column in f.GLOBAL_COLUMNS),
        f.FLOAT_MAX,
        "; ".join(column.meaning for column in f.GLOBAL_COLUMNS),
        lambda view: view.globals,
    ),
    ObservedArray(
        "action_mask", np.int8, "A", 0, 1, "1 where an action is legal", lambda view: view.mask
    ),
    ObservedArray(
        "branch_confidence",
        np.float32,
        "N",
        -1,
        f.FLOAT_MAX,
        "confidence of the latest probe; −1 none",
        lambda view: view.confidences,
        confidences=True,
    ),
    ObservedArray(
        "confidence_plane",
        np.float32,
        "N · D",
        -1,
        f.FLOAT_MAX,
        "confidence of every probe, laid out as plane; −1 none",
        lambda view: view.confidence_plane.reshape(len(view.mask), -1),
        plane=True,
        confidences=True,
    ),
)


def space(
    max_branches: int, max_depth: int, max_classes: int, *, plane: bool, confidences: bool
) -> spaces.Dict:
    """The observation space.

    Its bounds depend on these arguments only, so that a policy trained on one environment fits
    another. Every array has one axis, which is what RL libraries expect.
    """
    sizes = {
        "N": max_branches,
        "M": max_classes,
        "A": actions.count(max_branches),
        "G": len(f.GLOBAL_COLUMNS),
        "N · D": max_branches * max_depth,
    }
    boxes: dict[str, spaces.Space[Any]] = {}
    for array in ARRAYS:
        if (array.plane and not plane) or (array.confidences and not confidences):
            continue
        shape = (sizes[array.shape],)
        low = np.full(shape, array.low, array.dtype)
        high = np.full(shape, max_branches if array.high is None else array.high, array.dtype)
        if array.key == "globals":
            low[:] = [column.low for column in f.GLOBAL_COLUMNS]
            high[:] = [column.high for column in f.GLOBAL_COLUMNS]
        boxes[array.key] = spaces.Box(low, high, dtype=array.dtype)
    return spaces.Dict(boxes)


def by_key(arrays: View) -> dict[str, NDArray[Any]]:
    """The arrays of a batch by their keys, each with a first axis of episodes."""
    return {array.key: array.select(arrays) for array in ARRAYS}


def table(indent: str = "") -> str:
    """The arrays of an observation as a Markdown table, for docstrings."""
    rows: list[tuple[str, ...]] = [("Key", "Dtype, shape", "Bounds", "Values")]
    for array in ARRAYS:
        kind = f"{np.dtype(array.dtype).name} ({array.shape},)"
        if array.key == "globals":
            rows.append((f"`{array.key}`", kind, "", "G entries:"))
            rows += [("", "", _bounds(c.low, c.high), c.meaning) for c in f.GLOBAL_COLUMNS]
        else:
            bounds = _bounds(array.low, array.high)
            rows.append((f"`{array.key}`", kind, bounds, array.meaning))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, tuple("-" * width for width in widths))
    lines = (
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return f"\n{indent}".join(f"| {line} |" for line in lines)


def _bounds(low: float, high: float | None) -> str:
    start = f"{low:g}".replace("-", "−")
    if high == f.INT16_MAX:
        return f"≥ {start}"
    if high == f.FLOAT_MAX:
        return f"{start}..10^6"
    return f"{start}..{'N' if high is None else f'{high:g}'}"


def allocate(
    num_envs: int,
    max_branches: int,
    max_depth: int,
    max_classes: int,
    *,
    plane: bool,
    confidences: bool,
) -> View:
    """The arrays of ``num_envs`` observations."""
    e, n = num_envs, max_branches
    return View(
        plane=np.empty((e, n, max_depth if plane else 0), np.int16),
        confidence_plane=np.empty((e, n, max_depth if plane and confidences else 0), np.float32),
        branches=np.empty((len(f.BRANCH_COLUMNS), e, n), np.int16),
        confidences=np.empty((e, n if confidences else 0), np.float32),
        classes=np.empty((2, e, max_classes), np.int16),
        globals=np.empty((e, len(f.GLOBAL_COLUMNS)), np.float32),
        mask=np.zeros((e, actions.count(n)), np.int8),  # nothing is legal before the first reset
    )


# --- updates -------------------------------------------------------------------------------------

# A loop over functions does not compile with numba. Each writer below therefore writes the last
# column, after calling the writer of the columns before it; numba inlines the whole chain.


def _branch_writer(specs: tuple[f.BranchColumn, ...]) -> Any:
    """Build one compiled function that writes all columns of a branch."""
    row = len(specs) - 1
    value = inlined(specs[row].value)
    if row == 0:

        @inlined
        def write_first(columns, i, branch, ledger):
            columns[0, i] = value(branch, ledger)

        return write_first
    write_others = _branch_writer(specs[:row])

    @inlined
    def write(columns, i, branch, ledger):
        write_others(columns, i, branch, ledger)
        columns[row, i] = value(branch, ledger)

    return write


def _globals_writer(specs: tuple[f.GlobalColumn, ...]) -> Any:
    """Build one compiled function that writes all global columns."""
    row = len(specs) - 1
    value, high = inlined(specs[row].value), specs[row].high
    if row == 0:

        @inlined
        def write_first(values, ledger):
            values[0] = min(value(ledger), high)

        return write_first
    write_others = _globals_writer(specs[:row])

    @inlined
    def write(values, ledger):
        write_others(values, ledger)
        values[row] = min(value(ledger), high)

    return write


_write_branch = _branch_writer(f.BRANCH_COLUMNS)
_write_globals = _globals_writer(f.GLOBAL_COLUMNS)


@compiled
def write_initial(view: View, episode: EpisodeState) -> None:
    """Write the observation of an initial state; the caller then calls ``update_globals``."""
    view.plane[:] = -1
    view.confidence_plane[:] = -1
    view.confidences[:] = -1
    view.classes[:] = 0
    view.mask[:] = 0
    view.mask[actions.ANSWER] = 1
    for i in range(episode.branches.shape[0]):
        _write_branch(view.branches, i, episode.branches[i], episode.ledger)


@inlined
def update_branch_mask(view: View, episode: EpisodeState, i: int) -> None:
    """Update the part of the action mask that belongs to branch ``i``."""
    n = episode.branches.shape[0]
    mask = view.mask
    mask[rules.action_id(actions.CONTINUE, i, n)] = rules.can_extend(episode, i)
    mask[rules.action_id(actions.PROBE, i, n)] = rules.can_probe(episode, i)
    mask[rules.action_id(actions.PRUNE, i, n)] = rules.can_prune(episode, i)
    mask[rules.action_id(actions.ANSWER_BRANCH, i, n)] = rules.can_answer(episode, i)


@inlined
def is_null(episode: EpisodeState, answer: int) -> bool:
    """Whether an answer class of the episode is a null answer."""
    return episode.traces.nulls[episode.ledger.nulls + episode.codes[s.CODE_OF, answer]] == 1


@inlined
def update_latest_answer(view: View, episode: EpisodeState, i: int) -> None:
    """Update planes, confidences and null flags after a probe of branch ``i``."""
    b = episode.branches[i]
    latest = b.latest
    column = b.revealed - 1
    if column < view.plane.shape[1]:
        view.plane[i, column] = latest
    if view.confidences.shape[0] > 0:
        confidence = np.float32(-1)
        if b.finished == 0:
            confidence = episode.traces.confidences[b.offset + column]
        view.confidences[i] = confidence
        if column < view.confidence_plane.shape[1]:
            view.confidence_plane[i, column] = confidence
    last = view.classes.shape[1] - 1
    null = is_null(episode, latest)
    if latest >= last:  # the last column is shared: it is null only if all of its classes are
        for other in range(last, episode.ledger.classes):
            null = null and is_null(episode, other)
    view.classes[NULL, min(latest, last)] = null


@inlined
def update_branch(view: View, episode: EpisodeState, i: int) -> None:
    """Update everything in the observation that depends on branch ``i``."""
    b = episode.branches[i]
    columns = view.branches
    last = view.classes.shape[1] - 1
    if columns[f.STATUS, i] == s.ACTIVE and columns[f.LATEST, i] >= 0:
        view.classes[VOTES, min(columns[f.LATEST, i], last)] -= 1
    if columns[f.REVEALED, i] != b.revealed:
        update_latest_answer(view, episode, i)
    _write_branch(columns, i, b, episode.ledger)
    if b.status == s.ACTIVE and b.latest >= 0:
        view.classes[VOTES, min(b.latest, last)] += 1
    update_branch_mask(view, episode, i)


@inlined
def update_globals(view: View, episode: EpisodeState) -> None:
    """Update the global columns, and whether BRANCH is legal."""
    view.mask[actions.BRANCH] = rules.can_branch(episode)
    _write_globals(view.globals, episode.ledger)
