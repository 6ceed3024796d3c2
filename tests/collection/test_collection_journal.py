"""The collection journal: round trips, partial lines, damage, locking and full disks."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import resource
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.collection.collection_journal import (
    JOURNAL,
    CollectionJournal,
    JournalContents,
    SampledTrace,
)
from autotts_gym.inference.engine import Generated
from autotts_gym.traces.store import TraceError

SETTINGS = {"model": "m", "interval": 5, "sampling": {"temperature": 0.7, "top_p": 1.0}}

_TEXTS = st.text(max_size=12)
_TRACES = st.builds(
    Generated,
    st.lists(st.integers(0, 2**40), max_size=9),
    _TEXTS,
    st.sampled_from(["stop", "length"]),
)
_PROBES = st.lists(
    st.integers(0, 4).flatmap(
        lambda n: st.builds(
            Generated,
            st.just([0] * n),
            _TEXTS,
            st.just("stop"),
            st.lists(st.integers(-(10**7), 0).map(lambda x: x / 10**6), min_size=n, max_size=n),
            st.lists(_TEXTS, min_size=n, max_size=n),
        )
    ),
    max_size=3,
)
_BRANCHES = st.lists(st.tuples(_TRACES, _PROBES), min_size=1, max_size=4)


def write_journal(
    folder: Path, branches: list[tuple[Generated, list[Generated]]]
) -> JournalContents:
    """Write a journal of one question: all traces, then all probes."""
    with CollectionJournal.open(folder) as journal:
        journal.check_settings(SETTINGS)
        journal.start_session({"engine": "e"})
        for b, (trace, _) in enumerate(branches):
            journal.append_trace((0, b), trace, b)
        for b, (_, probes) in enumerate(branches):
            journal.append_probes((0, b), probes, len(branches) + b)
        return journal.contents


def reopened(folder: Path) -> JournalContents:
    with CollectionJournal.open(folder) as journal:
        return journal.contents


@settings(deadline=None, max_examples=40)
@given(_BRANCHES)
def test_round_trip(
    tmp_path_factory: pytest.TempPathFactory, branches: list[tuple[Generated, list[Generated]]]
) -> None:
    folder = tmp_path_factory.mktemp("journal") / "deep"
    contents = write_journal(folder, branches)
    assert reopened(folder) == contents
    assert contents.settings == SETTINGS
    assert contents.sessions == [{"engine": "e", "seconds": 2 * len(branches) - 1}]
    for b, (trace, probes) in enumerate(branches):
        assert contents.traces[0, b] == SampledTrace(
            [], len(trace.tokens), trace.text, trace.finish
        )
        assert contents.probes[0, b] == probes


def test_tokens_are_dropped_when_a_trace_is_probed(tmp_path: Path) -> None:
    with CollectionJournal.open(tmp_path) as journal:
        journal.check_settings(SETTINGS)
        journal.start_session({})
        journal.append_trace((3, 1), Generated([7, 8], "ab", "stop"), 0.1)
    contents = reopened(tmp_path)
    assert contents.traces == {(3, 1): SampledTrace([7, 8], 2, "ab", "stop")}
    assert contents.probes == {}


def test_every_session_is_recorded(tmp_path: Path) -> None:
    for session in range(3):
        with CollectionJournal.open(tmp_path) as journal:
            journal.check_settings(SETTINGS)
            journal.start_session({"engine_version": str(session)})
            journal.append_trace((0, session), Generated([1], "a", "stop"), 10 + session)
    contents = reopened(tmp_path)
    assert [session["engine_version"] for session in contents.sessions] == ["0", "1", "2"]
    assert [session["seconds"] for session in contents.sessions] == [10, 11, 12]
    assert list(contents.traces) == [(0, 0), (0, 1), (0, 2)]


# --- partial lines and damage --------------------------------------------------------------------


def test_truncated_at_every_byte(tmp_path: Path) -> None:
    probes = [Generated([0, 0], "5é", "stop", [-0.25, -1.5], ["5", "é"]), Generated()]
    write_journal(tmp_path / "whole", [(Generated([5, 1114113], "a\n\u2028𝛽", "stop"), probes)] * 2)
    whole = (tmp_path / "whole" / JOURNAL).read_bytes()
    assert whole.count(b"\n") == 6
    cut = tmp_path / "cut"
    cut.mkdir()
    for size in range(len(whole) + 1):
        (cut / JOURNAL).write_bytes(whole[:size])
        expected = JournalContents()
        lines = whole[:size].split(b"\n")[:-1]
        for line in lines:
            expected.add(json.loads(line))
        with CollectionJournal.open(cut) as journal:
            assert journal.contents == expected
            # The partial line is removed before anything is written.
            assert (cut / JOURNAL).read_bytes() == whole[: sum(len(line) + 1 for line in lines)]
            journal.start_session({"engine": "next"})
        contents = b"".join(line + b"\n" for line in lines)
        assert (cut / JOURNAL).read_bytes() == contents + b'{"session":{"engine":"next"}}\n'


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_truncated_and_resumed_repeatedly(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = folder / JOURNAL
    held: set[int] = set()
    for session in range(3):
        with CollectionJournal.open(folder) as journal:
            assert {b for _, b in journal.contents.traces} == held
            journal.check_settings(SETTINGS)
            journal.start_session({})
            before = path.stat().st_size
            for n in range(3):
                journal.append_trace((0, 3 * session + n), data.draw(_TRACES), 0)
        content = path.read_bytes()
        size = data.draw(st.integers(before, len(content)))
        path.write_bytes(content[:size])
        whole = content[before:size].count(b"\n")
        held |= {3 * session + n for n in range(whole)}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 5), st.binary(min_size=1, max_size=30) | st.just(b"[" * 100_000))
def test_a_damaged_line_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write_journal(folder, [(Generated([5], "a", "stop"), [])] * 2)
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    junk = junk.replace(b"\n", b" ")
    (folder / JOURNAL).write_bytes(b"".join([*lines[:at], junk + b"\n", *lines[at:]]))
    with (
        pytest.raises(TraceError, match=rf"journal\.jsonl: line {at + 1} is damaged \(.*remove"),
        CollectionJournal.open(folder),
    ):
        pass
    # The file is unchanged, and the line can be removed as the message says.
    assert (folder / JOURNAL).read_bytes().split(b"\n")[at] == junk
    (folder / JOURNAL).write_bytes(b"".join(lines))
    assert len(reopened(folder).probes) == 2


@pytest.mark.parametrize(
    "record",
    [
        '{"probes": [0, 9], "generated": [], "at": 1}',  # a trace that does not exist
        '{"trace": [0], "tokens": [], "text": "", "finish": "stop", "at": 1}',
        '{"trace": [0, 1], "text": "", "finish": "stop", "at": 1}',
        '{"trace": [0, 1], "tokens": [], "text": "", "finish": "stop", "at": "now"}',
        '{"probes": [0, 0], "generated": [["5", [], []]], "at": 1}',
        '{"session": 5}',
        '{"other": 5}',
        "[]",
        "5",
    ],
)
def test_a_malformed_record_is_damage(tmp_path: Path, record: str) -> None:
    write_journal(tmp_path, [(Generated([5], "a", "stop"), [])])
    with (tmp_path / JOURNAL).open("a") as file:
        file.write(record + "\n")
    with pytest.raises(TraceError, match="line 5 is damaged"), CollectionJournal.open(tmp_path):
        pass


# --- settings and locking ------------------------------------------------------------------------


def test_other_settings_are_rejected(tmp_path: Path) -> None:
    write_journal(tmp_path, [(Generated([5], "a", "stop"), [])])
    before = (tmp_path / JOURNAL).read_bytes()
    other: dict[str, Any] = {**SETTINGS, "interval": 6, "seed": 1}
    del other["model"]
    with (
        CollectionJournal.open(tmp_path) as journal,
        pytest.raises(TraceError) as error,
    ):
        journal.check_settings(other)
    assert str(error.value).startswith(
        f"{tmp_path}: started with other settings: model 'm' (now None), interval 5 (now 6), "
        "seed None (now 1); resume with those, "
    )
    assert (tmp_path / JOURNAL).read_bytes() == before
    with CollectionJournal.open(tmp_path) as journal:
        journal.check_settings(json.loads(json.dumps(SETTINGS)))
    assert (tmp_path / JOURNAL).read_bytes() == before


def _hold_lock(folder: Path, held: Any) -> None:
    with CollectionJournal.open(folder):
        held.send(True)
        held.poll(60)


def test_two_processes_cannot_share_a_journal(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, other = context.Pipe()
    process = context.Process(target=_hold_lock, args=(tmp_path, other))
    process.start()
    try:
        assert held.poll(60)
        with pytest.raises(TraceError, match="in use by another collection process"):
            reopened(tmp_path)
        process.kill()  # a killed process releases the lock
        process.join(60)
        assert reopened(tmp_path) == JournalContents()
    finally:
        process.kill()
        process.join(60)
        process.close()
        held.close()
        other.close()


def test_an_error_releases_the_lock(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="halt"), CollectionJournal.open(tmp_path):
        raise RuntimeError("halt")
    assert reopened(tmp_path) == JournalContents()


# --- full disks ----------------------------------------------------------------------------------


class FullDisk:
    """Replaces ``os.write``: a disk with room for this many more bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def __call__(self, file: int, content: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = self._write(file, content[: self.room])
        self.room -= taken
        return taken


@settings(deadline=None, max_examples=40)
@given(room=st.integers(0, 400))
def test_a_full_disk_keeps_complete_records(
    tmp_path_factory: pytest.TempPathFactory, room: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    contents = write_journal(folder, [(Generated([5], "a", "stop"), [Generated()])])
    before = contents.traces.copy()
    with CollectionJournal.open(folder) as journal:
        journal.start_session({})
        whole = (folder / JOURNAL).read_bytes()
        disk = FullDisk(room)

        def fill() -> None:
            for b in range(1, 100):
                journal.append_trace((0, b), Generated([1] * b, "x" * b, "stop"), 0)
                before[0, b] = SampledTrace([1] * b, b, "x" * b, "stop")

        with (
            mock.patch("os.write", disk),
            pytest.raises(OSError, match=r"No space left.*journal\.jsonl") as error,
        ):
            fill()
        assert error.value.errno == errno.ENOSPC
        assert error.value.filename == str(folder / JOURNAL)
        assert journal.contents.traces == before
        # The next record starts on a new line.
        journal.append_trace((1, 0), Generated([9], "y", "stop"), 0)
        before[1, 0] = SampledTrace([9], 1, "y", "stop")
    assert (folder / JOURNAL).read_bytes().startswith(whole)
    assert reopened(folder).traces == before


def _fill(folder: Path, limit: int) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    with CollectionJournal.open(folder) as journal:
        journal.check_settings(SETTINGS)
        journal.start_session({})
        for b in range(10_000):
            try:
                journal.append_trace((0, b), Generated([b] * 50, "x" * 50, "stop"), 0)
            except OSError as error:
                (folder / "last").write_text(f"{b - 1} {error.errno}")
                return


def test_a_file_size_limit(tmp_path: Path) -> None:
    """The limit of the operating system, which writes a part of the last line."""
    process = multiprocessing.get_context("spawn").Process(target=_fill, args=(tmp_path, 20_000))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    last, number = map(int, (tmp_path / "last").read_text().split())
    assert number == errno.EFBIG
    assert last > 20
    assert (tmp_path / JOURNAL).stat().st_size < 20_000
    with CollectionJournal.open(tmp_path) as journal:
        assert list(journal.contents.traces) == [(0, b) for b in range(last + 1)]
        journal.append_trace((0, last + 1), Generated([5], "a", "stop"), 0)
    assert len(reopened(tmp_path).traces) == last + 2


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(OSError, match="file"),
        CollectionJournal.open(tmp_path / "file" / "journal"),
    ):
        pass
