"""Atomic file writes: readers see the old content or the new content, never a part."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Replace a file with what ``write`` writes to a temporary file in the same folder.

    Args:
        path: the file to replace or create.
        write: called with the path of the temporary file, which has the suffix of ``path``.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent
        )
        os.close(handle)
        temporary = Path(name)
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        if temporary is not None:
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
