"""Files that are replaced atomically: readers see the old content or the new, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file beside ``path``, then rename it to ``path``.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    write_atomically(path, lambda temporary: temporary.write_text(text, "utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write a binary file atomically.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    write_atomically(path, lambda temporary: temporary.write_bytes(data))
