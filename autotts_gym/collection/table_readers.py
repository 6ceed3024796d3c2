"""Readers of JSONL, JSON, CSV and Parquet files as rows, with the position of every row."""

from __future__ import annotations

import csv
import io
import json
import reprlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.traces.store import TraceError
from autotts_gym.traces.strict_json import parse
from autotts_gym.utils.bounded_files import open_regular, read_bytes
from autotts_gym.utils.parquet import read_table

#: Size of a text file, bytes. Its rows take several times as much memory.
_MAX_FILE: Final = 1 << 28
#: Size of a line of a JSON Lines file, bytes.
_MAX_LINE: Final = 1 << 28
_ADVICE: Final = "write it as a string"

#: Number of a row in its file, as in error messages, and its fields.
NumberedRow = tuple[int, dict[str, Any]]


class TableReader(NamedTuple):
    """How a type of file is read.

    Attributes:
        read: yields the rows of a file; raises ``TraceError``, ``OSError`` or ``RecursionError``.
        unit: what row numbers count, ``"line"`` or ``"row"``.
    """

    read: Callable[[Path], Iterable[NumberedRow]]
    unit: str


def read_jsonl(
    path: Path, *, limit: int = _MAX_FILE, constants: bool = False
) -> Iterator[NumberedRow]:
    """Read the objects of a JSON Lines file, one line at a time; blank lines are skipped.

    Args:
        path: a UTF-8 file.
        limit: largest size of the file, bytes.
        constants: see :func:`~autotts_gym.traces.strict_json.parse`.

    Raises:
        TraceError: a line is not a JSON object, or too long; the message names it.
        OSError: the file cannot be read, is not a regular file, or is too large.
        RecursionError: a line is nested too deeply.
    """
    offset = 0
    with open_regular(path, limit) as file:
        lines = iter(lambda: file.readline(_MAX_LINE), b"")
        for number, line in enumerate(lines, 1):
            try:
                if len(line) == _MAX_LINE:
                    raise TraceError(f"has {_MAX_LINE:,} bytes or more")
                text = _decode(line, offset, "utf-8-sig" if number == 1 else "utf-8")
                if text.strip():
                    text = text.removesuffix("\n")  # keeps columns in messages right
                    yield number, _check_object(parse(text, _ADVICE, constants=constants))
            except json.JSONDecodeError as error:
                raise TraceError(
                    f"line {number}: malformed JSON at column {error.colno}: {error.msg}; "
                    "expected one JSON object per line"
                ) from None
            except TraceError as error:
                raise TraceError(f"line {number}: {error}") from None
            offset += len(line)


def _read_json(path: Path) -> Iterable[NumberedRow]:
    try:
        entries = _parse_json(_read_text(path))
    except json.JSONDecodeError as error:
        hint = "; name a file with one object per line .jsonl" if error.msg == "Extra data" else ""
        position = f"line {error.lineno}, column {error.colno}"
        raise TraceError(f"malformed JSON at {position}: {error.msg}{hint}") from None
    if not isinstance(entries, list):
        raise TraceError(f"must be a list of objects, got {reprlib.repr(entries)}")
    for number, entry in enumerate(entries):
        try:
            yield number, _check_object(entry)
        except TraceError as error:
            raise TraceError(f"row {number}: {error}") from None


def _read_csv(path: Path) -> Iterable[NumberedRow]:
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        names = reader.fieldnames or []
        if len(set(names)) < len(names):
            raise TraceError(f"line 1: duplicate column name: {', '.join(names)}")
        for row in reader:
            number = reader.line_num  # the last line of a row that spans several
            if None in row or None in row.values():
                count = sum(value is not None for key, value in row.items() if key is not None)
                count += len(row.get(None) or ())
                raise TraceError(
                    f"line {number}: {count} columns, but {len(names)} in line 1; quote values "
                    "that contain a comma"
                )
            yield number, dict(row)
    except csv.Error as error:
        # The line where the row starts: an unclosed quote extends to the end of the file.
        raise TraceError(f"line {reader.line_num + 1}: malformed CSV: {error}") from None


def _read_parquet(path: Path) -> Iterable[NumberedRow]:
    try:
        return list(enumerate(read_table(path).to_pylist()))
    except ValueError as error:
        raise TraceError(f"cannot be read as Parquet: {error}") from error


#: Readers by file suffix, lower case.
READERS: Final[dict[str, TableReader]] = {
    ".jsonl": TableReader(read_jsonl, "line"),
    ".json": TableReader(_read_json, "row"),
    ".csv": TableReader(_read_csv, "line"),
    ".parquet": TableReader(_read_parquet, "row"),
}


def _read_text(path: Path) -> str:
    content = read_bytes(path, _MAX_FILE)
    try:
        return _decode(content, 0, "utf-8-sig")
    except TraceError as error:
        cause = error.__cause__
        assert isinstance(cause, UnicodeDecodeError)
        line = content.count(b"\n", 0, cause.start) + 1
        raise TraceError(f"line {line}: {error}") from None


def _decode(content: bytes, offset: int, encoding: str) -> str:
    """Decode a part of a file that begins at ``offset``."""
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{content[error.start]:02x} at offset {offset + error.start}"
        raise TraceError(f"not UTF-8: {byte}: {error.reason}") from error


def _parse_json(text: str) -> Any:
    return parse(text, _ADVICE)


def _check_object(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise TraceError(f"must be an object with named fields, got {reprlib.repr(entry)}")
    return entry
