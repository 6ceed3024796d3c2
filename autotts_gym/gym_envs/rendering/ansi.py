"""``render_ansi``: a scene as text with color escapes for a terminal."""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, groupby
from math import ceil
from operator import itemgetter
from typing import Final

import numpy as np

from autotts_gym.gym_envs.rendering.scene import (
    ACTIVE,
    NULL_GRAY,
    PALETTE,
    PRUNED,
    Color,
    Scene,
    acted_branch,
    answer_label,
    class_ranks,
    count_votes,
    printable,
    spent_text,
    text_color,
    turnout,
    visible_plane,
)

_VOTE_WIDTH: Final = 36  # columns beside the plane
_SYMBOLS: Final = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

# Parameters of the escape sequence that sets the style.
_NORMAL: Final = ""
_BOLD: Final = "1"
_FAINT: Final = "38;5;244"


def render_ansi(scene: Scene, width: int = 120) -> str:
    """Render a scene for a terminal: one row for each branch, one character for each interval.

    Four lines come before the rows (title, figures, last action, depths) and one after them (the
    key). If there are more intervals than columns (84 of 120), one character represents several
    intervals, and shows the latest of them that was revealed.

    Args:
        scene: what to render.
        width: columns of the terminal.

    Returns:
        Lines with escape sequences for a terminal of 256 colors.
    """
    stride = ceil(scene.depth_limit / max(width - _VOTE_WIDTH, 8))
    line = width - 1
    columns = ceil(scene.depth_limit / stride)
    margin = len(str(len(scene.status) - 1)) + 2
    figures = f"spent {spent_text(scene)}   clock {scene.clock:,} tokens   β {scene.beta:.3g}"
    if scene.latency_weight:
        figures += f"   w {scene.latency_weight:.3g}"
    action = (
        f"last action {printable(scene.last_action) or 'none yet'}   {printable(scene.outcome)}"
    )
    ticks = "".join(f"{k * stride:>5}" for k in range(5, columns + 1, 5))
    ticks = f"{stride:<3}{ticks[3:]}"  # the first column is numbered too
    rows = [f"{'':{margin}}{ticks:{columns + 1}}", *_branch_rows(scene, stride, columns, margin)]
    scale = f"1 character = {stride} interval{'s' * (stride > 1)}"
    key = f"{'':{margin}}{scale}; / requested, - null answer, | end, unfilled: pruned"
    return "\n".join(
        [
            _styled(_BOLD, _padded(printable(scene.title), line).rstrip()),
            _padded(figures, line).rstrip(),
            _padded(action, line).rstrip(),
            *(f"{row}  {vote}" for row, vote in zip(rows, _vote_lines(scene), strict=True)),
            _styled(_FAINT, _padded(key, line).rstrip()),
        ]
    )


def _branch_rows(scene: Scene, stride: int, columns: int, margin: int) -> Iterator[str]:
    """Yield a row for each branch: its number (``margin`` columns), its cells, and its end."""
    groups = visible_plane(scene, columns * stride).reshape(-1, columns, stride)
    shown = groups[..., 0]
    for k in range(1, stride):
        shown = np.where(groups[..., k] >= 0, groups[..., k], shown)
    requested = np.minimum(-(-scene.requested // stride), columns)
    filled, unfilled = (
        _class_symbols(scene.nulls, fill=True),
        _class_symbols(scene.nulls, fill=False),
    )
    acted = acted_branch(scene)
    for i, depth in enumerate(requested.tolist()):
        symbols = unfilled if scene.status[i] == PRUNED else filled
        row = [symbols[c] if c >= 0 else (_FAINT, "/") for c in shown[i, :depth].tolist()]
        row += [(_BOLD, "|") if scene.finished[i] else (_NORMAL, " ")]
        row += [(_NORMAL, " ")] * (columns - depth)
        number = f"{'>' if i == acted else ' '}{i:>{margin - 2}} "
        yield _styled(_NORMAL if scene.status[i] == ACTIVE else _FAINT, number) + "".join(
            _styled(style, "".join(symbol for _, symbol in run))
            for style, run in groupby(row, key=itemgetter(0))
        )


def _vote_lines(scene: Scene) -> list[str]:
    """Return the vote beside the rows: a heading, and one line for each branch."""
    branches, votes = len(scene.status), count_votes(scene)
    symbols = _class_symbols(scene.nulls, fill=True)
    lines = [_styled(_BOLD, "vote ") + _styled(_FAINT, turnout(scene)[1])]
    shown = branches if len(votes) <= branches else branches - 1
    for place, (c, count) in enumerate(votes[:shown]):
        leads = place == 0 and count > 0
        line = f" {_padded(answer_label(scene.labels[c]), 19)} {count or '':>4}"
        weight = _BOLD if leads else _NORMAL if count else _FAINT
        lines.append(f"{'>' if leads else ' '} {_styled(*symbols[c])}{_styled(weight, line)}")
    if shown < len(votes):
        lines.append(_styled(_FAINT, f"    and {len(votes) - shown} more"))
    return lines + [""] * (branches + 1 - len(lines))


def _class_symbols(nulls: Sequence[bool], *, fill: bool) -> list[tuple[str, str]]:
    """Return the style and the character of every class: filled, or only the character colored."""
    symbols = []
    for rank, null in zip(class_ranks(nulls), nulls, strict=True):
        color = NULL_GRAY if null else PALETTE[rank % len(PALETTE)]
        if fill:
            style = f"48;5;{_terminal_color(color)};38;5;{_terminal_color(text_color(color))}"
        else:  # mixed with gray, so that it is readable on dark and on light terminals
            style = f"38;5;{_terminal_color(tuple((3 * part + 300) // 5 for part in color))}"
        symbols.append((style, "-" if null else _SYMBOLS[rank % len(_SYMBOLS)]))
    return symbols


@cache
def _terminal_color(color: Color) -> int:
    """Return the number of the nearest color in a terminal's 6 x 6 x 6 color cube."""
    levels = np.array([0, 95, 135, 175, 215, 255])
    r, g, b = (int(abs(levels - part).argmin()) for part in color)
    return 16 + 36 * r + 6 * g + b


def _styled(style: str, line: str) -> str:
    return f"\x1b[{style}m{line}\x1b[0m" if style and line else line


def _column_count(character: str) -> int:
    """Return how many columns of a terminal a character takes."""
    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def _padded(line: str, width: int) -> str:
    """Pad or cut a line to exactly ``width`` columns of a terminal."""
    ends = list(accumulate(map(_column_count, line), initial=0))
    if ends[-1] > width:
        line = line[: bisect_right(ends, width - 1) - 1] + "…"
    return line + " " * (width - sum(map(_column_count, line)))
