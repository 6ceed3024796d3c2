"""Collecting: what is asked where, whatever the order, and what is told of it."""

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

from autotts_gym.collection.collection_journal import Journal, Kept
from autotts_gym.collection.collector import Plan, Progress, collect, cuts, trace_seed
from autotts_gym.collection.pipeline import collect_store, work_folder
from autotts_gym.collection.questions import AskedQuestion
from autotts_gym.inference.engine import EngineError, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.protocol import Prober, Protocol
from autotts_gym.traces.store import FrozenError, TraceError

GREEDY = Sampling(0.0)
PLAN = Plan(branches=2, interval=13, max_tokens=90, sampling=GREEDY)
TEXTS = ("plain 1", "plain 2", "plain 3", "silent", "empty", "never", "mute")
QUESTIONS = [AskedQuestion(text.replace(" ", "-"), text, "57") for text in TEXTS]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


def collected(server: ScriptedServer, folder: Path, plan: Plan = PLAN, **options: Any) -> Kept:
    """What is kept of a collection."""

    async def main() -> Kept:
        engine = ServerEngine(server.url, stall=20)
        try:
            with Journal.open(folder) as journal:
                prober = await Prober.on(engine, Protocol.of("scripted", PROTOCOL))
                await collect(prober, QUESTIONS, plan, journal, **options)
                return journal.kept
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
def test_plans_that_are_none(plan: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**plan)


@given(st.integers(1, 5000), st.integers(1, 600))
def test_cuts(length: int, interval: int) -> None:
    at = list(cuts(length, interval))
    assert len(at) == (length - 1) // interval
    assert at == [k * interval for k in range(1, len(at) + 1)]
    assert not at or at[-1] < length


