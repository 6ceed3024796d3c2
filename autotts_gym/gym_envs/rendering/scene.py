"""``Scene``, the content of one frame, and what the image and the text have in common.

The color of an answer class depends only on its rank in the order of first appearance. A class
therefore keeps its color throughout an episode, although no state is kept between frames.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
Pixels = NDArray[np.uint8]

#: Values of ``Scene.status``.
ACTIVE: Final = 1
PRUNED: Final = 2

WHITE: Final[Color] = (255, 255, 255)
BLACK: Final[Color] = (28, 30, 36)
NULL_GRAY: Final[Color] = (200, 202, 206)

# The seven colors of Okabe and Ito, and five more. For normal vision, deuteranopia and protanopia,
# no two of them, nor any of them and the gray of null answers, are closer than yellow and orange.
PALETTE: Final[tuple[Color, ...]] = (
    *((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (86, 180, 233), (204, 121, 167)),
    *((240, 228, 66), (58, 30, 150), (150, 185, 100), (125, 20, 110), (150, 130, 245)),
    (130, 90, 40),
)


@dataclass(frozen=True, eq=False)  # == is ambiguous for arrays
class Scene:
    """The state of an episode at one step: N branches, D intervals, answer classes.

    Classes are numbered by first appearance.

    Attributes:
        plane: int16[N, D], class revealed at branch i, interval k + 1; -1 if unrevealed.
        status: integer[N], 0 unopened, 1 active, 2 pruned.
        requested: integer[N], requested depth, intervals.
        latest: integer[N], latest revealed class; -1 if none.
        finished: integer[N], 1 where the end was revealed, at depth ``requested``.
        nulls: for every class, whether it is a null answer.
        labels: for every class, the answer's text; any string, including the empty one.
        depth_limit: number of intervals to draw; may differ from D.
        spent: total tokens.
        clock: sequential tokens.
        budget: tokens, or None.
        beta: the trade-off parameter, β.
        last_action: for example ``"CONTINUE(12)"``; empty before the first action.
        outcome: how the episode ended; empty while it runs.
        title: name of the environment and the question.
        latency_weight: the weight w of sequential tokens in the cost; shown as text, unless
            it is 0.
    """

    plane: NDArray[np.int16]
    status: NDArray[np.integer[Any]]
    requested: NDArray[np.integer[Any]]
    latest: NDArray[np.integer[Any]]
    finished: NDArray[np.integer[Any]]
    nulls: Sequence[bool]
    labels: Sequence[str]
    depth_limit: int
    spent: int
    clock: int
    budget: int | None
    beta: float
    last_action: str
    outcome: str
    title: str
    latency_weight: float = 0.0


def count_votes(scene: Scene) -> list[tuple[int, int]]:
    """List (class, votes), the leading class first; classes without votes come last.

    ``most_common`` keeps equal counts in the order of insertion, which is the order of the
    branches: a tie goes to the class whose first vote comes first.
    """
    latest = scene.latest[scene.status == ACTIVE]
    counts = Counter(latest[latest >= 0].tolist())
    return [*counts.most_common(), *((c, 0) for c in range(len(scene.labels)) if c not in counts)]


def turnout(scene: Scene) -> tuple[int, str]:
    """Return the number of active branches, and a phrase that says how many of them vote."""
    active = scene.status == ACTIVE
    count = int(np.count_nonzero(active))
    return count, f"{np.count_nonzero(active & (scene.latest >= 0))} of {count} active"


def class_ranks(nulls: Sequence[bool]) -> list[int]:
    """Return the rank of every class among the null answers, or among the others."""
    flags = np.asarray(nulls, np.bool_)
    return [int(r) for r in np.where(flags, np.cumsum(flags), np.cumsum(~flags)) - 1]


def visible_plane(scene: Scene, depth: int) -> NDArray[np.int16]:
    """Return the plane as int16[N, depth]; -1 beyond ``depth_limit``."""
    cells = np.full((len(scene.status), depth), -1, np.int16)
    known = scene.plane[:, : scene.depth_limit]
    cells[:, : known.shape[1]] = known
    return cells


def acted_branch(scene: Scene) -> int:
    """Return the branch of the last action, -1 if the action has none."""
    named = re.search(r"\((\d+)\)$", scene.last_action)
    return int(named[1]) if named and int(named[1]) < len(scene.status) else -1


def spent_text(scene: Scene) -> str:
    """Format the spent tokens, with the budget if there is one."""
    return f"{scene.spent:,}{'' if scene.budget is None else f' of {scene.budget:,}'} tokens"


@lru_cache(maxsize=4096)
def printable(line: str) -> str:
    """Return one line without control characters; models write arbitrary answers."""
    line = unicodedata.normalize("NFC", " ".join(line[:400].split()))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def answer_label(label: str) -> str:
    """Return an answer as one printable line, ``(empty)`` if it has no characters."""
    return printable(label) or "(empty)"


def text_color(background: Color) -> Color:
    """Return black or white, whichever is easier to read on the background."""
    red, green, blue = background
    return WHITE if red * 0.3 + green * 0.59 + blue * 0.11 < 128 else BLACK
