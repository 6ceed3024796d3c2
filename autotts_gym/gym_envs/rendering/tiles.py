"""Tiles of an image: cells of the plane and lines of text, drawn once and cached."""

from __future__ import annotations

from bisect import bisect_right
from functools import cache, lru_cache
from math import ceil
from pathlib import Path
from typing import Final, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from autotts_gym.gym_envs.rendering.scene import (
    BLACK,
    NULL_GRAY,
    PALETTE,
    WHITE,
    Color,
    Pixels,
    Scene,
    class_ranks,
    text_color,
)

GRID: Final[Color] = (232, 234, 238)
_HATCHING: Final[Color] = (150, 156, 168)


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    # The basic engine is faster, and gives the same result on every platform.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _cut(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Cut a line to at most ``width`` pixels."""
    if font.getlength(line) <= width:
        return line
    cut = bisect_right(range(len(line)), width, key=lambda n: font.getlength(line[:n] + "…"))
    return line[: max(cut - 1, 0)].rstrip() + "…"


@lru_cache(maxsize=2048)
def text_tile(line: str, size: int, color: Color, bold: bool, width: int) -> Pixels:
    """Draw a line of text, uint8[h, w, 3], at most ``width`` pixels wide."""
    font = _font(size, bold)
    line = _cut(line, font, width - 1)
    box = ceil(font.getlength(line)) + 1, sum(font.getmetrics())
    image = Image.new("RGB", box, WHITE)
    ImageDraw.Draw(image).text((0, 0), line, color, font)
    return np.array(image)


class CellStyle(NamedTuple):
    """How the cells of an answer class are drawn.

    A question has up to hundreds of classes, most of them given once, by one branch. The cells of
    such classes (``single``) are smaller, so that agreement between branches stands out.
    """

    color: Color
    texture: int
    single: bool


def class_styles(scene: Scene, cells: NDArray[np.int16], textured: bool) -> list[CellStyle]:
    """Return the style of every class; ``textured`` is false where cells contain text."""
    gave = np.zeros((len(cells), len(scene.labels)), np.bool_)  # branch, class
    branch, depth = np.nonzero(cells >= 0)
    gave[branch, cells[branch, depth]] = True
    styles = []
    for rank, null, branches in zip(
        class_ranks(scene.nulls), scene.nulls, gave.sum(axis=0), strict=True
    ):
        texture, color = (rank, 0) if null else divmod(rank, len(PALETTE))
        styles.append(
            CellStyle(
                NULL_GRAY if null else PALETTE[color],
                texture if textured else 0,
                bool(branches < 2 and not null),
            )
        )
    return styles


def _texture(number: int, height: int, width: int) -> NDArray[np.bool_]:
    """Return where a cell is lighter, to distinguish classes of one color; nowhere for 0."""
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    row, column = abs(y - 0.5) < 0.2, abs(x - 0.5) < 0.2
    return (y < 0, row & column, row, column, x + y < 1, row | column)[number % 6]


def blank_cell(width: int, height: int) -> Pixels:
    """Draw a cell that was not requested, uint8[height, width, 3]: the grid only."""
    tile = np.full((height, width, 3), WHITE, np.uint8)
    tile[-1] = tile[:, -1] = GRID
    return tile


def requested_cell(width: int, height: int) -> Pixels:
    """Draw a cell that was requested and not revealed: hatched."""
    tile = blank_cell(width, height)
    y, x = np.indices((height - 1, width - 1))
    tile[:-1, :-1][(x + y) % 4 == 3] = _HATCHING
    return tile


@lru_cache(maxsize=4096)
def revealed_cell(style: CellStyle, label: str, width: int, height: int) -> Pixels:
    """Draw a revealed cell with its answer as text; without text if ``label`` is empty."""
    tile = blank_cell(width, height)
    edge = max(1, min(width, height) // 5) if style.single else 0
    inner = tile[edge : height - 1 - edge, edge : width - 1 - edge]
    inner[:] = style.color
    lighter = _texture(style.texture, *inner.shape[:2])
    inner[lighter] = inner[lighter] // 3 + 170
    if label:
        font, image = _font(11, False), Image.fromarray(tile)
        middle = (width - 1) / 2, (height - 1) / 2
        line = _cut(label, font, inner.shape[1] - 4)
        ImageDraw.Draw(image).text(middle, line, text_color(style.color), font, "mm")
        tile = np.array(image)
    return tile


def with_end(tiles: Pixels) -> Pixels:
    """Return the cells with a mark at the right for the end of a branch."""
    tiles = tiles.copy()
    width = tiles.shape[-2]
    tiles[..., width - min(max(width // 3, 2), 6) :, :] = BLACK
    return tiles


def faded(tiles: Pixels) -> Pixels:
    """Return the cells as they look on a pruned branch."""
    return tiles // 3 + 170