def test_seeds_differ() -> None:
    seeds = [trace_seed(s, q, b) for s in range(3) for q in range(20) for b in range(20)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert trace_seed(0, 0, 0) == trace_seed(0, 0, 0)


# --- what is asked -------------------------------------------------------------------------------


def test_every_trace_is_sampled_and_probed_where_it_should_be(
    server: ScriptedServer, tmp_path: Path
) -> None:
    kept = collected(server, tmp_path)
    assert len(kept.traces) == len(kept.probes) == 2 * len(QUESTIONS)
    for (q, b), trace in kept.traces.items():
        tokens = scripted_server.trace(TEXTS[q], 90)
        assert trace.length == len(tokens)
        assert trace.text == "".join(map(scripted_server.piece, tokens)).removesuffix("<end>")
        assert trace.finish == ("stop" if END in tokens else "length")
        at = list(range(13, len(tokens), 13))
        if END not in tokens and CLOSE not in tokens:
            at.append(90)  # closed by a probe
        wanted = [scripted_server.probe(TEXTS[q], 90, depth) for depth in at]
        found = kept.probes[q, b]
        assert [len(probe.tokens) for probe in found] == list(map(len, wanted))
        assert ["".join(probe.pieces) for probe in found] == [
            "".join(map(scripted_server.piece, tokens)) for tokens in wanted
        ]
    assert Counter(trace.finish for trace in kept.traces.values())["length"] >= 4
    # Probes of one trace are one request, and equal ones are asked once.
    probes = [asked for asked in server.asked if asked.kind == "probe"]
    assert len(probes) == 2 * (len(QUESTIONS) - 1)
    assert set(server.paid.values()) == {2}


def test_every_trace_has_a_seed_of_its_own(server: ScriptedServer, tmp_path: Path) -> None:
    plan = Plan(2, 13, 90, Sampling(0.7), seed=3)
    collected(server, tmp_path / "a", plan)
    seeds = {asked.body["seed"] for asked in server.asked if asked.kind == "trace"}
    assert seeds == {trace_seed(3, q, b) for q in range(len(QUESTIONS)) for b in range(2)}
    server.asked.clear()
    collected(server, tmp_path / "greedy")
    collected(server, tmp_path / "without", Plan(2, 13, 90, Sampling(0.7)))
    assert not any("seed" in asked.body for asked in server.asked)


@pytest.mark.parametrize("sampling", [GREEDY, Sampling(0.7)])
def test_the_order_does_not_matter(
    server: ScriptedServer, tmp_path: Path, sampling: Sampling
) -> None:
    plan = Plan(3, 13, 90, sampling, 1)
    found = []
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
        found.append((store.card.fingerprint, store.branch_flags()))
        assert server.most_under_way <= concurrency
        assert server.most_under_way >= min(concurrency, 4)
    assert found[1:] == found[:1] * 2


def test_a_trace_has_the_room_that_the_model_has(server: ScriptedServer, tmp_path: Path) -> None:
    server.longest = 80
    kept = collected(server, tmp_path)
    for (q, _), trace in kept.traces.items():
        prompt = len(f"q:{TEXTS[q]}\n")
        room = 80 - prompt - 8 - 6  # the suffix: </think> is one token
        assert trace.length == min(room, len(scripted_server.trace(TEXTS[q], 90)))


def test_a_prompt_without_room_is_told_before_anything_is_paid(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.longest = 24  # enough for most
    with pytest.raises(EngineError, match="question 'plain-1': the prompt has 10 tokens, and the"):
        collected(server, tmp_path)
    assert not server.paid


# --- progress ------------------------------------------------------------------------------------


def test_progress_adds_up(server: ScriptedServer, tmp_path: Path) -> None:
    states: list[Progress] = []
    kept = collected(server, tmp_path, progress=lambda state: states.append(copy.copy(state)))
    first, last = states[0], states[-1]
    assert (first.total, first.traces, first.probed, first.kept) == (14, 0, 0, 0)
    assert first.left == float("inf")
    assert (last.total, last.traces, last.probed, last.kept) == (14, 14, 14, 0)
    assert last.tokens == sum(trace.length for trace in kept.traces.values())
    assert last.probes == sum(map(len, kept.probes.values()))
    assert last.left == 0
    for name in ("traces", "probed", "tokens", "probes", "seconds"):
        values = [getattr(state, name) for state in states]
        assert values == sorted(values)
    assert all(state.probed <= state.traces for state in states)
    # A session that finds all of it asks for nothing.
    states.clear()
    server.asked.clear()
    collected(server, tmp_path, progress=lambda state: states.append(copy.copy(state)))
    assert (states[-1].traces, states[-1].probed, states[-1].kept) == (14, 14, 14)
    assert states[-1].tokens == 0
    assert not any(asked.kind for asked in server.asked)


def test_time_left() -> None:
    assert Progress(10, probed=6, kept=2, seconds=8).left == 8
    assert Progress(10, probed=2, kept=2, seconds=8).left == float("inf")


# --- errors --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["trace", "probe"])
def test_an_error_names_question_and_branch(
    server: ScriptedServer, tmp_path: Path, kind: str
) -> None:
    def plan(asked: scripted_server.Asked) -> str | None:
        return "404" if asked.kind == kind and asked.question == "plain 2" else None

    server.plan = plan
    with pytest.raises(EngineError, match=r"question 'plain-2', branch [01]: .*status 404") as told:
        collected(server, tmp_path, concurrency=1)
    assert f"{server.url}/completions" in str(told.value)
    # What was finished before is kept, and the rest goes on.
    with Journal.open(tmp_path) as journal:
        assert set(journal.kept.probes) == {(0, 0), (0, 1)}
    server.plan = scripted_server.healthy
    assert len(collected(server, tmp_path).probes) == 14


def test_an_error_while_prompts_are_made(server: ScriptedServer, tmp_path: Path) -> None:
    def plan(asked: scripted_server.Asked) -> str | None:
        return "404" if "plain 3" in asked.body.get("prompt", "") else None

    server.plan = plan
    with pytest.raises(EngineError, match=r"^question 'plain-3': .*/tokenize: status 404"):
        collected(server, tmp_path)
    assert not server.paid


def test_concurrency_out_of_range(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="concurrency must be at least 1, got 0"):
        collected(server, tmp_path, concurrency=0)


def test_what_stands_there_is_not_touched(server: ScriptedServer, tmp_path: Path) -> None:
    target = tmp_path / "there"
    target.mkdir()
    with pytest.raises(FrozenError, match="there exists already"):
        collect_store(ServerEngine(server.url), QUESTIONS, PLAN, target)
    assert not server.asked
    assert not work_folder(target).exists()


def test_other_settings_pay_for_nothing(server: ScriptedServer, tmp_path: Path) -> None:
    def collect_with(plan: Plan, questions: list[AskedQuestion]) -> None:
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
    server.plan = scripted_server.healthy
    server.asked.clear()
    with pytest.raises(TraceError, match=r"other settings: branches 2 \(now 3\), interval 13 \(n"):
        collect_with(Plan(3, 14, 90, GREEDY), QUESTIONS)
    with pytest.raises(TraceError, match="was begun with other settings: questions '"):
        collect_with(PLAN, QUESTIONS[1:])
    assert not any(asked.kind for asked in server.asked)
    collect_with(PLAN, QUESTIONS)
