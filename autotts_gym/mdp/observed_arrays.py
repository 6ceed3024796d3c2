"""The arrays of an observation by their keys: bounds, spaces, and the table of the documentation.

An observation is one flat dictionary of fixed-size arrays; ``ARRAYS`` lists them, and the table in
:class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv` is made from that list.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from autotts_gym.mdp import actions
from autotts_gym.mdp import fields as f
from autotts_gym.mdp.generation_confidence import UNKNOWN
from autotts_gym.mdp.observation import NULL, VOTES, GenerationView, View


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
    select: Callable[[View, GenerationView], NDArray[Any]]
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
        lambda view, _: view.branches[row],
    )


def _or_unknown(confidences: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Generation confidences, or a read-only array of ``UNKNOWN`` if the traces have none."""
    if confidences.shape == shape:
        return confidences
    return np.broadcast_to(np.float32(UNKNOWN), shape)


#: Every array of an observation, in the order of the table in the documentation.
ARRAYS: Final = (
    ObservedArray(
        "plane",
        np.int16,
        "N · D",
        -1,
        f.INT16_MAX,
        "at i · D + k, the class that a probe of branch i revealed after interval k + 1; −1 none",
        lambda view, _: view.plane.reshape(len(view.mask), -1),
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
        lambda view, _: view.classes[VOTES],
    ),
    ObservedArray(
        "class_null",
        np.int16,
        "M",
        0,
        1,
        "1 for a null answer",
        lambda view, _: view.classes[NULL],
    ),
    ObservedArray(
        "globals",
        np.float32,
        "G",
        min(column.low for column in f.GLOBAL_COLUMNS),
        f.FLOAT_MAX,
        "; ".join(column.meaning for column in f.GLOBAL_COLUMNS),
        lambda view, _: view.globals,
    ),
    ObservedArray(
        "action_mask", np.int8, "A", 0, 1, "1 where an action is legal", lambda view, _: view.mask
    ),
    ObservedArray(
        "branch_generation_confidence",
        np.float32,
        "N",
        UNKNOWN,
        f.FLOAT_MAX,
        "generation confidence of the last revealed interval that has any; −1 none",
        lambda view, generation: _or_unknown(generation.confidences, view.branches.shape[1:]),
    ),
    ObservedArray(
        "generation_confidence_plane",
        np.float32,
        "N · D",
        UNKNOWN,
        f.FLOAT_MAX,
        "generation confidence of every revealed interval, laid out as plane; −1 none",
        lambda view, generation: _or_unknown(generation.plane, view.plane.shape).reshape(
            len(view.mask), -1
        ),
        plane=True,
    ),
    ObservedArray(
        "branch_confidence",
        np.float32,
        "N",
        -1,
        f.FLOAT_MAX,
        "confidence of the latest probe; −1 none",
        lambda view, _: view.confidences,
        confidences=True,
    ),
    ObservedArray(
        "confidence_plane",
        np.float32,
        "N · D",
        -1,
        f.FLOAT_MAX,
        "confidence of every probe, laid out as plane; −1 none",
        lambda view, _: view.confidence_plane.reshape(len(view.mask), -1),
        plane=True,
        confidences=True,
    ),
)


def space(
    max_branches: int,
    max_depth: int,
    max_classes: int,
    *,
    plane: bool,
    confidences: bool,
    latency: bool,
) -> spaces.Dict:
    """The observation space.

    Its bounds depend on these arguments only, so that a policy trained on one environment fits
    another. Every array has one axis, which is what RL libraries expect.
    """
    columns = f.shown_globals(latency)
    sizes = {
        "N": max_branches,
        "M": max_classes,
        "A": actions.count(max_branches),
        "G": len(columns),
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
            low[:] = [column.low for column in columns]
            high[:] = [column.high for column in columns]
        boxes[array.key] = spaces.Box(low, high, dtype=array.dtype)
    return spaces.Dict(boxes)


def by_key(view: View, generation: GenerationView, *, latency: bool) -> dict[str, NDArray[Any]]:
    """The arrays of a batch by their keys, each with a first axis of episodes.

    An array that cannot change during an episode is read-only: observations can share it.

    Args:
        view, generation: the arrays of the batch.
        latency: whether ``globals`` has the entries about latency.
    """
    arrays = {array.key: array.select(view, generation) for array in ARRAYS}
    arrays["globals"] = arrays["globals"][:, : len(f.shown_globals(latency))]
    return arrays


def table(indent: str = "") -> str:
    """The arrays of an observation as a Markdown table, for docstrings."""
    rows: list[tuple[str, ...]] = [("Key", "Dtype, shape", "Bounds", "Values")]
    for array in ARRAYS:
        kind = f"{np.dtype(array.dtype).name} ({array.shape},)"
        if array.key == "globals":
            rows.append((f"`{array.key}`", kind, "", "G entries:"))
            rows += [("", "", _bounds(c.low, c.high), _meaning(c)) for c in f.GLOBAL_COLUMNS]
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


def _meaning(column: f.GlobalColumn) -> str:
    return f"{column.meaning} (only with `latency_weight`)" if column.latency else column.meaning


def _bounds(low: float, high: float | None) -> str:
    start = f"{low:g}".replace("-", "−")
    if high == f.INT16_MAX:
        return f"≥ {start}"
    if high == f.FLOAT_MAX:
        return f"{start}..10^6"
    return f"{start}..{'N' if high is None else f'{high:g}'}"
