"""Servers without token ids: text completions, chats, and what they do not give."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import END, PROTOCOL, ScriptedServer
from text_server import TextServer

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.deployment.solver import solve
from autotts_gym.inference.engine import EngineError, Generated, Request, Sampling
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.http_responses import TransientError
from autotts_gym.inference.server_apis import Api, create_engine
from autotts_gym.inference.text_engine import TextEngine
from autotts_gym.inference.text_responses import piece_id, piece_text, read_generation
from autotts_gym.traces.store import TraceStore

TEXTS = ("plain 1", "plain 2", "silent", "empty", "never", "mute")
QUESTIONS = [AskedQuestion(text.replace(" ", "-"), text, "57") for text in TEXTS]
PLAN = CollectionPlan(branches=2, interval=13, max_tokens=90, sampling=Sampling(0.0))
CHAT = {**PROTOCOL, "prompt": {"messages": [{"role": "user", "content": "q:{question}"}]}}


@pytest.fixture
def server() -> Iterator[TextServer]:
    with TextServer() as made:
        yield made


def protocol(folder: Path, content: dict[str, Any]) -> str:
    path = folder / "protocol.yaml"
    path.write_text(json.dumps(content), "utf-8")
    return str(path)


def run(server: TextServer, work: Callable[[TextEngine], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        engine = TextEngine(server.url, **{"patience": 10.0, **options})
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(main())


# --- pieces --------------------------------------------------------------------------------------


@given(st.text())
def test_ids_of_pieces(text: str) -> None:
    shown = text.encode("utf-8", "replace").decode()
    assert piece_text(piece_id(text)) == shown
    assert piece_id(text) > 0


@given(st.lists(st.text(), max_size=8), st.text(min_size=1))
def test_a_marker_is_found_in_the_text(pieces: list[str], marker: str) -> None:
    engine = TextEngine("http://127.0.0.1:9/v1")
    found = engine.find([piece_id(piece) for piece in pieces], [piece_id(marker)])
    clean = [piece.encode("utf-8", "replace").decode() for piece in pieces]
    start = "".join(clean).find(marker.encode("utf-8", "replace").decode())
    if start < 0:
        assert found is None
    else:
        assert found is not None
        before = sum(map(len, clean[:found]))
        assert before <= start < before + len(clean[found])
    asyncio.run(engine.close())


# --- generation ----------------------------------------------------------------------------------


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("top_tokens", [20, 0])
def test_streams(server: TextServer, chat: bool, top_tokens: int) -> None:
    async def work(engine: TextEngine) -> Generated:
        if chat:
            prompt = await engine.encode_chat([{"role": "user", "content": "q:plain 1"}], {})
        else:
            prompt = await engine.encode("q:plain 1\n")
        result = Generated()
        async for part in engine.stream(Request(prompt, 300, top_tokens=top_tokens), 20):
            result.append(part)
            result.confidences += part.confidences
        assert await engine.decode(result.tokens) == result.text
        return result

    result = run(server, work, chat=chat)
    tokens = [token for token in scripted_server.trace("plain 1", 300) if token != END]
    assert result.text == "".join(map(scripted_server.piece, tokens))
    assert len(result.tokens) == len(tokens)
    assert result.finish == "stop"
    wanted = scripted_server.confidences("plain 1", 300, 5)[: len(tokens)] if top_tokens else []
    assert result.confidences == pytest.approx(wanted)
    assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("chat", [False, True])
def test_a_broken_stream_is_continued(server: TextServer, chat: bool) -> None:
    server.break_after = 7

    async def work(engine: TextEngine) -> tuple[str, int]:
        messages = [{"role": "user", "content": "q:plain 1"}]
        prompt = await (engine.encode_chat(messages, {}) if chat else engine.encode("q:plain 1\n"))
        parts = [part async for part in engine.stream(Request(prompt, 300), 20)]
        return "".join(part.text for part in parts), engine.retries

    text, retries = run(server, work, chat=chat)
    tokens = [token for token in scripted_server.trace("plain 1", 300) if token != END]
    assert text == "".join(map(scripted_server.piece, tokens))
    assert retries == 1
    assert set(server.paid.values()) == {1}
    if chat:
        assert server.bodies[-1]["messages"][-1]["role"] == "assistant"
        assert server.bodies[-1]["continue_final_message"] is True


# --- collections and episodes --------------------------------------------------------------------


def collect(engine: ServerEngine, target: Path, content: dict[str, Any]) -> TraceStore:
    return collect_store(
        engine,
        QUESTIONS,
        PLAN,
        target,
        protocol=protocol(target.parent, content),
        warn=lambda _: None,
        concurrency=3,
    )


@pytest.mark.parametrize("api", ["completions", "chat"])
@pytest.mark.parametrize("top_tokens", [5, -1])
def test_a_collection_equals_that_with_token_ids(
    server: TextServer, tmp_path: Path, api: Api, top_tokens: int
) -> None:
    server.top_tokens = top_tokens
    content = CHAT if api == "chat" else PROTOCOL
    store = collect(create_engine(server.url, api=api), tmp_path / "text", content)
    with ScriptedServer() as other:
        wanted = collect(ServerEngine(other.url), tmp_path / "tokens", PROTOCOL)
    kind = "messages" if api == "chat" else "text"
    assert store.card.details["engine"] == f"llamacpp server, asked with {kind}"
    for question, same in zip(store, wanted, strict=True):
        for branch, equal in zip(question.branches, same.branches, strict=True):
            # The token that ends a trace has no text.
            assert branch.tokens in (equal.tokens, max(equal.tokens - 1, 1))
            assert branch.final == equal.final
            count = len(branch.probes)
            assert list(branch.probes) == list(equal.probes)[:count]
            assert len(equal.probes) - count in (0, 1)
    assert (store.tables.confidences is None) is (top_tokens < 0)


@pytest.mark.parametrize("api", ["completions", "chat"])
def test_an_episode(server: TextServer, tmp_path: Path, api: Api) -> None:
    content = CHAT if api == "chat" else PROTOCOL
    solution = solve(
        "plain 1",
        "cmc",
        base_url=server.url,
        api=api,
        protocol=protocol(tmp_path, content),
        interval=8,
        max_tokens=300,
        sampling={"temperature": 0.0},
        max_branches=4,
    )
    assert solution.error == ""
    tokens = scripted_server.trace("plain 1", 300)
    text = "".join(map(scripted_server.piece, tokens))
    assert solution.answer == text.partition("answer:")[2].partition(".")[0]


# --- errors --------------------------------------------------------------------------------------


def test_prompts_that_an_api_cannot_take(server: TextServer, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="use the API chat, or a protocol with a text"):
        collect(create_engine(server.url, api="completions"), tmp_path / "a", CHAT)
    with pytest.raises(EngineError, match="use the API completions, or a protocol with messages"):
        collect(create_engine(server.url, api="chat"), tmp_path / "b", PROTOCOL)
    with pytest.raises(
        ValueError, match="api must be one of tokens, completions, chat, whole-chat, got"
    ):
        create_engine(server.url, api="x")  # type: ignore[arg-type]


def test_reasoning_that_is_sent_apart(server: TextServer, tmp_path: Path) -> None:
    server.reasoning = "reasoning_content"
    with pytest.raises(EngineError, match="turn the server's reasoning parser off"):
        collect(create_engine(server.url, api="chat"), tmp_path / "a", CHAT)


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"choices": []},
        {"choices": [{}, {}]},
        {"choices": ["a"]},
        {"choices": [{"text": 5}]},
        {"choices": [{"text": "a", "finish_reason": 5}]},
        {"choices": [{"message": {"content": ["a"]}}]},
        {"choices": [{"text": "a", "logprobs": {"tokens": ["a"]}}]},
        {"choices": [{"text": "a", "logprobs": {"tokens": ["a"], "token_logprobs": ["x"]}}]},
        {"choices": [{"text": "a", "logprobs": {"tokens": [5], "token_logprobs": [-1.0]}}]},
        {"choices": [{"text": "a", "logprobs": {"content": ["a"]}}]},
        {"choices": [{"text": "a", "logprobs": {"content": [{"token": "a"}]}}]},
        {
            "choices": [
                {
                    "text": "a",
                    "logprobs": {"content": [{"token": "a", "logprob": -1, "top_logprobs": 5}]},
                }
            ]
        },
    ],
)
def test_malformed_responses(content: Any) -> None:
    with pytest.raises(TransientError, match=r"^u: "):
        read_generation(content, "u", 5)


def test_long_parts_without_names_of_tokens_are_words() -> None:
    text = "So it is 5 + 7 = 12, and then 12 more is 24."
    part = read_generation({"choices": [{"text": text, "finish_reason": None}]}, "u")
    assert "".join(map(piece_text, part.tokens)) == text
    assert len(part.tokens) == len(text.split())
