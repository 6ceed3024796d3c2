"""One moment of an episode as a picture or as text: the width-depth plane and the vote beside it.

It knows nothing of the environment or of its rules: a :class:`Scene` holds all that is shown.
A class's colour follows from its place in the order of first appearance, so it stays the same
while an episode goes on, though nothing is remembered between two frames.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import accumulate, groupby
from math import ceil
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

Color = tuple[int, int, int]
Pixels = NDArray[np.uint8]

_ACTIVE: Final = 1
_PRUNED: Final = 2

_PAPER: Final[Color] = (255, 255, 255)
_GRID: Final[Color] = (232, 234, 238)
_MUTED: Final[Color] = (112, 117, 128)
_INK: Final[Color] = (28, 30, 36)
_NULL: Final[Color] = (200, 202, 206)

# Okabe and Ito's seven colours, and five more. To normal eyes and with deuteranopia or protanopia
# no two of them, nor one and the grey of null answers, are closer than yellow and orange are.
PALETTE: Final[tuple[Color, ...]] = (
    *((0, 114, 178), (230, 159, 0), (0, 158, 115), (213, 94, 0), (86, 180, 233), (204, 121, 167)),
    *((240, 228, 66), (58, 30, 150), (150, 185, 100), (125, 20, 110), (150, 130, 245)),
    (130, 90, 40),
)


@dataclass(frozen=True, eq=False)  # arrays have no single truth to compare by
class Scene:
    """What is shown of one moment; N branches, D intervals, classes by first appearance.

    Attributes:
        plane: int16[N, D], class revealed at branch i, interval k + 1; -1 unrevealed.
        status: integer[N], 0 unopened, 1 active, 2 pruned.
        requested: integer[N], requested depth, intervals.
        latest: integer[N], latest revealed class, -1 none.
        finished: integer[N], 1 where the end was revealed, at depth ``requested``.
        nulls: for every class, whether it is a null answer.
        labels: for every class, the answer's text; any text at all, the empty one included.
        depth_limit: depth that is drawn, intervals; D may be more or less.
        spent: tokens.
        clock: tokens.
        budget: tokens, or None.
        beta: the trade-off knob, β.
        last_action: like ``"CONTINUE(12)"``; empty before the first.
        outcome: how the episode ended; empty while it runs.
        title: what is played.
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


# --- what both forms show ------------------------------------------------------------------------


def _votes(scene: Scene) -> list[tuple[int, int]]:
    """(class, votes), the leader first; then the classes that have none, as a key to the plane.

    ``most_common`` keeps equal counts in the order in which they were met, that of the branches:
    the tie goes to the class whose first vote comes first.
    """
    latest = scene.latest[scene.status == _ACTIVE]
    counts = Counter(latest[latest >= 0].tolist())
    return [*counts.most_common(), *((c, 0) for c in range(len(scene.labels)) if c not in counts)]


def _turnout(scene: Scene) -> tuple[int, str]:
    """Active branches, and in words how many of them vote."""
    active = scene.status == _ACTIVE
    count = int(np.count_nonzero(active))
    return count, f"{np.count_nonzero(active & (scene.latest >= 0))} of {count} active"


def _ranks(nulls: Sequence[bool]) -> list[int]:
    """Every class's place among the null answers, or among the others."""
    flags = np.asarray(nulls, np.bool_)
    return [int(r) for r in np.where(flags, np.cumsum(flags), np.cumsum(~flags)) - 1]


def _cells(scene: Scene, depth: int) -> NDArray[np.int16]:
    """The plane, int16[N, depth]: what lies beyond ``depth_limit`` is not there."""
    cells = np.full((len(scene.status), depth), -1, np.int16)
    known = scene.plane[:, : scene.depth_limit]
    cells[:, : known.shape[1]] = known
    return cells


def _acted(scene: Scene) -> int:
    """Branch that the last action names, -1 if it names none."""
    named = re.search(r"\((\d+)\)$", scene.last_action)
    return int(named[1]) if named and int(named[1]) < len(scene.status) else -1


def _spending(scene: Scene) -> str:
    return f"{scene.spent:,}{'' if scene.budget is None else f' of {scene.budget:,}'} tokens"


