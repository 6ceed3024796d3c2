"""The observation as one array of numbers of about [−1, 1]: ``observation="flat"``.

For learners that take a single ``Box``. The array is made of documented slices, in this order:
``globals``, ``branches`` (branch after branch), ``class_votes`` and ``action_mask``. Answer classes
are labels, so a branch shows how its answer stands in the vote instead of the number of its class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from gymnasium import spaces

from autotts_gym.mdp import actions
from autotts_gym.mdp import fields as f
from autotts_gym.mdp import state as s
from autotts_gym.mdp.jit import compiled, inlined
from autotts_gym.mdp.observation import NULL, VOTES, GenerationView, View

#: Values are clipped to ± this, which few reach.
LIMIT: Final = 2.0

#: A generation confidence or a confidence of this size is shown as 1.
_CONFIDENCE_SCALE: Final = 20.0

#: The numbers of one branch, by name; zeros before it is opened.
BRANCH_NUMBERS: Final = {
    "active": "1 if it is active",
    "pruned": "1 if it was pruned",
    "requested": "requested depth over the depth limit",
    "revealed": "depth of the latest probe over the depth limit",
    "finished": "1 once its end was revealed",
    "unread": "tokens requested but not yet probed, over those of the depth limit",
    "votes": "active branches whose latest answer is the same, over N",
    "leads": "1 if its latest answer has the most votes",
    "null": "1 if its latest answer is a null answer",
    "generation_confidence": "generation confidence over 20; −1 none",
    "confidence": "confidence of the latest probe over 20; −1 none",
}
_K: Final = len(BRANCH_NUMBERS)


def slices(max_branches: int, max_classes: int, *, latency: bool) -> dict[str, slice]:
    """The slices of the array of ``AutoTTS-v0``, by name.

    Args:
        max_branches, max_classes: N and M.
        latency: whether ``globals`` has the entries about latency.
    """
    return consecutive(
        {
            "globals": len(f.shown_globals(latency)),
            "branches": max_branches * _K,
            "class_votes": max_classes,
            "action_mask": actions.count(max_branches),
        }
    )


def consecutive(sizes: Mapping[str, int]) -> dict[str, slice]:
    """Consecutive slices of these sizes."""
    ends = np.cumsum(list(sizes.values())).tolist()
    return {
        name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)
    }


def space(parts: Mapping[str, slice]) -> spaces.Box:
    """The space of an array of these slices."""
    size = max(part.stop for part in parts.values())
    return spaces.Box(np.float32(-LIMIT), np.float32(LIMIT), (size,), np.float32)


def table(indent: str = "") -> str:
    """The slices as a Markdown table, for docstrings."""
    branch = "; ".join(f"`{name}`: {meaning}" for name, meaning in BRANCH_NUMBERS.items())
    rows = (
        "| Slice | Length | Values |",
        "|-------|--------|--------|",
        "| `globals` | G | the entries of `globals`, the number of opened branches over N |",
        f"| `branches` | {_K} N | for each branch: {branch} |",
        "| `class_votes` | M | votes of each class over N |",
        "| `action_mask` | A | 1 where an action is legal |",
    )
    return f"\n{indent}".join(rows)


@inlined
def scaled_confidence(confidence: Any) -> Any:
    """A confidence as the flat observation of macro-actions shows it; −1 stays −1."""
    return confidence if confidence < 0 else confidence / np.float32(_CONFIDENCE_SCALE)


@inlined
def clipped(value: Any) -> Any:
    """A value between ± ``LIMIT``."""
    return min(max(value, -LIMIT), LIMIT)


@compiled
def write_flat(row: Any, view: View, generation: GenerationView, ledger: Any) -> None:
    """Write a flat observation, float32[F], from the arrays of an episode."""
    confidences = generation.confidences
    classes = view.classes.shape[1]
    n = view.branches.shape[1]
    # The entries of ``globals`` that are shown: what the other slices leave.
    shown = row.shape[0] - n * _K - classes - view.mask.shape[0]
    for k in range(shown):
        value = view.globals[k] / n if k == f.OPENED else view.globals[k]
        row[k] = min(value, LIMIT)
    most = 1  # an answer without votes does not lead
    for c in range(classes):
        most = max(most, view.classes[VOTES, c])
    depth = max(ledger.depth_limit, 1)
    for i in range(n):
        column = view.branches[:, i]
        b = row[shown + i * _K : shown + (i + 1) * _K]
        b[:] = 0
        if column[f.STATUS] == s.UNOPENED:
            continue
        b[0] = column[f.STATUS] == s.ACTIVE
        b[1] = column[f.STATUS] == s.PRUNED
        b[2] = column[f.REQUESTED] / depth
        b[3] = column[f.REVEALED] / depth
        b[4] = column[f.FINISHED]
        b[5] = (column[f.REQUESTED] - column[f.REVEALED]) / depth
        latest = column[f.LATEST]
        if latest >= 0:
            answer = min(latest, classes - 1)
            b[6] = view.classes[VOTES, answer] / n
            b[7] = view.classes[VOTES, answer] == most
            b[8] = view.classes[NULL, answer]
        b[9] = b[10] = -1
        if confidences.shape[0] > 0 and confidences[i] >= 0:
            b[9] = min(confidences[i] / _CONFIDENCE_SCALE, LIMIT)
        if view.confidences.shape[0] > 0 and view.confidences[i] >= 0:
            b[10] = min(view.confidences[i] / _CONFIDENCE_SCALE, LIMIT)
    first = shown + n * _K
    for c in range(classes):
        row[first + c] = view.classes[VOTES, c] / n
    first += classes
    for a in range(view.mask.shape[0]):
        row[first + a] = view.mask[a]
