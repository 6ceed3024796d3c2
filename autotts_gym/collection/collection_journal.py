"""``CollectionJournal``: an append-only file of everything that a collection has finished.

Each line is a JSON record. The first holds the settings; the others follow in the order in which
they are finished::

    {"settings": {...}}
    {"session": {"engine": ..., "engine_version": ..., "started": ...}}
    {"trace": [question, branch], "tokens": [...], "text": "...", "finish": "stop", "at": 12.3,
     "confidence": [top_tokens, [sum, ...]]}
    {"probes": [question, branch], "generated": [["57", [logprob, ...], [piece, ...], n], ...]}

``at`` is the time since the session started, seconds. ``confidence`` is optional: the number of
likeliest tokens, and the sum of the token confidences of each interval. A partial last line, from a
process that was killed or a full disk, is removed when the journal is opened again; all lines
before it are kept.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import filelock

from autotts_gym.inference.engine import Generated
from autotts_gym.inference.token_confidence import TraceConfidence
from autotts_gym.traces.store import TraceError
from autotts_gym.utils.journal import JournalError, JsonlJournal

JOURNAL: Final = "journal.jsonl"

_encode = functools.partial(json.dumps, separators=(",", ":"))

#: Row of the question and number of the branch, both from 0.
BranchKey = tuple[int, int]


@dataclass
class SampledTrace:
    """A finished trace.

    Attributes:
        tokens: token ids; emptied after the trace is probed, to save memory.
        length: number of tokens.
        text: decoded text.
        finish: ``"stop"``, or ``"length"`` if the trace was cut at the maximum length.
        confidence: its generation confidence; None if it is not known.
    """

    tokens: list[int]
    length: int
    text: str
    finish: str
    confidence: TraceConfidence | None = None


@dataclass
class JournalContents:
    """The records of a journal.

    Attributes:
        settings: settings of the collection; empty in a new journal.
        sessions: what the engine reported in each session, with the session's ``seconds``.
        traces: the finished traces.
        probes: what the probes of each trace generated, in the order of their positions.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    traces: dict[BranchKey, SampledTrace] = field(default_factory=dict)
    probes: dict[BranchKey, list[Generated]] = field(default_factory=dict)

    def add(self, record: dict[str, Any]) -> None:
        """Add a record of the journal.

        Raises:
            ValueError, KeyError, TypeError, IndexError: the record is malformed.
        """
        if not isinstance(record, dict):
            raise TypeError(f"a record must be an object, got {record!r:.80}")
        if "settings" in record:
            self.settings = dict(record["settings"])
        elif "session" in record:
            self.sessions.append({**record["session"], "seconds": 0.0})
        elif "trace" in record:
            q, b = _read_key(record["trace"])
            tokens, text, finish = record["tokens"], record["text"], record["finish"]
            if not isinstance(text, str) or finish not in ("stop", "length"):
                raise ValueError("a trace must have a text, and finish with stop or length")
            self.traces[q, b] = SampledTrace(
                _read_tokens(tokens),
                len(tokens),
                text,
                finish,
                _read_confidence(record.get("confidence")),
            )
            self._update_seconds(record["at"])
        else:
            q, b = _read_key(record["probes"])
            probes = [_read_probe(*probe) for probe in record["generated"]]
            self.traces[q, b].tokens = []
            self.probes[q, b] = probes
            self._update_seconds(record["at"])

    def _update_seconds(self, at: float) -> None:
        if not 0 <= at < math.inf:
            raise ValueError(f"at must be seconds of at least 0, got {at!r}")
        session = self.sessions[-1]
        session["seconds"] = max(session["seconds"], at)


def _read_key(value: Any) -> BranchKey:
    q, b = value
    for number in (q, b):
        if type(number) is not int or number < 0:
            raise ValueError(f"question and branch must be integers of at least 0, got {value!r}")
    return q, b


def _read_tokens(value: Any) -> list[int]:
    if not isinstance(value, list) or not all(type(t) is int and t >= 0 for t in value):
        raise ValueError("tokens must be a list of token ids")
    return value