@lru_cache(maxsize=4096)
def _plain(line: str) -> str:
    """One line in which nothing can steer a terminal; answers are whatever a model wrote."""
    line = unicodedata.normalize("NFC", " ".join(line[:400].split()))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _answer(label: str) -> str:
    return _plain(label) or "(empty)"


def _ink_on(color: Color) -> Color:
    return _PAPER if color[0] * 0.3 + color[1] * 0.59 + color[2] * 0.11 < 128 else _INK


# --- picture: tiles, painted once and then only copied -------------------------------------------


@cache
def _font(size: int, bold: bool) -> ImageFont.FreeTypeFont:
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    path = Path(matplotlib.get_data_path(), "fonts", "ttf", name)
    # The basic engine is the faster one, and the same on every platform.
    return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)


def _fit(line: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The line, cut where it would take more than ``width`` pixels."""
    if font.getlength(line) <= width:
        return line
    cut = bisect_right(range(len(line)), width, key=lambda n: font.getlength(line[:n] + "…"))
    return line[: max(cut - 1, 0)].rstrip() + "…"


@lru_cache(maxsize=2048)
def _lettering(line: str, size: int, color: Color, bold: bool, width: int) -> Pixels:
    """A line of text on paper, uint8[h, w, 3], w at most ``width`` (pixels, as everywhere)."""
    font = _font(size, bold)
    line = _fit(line, font, width - 1)
    box = ceil(font.getlength(line)) + 1, sum(font.getmetrics())
    image = Image.new("RGB", box, _PAPER)
    ImageDraw.Draw(image).text((0, 0), line, color, font)
    return np.array(image)


class _Look(NamedTuple):
    """How the cells of a class are painted.

    Questions have up to hundreds of classes, most of them given once, by one branch. Such *lone*
    classes are painted smaller, so that agreement stands out.
    """

    color: Color
    texture: int
    lone: bool


def _looks(scene: Scene, cells: NDArray[np.int16], textured: bool) -> list[_Look]:
    """How every class is painted; textures would make letters in the cells hard to read."""
    gave = np.zeros((len(cells), len(scene.labels)), np.bool_)  # branch, class
    branch, depth = np.nonzero(cells >= 0)
    gave[branch, cells[branch, depth]] = True
    looks = []
    for rank, null, branches in zip(
        _ranks(scene.nulls), scene.nulls, gave.sum(axis=0), strict=True
    ):
        texture, color = (rank, 0) if null else divmod(rank, len(PALETTE))
        hue = _NULL if null else PALETTE[color]
        looks.append(_Look(hue, texture if textured else 0, bool(branches < 2 and not null)))
    return looks


def _textured(number: int, height: int, width: int) -> NDArray[np.bool_]:
    """Where a cell is lighter, so that classes of one colour are told apart; nowhere for 0."""
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij"
    )
    row, column = abs(y - 0.5) < 0.2, abs(x - 0.5) < 0.2
    return (y < 0, row & column, row, column, x + y < 1, row | column)[number % 6]


def _blank(width: int, height: int) -> Pixels:
    """A cell that was not requested, uint8[height, width, 3]: nothing but grid."""
    tile = np.full((height, width, 3), _PAPER, np.uint8)
    tile[-1] = tile[:, -1] = _GRID
    return tile


def _hatched(width: int, height: int) -> Pixels:
    """A requested cell of which nothing was revealed."""
    tile = _blank(width, height)
    y, x = np.indices((height - 1, width - 1))
    tile[:-1, :-1][(x + y) % 4 == 3] = (150, 156, 168)
    return tile


@lru_cache(maxsize=4096)
def _revealed(look: _Look, label: str, width: int, height: int) -> Pixels:
    """A revealed cell, with the answer written into it."""
    tile = _blank(width, height)
    edge = max(1, min(width, height) // 5) if look.lone else 0
    inner = tile[edge : height - 1 - edge, edge : width - 1 - edge]
    inner[:] = look.color
    lighter = _textured(look.texture, *inner.shape[:2])
    inner[lighter] = inner[lighter] // 3 + 170
    if label:
        font, image = _font(11, False), Image.fromarray(tile)
        middle = (width - 1) / 2, (height - 1) / 2
        line = _fit(label, font, inner.shape[1] - 4)
        ImageDraw.Draw(image).text(middle, line, _ink_on(look.color), font, "mm")
        tile = np.array(image)
    return tile


def _ended(tiles: Pixels) -> Pixels:
    """The same cells with the end of a branch at their right."""
    tiles = tiles.copy()
    width = tiles.shape[-2]
    tiles[..., width - min(max(width // 3, 2), 6) :, :] = _INK
    return tiles


def _faded(tiles: Pixels) -> Pixels:
    """The same cells on a pruned branch."""
    return tiles // 3 + 170


# --- picture: the layout, and what never changes in it -------------------------------------------

_LEFT: Final = 56
_TOP: Final = 104
_MARGIN: Final = 20
_PANEL: Final = 310  # width of the vote
_BAR: Final = 150  # where its bars begin
_ROW: Final = 23
_SWATCH: Final = (22, 15)
_SPENT: Final = 240  # length of the bar of what was spent
# Captions of the figures, and where they begin.
_FIGURES: Final = (
    ("spent", _LEFT),
    ("clock", 321),
    ("β", 461),
    ("last action", 531),
    ("outcome", 681),
)


@dataclass(frozen=True, eq=False)
class _Layout:
    """Where things are."""

    cell: tuple[int, int]  # width, height
    plane: tuple[slice, slice]  # rows, columns
    panel: int  # left edge of the vote
    lines: int  # classes it has room for
    background: Pixels

    @property
    def lettered(self) -> bool:
        """Whether answers can be read in the cells."""
        return self.cell[0] >= 30 and self.cell[1] >= 16


@lru_cache(maxsize=16)
def _layout(branches: int, depth: int) -> _Layout:
    width = min(max(800 // depth, 4), 56)
    height = min(max(640 // branches, 4), max(2 * width, 20), 40)
    right, bottom = _LEFT + depth * width, _TOP + branches * height
    body = max(branches * height + 44, 5 * _ROW)
    shape = _TOP + body + 34, max(right + _PANEL + 3 * _MARGIN, 960)
    shape = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2  # video codecs want even sizes
    frame = np.full((*shape, 3), _PAPER, np.uint8)
    frame[_TOP - 1 : bottom, _LEFT - 1 : right] = _GRID  # the plane leaves its outline

    for caption, x in _FIGURES:
        _write(frame, x, 46, caption, 11, _MUTED)
    _write(frame, _LEFT - 7, _TOP - 12, "branch", 11, _MUTED, align=1)
    for i in range(0, branches, _step(branches, height, 13)):
        y = _TOP + i * height + height // 2
        _write(frame, _LEFT - 7, y, str(i), 10, _MUTED, align=1)
    step = _step(depth, width, 24)
    for k in {1, *range(step, depth + 1, step)}:
        x = _LEFT + (k - 1) * width + width // 2
        frame[bottom : bottom + 3, x] = _MUTED
        _write(frame, x, bottom + 12, str(k), 10, _MUTED, align=0.5)
    _write(frame, _LEFT, bottom + 29, "depth (intervals)", 11, _MUTED)

    solid = _revealed(_Look(PALETTE[0], 0, False), "", *_SWATCH)
    x, y = _LEFT, _TOP + body + 12
    for caption, tile in (
        ("requested", _hatched(*_SWATCH)),
        ("revealed", solid),
        ("by one branch only", _revealed(_Look(PALETTE[0], 0, True), "", *_SWATCH)),
        ("null answer", _revealed(_Look(_NULL, 0, False), "", *_SWATCH)),
        ("pruned", _faded(solid)),
        ("end of the branch", _ended(solid)),
    ):
        _put(frame, x, y, tile)
        x = _write(frame, x + 28, y, caption, 11, _MUTED) + 22
    plane = slice(_TOP, bottom), slice(_LEFT, right)
    return _Layout((width, height), plane, right + 2 * _MARGIN, (body - _ROW) // _ROW, frame)


def _step(count: int, size: int, room: int) -> int:
    """Every how many rows or columns of ``size`` pixels one is numbered."""
    return next((s for s in (1, 2, 5, 10, 20, 50) if s * size >= room and s <= count), count)


def _put(frame: Pixels, x: int, y: int, tile: Pixels) -> None:
    """Copy a tile into the frame; x is its left edge, y its middle."""
    y -= tile.shape[0] // 2
    frame[y : y + tile.shape[0], x : x + tile.shape[1]] = tile


def _write(
    frame: Pixels,
    x: int,
    y: int,
    line: str,
    size: int,
    color: Color = _INK,
    *,
    bold: bool = False,
    width: int = 10_000,
    align: float = 0,
) -> int:
    """Write on paper; x is the line's left (align 0) or right (1) end; returns its right end."""
    tile = _lettering(line, size, color, bold, width)
    taken = len(tile[0])
    x -= round(taken * align)
    _put(frame, x, y, tile)
    return x + taken


# --- picture: one frame --------------------------------------------------------------------------


def draw(scene: Scene) -> Pixels:
    """Draw the plane, the vote at its right and the figures above.

    Returns:
        uint8[H, W, 3]; H and W are even, and depend on N and ``depth_limit`` alone.
    """
    layout = _layout(len(scene.status), scene.depth_limit)
    cells = _cells(scene, scene.depth_limit)
    looks = _looks(scene, cells, textured=not layout.lettered)
    frame = layout.background.copy()
    frame[layout.plane] = _plane(scene, layout, cells, looks)
    _draw_figures(frame, scene)
    _draw_vote(frame, scene, layout, looks)
    acted = _acted(scene)
    if acted >= 0:
        y = _TOP + acted * layout.cell[1] + layout.cell[1] // 2
        _write(frame, _LEFT - 30, y, "▶", 11, align=1)
    return frame


def _plane(
    scene: Scene, layout: _Layout, cells: NDArray[np.int16], looks: Sequence[_Look]
) -> Pixels:
    """Every cell is a tile, looked up by what it shows."""
    written = map(_answer, scene.labels) if layout.lettered else [""] * len(looks)
    revealed = (_revealed(*of, *layout.cell) for of in zip(looks, written, strict=True))
    tiles = np.stack([_blank(*layout.cell), _hatched(*layout.cell), *revealed])
    tiles = np.stack([tiles, _ended(tiles)])
    tiles = np.stack([tiles, _faded(tiles)])
    depth, requested = np.arange(1, scene.depth_limit + 1), scene.requested[:, None]
    pruned = (scene.status[:, None] == _PRUNED).astype(np.intp)
    ended = ((scene.finished[:, None] == 1) & (depth == requested)).astype(np.intp)
    painted = tiles[pruned, ended, np.where(cells >= 0, cells + 2, depth <= requested)]
    n, d, height, width, _ = painted.shape
    plane: Pixels = painted.swapaxes(1, 2).reshape(n * height, d * width, 3)
    return plane


def _draw_figures(frame: Pixels, scene: Scene) -> None:
    right = frame.shape[1] - _MARGIN
    _write(frame, _LEFT, 22, _plain(scene.title), 16, bold=True, width=right - _LEFT)
    figures = (
        _spending(scene),
        f"{scene.clock:,} tokens",
        f"{scene.beta:.3g}",
        scene.last_action or "none yet",
        scene.outcome or "running",
    )
    ends = [*(x - 10 for _, x in _FIGURES[1:]), right]
    for figure, (_, x), end in zip(figures, _FIGURES, ends, strict=True):
        _write(frame, x, 64, _plain(figure), 13, bold=True, width=end - x)
    if scene.budget is not None:
        spent = min(scene.spent / max(scene.budget, 1), 1)
        frame[75:80, _LEFT : _LEFT + _SPENT] = _GRID
        frame[75:80, _LEFT : _LEFT + round(_SPENT * spent)] = _INK


def _draw_vote(frame: Pixels, scene: Scene, layout: _Layout, looks: Sequence[_Look]) -> None:
    """Bars as long as the share of the active branches; the leader first, and marked."""
    votes, (active, turnout) = _votes(scene), _turnout(scene)
    left, bar, right = layout.panel, layout.panel + _BAR, layout.panel + _PANEL
    _write(frame, left, _TOP - 12, "vote", 13, bold=True)
    _write(frame, right, _TOP - 12, f"{turnout} branches", 11, _MUTED, align=1)
    shown = len(votes) if len(votes) <= layout.lines + 1 else layout.lines
    y = _TOP + _ROW // 2
    for place, (c, count) in enumerate(votes[:shown]):
        leads, color = place == 0 and count > 0, _INK if count else _MUTED
        if leads:
            _write(frame, left - 3, y, "▶", 11, align=1)
        _put(frame, left, y, _revealed(looks[c], "", *_SWATCH))
        label, width = _answer(scene.labels[c]), _BAR - 37 if count else _PANEL - 29
        _write(frame, left + 29, y, label, 12, color, bold=leads, width=width)
        if count:
            length = right - 30 - bar
            frame[y - 5 : y + 6, bar : bar + length] = _GRID
            frame[y - 5 : y + 6, bar : bar + round(length * count / active)] = looks[c].color
            _write(frame, right, y, str(count), 12, color, bold=leads, align=1)
        y += _ROW
    if shown < len(votes):
        _write(frame, left + 29, y, f"and {len(votes) - shown} more", 11, _MUTED)


# --- text ----------------------------------------------------------------------------------------

_VOTE: Final = 36  # columns that are not the plane's
_SYMBOLS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NORMAL: Final = ""
_BOLD: Final = "1"
_FAINT: Final = "38;5;244"


def text(scene: Scene, width: int = 120) -> str:
    """The same for a terminal of ``width`` columns: a row a branch, a character an interval.

    Colours are escapes for terminals of 256 colours. Where intervals are more than columns (84 of
    120), a character stands for several, and shows the latest of them that was revealed. Above the
    rows are four lines (title, figures, last action, depths), below them one (the key).
    """
    stride = ceil(scene.depth_limit / max(width - _VOTE, 8))
    line = width - 1
    columns = ceil(scene.depth_limit / stride)
    margin = len(str(len(scene.status) - 1)) + 2
    figures = f"spent {_spending(scene)}   clock {scene.clock:,} tokens   β {scene.beta:.3g}"
    action = f"last action {_plain(scene.last_action) or 'none yet'}   {_plain(scene.outcome)}"
    ticks = "".join(f"{k * stride:>5}" for k in range(5, columns + 1, 5))
    ticks = f"{stride:<3}{ticks[3:]}"  # the first column is numbered too
    rows = [f"{'':{margin}}{ticks:{columns + 1}}", *_text_rows(scene, stride, columns, margin)]
    scale = "a character an interval" if stride == 1 else f"a character {stride} intervals"
    key = f"{'':{margin}}{scale}; / requested, - null, | end, unfilled: pruned"
    return "\n".join(
        [
            _styled(_BOLD, _padded(_plain(scene.title), line).rstrip()),
            _padded(figures, line).rstrip(),
            _padded(action, line).rstrip(),
            *(f"{row}  {vote}" for row, vote in zip(rows, _text_vote(scene), strict=True)),
            _styled(_FAINT, _padded(key, line).rstrip()),
        ]
    )


def _text_rows(scene: Scene, stride: int, columns: int, margin: int) -> Iterator[str]:
    """The branches: ``margin`` columns for the number, ``columns`` of cells, one for an end."""
    groups = _cells(scene, columns * stride).reshape(-1, columns, stride)
    shown = groups[..., 0]
    for k in range(1, stride):
        shown = np.where(groups[..., k] >= 0, groups[..., k], shown)
    requested = np.minimum(-(-scene.requested // stride), columns)
    filled, bare = _symbols(scene.nulls, fill=True), _symbols(scene.nulls, fill=False)
    acted = _acted(scene)
    for i, depth in enumerate(requested.tolist()):
        symbols = bare if scene.status[i] == _PRUNED else filled
        row = [symbols[c] if c >= 0 else (_FAINT, "/") for c in shown[i, :depth].tolist()]
        row += [(_BOLD, "|") if scene.finished[i] else (_NORMAL, " ")]
        row += [(_NORMAL, " ")] * (columns - depth)
        number = f"{'>' if i == acted else ' '}{i:>{margin - 2}} "
        yield _styled(_NORMAL if scene.status[i] == _ACTIVE else _FAINT, number) + "".join(
            _styled(style, "".join(symbol for _, symbol in run))
            for style, run in groupby(row, key=itemgetter(0))
        )


def _text_vote(scene: Scene) -> list[str]:
    """The vote beside the rows: a heading, then as many lines as there are branches."""
    branches, votes = len(scene.status), _votes(scene)
    symbols = _symbols(scene.nulls, fill=True)
    lines = [_styled(_BOLD, "vote ") + _styled(_FAINT, _turnout(scene)[1])]
    shown = branches if len(votes) <= branches else branches - 1
    for place, (c, count) in enumerate(votes[:shown]):
        leads = place == 0 and count > 0
        line = f" {_padded(_answer(scene.labels[c]), 19)} {count or '':>4}"
        weight = _BOLD if leads else _NORMAL if count else _FAINT
        lines.append(f"{'>' if leads else ' '} {_styled(*symbols[c])}{_styled(weight, line)}")
    if shown < len(votes):
        lines.append(_styled(_FAINT, f"    and {len(votes) - shown} more"))
    return lines + [""] * (branches + 1 - len(lines))


def _symbols(nulls: Sequence[bool], *, fill: bool) -> list[tuple[str, str]]:
    """Every class's style and character: on its colour, or in its colour."""
    found = []
    for rank, null in zip(_ranks(nulls), nulls, strict=True):
        color = _NULL if null else PALETTE[rank % len(PALETTE)]
        if fill:
            style = f"48;5;{_terminal(color)};38;5;{_terminal(_ink_on(color))}"
        else:  # nearer to a grey that is read on dark and on light
            style = f"38;5;{_terminal(tuple((3 * part + 300) // 5 for part in color))}"
        found.append((style, "-" if null else _SYMBOLS[rank % len(_SYMBOLS)]))
    return found


@cache
def _terminal(color: Color) -> int:
    """The nearest of the 6 x 6 x 6 colours that terminals know."""
    levels = np.array([0, 95, 135, 175, 215, 255])
    r, g, b = (int(abs(levels - part).argmin()) for part in color)
    return 16 + 36 * r + 6 * g + b


def _styled(style: str, line: str) -> str:
    return f"\x1b[{style}m{line}\x1b[0m" if style and line else line


def _columns(character: str) -> int:
    """Columns that a terminal gives a character."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _padded(line: str, width: int) -> str:
    """The line in exactly ``width`` columns of a terminal, cut where it takes more."""
    ends = list(accumulate(map(_columns, line), initial=0))
    if ends[-1] > width:
        line = line[: bisect_right(ends, width - 1) - 1] + "…"
    return line + " " * (width - sum(map(_columns, line)))


# --- window --------------------------------------------------------------------------------------


class Window:
    """Shows frames one after the other with matplotlib; without a screen it shows nothing.

    A window that its viewer has closed stays closed until :meth:`close` is called.
    """

    def __init__(self) -> None:
        self._figure: Figure | None = None
        self._image: AxesImage | None = None

    def show(self, frame: Pixels) -> None:
        """Show a frame, uint8[H, W, 3]."""
        import matplotlib.pyplot as plt  # slow, and of no use to the other render modes
        from matplotlib.backend_bases import NonGuiException

        height, width, _ = frame.shape
        if self._figure is not None and not plt.fignum_exists(self._figure.number):
            return
        if self._image is not None and self._image.get_size() != (height, width):
            self.close()  # the next environment has another depth
        if self._figure is None or self._image is None:
            self._figure = plt.figure(figsize=(width / 100, height / 100), dpi=100)
            axes = self._figure.add_axes((0, 0, 1, 1))
            axes.set_axis_off()
            self._image = axes.imshow(frame)
            manager = self._figure.canvas.manager
            with suppress(NonGuiException):
                if manager is not None:
                    manager.show()
        self._image.set_data(frame)
        self._figure.canvas.draw_idle()
        self._figure.canvas.flush_events()

    def close(self) -> None:
        """Close the window, where one is open."""
        if self._figure is not None:
            import matplotlib.pyplot as plt

            plt.close(self._figure)
            self._figure = self._image = None
