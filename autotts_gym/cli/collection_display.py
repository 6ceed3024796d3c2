"""``CollectionDisplay``: shows the progress of a collection, as a bar or as lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from autotts_gym.cli.console import PROGRESS_INTERVAL

if TYPE_CHECKING:
    from autotts_gym.collection.collector import CollectionProgress


class CollectionDisplay:
    """Progress as a bar on a terminal, or as a line every 30 seconds elsewhere.

    Args:
        to: the console to write to.
    """

    def __init__(self, to: Console) -> None:
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[facts]}", markup=False),
            console=to,
            transient=True,
            disable=not to.is_terminal,
        )
        self._console = to
        self._task = self._bar.add_task("starting", total=None, facts="")
        self._last_print = time.monotonic()

    def __enter__(self) -> CollectionDisplay:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def collected(self, state: CollectionProgress) -> None:
        """Show the progress of a collection."""
        self.named("collecting", state)

    def named(self, name: str, state: CollectionProgress) -> None:
        """Show the progress of one of several collections."""
        facts = _facts(state)
        self._bar.update(
            self._task, description=name, completed=state.probed, total=state.total, facts=facts
        )
        now = time.monotonic()
        if not self._console.is_terminal and now - self._last_print >= PROGRESS_INTERVAL:
            self._last_print = now
            self._console.print(f"{name}: {facts}", highlight=False, soft_wrap=True)

    def merged(self, done: int, total: int) -> None:
        """Show the progress of merging equal answers."""
        self._bar.update(
            self._task, description="merging equal answers", completed=done, total=total, facts=""
        )


def _facts(state: CollectionProgress) -> str:
    done = state.probed - state.resumed
    parts = [f"{state.probed:,}/{state.total:,} traces", f"{state.tokens:,} tokens"]
    if state.seconds > 0 and done:
        parts.append(f"{state.tokens / state.seconds:,.0f} tokens/s")
        parts.append(f"{done / state.seconds:,.1f} traces/s")
        parts.append(f"{_format_time(state.seconds_left)} left")
    return ", ".join(parts)


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
