"""Console output of the commands: messages, progress, and the ways a command ends."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table

from autotts_gym.utils.terminal_text import one_line, printable

#: Seconds between two progress lines where there is no terminal.
PROGRESS_INTERVAL: Final = 30.0


class SafeConsole(Console):
    """A console that escapes control characters of texts: names, answers and errors of others.

    Escape sequences of styles are not part of a text, and remain.
    """

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text), segment.style)


console = SafeConsole()
errors = SafeConsole(stderr=True)
#: For tables: a fixed width, so that their layout does not depend on the terminal.
wide_console = SafeConsole(width=118)


def substitute_characters() -> None:
    """Write characters that the encoding of an output lacks as escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def print_table(table: Table) -> None:
    """Print a table in its full width: in a narrow terminal, lines wrap, and no cell is cut."""
    width = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    SafeConsole(width=max(width, console.width)).print(table)


def print_line(markup: str) -> None:
    """Print a line of rich markup, without highlighting or wrapping."""
    console.print(markup, highlight=False, soft_wrap=True)


def print_text(text: str) -> None:
    """Print plain text, without markup, highlighting or wrapping."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def print_dim(text: str) -> None:
    """Print a remark in a dim color."""
    console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def print_error(label: str, message: str, style: str = "red") -> None:
    """Print ``label: message`` to the error stream."""
    label, message = escape(one_line(label)), escape(one_line(message))
    errors.print(f"[{style}]{label}:[/] {message}", highlight=False, soft_wrap=True)


@contextmanager
def exit_on_interrupt() -> Iterator[None]:
    """Exit with status 130 on Ctrl-C, and explain how to continue."""
    try:
        yield
    except KeyboardInterrupt:
        errors.print(
            "interrupted: finished work is kept; run the same command to continue", soft_wrap=True
        )
        raise typer.Exit(130) from None


@contextmanager
def requires_extra(activity: str, package: str, extra: str) -> Iterator[None]:
    """Explain a missing optional dependency.

    Raises:
        ValueError: an import failed; the message names the extra to install.
    """
    try:
        yield
    except ImportError as problem:
        raise ValueError(
            f"{activity} needs {package} ({problem}): pip install 'autotts-gym[{extra}]'"
        ) from None


def progress_bar() -> Progress:
    """Create a progress bar on the error stream; disabled where that is not a terminal."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,  # otherwise it writes an empty line to files
    )


class ProgressLines:
    """Progress of long work as lines, at most one in 30 seconds, where there is no terminal.

    Args:
        progress: the bar; nothing is printed if it is enabled.
    """

    def __init__(self, progress: Progress) -> None:
        self._enabled = progress.disable
        self._last_print = time.monotonic()

    def print(self, line: str) -> None:
        """Print a line, unless the previous one is recent."""
        now = time.monotonic()
        if self._enabled and now - self._last_print >= PROGRESS_INTERVAL:
            self._last_print = now
            errors.print(one_line(line), markup=False, highlight=False, soft_wrap=True)
