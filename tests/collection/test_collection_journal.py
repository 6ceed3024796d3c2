"""The journal: what is written comes back, whatever cut it short."""

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

from autotts_gym.collection.collection_journal import JOURNAL, Journal, Kept, Trace
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


def write(folder: Path, branches: list[tuple[Generated, list[Generated]]]) -> Kept:
    """A journal of one question; all traces, then all probes."""
    with Journal.open(folder) as journal:
        journal.settle(SETTINGS)
        journal.begin({"engine": "e"})
        for b, (trace, _) in enumerate(branches):
            journal.trace((0, b), trace, b)
        for b, (_, probes) in enumerate(branches):
            journal.probes((0, b), probes, len(branches) + b)
        return journal.kept


def reopened(folder: Path) -> Kept:
    with Journal.open(folder) as journal:
        return journal.kept


@settings(deadline=None, max_examples=40)
@given(_BRANCHES)
def test_comes_back(
    tmp_path_factory: pytest.TempPathFactory, branches: list[tuple[Generated, list[Generated]]]
) -> None:
    folder = tmp_path_factory.mktemp("journal") / "deep"
    kept = write(folder, branches)
    assert reopened(folder) == kept
    assert kept.settings == SETTINGS
    assert kept.sessions == [{"engine": "e", "seconds": 2 * len(branches) - 1}]
    for b, (trace, probes) in enumerate(branches):
        assert kept.traces[0, b] == Trace([], len(trace.tokens), trace.text, trace.finish)
        assert kept.probes[0, b] == probes


def test_a_trace_keeps_its_tokens_until_it_is_probed(tmp_path: Path) -> None:
    with Journal.open(tmp_path) as journal:
        journal.settle(SETTINGS)
        journal.begin({})
        journal.trace((3, 1), Generated([7, 8], "ab", "stop"), 0.1)
    kept = reopened(tmp_path)
    assert kept.traces == {(3, 1): Trace([7, 8], 2, "ab", "stop")}
    assert kept.probes == {}


def test_sessions_add_up(tmp_path: Path) -> None:
    for session in range(3):
        with Journal.open(tmp_path) as journal:
            journal.settle(SETTINGS)
            journal.begin({"engine_version": str(session)})
            journal.trace((0, session), Generated([1], "a", "stop"), 10 + session)
    kept = reopened(tmp_path)
    assert [one["engine_version"] for one in kept.sessions] == ["0", "1", "2"]
    assert [one["seconds"] for one in kept.sessions] == [10, 11, 12]
    assert list(kept.traces) == [(0, 0), (0, 1), (0, 2)]


# --- cut short -----------------------------------------------------------------------------------


