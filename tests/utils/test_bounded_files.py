"""Files of unknown origin are read within bounds."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from autotts_gym.utils.bounded_files import check_regular, read_bytes, read_text


def test_regular_files_are_read(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("é\n", "utf-8")
    (tmp_path / "link").symlink_to(file)
    assert read_text(file) == read_text(tmp_path / "link") == "é\n"
    assert read_bytes(file, 3) == "é\n".encode()
    assert check_regular(file) == 3


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "large", "missing", "endless"])
def test_others_are_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "large":
        with path.open("wb") as file:
            file.truncate(1 << 40)  # a sparse file takes no space
    with pytest.raises(OSError) as caught:  # noqa: PT011
        read_bytes(path, 1000)
    assert caught.value.filename == str(path)
    if kind != "missing":
        expected = {"folder": os.strerror(errno.EISDIR), "large": "at most 1,000 are read"}
        assert expected.get(kind, "is not a regular file") in str(caught.value.strerror)
