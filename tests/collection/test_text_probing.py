"""Probes of recorded texts: the same as those of the collection that wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer

import autotts_gym
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_journal import JOURNAL
from autotts_gym.collection.pipeline import collect_store, work_folder
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.collection.text_probing import probe_store
from autotts_gym.inference.engine import EngineError, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.traces.store import Branch, FrozenError, Question, TraceError, TraceStore

TEXTS = ("plain 1", "plain 2", "silent", "empty", "never", "mute")
QUESTIONS = [AskedQuestion(text.replace(" ", "-"), text, "57") for text in TEXTS]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


@pytest.fixture
def collected(server: ScriptedServer, tmp_path: Path) -> TraceStore:
    """A collection with texts: the first two questions end, others have no answer or are cut."""
    return collect_store(
        ServerEngine(server.url),
        QUESTIONS,
        CollectionPlan(2, 13, 90, Sampling(0.7), seed=1),
        tmp_path / "collected",
        protocol=scripted_server.protocol_file(tmp_path),
        texts=True,
        generation_confidence=False,
        warn=lambda _: None,
    )


def without_probes(store: TraceStore, drop: int = 0) -> TraceStore:
    """The texts and final answers alone; the first question loses its last ``drop`` branches."""
    questions = [
        replace(
            question,
            branches=[
                replace(
                    branch,
                    probes=[],
                    confidences=None,
                    probe_tokens=None,
                    nulls=None if branch.nulls is None else list(branch.nulls)[-1:],
                    raw=None if branch.raw is None else list(branch.raw)[-1:],
                )
                for branch in question.branches[: -drop if drop and not row else None]
            ],
        )
        for row, question in enumerate(store)
    ]
    return TraceStore.from_branches(questions, 10_000, details={"model": "scripted"})


def probe(server: ScriptedServer, store: TraceStore, folder: Path, **options: Any) -> TraceStore:
    options = {"interval": 13, "protocol": scripted_server.protocol_file(folder), **options}
    return probe_store(ServerEngine(server.url, stall=20), store, folder / "probed", **options)


def test_probes_are_those_of_the_collection(
    server: ScriptedServer, collected: TraceStore, tmp_path: Path
) -> None:
    paid = sum(server.paid.values())
    traces = [asked for asked in server.asked if asked.kind == "trace"]
    made = probe(server, without_probes(collected), tmp_path)
    assert list(made) == list(collected)
    assert made.card.fingerprint == collected.card.fingerprint
    assert made.branch_texts() == collected.branch_texts()
    assert made.branch_flags() == collected.branch_flags()
    # Nothing was sampled, and the probes are those that the collection paid for as well.
    assert [asked for asked in server.asked if asked.kind == "trace"] == traces
    facts = made.card.details["probed"]
    assert facts["probe_tokens"] == collected.card.details["collected"]["probe_tokens"]
    assert 0 < sum(server.paid.values()) - paid <= facts["probe_tokens"]
    assert facts["model"] == "scripted"
    assert made.card.details["protocol"]["name"] == "scripted"


def test_a_question_may_have_fewer_branches(
    server: ScriptedServer, collected: TraceStore, tmp_path: Path
) -> None:
    made = probe(server, without_probes(collected, drop=1), tmp_path)
    assert made.tables.branch_counts.tolist() == [1, 2, 2, 2, 2, 2]
    assert made[0].branches == collected[0].branches[:1]
    assert made[1:] == collected[1:]


def test_another_interval_replaces_probes(
    server: ScriptedServer, collected: TraceStore, tmp_path: Path
) -> None:
    made = probe(server, collected, tmp_path, interval=26)
    for before, after in zip(collected, made, strict=True):
        for old, new in zip(before.branches, after.branches, strict=True):
            assert new.probes == list(old.probes)[1::2]
            assert (new.tokens, new.final) == (old.tokens, old.final)


def test_final_answers_that_others_found_are_kept(server: ScriptedServer, tmp_path: Path) -> None:
    text = "".join(map(scripted_server.piece, scripted_server.trace("plain 1", 90)[:-1]))
    branches = [
        Branch([], 500, "12", text=text, nulls=[False], raw=["12.0"]),
        Branch([], 500, "No", text=text, nulls=[True], raw=["No"], flags="unanswered"),
    ]
    store = TraceStore.from_branches([Question("plain 1", "12", branches)], 500)
    kept, null = probe(server, store, tmp_path)[0].branches
    assert (kept.final, list(kept.raw or ())[-1], kept.flags) == ("12", "12.0", "")
    assert (null.final, null.flags) == ("No", "unanswered")
    assert kept.tokens == null.tokens == len(scripted_server.trace("plain 1", 90))


def test_resumes_without_probing_twice(
    server: ScriptedServer, collected: TraceStore, tmp_path: Path
) -> None:
    store = without_probes(collected)
    server.paid.clear()
    server.plan = scripted_server.at([5], "404", "probe")
    with pytest.raises(EngineError, match=r"question '.*', branch \d: .*scripted 404"):
        probe(server, store, tmp_path, concurrency=1)
    assert not (tmp_path / "probed").exists()
    journal = (work_folder(tmp_path / "probed") / JOURNAL).read_text("utf-8")
    done = [
        tuple(row["probes"]) for row in map(json.loads, journal.splitlines()) if "probes" in row
    ]
    assert len(done) == 5
    with pytest.raises(TraceError, match=r"started with other settings: interval 13 \(now 26"):
        probe(server, store, tmp_path, interval=26)
    server.plan = scripted_server.healthy
    made = probe(server, store, tmp_path, concurrency=1)
    assert list(made) == list(collected)
    # Branches of the same question and text share their prompts: each is paid once a branch.
    assert max(server.paid.values()) <= 2


def test_a_text_that_does_not_fit(
    server: ScriptedServer, collected: TraceStore, tmp_path: Path
) -> None:
    server.longest = 60
    server.paid.clear()
    with pytest.raises(EngineError) as caught:
        probe(server, without_probes(collected), tmp_path)
    assert "question 'plain-1': branch 0: its text has " in str(caught.value)
    assert "raise max_model_len" in str(caught.value)
    assert not server.paid


def test_a_store_without_texts(server: ScriptedServer, tmp_path: Path) -> None:
    store = TraceStore.from_branches([Question("?", "1", [Branch([], 9, "1")], "q")], 10)
    with pytest.raises(TraceError, match="question 'q', branch 0: has no text; probes need the"):
        probe(server, store, tmp_path)
    (tmp_path / "probed").mkdir()
    with pytest.raises(FrozenError):
        probe(server, store, tmp_path)
    assert not server.asked


def test_the_opening_of_the_reasoning_is_not_doubled(
    server: ScriptedServer, tmp_path: Path
) -> None:
    protocol = {**scripted_server.PROTOCOL, "prompt": {"text": "q:{question}"}, "open": "\n"}
    path = tmp_path / "opening.yaml"
    path.write_text(json.dumps(protocol), "utf-8")
    text = "".join(map(scripted_server.piece, scripted_server.trace("plain 1", 90)[:-1]))
    results = []
    for name, given in (("with", "\n" + text), ("without", text)):
        branch = Branch([], 500, "1", text=given)
        store = TraceStore.from_branches([Question("plain 1", "12", [branch])], 500)
        (tmp_path / name).mkdir()
        made = probe(server, store, tmp_path / name, protocol=path)
        assert made.branch_texts() == [given]
        results.append(replace(made[0].branches[0], text=None))
    assert results[0] == results[1]
    assert results[0].probes


def test_generation_confidences_of_the_same_intervals_are_kept(
    server: ScriptedServer, tmp_path: Path
) -> None:
    store = collect_store(
        ServerEngine(server.url),
        QUESTIONS,
        CollectionPlan(2, 13, 90, Sampling(0.7), seed=1),
        tmp_path / "collected",
        protocol=scripted_server.protocol_file(tmp_path),
        texts=True,
        warn=lambda _: None,
    )
    assert store.tables.confidence_sums is not None
    same = probe(server, store, tmp_path)
    assert same.card.fingerprint == store.card.fingerprint
    assert "generation_confidence" in same.card.details
    (tmp_path / "wider").mkdir()
    wider = probe(server, store, tmp_path / "wider", interval=26)
    assert wider.tables.confidence_sums is None
    assert "generation_confidence" not in wider.card.details


def test_command(
    server: ScriptedServer, collected: TraceStore, tmp_path: Path, autotts: Any, user_envs: Path
) -> None:
    without_probes(collected).save(tmp_path / "plain")
    common = ["--name", "dense", "--base-url", server.url, "--interval", "13"]
    common += ["--protocol", scripted_server.protocol_file(tmp_path)]
    ended = autotts("collect", "--probe", tmp_path / "plain", *common, "--temperature", "0.5")
    assert ended.code == 1
    assert "--temperature: without effect, as --probe samples nothing" in ended.err
    for both in ([], ["--probe", "x", "--questions", "y"]):
        assert (
            "give --questions to sample traces, or --probe"
            in autotts("collect", *both, *common).err
        )
    ended = autotts("collect", "--probe", tmp_path / "plain", *common)
    assert ended.code == 0, ended.err
    assert ended.out.startswith("probed dense: 6 questions, 12 branches, ")
    assert TraceStore.open(user_envs / "dense").card.fingerprint == collected.card.fingerprint


def test_function(server: ScriptedServer, collected: TraceStore, tmp_path: Path) -> None:
    made = autotts_gym.add_probes(
        tmp_path / "collected",
        "again",
        base_url=server.url,
        interval=13,
        protocol=scripted_server.protocol_file(tmp_path),
        to=tmp_path,
    )
    assert made.card.fingerprint == collected.card.fingerprint
    with pytest.raises(TypeError, match="did you mean 'interval'"):
        autotts_gym.add_probes("x", "y", intervall=3)  # type: ignore[call-arg]
