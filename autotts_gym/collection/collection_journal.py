"""What a collection has paid for so far: a file that only grows.

A line a record, JSON. The first names the settings; then, in whatever order they are finished::

    {"settings": {...}}
    {"session": {"engine": ..., "engine_version": ..., "started": ...}}
    {"trace": [question, branch], "tokens": [...], "text": "...", "finish": "stop", "at": 12.3}
    {"probes": [question, branch], "generated": [["57", [logprob, ...], [piece, ...], n], ...]}

``at`` is seconds since the session started. A line that was being written when the process was
killed, or the disk was full, is cut off when the file is opened again; everything before it counts.
"""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import filelock

from autotts_gym.inference.engine import Generated
from autotts_gym.traces.store import TraceError
from autotts_gym.utils.journal import JournalError, JsonlJournal

JOURNAL: Final = "journal.jsonl"

_encode = functools.partial(json.dumps, separators=(",", ":"))

#: (row of the question, number of the branch)
Place = tuple[int, int]


@dataclass
class Trace:
    """A trace that was sampled whole.

    Attributes:
        tokens: token ids; emptied once it is probed, for nothing needs them any more.
        length: how many there are.
        text: its text.
        finish: ``"stop"``, or ``"length"`` where it was cut at the maximum length.
    """

    tokens: list[int]
    length: int
    text: str
    finish: str


@dataclass
class Kept:
    """What a journal holds.

    Attributes:
        settings: those of the collection; empty in a new one.
        sessions: what each session said of itself, with ``seconds`` that it took.
        traces: the traces that were sampled whole.
        probes: what the probes of a trace generated, in the order of its cuts.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    traces: dict[Place, Trace] = field(default_factory=dict)
    probes: dict[Place, list[Generated]] = field(default_factory=dict)

    def take(self, record: dict[str, Any]) -> None:
        """Take in a record."""
        if "settings" in record:
            self.settings = record["settings"]
        elif "session" in record:
            self.sessions.append({**record["session"], "seconds": 0.0})
        elif "trace" in record:
            q, b = record["trace"]
            tokens = record["tokens"]
            self.traces[q, b] = Trace(tokens, len(tokens), record["text"], record["finish"])
            self._pass(record)
        else:
            q, b = record["probes"]
            self.probes[q, b] = [
                Generated([0] * n, text, "stop", logprobs, pieces)
                for text, logprobs, pieces, n in record["generated"]
            ]
            self.traces[q, b].tokens = []
            self._pass(record)

    def _pass(self, record: dict[str, Any]) -> None:
        session = self.sessions[-1]
        session["seconds"] = max(session["seconds"], record["at"])


class Journal:
    """A journal that is open for writing; make it with :meth:`open`.

    Attributes:
        kept: what it held when it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.kept = Kept()
        self._file = JsonlJournal(path, self.kept.take, _encode)

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: Path) -> Iterator[Journal]:
        """Open the journal in a folder, which is made where there is none.

        Raises:
            TraceError: another process has it open, or a line in its midst is damaged.
            OSError: it cannot be read or written.
        """
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise TraceError(f"{folder}: another process collects into it") from None
        try:
            yield cls(folder / JOURNAL)
        except JournalError as error:
            raise TraceError(f"{error}; remove it to collect anew what it held") from error
        finally:
            lock.release()

    def settle(self, settings: dict[str, Any]) -> None:
        """Say what is collected, or hold it to what was said before.

        Raises:
            TraceError: the journal has other settings; names them.
        """
        before = self.kept.settings
        if not before:
            self._write({"settings": settings})
            return
        changed = [
            f"{key} {before.get(key)!r:.60} (now {settings.get(key)!r:.60})"
            for key in {**before, **settings}
            if before.get(key) != settings.get(key)
        ]
        if changed:
            folder = self._file.path.parent
            raise TraceError(
                f"{folder}: was begun with other settings: {', '.join(changed)}; go on with those, "
                "collect under another name, or remove the folder to begin anew"
            )

    def begin(self, session: dict[str, Any]) -> None:
        """Say who collects from now on."""
        self._write({"session": session})

    def trace(self, place: Place, trace: Generated, at: float) -> None:
        """Keep a trace."""
        self._write(
            {
                "trace": place,
                "tokens": trace.tokens,
                "text": trace.text,
                "finish": trace.finish,
                "at": round(at, 3),
            }
        )

    def probes(self, place: Place, probes: list[Generated], at: float) -> None:
        """Keep what the probes of a trace generated."""
        generated = [
            [p.text, [round(x, 6) for x in p.logprobs], p.pieces, len(p.tokens)] for p in probes
        ]
        self._write({"probes": place, "generated": generated, "at": round(at, 3)})

    def flush(self) -> None:
        """Have what was written reach the disk, should the machine lose power."""
        self._file.sync()

    def _write(self, record: dict[str, Any]) -> None:
        self._file.append(record, sync=False)
        self.kept.take(record)