def test_cut_at_every_byte_no_whole_line_is_lost(tmp_path: Path) -> None:
    probes = [Generated([0, 0], "5é", "stop", [-0.25, -1.5], ["5", "é"]), Generated()]
    write(tmp_path / "whole", [(Generated([5, 1114113], "a\n\u2028𝛽", "stop"), probes)] * 2)
    whole = (tmp_path / "whole" / JOURNAL).read_bytes()
    assert whole.count(b"\n") == 6
    cut = tmp_path / "cut"
    cut.mkdir()
    for size in range(len(whole) + 1):
        (cut / JOURNAL).write_bytes(whole[:size])
        expected = Kept()
        lines = whole[:size].split(b"\n")[:-1]
        for line in lines:
            expected.take(json.loads(line))
        with Journal.open(cut) as journal:
            assert journal.kept == expected
            # What was torn is gone before anything is written.
            assert (cut / JOURNAL).read_bytes() == whole[: sum(len(line) + 1 for line in lines)]
            journal.begin({"engine": "next"})
        kept = b"".join(line + b"\n" for line in lines)
        assert (cut / JOURNAL).read_bytes() == kept + b'{"session":{"engine":"next"}}\n'


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_cut_and_continued_and_cut_again(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = folder / JOURNAL
    held: set[int] = set()
    for session in range(3):
        with Journal.open(folder) as journal:
            assert {b for _, b in journal.kept.traces} == held
            journal.settle(SETTINGS)
            journal.begin({})
            before = path.stat().st_size
            for n in range(3):
                journal.trace((0, 3 * session + n), data.draw(_TRACES), 0)
        content = path.read_bytes()
        size = data.draw(st.integers(before, len(content)))
        path.write_bytes(content[:size])
        whole = content[before:size].count(b"\n")
        held |= {3 * session + n for n in range(whole)}


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 5), st.binary(min_size=1, max_size=30) | st.just(b"[" * 100_000))
def test_a_damaged_line_in_the_midst_is_named(
    tmp_path_factory: pytest.TempPathFactory, at: int, junk: bytes
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    write(folder, [(Generated([5], "a", "stop"), [])] * 2)
    lines = (folder / JOURNAL).read_bytes().splitlines(keepends=True)
    junk = junk.replace(b"\n", b" ")
    (folder / JOURNAL).write_bytes(b"".join([*lines[:at], junk + b"\n", *lines[at:]]))
    with (
        pytest.raises(TraceError, match=rf"journal\.jsonl: line {at + 1} is damaged \(.*remove"),
        Journal.open(folder),
    ):
        pass
    # It can be taken out, as the message says; and nothing else was touched.
    assert (folder / JOURNAL).read_bytes().split(b"\n")[at] == junk
    (folder / JOURNAL).write_bytes(b"".join(lines))
    assert len(reopened(folder).probes) == 2


@pytest.mark.parametrize(
    "record",
    [
        '{"probes": [0, 9], "generated": [], "at": 1}',  # of a trace that is not there
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
def test_a_record_of_another_shape_is_damage(tmp_path: Path, record: str) -> None:
    write(tmp_path, [(Generated([5], "a", "stop"), [])])
    with (tmp_path / JOURNAL).open("a") as file:
        file.write(record + "\n")
    with pytest.raises(TraceError, match="line 5 is damaged"), Journal.open(tmp_path):
        pass


# --- who may write -------------------------------------------------------------------------------


def test_other_settings_are_refused_by_name(tmp_path: Path) -> None:
    write(tmp_path, [(Generated([5], "a", "stop"), [])])
    before = (tmp_path / JOURNAL).read_bytes()
    other: dict[str, Any] = {**SETTINGS, "interval": 6, "seed": 1}
    del other["model"]
    with (
        Journal.open(tmp_path) as journal,
        pytest.raises(TraceError) as told,
    ):
        journal.settle(other)
    assert str(told.value).startswith(
        f"{tmp_path}: was begun with other settings: model 'm' (now None), interval 5 (now 6), "
        "seed None (now 1); go on with those, "
    )
    assert (tmp_path / JOURNAL).read_bytes() == before
    with Journal.open(tmp_path) as journal:
        journal.settle(json.loads(json.dumps(SETTINGS)))
    assert (tmp_path / JOURNAL).read_bytes() == before


def _hold(folder: Path, held: Any) -> None:
    with Journal.open(folder):
        held.send(True)
        held.poll(60)


def test_two_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held, other = context.Pipe()
    process = context.Process(target=_hold, args=(tmp_path, other))
    process.start()
    try:
        assert held.poll(60)
        with pytest.raises(TraceError, match="another process collects into it"):
            reopened(tmp_path)
        process.kill()  # not even one that is killed keeps it
        process.join(60)
        assert reopened(tmp_path) == Kept()
    finally:
        process.kill()
        process.join(60)
        process.close()
        held.close()
        other.close()


def test_the_lock_ends_with_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="halt"), Journal.open(tmp_path):
        raise RuntimeError("halt")
    assert reopened(tmp_path) == Kept()


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
def test_a_full_disk_keeps_what_is_whole(
    tmp_path_factory: pytest.TempPathFactory, room: int
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    kept = write(folder, [(Generated([5], "a", "stop"), [Generated()])])
    before = kept.traces.copy()
    with Journal.open(folder) as journal:
        journal.begin({})
        whole = (folder / JOURNAL).read_bytes()
        disk = FullDisk(room)

        def fill() -> None:
            for b in range(1, 100):
                journal.trace((0, b), Generated([1] * b, "x" * b, "stop"), 0)
                before[0, b] = Trace([1] * b, b, "x" * b, "stop")

        with (
            mock.patch("os.write", disk),
            pytest.raises(OSError, match=r"No space left.*journal\.jsonl") as told,
        ):
            fill()
        assert told.value.errno == errno.ENOSPC
        assert told.value.filename == str(folder / JOURNAL)
        assert journal.kept.traces == before
        # The next record starts on a new line.
        journal.trace((1, 0), Generated([9], "y", "stop"), 0)
        before[1, 0] = Trace([9], 1, "y", "stop")
    assert (folder / JOURNAL).read_bytes().startswith(whole)
    assert reopened(folder).traces == before


def _fill(folder: Path, most: int) -> None:
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    with Journal.open(folder) as journal:
        journal.settle(SETTINGS)
        journal.begin({})
        for b in range(10_000):
            try:
                journal.trace((0, b), Generated([b] * 50, "x" * 50, "stop"), 0)
            except OSError as error:
                (folder / "last").write_text(f"{b - 1} {error.errno}")
                return


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The same with the system's own limit, which takes a part of the last line."""
    process = multiprocessing.get_context("spawn").Process(target=_fill, args=(tmp_path, 20_000))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    last, number = map(int, (tmp_path / "last").read_text().split())
    assert number == errno.EFBIG
    assert last > 20
    assert (tmp_path / JOURNAL).stat().st_size < 20_000
    with Journal.open(tmp_path) as journal:
        assert list(journal.kept.traces) == [(0, b) for b in range(last + 1)]
        journal.trace((0, last + 1), Generated([5], "a", "stop"), 0)
    assert len(reopened(tmp_path).traces) == last + 2


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), Journal.open(tmp_path / "file" / "journal"):
        pass
