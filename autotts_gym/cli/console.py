"""What the commands share: consoles, progress, and options."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from autotts_gym.traces.store import TraceStore

#: Seconds from line to line, where there is no terminal to draw a bar in.
_LINE_EVERY = 30.0

#: Seeds that can be asked for at once, and the first number that is too large for one.
_MOST_SEEDS, _SEEDS_END = 1_000_000, 2**63

console = Console()
errors = Console(stderr=True)
#: For tables, which keep their columns whatever the width of the terminal.
wide = Console(width=118)


class Order(StrEnum):
    """The branch orders of ``autotts benchmark``."""

    published = "published"
    random = "random"


class Billing(StrEnum):
    """The billings of ``autotts benchmark``."""

    tokens = "tokens"
    interval = "interval"


def numbers(text: str) -> list[float]:
    """``0,0.5,1`` as numbers, each once; raises ``typer.BadParameter``."""
    try:
        return list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 0,0.5,1") from None


def integers(text: str) -> list[int]:
    """``0-9`` or ``0,3,5-7`` as integers, each once; raises ``typer.BadParameter``."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise typer.BadParameter(f"{text!r} is no list of seeds such as 0-9 or 0,3,5-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise typer.BadParameter(f"{part!r} runs backwards")
        if last >= _SEEDS_END or len(found) + last - first >= _MOST_SEEDS:
            raise typer.BadParameter(
                f"{part!r} is too much: at most {_MOST_SEEDS:,} seeds, each below 2^63"
            )
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


def progress_bar() -> Progress:
    """A progress bar on the error stream; nothing where that is no terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,  # or it leaves an empty line in files
    )


class Lines:
    """What long work says where there is no bar to look at: a line now and then.

    Args:
        progress: the bar.
    """

    def __init__(self, progress: Progress) -> None:
        self._wanted = progress.disable
        self._said = time.monotonic()

    def say(self, line: str) -> None:
        """Print a line, unless the last one is recent."""
        now = time.monotonic()
        if self._wanted and now - self._said >= _LINE_EVERY:
            self._said = now
            errors.print(line, highlight=False)


def stores_of(environments: Sequence[str] | None) -> dict[str, TraceStore]:
    """The stores behind ``--env``, by name; the default environment's without any."""
    from autotts_gym.traces import registry

    return registry.open_stores(*(environments or [registry.DEFAULT]))


def command_of(out: Path) -> str:
    """How this was called, without the place of its output, which others do not have."""
    words = ["OUT" if word == str(out) else word for word in sys.argv[1:]]
    return shlex.join(["autotts", *words])


def print_dim(text: str) -> None:
    """Print a remark."""
    console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)
