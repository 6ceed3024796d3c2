"""``CollectionDisplay``: shows the progress of a collection, as a bar or as lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

from autotts_gym.cli.console import PROGRESS_INTERVAL
from autotts_gym.utils.terminal_text import one_line

if TYPE_CHECKING:
    from autotts_gym.collection.collector import CollectionProgress


#: Seconds without data from the engine that are worth a word.
_SILENCE: Final = 10.0


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
        self._last_failure = float("-inf")
        self._retries = 0

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
        if state.retries > self._retries and now - self._last_failure >= PROGRESS_INTERVAL:
            self._last_failure, self._retries = now, state.retries
            self._print(
                f"{name}: {_count(state.retries, 'request')} sent again so far, the last after: "
                f"{state.failure}"
            )
        if not self._console.is_terminal and now - self._last_print >= PROGRESS_INTERVAL:
            self._last_print = now
            self._print(f"{name}: {facts}")

    def _print(self, line: str) -> None:
        self._console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """Show a warning."""
        self._console.print(f"[yellow]warning:[/] {escape(one_line(message))}", soft_wrap=True)

    def merged(self, done: int, total: int) -> None:
        """Show the progress of merging equal answers."""
        self._bar.update(
            self._task, description="merging equal answers", completed=done, total=total, facts=""
        )


def _facts(state: CollectionProgress) -> str:
    done = state.probed - state.resumed
    sampled = state.sampled - state.resumed_samples
    parts = [f"{state.probed:,}/{state.total:,} traces", f"{state.tokens:,} tokens"]
    if state.seconds > 0 and sampled + done:
        parts.append(f"{state.tokens / state.seconds:,.0f} tokens/s")
        parts.append(f"{done / state.seconds:,.1f} traces/s")
        parts.append(f"{_format_time(state.seconds_left)} left")
    if state.silent_seconds >= _SILENCE:
        parts.append(f"nothing received for {_format_time(state.silent_seconds)}")
    if state.retries:
        parts.append(f"{_count(state.retries, 'request')} sent again")
    return ", ".join(parts)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _format_time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
