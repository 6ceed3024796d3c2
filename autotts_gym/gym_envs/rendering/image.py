"""``render_image``: a scene as an RGB image of the width-depth plane and the vote.

Coordinates and sizes are in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.gym_envs.rendering.scene import (
    BLACK,
    NULL_GRAY,
    PALETTE,
    PRUNED,
    WHITE,
    Color,
    Pixels,
    Scene,
    acted_branch,
    answer_label,
    count_votes,
    printable,
    spent_text,
    turnout,
    visible_plane,
)
from autotts_gym.gym_envs.rendering.tiles import (
    GRID,
    CellStyle,
    blank_cell,
    class_styles,
    faded,
    requested_cell,
    revealed_cell,
    text_tile,
    with_end,
)

_GRAY: Final[Color] = (112, 117, 128)

_LEFT: Final = 56
_TOP: Final = 104
_MARGIN: Final = 20
_VOTE_WIDTH: Final = 310
#: Left edge of the bars of the vote, relative to the vote.
BAR_LEFT: Final = 150
_ROW: Final = 23
_SWATCH: Final = (22, 15)
_SPENT_WIDTH: Final = 240  # the bar of the spent tokens
_WEIGHT_WIDTH: Final = 60  # the latency weight, shown at the right edge unless it is 0
# Captions of the figures, and their left edges.
_FIGURES: Final = (
    ("spent", _LEFT),
    ("clock", 321),
    ("β", 461),
    ("last action", 531),
    ("outcome", 681),
)


@dataclass(frozen=True, eq=False)
class Layout:
    """Positions in an image, and its constant parts.

    Attributes:
        cell: width and height of a cell.
        plane: rows and columns of the plane.
        vote_left: left edge of the vote.
        vote_lines: number of classes that fit into the vote.
        background: everything that is the same in all frames, uint8[H, W, 3].
    """

    cell: tuple[int, int]
    plane: tuple[slice, slice]
    vote_left: int
    vote_lines: int
    background: Pixels

    @property
    def has_text(self) -> bool:
        """Whether the cells are large enough for answers as text."""
        return self.cell[0] >= 30 and self.cell[1] >= 16


@lru_cache(maxsize=16)
def layout_for(branches: int, depth: int) -> Layout:
    """Compute the layout of an image of ``branches`` rows and ``depth`` intervals."""
    width = min(max(800 // depth, 4), 56)
    height = min(max(640 // branches, 4), max(2 * width, 20), 40)
    right, bottom = _LEFT + depth * width, _TOP + branches * height
    body = max(branches * height + 44, 5 * _ROW)
    shape = _TOP + body + 34, max(right + _VOTE_WIDTH + 3 * _MARGIN, 960)
    shape = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2  # video codecs need even sizes
    frame = np.full((*shape, 3), WHITE, np.uint8)
    frame[_TOP - 1 : bottom, _LEFT - 1 : right] = GRID  # the outline of the plane

    for caption, x in _FIGURES:
        _write(frame, x, 46, caption, 11, _GRAY)
    _draw_axes(frame, branches, depth, (width, height))
    _draw_key(frame, _TOP + body + 12)
    plane = slice(_TOP, bottom), slice(_LEFT, right)
    return Layout((width, height), plane, right + 2 * _MARGIN, (body - _ROW) // _ROW, frame)


def _draw_axes(frame: Pixels, branches: int, depth: int, cell: tuple[int, int]) -> None:
    width, height = cell
    bottom = _TOP + branches * height
    _write(frame, _LEFT - 7, _TOP - 12, "branch", 11, _GRAY, align=1)
    for i in range(0, branches, _label_step(branches, height, 13)):
        y = _TOP + i * height + height // 2
        _write(frame, _LEFT - 7, y, str(i), 10, _GRAY, align=1)
    step = _label_step(depth, width, 24)
    for k in {1, *range(step, depth + 1, step)}:
        x = _LEFT + (k - 1) * width + width // 2
        frame[bottom : bottom + 3, x] = _GRAY
        _write(frame, x, bottom + 12, str(k), 10, _GRAY, align=0.5)
    _write(frame, _LEFT, bottom + 29, "depth (intervals)", 11, _GRAY)


def _draw_key(frame: Pixels, y: int) -> None:
    solid = revealed_cell(CellStyle(PALETTE[0], 0, False), "", *_SWATCH)
    x = _LEFT
    for caption, tile in (
        ("requested", requested_cell(*_SWATCH)),
        ("revealed", solid),
        ("one branch only", revealed_cell(CellStyle(PALETTE[0], 0, True), "", *_SWATCH)),
        ("null answer", revealed_cell(CellStyle(NULL_GRAY, 0, False), "", *_SWATCH)),
        ("pruned", faded(solid)),
        ("end of the branch", with_end(solid)),
    ):
        _paste(frame, x, y, tile)
        x = _write(frame, x + 28, y, caption, 11, _GRAY) + 22


def _label_step(count: int, size: int, room: int) -> int:
    """Return the distance between numbered rows or columns: labels need ``room`` pixels each."""
    return next((s for s in (1, 2, 5, 10, 20, 50) if s * size >= room and s <= count), count)


def _paste(frame: Pixels, x: int, y: int, tile: Pixels) -> None:
    """Copy a tile into the frame; x is its left edge, y its vertical center."""
    y -= tile.shape[0] // 2
    frame[y : y + tile.shape[0], x : x + tile.shape[1]] = tile


def _write(
    frame: Pixels,
    x: int,
    y: int,
    line: str,
    size: int,
    color: Color = BLACK,
    *,
    bold: bool = False,
    width: int = 10_000,
    align: float = 0,
) -> int:
    """Write a line; x is its left (``align`` 0) or right (1) edge. Return the right edge."""
    tile = text_tile(line, size, color, bold, width)
    taken = len(tile[0])
    x -= round(taken * align)
    _paste(frame, x, y, tile)
    return x + taken


def render_image(scene: Scene) -> Pixels:
    """Draw the plane, the vote to its right and the figures above.

    Returns:
        uint8[H, W, 3]; H and W are even, and depend only on N and ``depth_limit``.
    """
    layout = layout_for(len(scene.status), scene.depth_limit)
    cells = visible_plane(scene, scene.depth_limit)
    styles = class_styles(scene, cells, textured=not layout.has_text)
    frame = layout.background.copy()
    frame[layout.plane] = _draw_plane(scene, layout, cells, styles)
    _draw_figures(frame, scene)
    _draw_vote(frame, scene, layout, styles)
    acted = acted_branch(scene)
    if acted >= 0:
        y = _TOP + acted * layout.cell[1] + layout.cell[1] // 2
        _write(frame, _LEFT - 30, y, "▶", 11, align=1)
    return frame


def _draw_plane(
    scene: Scene, layout: Layout, cells: NDArray[np.int16], styles: Sequence[CellStyle]
) -> Pixels:
    """Draw all cells at once, by indexing an array of tiles [pruned, ended, content]."""
    labels = map(answer_label, scene.labels) if layout.has_text else [""] * len(styles)
    revealed = (
        revealed_cell(style, label, *layout.cell)
        for style, label in zip(styles, labels, strict=True)
    )
    tiles = np.stack([blank_cell(*layout.cell), requested_cell(*layout.cell), *revealed])
    tiles = np.stack([tiles, with_end(tiles)])
    tiles = np.stack([tiles, faded(tiles)])
    depth, requested = np.arange(1, scene.depth_limit + 1), scene.requested[:, None]
    pruned = (scene.status[:, None] == PRUNED).astype(np.intp)
    ended = ((scene.finished[:, None] == 1) & (depth == requested)).astype(np.intp)
    drawn = tiles[pruned, ended, np.where(cells >= 0, cells + 2, depth <= requested)]
    n, d, height, width, _ = drawn.shape
    plane: Pixels = drawn.swapaxes(1, 2).reshape(n * height, d * width, 3)
    return plane


def _draw_figures(frame: Pixels, scene: Scene) -> None:
    right = frame.shape[1] - _MARGIN
    _write(frame, _LEFT, 22, printable(scene.title), 16, bold=True, width=right - _LEFT)
    figures = (
        spent_text(scene),
        f"{scene.clock:,} tokens",
        f"{scene.beta:.3g}",
        scene.last_action or "none yet",
        scene.outcome or "running",
    )
    outcome_end = right
    if scene.latency_weight:
        outcome_end = right - _WEIGHT_WIDTH
        x = outcome_end + 10
        _write(frame, x, 46, "w", 11, _GRAY)
        _write(frame, x, 64, f"{scene.latency_weight:.3g}", 13, bold=True, width=right - x)
    ends = [*(x - 10 for _, x in _FIGURES[1:]), outcome_end]
    for figure, (_, x), end in zip(figures, _FIGURES, ends, strict=True):
        _write(frame, x, 64, printable(figure), 13, bold=True, width=end - x)
    if scene.budget is not None:
        spent = min(scene.spent / max(scene.budget, 1), 1)
        frame[75:80, _LEFT : _LEFT + _SPENT_WIDTH] = GRID
        frame[75:80, _LEFT : _LEFT + round(_SPENT_WIDTH * spent)] = BLACK


def _draw_vote(frame: Pixels, scene: Scene, layout: Layout, styles: Sequence[CellStyle]) -> None:
    """Draw a bar for each class, as long as its share of the active branches; leader first."""
    votes, (active, turnout_text) = count_votes(scene), turnout(scene)
    left, right = layout.vote_left, layout.vote_left + _VOTE_WIDTH
    bar = left + BAR_LEFT
    _write(frame, left, _TOP - 12, "vote", 13, bold=True)
    _write(frame, right, _TOP - 12, f"{turnout_text} branches", 11, _GRAY, align=1)
    shown = len(votes) if len(votes) <= layout.vote_lines + 1 else layout.vote_lines
    y = _TOP + _ROW // 2
    for place, (c, count) in enumerate(votes[:shown]):
        leads, color = place == 0 and count > 0, BLACK if count else _GRAY
        if leads:
            _write(frame, left - 3, y, "▶", 11, align=1)
        _paste(frame, left, y, revealed_cell(styles[c], "", *_SWATCH))
        label, width = answer_label(scene.labels[c]), BAR_LEFT - 37 if count else _VOTE_WIDTH - 29
        _write(frame, left + 29, y, label, 12, color, bold=leads, width=width)
        if count:
            length = right - 30 - bar
            frame[y - 5 : y + 6, bar : bar + length] = GRID
            frame[y - 5 : y + 6, bar : bar + round(length * count / active)] = styles[c].color
            _write(frame, right, y, str(count), 12, color, bold=leads, align=1)
        y += _ROW
    if shown < len(votes):
        _write(frame, left + 29, y, f"and {len(votes) - shown} more", 11, _GRAY)
