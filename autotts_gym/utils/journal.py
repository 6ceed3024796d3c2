"""Append-only JSON Lines files that survive a kill or a full disk."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from autotts_gym.utils.bounded_files import check_regular

_DAMAGE: Final = (
    *(ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError),
)
#: Longest line, bytes: a record of a million tokens takes a tenth.
_MAX_LINE: Final = 1 << 28
#: Journals grow as long as a collection runs.
_MAX_FILE: Final = 1 << 50


class JournalError(ValueError):
    """A journal holds a line that cannot be read.

    Attributes:
        path: the file.
        line: number of the line, from 1.
    """

    def __init__(self, path: Path, line: int, cause: Exception) -> None:
        super().__init__(f"{path}: line {line} is damaged ({type(cause).__name__}: {cause})")
        self.path = path
        self.line = line


class JsonlJournal:
    """An append-only file of JSON records, one per line.

    Opening a journal reads the existing records. A last line without a line break is the trace of
    an interrupted write: it is removed from the file. A missing file is an empty journal.

    Args:
        path: the file.
        receive: called with each existing record, in order. It may raise ``ValueError``,
            ``KeyError``, ``TypeError``, ``IndexError`` or ``AttributeError`` for a record of the
            wrong form.
        encode: converts a record to JSON text without line breaks.

    Raises:
        JournalError: a complete line is not JSON, or ``receive`` rejects it. The file is unchanged.
        OSError: the file cannot be read or written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        receive: Callable[[Any], object],
        encode: Callable[[Any], str] = json.dumps,
    ) -> None:
        self.path = Path(path)
        self._encode = encode
        self._read(receive)

    def _read(self, receive: Callable[[Any], object]) -> None:
        end = 0
        try:
            check_regular(self.path, _MAX_FILE)
            with self.path.open("rb") as file:
                lines = iter(lambda: file.readline(_MAX_LINE), b"")
                for number, line in enumerate(lines, 1):
                    if len(line) == _MAX_LINE:
                        cause = ValueError(f"it has {_MAX_LINE:,} bytes or more")
                        raise JournalError(self.path, number, cause)
                    if not line.endswith(b"\n"):
                        break
                    try:
                        receive(json.loads(line))
                    except _DAMAGE as error:
                        raise JournalError(self.path, number, error) from error
                    end += len(line)
                else:
                    return
        except FileNotFoundError:
            return
        os.truncate(self.path, end)

    def append(self, record: Any, *, sync: bool = True) -> None:
        """Write one record at the end of the file.

        Args:
            record: the record.
            sync: wait until the record is on the disk, so that it survives a loss of power.

        Raises:
            OSError: the record cannot be written; the error names the file, which holds no part of
                the record.
        """
        line = self._encode(record).encode() + b"\n"
        file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            end = os.fstat(file).st_size
            try:
                written = 0
                while written < len(line):  # a write to a nearly full disk is partial
                    written += os.write(file, line[written:])
                if sync:
                    os.fsync(file)
            except OSError as error:
                # Remove the partial line, so that the next record starts on a new line.
                with contextlib.suppress(OSError):
                    os.ftruncate(file, end)
                raise OSError(error.errno, error.strerror, str(self.path)) from error
        finally:
            os.close(file)

    def sync(self) -> None:
        """Wait until all records are on the disk.

        Raises:
            OSError: the file cannot be written.
        """
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            os.fsync(file.fileno())
