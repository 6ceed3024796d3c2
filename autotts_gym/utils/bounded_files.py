"""Reading files of unknown origin: regular files only, and no more bytes than a limit."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path
from typing import Final

#: Default limit of a small text file, such as a card, bytes.
SMALL_FILE: Final = 1 << 20
#: Default limit of a data file, such as a published trace file or a table, bytes.
LARGE_FILE: Final = 1 << 31
#: Limit of a file that is read part by part, bytes.
ANY_SIZE: Final = 1 << 40


def check_regular(path: str | os.PathLike[str], limit: int = LARGE_FILE) -> int:
    """Return the size of a regular file, bytes.

    Raises:
        OSError: there is no such file, it is not a regular file (a pipe or a device may never
            end), or it is larger than ``limit``.
    """
    return _check(os.stat(path), path, limit)


def read_bytes(path: str | os.PathLike[str], limit: int = LARGE_FILE) -> bytes:
    """Read a regular file of at most ``limit`` bytes.

    Raises:
        OSError: as for :func:`check_regular`.
    """
    with open_regular(path, limit) as file:
        content = file.read(limit + 1)
    if len(content) > limit:  # it has grown
        raise _too_large(path, len(content), limit)
    return content


def open_regular(path: str | os.PathLike[str], limit: int = LARGE_FILE) -> io.BufferedReader:
    """Open a regular file of at most ``limit`` bytes for reading.

    Raises:
        OSError: as for :func:`check_regular`.
    """
    check_regular(path, limit)  # opening a device may have effects
    # A pipe that replaces the file in between must not block either.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(os.open(path, flags), "rb")  # noqa: SIM115 - the caller closes it
    try:
        _check(os.fstat(file.fileno()), path, limit)
    except BaseException:
        file.close()
        raise
    return file


def read_text(path: str | os.PathLike[str], limit: int = SMALL_FILE) -> str:
    """Read a regular UTF-8 file of at most ``limit`` bytes.

    Raises:
        OSError: as for :func:`check_regular`.
        UnicodeDecodeError: it is not UTF-8.
    """
    return read_bytes(path, limit).decode("utf-8")


def _check(status: os.stat_result, path: str | os.PathLike[str], limit: int) -> int:
    if not stat.S_ISREG(status.st_mode):
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(Path(path)))
        raise OSError(errno.EINVAL, "is not a regular file", str(Path(path)))
    if status.st_size > limit:
        raise _too_large(path, status.st_size, limit)
    return status.st_size


def _too_large(path: str | os.PathLike[str], size: int, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"has {size:,} bytes; at most {limit:,} are read", str(Path(path)))
