"""Console output of the commands: messages, progress, and the ways a command ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

#: Seconds between two progress lines where there is no terminal.
PROGRESS_INTERVAL: Final = 30.0

console = Console()
errors = Console(stderr=True)
#: For tables: a fixed width, so that their layout does not depend on the terminal.
wide_console = Console(width=118)


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
    errors.print(f"[{style}]{escape(label)}:[/] {escape(message)}", highlight=False, soft_wrap=True)


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
            errors.print(line, highlight=False, soft_wrap=True)