def _read_confidence(value: Any) -> TraceConfidence | None:
    if value is None:
        return None
    top_tokens, sums = value
    if type(top_tokens) is not int or top_tokens < 1:
        raise ValueError(f"a confidence must be of at least 1 likeliest token, got {top_tokens!r}")
    if not isinstance(sums, list) or not all(
        type(x) in (int, float) and -1e12 < x < 1e12 for x in sums
    ):
        raise ValueError("the sums of a confidence must be finite numbers")
    return TraceConfidence(top_tokens, [float(x) for x in sums])


def _read_probe(text: Any, logprobs: Any, pieces: Any, count: Any) -> Generated:
    """Read what a probe generated; its token ids are not recorded, only their number."""
    if not isinstance(text, str) or not all(isinstance(piece, str) for piece in pieces):
        raise TypeError("a probe must have a text and pieces of text")
    known = len(logprobs), len(pieces)
    if type(count) is not int or count < 0 or known not in ((count, count), (0, 0)):
        raise ValueError(
            f"a probe must have as many log-probabilities and pieces as its {count!r}, or none"
        )
    if not all(type(x) in (int, float) and -1e9 < x < 1e9 for x in logprobs):
        raise ValueError("log-probabilities must be finite numbers")
    return Generated([0] * count, text, "stop", list(logprobs), list(pieces))


class CollectionJournal:
    """The open journal of a collection; use :meth:`open`.

    Attributes:
        contents: all records, including those written since it was opened.
    """

    def __init__(self, path: Path) -> None:
        self.contents = JournalContents()
        self._file = JsonlJournal(path, self.contents.add, _encode)

    @classmethod
    @contextlib.contextmanager
    def open(cls, folder: str | os.PathLike[str]) -> Iterator[CollectionJournal]:
        """Open the journal in a folder, and lock the folder meanwhile.

        Args:
            folder: folder of the journal; created if needed.

        Raises:
            TraceError: another process has it open, or a complete line is damaged.
            OSError: it cannot be read or written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            raise TraceError(f"{folder}: in use by another collection process") from None
        try:
            yield cls(folder / JOURNAL)
        except JournalError as error:
            raise TraceError(f"{error}; remove the line to collect its content again") from error
        finally:
            lock.release()

    def check_settings(self, settings: dict[str, Any]) -> None:
        """Record the settings in a new journal, or compare them with those of the journal.

        Raises:
            TraceError: the journal has other settings; the message lists the differences.
        """
        previous = self.contents.settings
        if not previous:
            self._append({"settings": settings})
            return
        changed = [
            f"{key} {previous.get(key)!r:.60} (now {settings.get(key)!r:.60})"
            for key in {**previous, **settings}
            if previous.get(key) != settings.get(key)
        ]
        if changed:
            folder = self._file.path.parent
            raise TraceError(
                f"{folder}: started with other settings: {', '.join(changed)}; resume with those, "
                "collect under another name, or remove the folder to start again"
            )

    def start_session(self, session: dict[str, Any]) -> None:
        """Record the start of a session, with what the engine reports about itself."""
        self._append({"session": session})

    def append_trace(
        self, key: BranchKey, trace: Generated, at: float, confidence: TraceConfidence | None = None
    ) -> None:
        """Record a finished trace.

        Args:
            key: question and branch.
            trace: what the engine generated.
            at: seconds since the session started.
            confidence: its generation confidence, if known.

        Raises:
            OSError: the record cannot be written; the journal is unchanged.
        """
        record: dict[str, Any] = {
            "trace": key,
            "tokens": trace.tokens,
            "text": trace.text,
            "finish": trace.finish,
            "at": round(at, 3),
        }
        if confidence is not None:
            top_tokens, sums = confidence
            record["confidence"] = [top_tokens, [float(f"{x:.8g}") for x in sums]]
        self._append(record)

    def append_probes(self, key: BranchKey, probes: Sequence[Generated], at: float) -> None:
        """Record what the probes of a trace generated; see :meth:`append_trace`."""
        generated = [
            [p.text, [round(x, 6) for x in p.logprobs], p.pieces, len(p.tokens)] for p in probes
        ]
        self._append({"probes": key, "generated": generated, "at": round(at, 3)})

    def sync(self) -> None:
        """Wait until all records are on the disk, so that they survive a loss of power."""
        self._file.sync()

    def _append(self, record: dict[str, Any]) -> None:
        self._file.append(record, sync=False)
        self.contents.add(record)
