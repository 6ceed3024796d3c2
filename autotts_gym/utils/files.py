"""Atomic writes of files and folders: readers see the old state or the new one, never a part."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def create_folder(target: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Create a folder atomically.

    The context is a temporary folder beside ``target``. It is renamed to ``target`` on success. On
    an error it is removed, together with the parent folders that were created for it.

    Args:
        target: the folder to create.
        check: raises an error if ``target`` must not be created. It is called at the start, before
            the rename, and after a rename that failed.

    Raises:
        OSError: the folder cannot be written.
    """
    check()
    new_parents = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # In the same folder, so that the rename stays within one file system.
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            yield temporary
            temporary.chmod(0o755)
            for file in temporary.rglob("*"):
                if file.is_file():
                    with file.open("r+b") as handle:  # Windows syncs only writable files
                        os.fsync(handle.fileno())
            check()
            try:
                temporary.rename(target)
            except OSError:
                check()  # another process created the folder first
                raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except BaseException:
        with contextlib.suppress(OSError):  # not empty: another process uses the folder
            for parent in new_parents:
                parent.rmdir()
        raise
