"""The collector: requests, seeds, order, progress and errors."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import CLOSE, END, PROTOCOL, ScriptedServer

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_journal import CollectionJournal, JournalContents
from autotts_gym.collection.collector import CollectionProgress, collect
from autotts_gym.collection.pipeline import collect_store, work_folder
from autotts_gym.collection.plan import CollectionPlan, derive_seed, probe_positions
from autotts_gym.inference.engine import EngineError, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Protocol
from autotts_gym.traces.store import FrozenError, TraceError

GREEDY = Sampling(0.0)
PLAN = CollectionPlan(branches=2, interval=13, max_tokens=90, sampling=GREEDY)
TEXTS = ("plain 1", "plain 2", "plain 3", "silent", "empty", "never", "mute")
QUESTIONS = [AskedQuestion(text.replace(" ", "-"), text, "57") for text in TEXTS]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


def run_collection(
    server: ScriptedServer, folder: Path, plan: CollectionPlan = PLAN, **options: Any
) -> JournalContents:
    """Run a collection; returns the contents of its journal."""

    async def main() -> JournalContents:
        engine = ServerEngine(server.url, stall=20)
        try:
            with CollectionJournal.open(folder) as journal:
                prober = await Prober.create(engine, Protocol.from_dict("scripted", PROTOCOL))
                await collect(prober, QUESTIONS, plan, journal, **options)
                return journal.contents
        finally:
            await engine.close()

    return asyncio.run(main())


# --- plans ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"branches": 0}, "branches must be an integer of at least 1, got 0"),
        ({"branches": True}, "branches must be an integer of at least 1, got True"),
        ({"max_tokens": -1}, "max_tokens must be an integer of at least 1, got -1"),
        ({"max_tokens": 2.0}, "max_tokens must be an integer of at least 1, got 2.0"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"interval": 0}, "the interval must be a positive integer"),
    ],
)
def test_invalid_plans(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CollectionPlan(**plan)


@given(st.integers(1, 5000), st.integers(1, 600))
def test_probe_positions(length: int, interval: int) -> None:
    at = list(probe_positions(length, interval))
    assert len(at) == (length - 1) // interval
    assert at == [k * interval for k in range(1, len(at) + 1)]
    assert not at or at[-1] < length


def test_derived_seeds_differ() -> None:
    seeds = [derive_seed(s, q, b) for s in range(3) for q in range(20) for b in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive_seed(0, 0, 0) == derive_seed(0, 0, 0)


# --- requests ------------------------------------------------------------------------------------


def test_every_trace_is_sampled_and_probed(server: ScriptedServer, tmp_path: Path) -> None:
    contents = run_collection(server, tmp_path)
    assert len(contents.traces) == len(contents.probes) == 2 * len(QUESTIONS)
    for (q, b), trace in contents.traces.items():
        tokens = scripted_server.trace(TEXTS[q], 90)
        assert trace.length == len(tokens)
        assert trace.text == "".join(map(scripted_server.piece, tokens)).removesuffix("<end>")
        assert trace.finish == ("stop" if END in tokens else "length")
        at = list(range(13, len(tokens), 13))
        if END not in tokens and CLOSE not in tokens:
            at.append(90)  # closed by a probe
        expected = [scripted_server.probe(TEXTS[q], 90, depth) for depth in at]
        outputs = contents.probes[q, b]
        assert [len(probe.tokens) for probe in outputs] == list(map(len, expected))
        assert ["".join(probe.pieces) for probe in outputs] == [
            "".join(map(scripted_server.piece, tokens)) for tokens in expected
        ]
    assert Counter(trace.finish for trace in contents.traces.values())["length"] >= 4
    # The probes of a trace are one request, without duplicates.
    probes = [asked for asked in server.asked if asked.kind == "probe"]
    assert len(probes) == 2 * (len(QUESTIONS) - 1)
    assert set(server.paid.values()) == {2}


def test_every_trace_has_its_own_seed(server: ScriptedServer, tmp_path: Path) -> None:
    plan = CollectionPlan(2, 13, 90, Sampling(0.7), seed=3)
    run_collection(server, tmp_path / "a", plan)
    seeds = {asked.body["seed"] for asked in server.asked if asked.kind == "trace"}
    assert seeds == {derive_seed(3, q, b) for q in range(len(QUESTIONS)) for b in range(2)}
    server.asked.clear()
    run_collection(server, tmp_path / "greedy")
    run_collection(server, tmp_path / "without", CollectionPlan(2, 13, 90, Sampling(0.7)))
    assert not any("seed" in asked.body for asked in server.asked)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.7)])
def test_the_store_does_not_depend_on_concurrency(
    server: ScriptedServer, tmp_path: Path, sampling: Sampling
) -> None:
    plan = CollectionPlan(3, 13, 90, sampling, 1)
    results = []
    for concurrency in (1, 4, 500):
        server.pace = 0 if concurrency == 1 else 0.002
        server.most_under_way = 0
        engine = ServerEngine(server.url, stall=20)
        store = collect_store(
            engine,
            QUESTIONS,
            plan,
            tmp_path / str(concurrency),
            protocol=scripted_server.protocol_file(tmp_path),
            concurrency=concurrency,
        )
        results.append((store.card.fingerprint, store.branch_flags()))
        assert server.most_under_way <= concurrency
        assert server.most_under_way >= min(concurrency, 4)
    assert results[1:] == results[:1] * 2


def test_traces_fit_the_maximum_length_of_the_model(server: ScriptedServer, tmp_path: Path) -> None:
    server.longest = 80
    contents = run_collection(server, tmp_path)
    for (q, _), trace in contents.traces.items():
        prompt = len(f"q:{TEXTS[q]}\n")
        room = 80 - prompt - 8 - 6  # the suffix: </think> is one token
        assert trace.length == min(room, len(scripted_server.trace(TEXTS[q], 90)))


def test_a_too_long_prompt_fails_before_anything_is_generated(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.longest = 24  # enough for most
    with pytest.raises(EngineError, match=r"question 'plain-\d': the prompt has 10 tokens and the"):
        run_collection(server, tmp_path)
    assert not server.paid


# --- progress ------------------------------------------------------------------------------------


def test_progress(server: ScriptedServer, tmp_path: Path) -> None:
    states: list[CollectionProgress] = []
    contents = run_collection(
        server, tmp_path, progress=lambda state: states.append(copy.copy(state))
    )
    first, last = states[0], states[-1]
    assert (first.total, first.sampled, first.probed, first.resumed) == (14, 0, 0, 0)
    assert first.seconds_left == float("inf")
    assert (last.total, last.sampled, last.probed, last.resumed) == (14, 14, 14, 0)
    assert last.tokens == sum(trace.length for trace in contents.traces.values())
    assert last.probes == sum(map(len, contents.probes.values()))
    assert last.seconds_left == 0
    for name in ("sampled", "probed", "tokens", "probes", "seconds"):
        values = [getattr(state, name) for state in states]
        assert values == sorted(values)
    assert all(state.probed <= state.sampled for state in states)
    # A session with nothing left to do sends no generation requests.
    states.clear()
    server.asked.clear()
    run_collection(server, tmp_path, progress=lambda state: states.append(copy.copy(state)))
    assert (states[-1].sampled, states[-1].probed, states[-1].resumed) == (14, 14, 14)
    assert states[-1].tokens == 0
    assert not any(asked.kind for asked in server.asked)


def test_seconds_left() -> None:
    assert CollectionProgress(10, 6, 6, 2, seconds=8, resumed_samples=2).seconds_left == 8
    begun = CollectionProgress(10, 2, 2, 2, seconds=8, resumed_samples=2)
    assert begun.seconds_left == float("inf")


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trace", "probe"])
def test_an_error_names_the_question_and_branch(
    server: ScriptedServer, tmp_path: Path, kind: str
) -> None:
    def plan(asked: scripted_server.Asked) -> str | None:
        return "404" if asked.kind == kind and asked.question == "plain 2" else None

    server.plan = plan
    with pytest.raises(
        EngineError, match=r"question 'plain-2', branch [01]: .*status 404"
    ) as error:
        run_collection(server, tmp_path, concurrency=1)
    assert f"{server.url}/completions" in str(error.value)
    # Finished work is kept, and the next session resumes.
    with CollectionJournal.open(tmp_path) as journal:
        assert set(journal.contents.probes) == {(0, 0), (0, 1)}
    server.plan = scripted_server.healthy
    assert len(run_collection(server, tmp_path).probes) == 14


def test_an_error_while_prompts_are_encoded(server: ScriptedServer, tmp_path: Path) -> None:
    def plan(asked: scripted_server.Asked) -> str | None:
        return "404" if "plain 3" in asked.body.get("prompt", "") else None

    server.plan = plan
    with pytest.raises(EngineError, match=r"^question 'plain-3': .*/tokenize: status 404"):
        run_collection(server, tmp_path)
    assert not server.paid


def test_concurrency_out_of_range(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="concurrency must be at least 1, got 0"):
        run_collection(server, tmp_path, concurrency=0)


def test_an_existing_store_is_not_overwritten(server: ScriptedServer, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    with pytest.raises(FrozenError, match="there exists already"):
        collect_store(ServerEngine(server.url), QUESTIONS, PLAN, target)
    assert not server.asked
    assert not work_folder(target).exists()


def test_other_settings_generate_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    def collect_with(plan: CollectionPlan, questions: list[AskedQuestion]) -> None:
        collect_store(
            ServerEngine(server.url, stall=20),
            questions,
            plan,
            tmp_path / "target",
            protocol=scripted_server.protocol_file(tmp_path),
        )

    server.plan = lambda asked: "404" if asked.kind == "probe" else None
    with pytest.raises(EngineError):
        collect_with(PLAN, QUESTIONS)
    server.wait_until_left()
    server.plan = scripted_server.healthy
    server.asked.clear()
    with pytest.raises(TraceError, match=r"other settings: branches 2 \(now 3\), interval 13 \(n"):
        collect_with(CollectionPlan(3, 14, 90, GREEDY), QUESTIONS)
    with pytest.raises(TraceError, match="started with other settings: questions '"):
        collect_with(PLAN, QUESTIONS[1:])
    assert not any(asked.kind for asked in server.asked)
    collect_with(PLAN, QUESTIONS)
