"""Append-only JSON Lines files."""

from __future__ import annotations

import errno
import functools
import json
import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.utils.journal import JournalError, JsonlJournal

RECORDS: list[Any] = [{"name": "é𝛽\n\u2028"}, [1, 2.5, None], "text", 7]


def records(path: Path) -> list[Any]:
    received: list[Any] = []
    JsonlJournal(path, received.append)
    return received


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def filled(path: Path) -> JsonlJournal:
    journal = JsonlJournal(path, pytest.fail)
    for record in RECORDS:
        journal.append(record)
    return journal


def test_records_come_back_in_order(path: Path) -> None:
    filled(path)
    assert records(path) == RECORDS
    JsonlJournal(path, accept).append("more", sync=False)
    assert records(path) == [*RECORDS, "more"]


def test_path_may_be_a_string(path: Path) -> None:
    JsonlJournal(str(path), pytest.fail).append(1)
    assert records(path) == [1]


def test_missing_file_is_an_empty_journal(path: Path) -> None:
    journal = JsonlJournal(path, pytest.fail)
    journal.sync()
    assert not path.exists()


def test_encoding_is_chosen_by_the_caller(path: Path) -> None:
    encode = functools.partial(json.dumps, separators=(",", ":"), allow_nan=False)
    journal = JsonlJournal(path, pytest.fail, encode)
    journal.append({"a": [1, 2]})
    assert path.read_bytes() == b'{"a":[1,2]}\n'
    with pytest.raises(ValueError, match="Out of range"):
        journal.append(float("nan"))
    assert path.read_bytes() == b'{"a":[1,2]}\n'


def test_torn_last_line_is_removed_at_every_length(path: Path) -> None:
    filled(path)
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        count = whole[:size].count(b"\n")
        assert records(path) == RECORDS[:count]
        assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:count])
        JsonlJournal(path, accept).append("next")
        assert records(path) == [*RECORDS[:count], "next"]


def accept(record: Any) -> None:
    """Accept any record."""


@pytest.mark.parametrize("line", [b"{", b"", b"\xff", b"[" * 100_000])
@pytest.mark.parametrize("at", [0, 2, 4])
def test_complete_line_that_is_not_json(path: Path, line: bytes, at: int) -> None:
    filled(path)
    lines = path.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:at], line + b"\n", *lines[at:]])
    path.write_bytes(damaged)
    with pytest.raises(JournalError, match=rf"journal\.jsonl: line {at + 1} is damaged \(") as info:
        records(path)
    assert (info.value.path, info.value.line) == (path, at + 1)
    assert path.read_bytes() == damaged


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("name"), TypeError("no")])
def test_rejected_record_is_damage(path: Path, error: Exception) -> None:
    filled(path)

    def receive(record: Any) -> None:
        if record == "text":
            raise error

    with pytest.raises(JournalError, match=rf"line 3 is damaged \({type(error).__name__}: "):
        JsonlJournal(path, receive)


def test_other_errors_of_the_receiver_pass_through(path: Path) -> None:
    filled(path)
    with pytest.raises(ZeroDivisionError):
        JsonlJournal(path, lambda record: 1 / 0)


@settings(deadline=None, max_examples=30)
@given(room=st.integers(0, 120))
def test_full_disk_leaves_no_partial_line(tmp_path_factory: Any, room: int) -> None:
    path: Path = tmp_path_factory.mktemp("journal") / "journal.jsonl"
    journal = filled(path)
    before = path.read_bytes()
    write = os.write

    def limited(file: int, content: bytes) -> int:
        nonlocal room
        if not room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(file, content[:room])
        room -= written
        return written

    def fill() -> None:
        for number in range(100):
            journal.append(["x" * number])

    with (
        mock.patch("os.write", limited),
        pytest.raises(OSError, match=r"No space left.*journal\.jsonl") as info,
    ):
        fill()
    assert (info.value.errno, info.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes().startswith(before)
    assert path.read_bytes().endswith(b"\n")
    journal.append("next")
    assert records(path)[-1] == "next"


def test_missing_folder(tmp_path: Path) -> None:
    journal = JsonlJournal(tmp_path / "missing" / "journal.jsonl", pytest.fail)
    with pytest.raises(FileNotFoundError, match="missing") as info:
        journal.append(1)
    assert info.value.filename == str(tmp_path / "missing" / "journal.jsonl")


def test_records_are_synced_unless_asked_not_to(path: Path) -> None:
    journal = JsonlJournal(path, pytest.fail)
    with mock.patch("os.fsync") as fsync:
        journal.append(1, sync=False)
        assert fsync.call_count == 0
        journal.append(2)
        assert fsync.call_count == 1
        journal.sync()
        assert fsync.call_count == 2
