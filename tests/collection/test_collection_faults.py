"""Faults during a collection: nothing is lost, and nothing is generated twice.

The scripted server decodes deterministically, and counts every token that it generates.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
import scripted_server
from scripted_server import BREAKS, FAULTS, GARBAGE, REFUSALS, ScriptedServer, at_random

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_journal import JOURNAL, CollectionJournal, JournalContents
from autotts_gym.collection.pipeline import collect_store, work_folder
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.inference import request_retries
from autotts_gym.inference.engine import Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.traces.store import TraceStore

PLAN = CollectionPlan(branches=2, interval=13, max_tokens=90, sampling=Sampling(0.0))
TEXTS = (*(f"plain {i}" for i in range(5)), "silent", "empty", "never", "mute")
QUESTIONS = [AskedQuestion(text.replace(" ", "-"), text, "57") for text in TEXTS]

Paid = Counter[tuple[Any, ...]]


class Outcome(NamedTuple):
    """The part of a store that does not depend on the time and number of sessions."""

    fingerprint: str
    flags: list[str] | None
    figures: dict[str, int]


def outcome(store: TraceStore) -> Outcome:
    summary = store.card.details["collected"]
    names = ("traces", "tokens", "probes", "probe_tokens", "cut", "empty", "unanswered")
    figures = {name: summary[name] for name in names}
    return Outcome(store.card.fingerprint, store.branch_flags(), figures)


def collect(server: ScriptedServer, target: Path, **options: Any) -> tuple[Outcome, int]:
    """Run a collection; returns its outcome and the number of retries."""
    engine = ServerEngine(server.url, **{"stall": 20.0, "patience": 30.0, **options})
    protocol = scripted_server.protocol_file(target.parent)
    store = collect_store(engine, QUESTIONS, PLAN, target, protocol=protocol, concurrency=6)
    return outcome(store), engine.retries


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Paid]:
    """Outcome and generated tokens of a collection without faults."""
    with ScriptedServer() as server:
        found, retries = collect(server, tmp_path_factory.mktemp("undisturbed") / "target")
        assert retries == 0
        assert found.figures["cut"] >= 4
        assert found.figures["empty"] == 2
        assert found.figures["unanswered"] == 6
        assert set(server.paid.values()) == {2}  # the branches of a question are the same
        assert not server.lost
        return found, server.paid


# --- faults of the server ------------------------------------------------------------------------

_MIXED = [
    pytest.param(FAULTS, 0.3, id="all"),
    pytest.param(REFUSALS, 0.5, id="refusals"),
    pytest.param(BREAKS, 0.5, id="breaks"),
    pytest.param(GARBAGE, 0.5, id="garbage"),
]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("faults", "probability"), [*(pytest.param((f,), 0.2, id=f) for f in FAULTS), *_MIXED]
)
def test_faults_at_random_points(
    tmp_path: Path,
    undisturbed: tuple[Outcome, Paid],
    monkeypatch: pytest.MonkeyPatch,
    faults: tuple[str, ...],
    probability: float,
    seed: int,
) -> None:
    """Forty runs: the same store, and every token is generated once.

    Only what was in transit when a request failed is generated again: the part of a stream that the
    fault replaced, a batch of probes whose response was incomplete, and, after a connection reset,
    the parts of that stream that had been sent, because a reset discards unread data.
    """
    monkeypatch.setattr(request_retries, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(request_retries, "_LONGEST_PAUSE", 0.02)
    wanted, once = undisturbed
    stalls = any(fault.startswith("stall") for fault in faults)
    with ScriptedServer(at_random(seed, faults, probability)) as server:
        found, retries = collect(server, tmp_path / "target", stall=0.4 if stalls else 20.0)
        assert found == wanted
        broken = sum(server.faults.values())
        assert broken >= 1
        assert server.paid >= once
        if stalls and retries > broken:  # a busy machine: healthy requests timed out as well
            return
        assert retries == broken
        assert server.paid <= once + server.lost
        if "reset-mid" not in faults:
            assert server.paid == once + server.lost


# --- the process ends ----------------------------------------------------------------------------


class Call:
    """Runs ``autotts collect`` in its own process."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "found"
        questions = folder / "questions.jsonl"
        lines = [json.dumps({"id": q.id, "question": q.text, "answer": q.gold}) for q in QUESTIONS]
        questions.write_text("\n".join(lines), "utf-8")
        self.arguments = ["collect", "--name", self.target.name, "--to", str(folder)]
        self.arguments += ["--questions", str(questions), "--temperature", "0"]
        self.arguments += ["--protocol", scripted_server.protocol_file(folder)]
        self.arguments += ["--branches", "2", "--interval", "13", "--max-tokens", "90"]
        self.arguments += ["--concurrency", "3", "--patience", "30"]

    def start(self, server: ScriptedServer, room: int | None = None) -> subprocess.Popen[str]:
        def prepare() -> None:
            signal.signal(
                signal.SIGINT, signal.SIG_DFL
            )  # some shells ignore it in background processes
            if room is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))

        return subprocess.Popen(
            [sys.executable, "-m", "autotts_gym", *self.arguments, "--base-url", server.url],
            env={**os.environ, "COLUMNS": "80"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=prepare,
        )

    def finish(self, server: ScriptedServer) -> Outcome:
        process = self.start(server)
        out, err = wait_for_end(process)
        assert process.returncode == 0, err
        assert "collected found: 9 questions, 18 branches" in out
        return outcome(TraceStore.open(self.target))

    def kept(self) -> JournalContents:
        with CollectionJournal.open(work_folder(self.target)) as journal:
            return journal.contents


@pytest.fixture
def call(tmp_path: Path) -> Call:
    return Call(tmp_path)


def wait_for_end(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Output of a process; a process that does not end is killed, and the test fails."""
    with process:
        try:
            return process.communicate(timeout=60)
        finally:
            process.kill()


def wait(reached: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not reached() and process.poll() is None and time.monotonic() < end:
        time.sleep(0.002)


def whole(places: Any) -> Counter[str]:
    """Number of branches of each question."""
    return Counter(TEXTS[q] for q, _ in places)


def is_paid_once(server: ScriptedServer, before: JournalContents) -> bool:
    """Whether a session requested no finished trace and no recorded probes."""
    begun = Counter(a.question for a in server.asked if a.kind == "trace" and a.start == 0)
    probed = Counter(a.question for a in server.asked if a.kind == "probe")
    traces, probes = whole(before.traces), whole(before.probes)
    return all(begun[t] <= 2 - traces[t] and probed[t] <= 2 - probes[t] for t in TEXTS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_random_times(call: Call, undisturbed: tuple[Outcome, Paid], seed: int) -> None:
    wanted, once = undisturbed
    random, before = Random(seed), JournalContents()
    for _ in range(3):
        goal = (
            random.uniform(0.02, 0.25) * once.total()
        )  # three of them are less than a whole collection
        with ScriptedServer(pace=0.005) as server:
            process = call.start(server)
            wait(lambda: server.paid.total() >= goal, process)  # noqa: B023
            process.kill()
            wait_for_end(process)
            assert process.returncode == -signal.SIGKILL
            kept = call.kept()
            # Everything that was finished is still there, and was not requested again.
            assert kept.traces.keys() >= before.traces.keys()
            assert kept.probes.keys() >= before.probes.keys()
            assert is_paid_once(server, before)
            before = kept
    assert before.traces
    with ScriptedServer() as server:
        assert call.finish(server) == wanted
        assert is_paid_once(server, before)
        # The rest is generated exactly once, as without a kill.
        assert server.paid <= once
        traces = sum(count for place, count in server.paid.items() if place[0] == "trace")
        kept_tokens = sum(trace.length for trace in before.traces.values())
        assert traces == wanted.figures["tokens"] - kept_tokens
    assert len(call.kept().sessions) == 4


@pytest.mark.slow
def test_interrupted(call: Call, undisturbed: tuple[Outcome, Paid]) -> None:
    wanted, once = undisturbed
    with ScriptedServer(pace=0.005) as server:
        process = call.start(server)
        wait(lambda: server.paid.total() >= once.total() / 3, process)
        process.send_signal(signal.SIGINT)
        err = wait_for_end(process)[1]
    assert process.returncode == 130
    assert " ".join(err.split()) == (
        "interrupted: finished work is kept; run the same command to continue"
    )
    kept = call.kept()
    assert kept.traces
    with ScriptedServer() as server:
        assert call.finish(server) == wanted
        assert is_paid_once(server, kept)


@pytest.mark.slow
def test_a_file_size_limit(call: Call, undisturbed: tuple[Outcome, Paid]) -> None:
    """Like a full disk: the journal cannot grow beyond a limit."""
    wanted, _ = undisturbed
    room = 8_000  # of some 24,000
    with ScriptedServer() as server:
        process = call.start(server, room)
        err = wait_for_end(process)[1]
    assert process.returncode == 1
    journal = work_folder(call.target) / JOURNAL
    assert f"autotts: {journal}: File too large" in " ".join(err.split())
    assert f"finished work is kept in {journal.parent}; run the same command to continue" in err
    assert "Traceback" not in err
    content = journal.read_bytes()
    assert room / 2 < len(content) <= room
    assert content.endswith(b"\n")
    kept = call.kept()
    assert len(kept.traces) >= 3
    with ScriptedServer() as server:
        assert call.finish(server) == wanted
        assert is_paid_once(server, kept)


# --- the server ends -----------------------------------------------------------------------------


def test_a_server_that_stays_down(
    autotts: Callable[..., Any],
    tmp_path: Path,
    call: Call,
    undisturbed: tuple[Outcome, Paid],
) -> None:
    wanted, once = undisturbed
    with ScriptedServer() as server:

        def plan(asked: scripted_server.Asked) -> None:
            if server.paid.total() > once.total() / 2:
                server.die_soon()

        server.plan = plan
        ended = autotts(*call.arguments, "--patience", "0.5", "--base-url", server.url)
    assert ended.code == 1
    said = ended.err.strip().splitlines()
    kept = work_folder(call.target)
    assert all("sent again so far, the last after: " in line for line in said[:-2])
    assert said[-2] == f"finished work is kept in {kept}; run the same command to continue"
    line = said[-1]
    assert line.startswith("autotts: question '")
    assert ", branch " in line
    assert f": {server.url}/completions: no connection: " in line
    kept = call.kept()
    assert len(kept.probes) >= 4
    assert is_paid_once(server, JournalContents())
    with ScriptedServer() as server:
        ended = autotts(*call.arguments, "--base-url", server.url)
        assert ended.code == 0
        assert outcome(TraceStore.open(call.target)) == wanted
        assert is_paid_once(server, kept)


def test_a_server_that_restarts(tmp_path: Path, undisturbed: tuple[Outcome, Paid]) -> None:
    """It restarts at the same address while the collection waits."""
    wanted, once = undisturbed
    with ScriptedServer() as server:

        def plan(asked: scripted_server.Asked) -> None:
            if server.paid.total() > once.total() / 2:
                server.plan = scripted_server.healthy
                server.restart_soon(0.4)

        server.plan = plan
        found, retries = collect(server, tmp_path / "target")
        assert found == wanted
        assert retries >= 1
        assert server.paid >= once
        # At most what was in progress: the tokens or the probes of six traces.
        assert (server.paid - once).total() <= 6 * 90
