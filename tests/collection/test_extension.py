"""Extending an environment by branches and questions: nothing is sampled twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.inference.engine import EngineError, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.traces.store import TraceError, TraceStore

TEXTS = ("plain 1", "plain 2", "never", "empty")
QUESTIONS = [AskedQuestion(text.replace(" ", "-"), text, "57") for text in TEXTS]
GREEDY = Sampling(0.0)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


def plan(branches: int, **changes: Any) -> CollectionPlan:
    return CollectionPlan(
        **{"branches": branches, "interval": 13, "max_tokens": 90, "sampling": GREEDY, **changes}
    )


def collect(
    server: ScriptedServer,
    target: Path,
    questions: list[AskedQuestion],
    chosen: CollectionPlan,
    **options: Any,
) -> TraceStore:
    protocol = scripted_server.protocol_file(target.parent)
    arguments = {"protocol": protocol, "texts": True, "warn": lambda _: None, **options}
    return collect_store(ServerEngine(server.url), questions, chosen, target, **arguments)


def test_branches_and_questions_are_added(server: ScriptedServer, tmp_path: Path) -> None:
    old = collect(server, tmp_path / "old", QUESTIONS[:3], plan(2))
    server.paid.clear()
    server.asked.clear()
    new = collect(server, tmp_path / "new", QUESTIONS[1:], plan(3), extends=old)
    # One branch more of two questions, three branches of a new one.
    assert sum(asked.kind == "trace" for asked in server.asked) == 2 + 3
    assert set(server.paid.values()) == {1, 3}
    assert [question.id for question in new] == [question.id for question in QUESTIONS]
    assert [len(question.branches) for question in new] == [2, 3, 3, 3]
    for question in old:
        again = next(other for other in new if other.id == question.id)
        assert list(again.branches[: len(question.branches)]) == list(question.branches)
    whole = collect(server, tmp_path / "whole", QUESTIONS, plan(3))
    for question, other in zip(list(whole)[1:], list(new)[1:], strict=True):
        assert list(question.branches) == list(other.branches)
    for question in new:
        assert all(any(branch.confidence_tokens or ()) for branch in question.branches)
    card = new.card.details
    assert card["extends"] == old.card.fingerprint
    assert card["collected"]["traces"] == 6 + 5
    assert card["collected"]["sessions"] == 2
    tokens = sum(
        min(len(scripted_server.trace(TEXTS[q], 90)), 90) * n for q, n in enumerate([2, 3, 3, 3])
    )
    assert card["collected"]["tokens"] == tokens


def test_a_store_without_generation_confidence(server: ScriptedServer, tmp_path: Path) -> None:
    old = collect(server, tmp_path / "old", QUESTIONS[:1], plan(1), generation_confidence=False)
    new = collect(server, tmp_path / "new", QUESTIONS[:2], plan(2), extends=old)
    known = [any(b.confidence_tokens or ()) for question in new for b in question.branches]
    assert known == [False, True, True, True]


def test_an_interrupted_extension_resumes(server: ScriptedServer, tmp_path: Path) -> None:
    old = collect(server, tmp_path / "old", QUESTIONS[:2], plan(1))
    server.paid.clear()
    server.plan = lambda asked: "403" if asked.question == "never" else None
    with pytest.raises(EngineError):
        collect(server, tmp_path / "new", QUESTIONS, plan(2), extends=old, concurrency=1)
    server.plan = scripted_server.healthy
    new = collect(server, tmp_path / "new", QUESTIONS, plan(2), extends=old, concurrency=1)
    assert [len(question.branches) for question in new] == [2, 2, 2, 2]
    assert set(server.paid.values()) == {1, 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"interval": 14}, r"interval 13 \(now 14\)"),
        ({"max_tokens": 91}, "sampling .*'max_tokens': 90"),
        ({"sampling": Sampling(0.5)}, "sampling .*'temperature': 0.0"),
    ],
)
def test_another_kind_of_collection(
    server: ScriptedServer, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    old = collect(server, tmp_path / "old", QUESTIONS[:1], plan(1))
    server.paid.clear()
    with pytest.raises(TraceError, match=message):
        collect(server, tmp_path / "new", QUESTIONS, plan(2, **changes), extends=old)
    assert not server.paid


def test_nothing_to_add_and_changed_questions(server: ScriptedServer, tmp_path: Path) -> None:
    old = collect(server, tmp_path / "old", QUESTIONS[:2], plan(2))
    with pytest.raises(TraceError, match="nothing to add"):
        collect(server, tmp_path / "new", QUESTIONS[:2], plan(1), extends=old)
    other = [AskedQuestion("plain-1", "plain 1", "58")]
    strict = [replace(QUESTIONS[1], equality="form")]
    for changed in (other, strict):
        with pytest.raises(TraceError, match="has another text, gold answer or equality"):
            collect(server, tmp_path / "new", changed, plan(3), extends=old)
