"""Generation confidence in a collection: in the journal, after interruptions, and in the store."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer, at

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_journal import JOURNAL, CollectionJournal, JournalContents
from autotts_gym.collection.pipeline import collect_store, work_folder
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.inference.engine import EngineError, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.traces.store import TraceError, TraceStore

PLAN = CollectionPlan(branches=2, interval=13, max_tokens=90, sampling=Sampling(0.0))
TEXTS = ("plain 1", "plain 2", "silent", "empty", "never", "mute")
QUESTIONS = [AskedQuestion(text.replace(" ", "-"), text, "57") for text in TEXTS]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


def collect(server: ScriptedServer, target: Path, **options: Any) -> TraceStore:
    protocol = scripted_server.protocol_file(target.parent)
    engine = ServerEngine(server.url, patience=options.pop("patience", 20.0))
    arguments = {"protocol": protocol, "warn": lambda _: None, **options}
    return collect_store(engine, QUESTIONS, PLAN, target, **arguments)


def journal(target: Path) -> JournalContents:
    with CollectionJournal.open(work_folder(target)) as opened:
        return opened.contents


def expected(text: str, top_tokens: int = 20) -> list[float]:
    values = scripted_server.confidences(text, 90, top_tokens)
    return [sum(values[k : k + 13]) for k in range(0, len(values), 13)]


@pytest.mark.parametrize("most", [20, 5, 0])
def test_sums_are_recorded(server: ScriptedServer, tmp_path: Path, most: int) -> None:
    server.most_top_tokens = most
    store = collect(server, tmp_path / "target")
    for (q, _), trace in journal(tmp_path / "target").traces.items():
        if most:
            assert trace.confidence is not None
            assert trace.confidence.top_tokens == most
            assert trace.confidence.sums == pytest.approx(expected(TEXTS[q], most), rel=1e-6)
        else:
            assert trace.confidence is None
    assert (store.tables.confidence_sums is None) is not bool(most)
    entry = {"top_tokens": most} if most else None
    assert store.card.details.get("generation_confidence") == entry
    for text, question in zip(TEXTS, store, strict=True):
        for branch in question.branches if most else ():
            length = len(scripted_server.trace(text, 90))
            assert branch.confidence_sums == pytest.approx(expected(text, most), rel=1e-6)
            assert sum(branch.confidence_tokens or ()) == length
            assert len(branch.confidence_tokens or ()) == len(branch.probes) + 1


def test_nothing_is_requested_or_recorded_without(server: ScriptedServer, tmp_path: Path) -> None:
    collect(server, tmp_path / "target", generation_confidence=False)
    assert not any("logprobs" in a.body for a in server.asked if a.kind == "trace")
    lines = (work_folder(tmp_path / "target") / JOURNAL).read_text("utf-8").splitlines()
    assert not any("confidence" in json.loads(line) for line in lines)


def test_interrupted_streams_and_collections(server: ScriptedServer, tmp_path: Path) -> None:
    server.plan = at([1, 4, 6], "drop-mid")
    wanted = {text: expected(text) for text in TEXTS}
    stop_at = 9

    def plan(asked: scripted_server.Asked) -> str | None:
        number = sum(a.kind == "trace" for a in server.asked)
        return "403" if asked.kind == "trace" and number == stop_at else None

    server.plan = plan
    with pytest.raises(EngineError):
        collect(server, tmp_path / "target", concurrency=2)
    server.plan = at([1, 2], "drop-mid")
    collect(server, tmp_path / "target", concurrency=2)
    contents = journal(tmp_path / "target")
    assert len(contents.sessions) == 2
    for (q, _), trace in contents.traces.items():
        assert trace.confidence is not None
        assert trace.confidence.sums == pytest.approx(wanted[TEXTS[q]], rel=1e-6)


def test_a_journal_without_confidences_resumes(server: ScriptedServer, tmp_path: Path) -> None:
    """As those that were written before confidences were recorded."""
    collect(server, tmp_path / "whole")
    work = work_folder(tmp_path / "target")
    work.mkdir()
    lines = (work_folder(tmp_path / "whole") / JOURNAL).read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    kept = [{k: v for k, v in record.items() if k != "confidence"} for record in records[:12]]
    (work / JOURNAL).write_text("".join(json.dumps(r) + "\n" for r in kept), "utf-8")
    store = collect(server, tmp_path / "target")
    known = [trace.confidence is not None for trace in journal(tmp_path / "target").traces.values()]
    assert 0 < sum(known) < len(known)
    stored = [any(b.confidence_tokens or ()) for question in store for b in question.branches]
    assert sum(stored) == sum(known)


def test_another_number_of_likeliest_tokens_in_a_later_session(
    server: ScriptedServer, tmp_path: Path
) -> None:
    """The store keeps the confidences of the more common number."""
    server.plan = lambda asked: "403" if asked.question == "never" else None
    with pytest.raises(EngineError):
        collect(server, tmp_path / "target", concurrency=1)
    server.plan = scripted_server.healthy
    server.most_top_tokens = 5
    store = collect(server, tmp_path / "target")
    assert store.card.details["generation_confidence"] == {"top_tokens": 20}
    unknown = {"never", "mute"}
    for text, question in zip(TEXTS, store, strict=True):
        known = {any(branch.confidence_tokens or ()) for branch in question.branches}
        assert known == {text not in unknown}


@pytest.mark.parametrize(
    "confidence", [5, [20], [0, [1.0]], [20, 5.0], [20, ["x"]], [20, [float("nan")]], [True, []]]
)
def test_a_damaged_confidence(tmp_path: Path, confidence: Any) -> None:
    record = {"trace": [0, 0], "tokens": [1], "text": "a", "finish": "stop", "at": 1}
    lines = [{"settings": {}}, {"session": {}}, {**record, "confidence": confidence}]
    (tmp_path / JOURNAL).write_text("".join(json.dumps(x) + "\n" for x in lines), "utf-8")
    with pytest.raises(TraceError, match="line 3 is damaged"), CollectionJournal.open(tmp_path):
        pass
