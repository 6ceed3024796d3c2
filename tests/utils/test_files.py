"""Atomic files."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotts_gym.utils.files import write_atomically, write_bytes, write_text


def test_content_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    write_text(path, "é\n")
    assert path.read_bytes() == "é\n".encode()
    assert path.stat().st_mode & 0o777 == 0o644
    write_bytes(path, b"\0new")
    assert path.read_bytes() == b"\0new"
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "model.zip"
    write_text(path, "old")

    def write(temporary: Path) -> None:
        assert temporary.suffix == ".zip"
        temporary.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_atomically(path, write)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_error_names_the_target(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"

    def write(temporary: Path) -> None:
        (temporary / "below").write_text("")

    with pytest.raises(NotADirectoryError) as info:
        write_atomically(path, write)
    assert info.value.filename == str(path)


def test_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "notes.txt"
    with pytest.raises(FileNotFoundError) as info:
        write_text(path, "")
    assert info.value.filename == str(path)
