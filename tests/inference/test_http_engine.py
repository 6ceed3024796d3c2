"""Engine for completion servers: requests, retries and errors."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import scripted_server
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import CLOSE, END, FAULTS, ScriptedServer, at

from autotts_gym.inference import http_connection, http_engine, request_retries
from autotts_gym.inference.engine import EngineError, Generated, Request, Sampling
from autotts_gym.inference.http_engine import ServerEngine, TransientError
from autotts_gym.inference.http_responses import read_choices

#: Questions of every kind.
QUESTIONS = ("plain 1", "plain 2", "plain 3", "silent", "empty", "never")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as server:
        yield server


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_retries, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(request_retries, "_LONGEST_PAUSE", 0.02)


@contextlib.asynccontextmanager
async def opened(*servers: ScriptedServer | str, **options: Any) -> AsyncIterator[ServerEngine]:
    urls = [s if isinstance(s, str) else s.url for s in servers]
    engine = ServerEngine(urls, **{"stall": 20.0, "patience": 20.0, **options})
    try:
        yield engine
    finally:
        await engine.close()


def run(
    work: Callable[[ServerEngine], Awaitable[Any]], *servers: ScriptedServer | str, **options: Any
) -> Any:
    async def main() -> Any:
        async with opened(*servers, **options) as engine:
            return await work(engine)

    return asyncio.run(main())


def stall(fault: str) -> float:
    """Short if the fault is a stall; otherwise long, since the machine may be busy."""
    return 0.3 if fault.startswith("stall") else 20.0


async def wait_until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def request(question: str, most: int = 120, **more: Any) -> Request:
    return Request(scripted_server.encode(f"q:{question}\n"), most, **more)


async def generate(engine: ServerEngine, asked: Request, every: int = 20) -> Generated:
    result = Generated()
    async for part in engine.stream(asked, every):
        assert part.finish or part.tokens
        result.append(part)
    return result


def text_of(tokens: list[int]) -> str:
    return "".join(scripted_server.piece(token) for token in tokens if token != END)


# --- without faults ------------------------------------------------------------------------------


def test_facts(server: ScriptedServer) -> None:
    assert run(lambda engine: engine.describe(), server) == {
        "engine": "vllm server",
        "engine_version": "0.32.0",
        "model": "scripted",
        "max_model_len": 10_000,
    }


def test_texts_and_tokens(server: ScriptedServer) -> None:
    async def work(engine: ServerEngine) -> None:
        tokens = await engine.encode("a</think>é")
        assert tokens == [ord("a"), CLOSE, ord("é")]
        assert await engine.decode([*tokens, END]) == "a</think>é<end>"
        assert server.asked[-1].body == {"model": "scripted", "tokens": [*tokens, END]}
        chat = await engine.encode_chat(
            [{"role": "user", "content": "?"}], {"enable_thinking": True}
        )
        assert text_of(chat) == "<user>?<think>"

    run(work, server)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("every", [1, 7, 1000])
def test_streams(server: ScriptedServer, question: str, every: int) -> None:
    async def work(engine: ServerEngine) -> list[Generated]:
        return [part async for part in engine.stream(request(question), every)]

    parts = run(work, server)
    tokens = [token for part in parts for token in part.tokens]
    assert tokens == scripted_server.trace(question, 120)
    assert "".join(part.text for part in parts) == text_of(tokens)
    assert [part.finish for part in parts[:-1]] == [""] * (len(parts) - 1)
    assert parts[-1].finish == ("stop" if END in tokens else "length")
    assert all(len(part.tokens) <= every for part in parts)
    assert set(server.paid.values()) == {1}
    body = server.asked[-1].body
    assert body["temperature"] == 0
    assert not body.keys() & {"seed", "stop", "top_k"}
    assert body["return_token_ids"] is True


def test_sampling_parameters_are_sent(server: ScriptedServer) -> None:
    asked = request("plain", sampling=Sampling(0.5, 0.9, 7), seed=2**63 - 1, stop=("9", "8"))
    result = run(lambda engine: generate(engine, asked), server)
    body = server.asked[-1].body
    wanted = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 2**63 - 1, "stop": ["9", "8"]}
    assert {key: body[key] for key in wanted} == wanted
    assert result.tokens != scripted_server.trace("plain", 120)


def test_completes_several_prompts(server: ScriptedServer) -> None:
    async def work(engine: ServerEngine) -> list[Generated]:
        assert await engine.complete([]) == []
        return await engine.complete([request(question, 9, seed=4) for question in QUESTIONS])

    result = run(work, server)
    assert [one.tokens for one in result] == [scripted_server.trace(q, 9) for q in QUESTIONS]
    assert [one.pieces for one in result] == [
        [scripted_server.piece(token) for token in one.tokens] for one in result
    ]
    assert all(len(one.logprobs) == len(one.tokens) and max(one.logprobs) <= 0 for one in result)
    assert sum(asked.kind == "probe" for asked in server.asked) == 1
    assert "seed" not in server.asked[-1].body


# --- retries -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS[:-1])
def test_streams_recover(server: ScriptedServer, fault: str) -> None:
    server.plan = at([0, 1, 3, 5, 8], fault)

    async def work(engine: ServerEngine) -> list[Generated]:
        result = await asyncio.gather(*[generate(engine, request(q)) for q in QUESTIONS])
        assert engine.retries >= server.faults[fault] == 5
        assert engine.retries == 5 or fault.startswith("stall")
        return result

    result = run(work, server, stall=stall(fault))
    assert [one.tokens for one in result] == [scripted_server.trace(q, 120) for q in QUESTIONS]
    assert [one.text for one in result] == [text_of(one.tokens) for one in result]
    # Tokens are generated twice only if they were in transit when a stream broke: the missing part
    # and, after a reset, the unread parts before it.
    once = Counter(dict.fromkeys(server.paid, 1))
    assert server.paid <= once + server.lost
    if fault != "reset-mid":
        assert server.paid == once + server.lost


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_completions_recover(server: ScriptedServer, fault: str) -> None:
    asked = [request(question, 6) for question in QUESTIONS]
    wanted = run(lambda engine: engine.complete(asked), server)
    before = server.paid.copy()
    server.plan = at([0, 1], fault, "probe")
    assert run(lambda engine: engine.complete(asked), server, stall=stall(fault)) == wanted
    assert server.faults[fault] == 2
    assert server.paid - before == before + server.lost


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop", "stall", "not-json", "wrong-shape"])
def test_small_requests_recover(server: ScriptedServer, fault: str) -> None:
    odd = iter(range(10**6))
    server.plan = lambda _: fault if next(odd) % 2 == 0 else None

    async def work(engine: ServerEngine) -> Any:
        facts = await engine.describe()
        tokens = await engine.encode("abc")
        return facts["model"], facts["engine_version"], tokens, await engine.decode(tokens)

    version = "unknown" if fault == "wrong-shape" else "0.32.0"
    result = run(work, server, stall=stall(fault))
    assert result == ("scripted", version, [97, 98, 99], "abc")


def test_seed_changes_only_after_a_partial_stream(server: ScriptedServer) -> None:
    asked = request("plain 2", sampling=Sampling(1.0), seed=5)
    wanted = run(lambda engine: generate(engine, asked), server)
    server.plan = at([0, 1], "500")
    assert run(lambda engine: generate(engine, asked), server) == wanted
    server.plan = at([0], "no-end")
    for _ in range(50):  # until a stream breaks after its first part
        count = len(server.asked)
        run(lambda engine: generate(engine, asked), server)
        server.plan = at([0], "no-end")
        seeds = [one.body["seed"] for one in server.asked[count:] if one.kind]
        starts = [one.start for one in server.asked[count:] if one.kind]
        assert seeds == [5 + start for start in starts]
        if starts[-1]:
            return
    pytest.fail("no stream broke")


def test_only_the_finish_reason_was_missing(server: ScriptedServer) -> None:
    server.plan = at([0], "no-end")
    result = run(lambda engine: generate(engine, request("never", 1)), server)
    assert result == Generated(result.tokens, result.text, "length")
    assert result.tokens == scripted_server.trace("never", 1)
    assert sum(asked.kind == "trace" for asked in server.asked) == 1


def test_unicode_line_separators_in_streams(server: ScriptedServer) -> None:
    result = run(lambda engine: generate(engine, request("never", 400)), server)
    assert {"\u2028", "\x85"} <= set(result.text)
    assert sum(asked.kind == "trace" for asked in server.asked) == 1


def test_queued_request_has_not_stalled(server: ScriptedServer) -> None:
    """A request without data for longer than a stall, while the server responds to others."""
    server.pace = 0.05
    server.plan = at([0], "stall")

    async def work(engine: ServerEngine) -> None:
        queued = asyncio.create_task(generate(engine, request("plain 1")))
        await wait_until(lambda: server.faults["stall"])
        await generate(engine, request("never", 20), every=1)  # 1 s, three times a stall
        assert engine.retries == 0
        assert (await queued).tokens == scripted_server.trace("plain 1", 120)
        assert engine.retries == 1

    run(work, server, stall=0.3)


def test_queued_request_fails_eventually(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_connection, "_MAX_QUEUED_STALLS", 2)
    server.pace = 0.05
    server.plan = at([0], "stall")

    async def work(engine: ServerEngine) -> None:
        queued = asyncio.create_task(generate(engine, request("empty")))
        await wait_until(lambda: server.faults["stall"])
        other = asyncio.create_task(generate(engine, request("never", 1000), every=1))
        assert (await queued).finish == "stop"
        assert not other.done()
        other.cancel()

    run(work, server, stall=0.3)


# --- permanent errors ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("429", "status 429: scripted 429"),
        ("500", "status 500: scripted 500"),
        ("drop", "ServerDisconnectedError: Server disconnected"),
        ("stall", "stalled: nothing came for 0.4 s"),  # after 0.1 and 0.2 s
        ("no-end", "the answer broke off"),
        ("error-chunk", "scripted error"),
        ("not-json", "answered no JSON object: {"),
        ("wrong-shape", "answered not 1 choices: {'choices': 'none'}"),
        ("bad-ids", "a choice has invalid token ids: ['12', 1.5, None]"),
        ("bad-finish", "a choice's finish_reason is 'abort'"),
    ],
)
def test_patience_runs_out(server: ScriptedServer, fault: str, message: str) -> None:
    server.plan = lambda asked: fault if asked.kind else None
    begun = time.monotonic()
    # An empty trace, since a stream with progress would renew the patience.
    with pytest.raises(EngineError) as info:
        run(
            lambda engine: generate(engine, request("empty")),
            server,
            stall=0.1 if fault == "stall" else 20.0,
            patience=0.4,
        )
    assert time.monotonic() - begun >= 0.4
    assert str(info.value).startswith(f"{server.url}/completions: ")
    assert message in str(info.value)
    assert server.faults[fault] >= 2


def test_patience_starts_at_the_first_failure(server: ScriptedServer) -> None:
    """A stall that is longer than the patience is still retried once."""
    server.plan = at([0], "stall")
    result = run(lambda engine: generate(engine, request("plain")), server, stall=0.2, patience=0.1)
    assert result.tokens == scripted_server.trace("plain", 120)


def test_no_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EngineError, match=rf"{url}/models: no connection: "):
            run(lambda engine: engine.describe(), url, patience=0.2)


def test_permanent_errors_are_raised_at_once(server: ScriptedServer) -> None:
    async def fails(engine: ServerEngine, message: str) -> None:
        calls = [generate(engine, request("plain")), engine.complete([request("plain")])]
        for call in calls:
            count = len([asked for asked in server.asked if asked.kind])
            with pytest.raises(EngineError, match=message) as info:
                await call
            assert not isinstance(info.value, TransientError)
            assert server.url in str(info.value)
            assert len([asked for asked in server.asked if asked.kind]) == count + 1

    server.longest = 100
    run(lambda engine: fails(engine, "status 400: This model's maximum context length"), server)
    server.longest = 10_000
    server.without = {"token_ids"}
    run(lambda engine: fails(engine, "no token ids; vLLM's server of version 0.10.2"), server)
    server.without = set()
    server.api_key = "secret"
    run(lambda engine: fails(engine, "status 401: Unauthorized"), server, model="scripted")
    run(
        lambda engine: generate(engine, request("plain")),
        server,
        model="scripted",
        api_key="secret",
    )
    server.api_key = None
    run(lambda engine: fails(engine, "404: The model `other` does not"), server, model="other")


def test_completions_without_log_probabilities(server: ScriptedServer) -> None:
    server.without = {"logprobs"}
    run(lambda engine: generate(engine, request("plain")), server)
    with pytest.raises(EngineError, match="have no log-probabilities") as info:
        run(lambda engine: engine.complete([request("plain")]), server)
    assert not isinstance(info.value, TransientError)


def test_server_without_models(server: ScriptedServer) -> None:
    with pytest.raises(EngineError, match=f"{server.url}/v1/models: status 404: .*Not Found"):
        run(lambda engine: engine.describe(), f"{server.url}/v1")


@pytest.mark.parametrize(
    ("names", "model", "message"),
    [
        (("a", "b"), None, "serves a, b: name one of them"),
        ((), None, "serves no model"),
        (("a", "b"), "c", "serves a, b, not 'c'"),
    ],
)
def test_choice_of_the_model(names: tuple[str, ...], model: str | None, message: str) -> None:
    with ScriptedServer(names=names) as server:
        with pytest.raises(EngineError, match=message) as info:
            run(lambda engine: engine.describe(), server, model=model)
        assert server.url in str(info.value)
        assert len(server.asked) == 1
    if "b" in names:
        with ScriptedServer(names=names) as server:
            assert run(lambda engine: engine.describe(), server, model="b")["model"] == "b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least one base URL"),
        (("127.0.0.1:8000",), "'127.0.0.1:8000' is not a base URL"),
        (("http://",), "is not a base URL"),
        (("http://[::1/v1",), "is not a base URL"),
        (("http://a:999999/v1",), "is not a base URL"),
        (("http://a/v1", None, {"stall": 0}), "stall must be above 0 seconds, got 0"),
        (("http://a/v1", None, {"patience": float("nan")}), "patience must be above 0 seconds"),
        (("http://a/v1", None, {"concurrency": 0}), "concurrency must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(arguments: tuple[Any, ...], message: str) -> None:
    url, model, options = (*arguments, None, None)[:3]
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        ServerEngine(url, model, **(options or {}))


def test_invalid_api_key(server: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="header Authorization must be printable") as failure:
        run(lambda engine: engine.describe(), server, api_key="two\nlines")
    assert "two" not in str(failure.value)


# --- several servers -----------------------------------------------------------------------------


def test_requests_are_distributed(server: ScriptedServer) -> None:
    async def work(engine: ServerEngine) -> None:
        await asyncio.gather(*[generate(engine, request(f"plain {i}")) for i in range(20)])

    with ScriptedServer(pace=0.01) as other:
        server.pace = 0.01
        run(work, server, other)
        counts = [sum(asked.kind == "trace" for asked in s.asked) for s in (server, other)]
    assert sum(counts) == 20
    assert min(counts) >= 8


@pytest.mark.parametrize("fault", ["down", "503", "429", "reset-mid", "not-json"])
def test_healthy_server_takes_over(server: ScriptedServer, fault: str) -> None:
    asked = [request(f"plain {i}") for i in range(12)]

    async def work(engine: ServerEngine) -> Any:
        begun = time.monotonic()
        result = await asyncio.gather(*[generate(engine, one) for one in asked])
        # Failed requests continue on the healthy server without a pause.
        assert time.monotonic() - begun < 10
        return result

    with ScriptedServer(lambda asked: fault if asked.kind else None) as other:
        run(lambda engine: engine.describe(), other)  # healthy at first
        if fault == "down":
            other.die()
        result = run(work, server, other, model="scripted")
        tries = [one.question for one in other.asked if one.kind]
    assert [one.tokens for one in result] == [
        scripted_server.trace(f"plain {i}", 120) for i in range(12)
    ]
    assert len(tries) <= 12


def test_recovered_server_is_used_again(server: ScriptedServer) -> None:
    async def work(engine: ServerEngine) -> None:
        await asyncio.gather(*[generate(engine, request(f"plain {i}")) for i in range(2)])
        assert other.faults["500"] == 1
        other.plan = scripted_server.healthy
        await asyncio.sleep(0.5)  # the pause after a failure
        count = len(other.asked)
        for tried in (1, 3):  # one request at first, then its share
            await asyncio.gather(*[generate(engine, request(f"plain {i}")) for i in range(4)])
            assert len(other.asked) == count + tried

    with ScriptedServer(lambda asked: "500" if asked.kind else None) as other:
        server.pace = other.pace = 0.005
        run(work, server, other)


def test_backoff_if_all_servers_fail(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_engine, "backoff", lambda attempt: 0.1)
    with ScriptedServer(lambda asked: "429" if asked.kind else None) as other:
        server.plan = other.plan

        async def work(engine: ServerEngine) -> None:
            with pytest.raises(EngineError, match="status 429"):
                await generate(engine, request("plain"))
            assert engine.retries <= 12

        run(work, server, other, patience=0.5)


def test_backoff_of_a_request_that_fails_on_healthy_servers(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both servers are healthy but reject one request."""
    monkeypatch.setattr(http_engine, "backoff", lambda attempt: 0.1)
    server.pace = 0.002
    server.plan = lambda asked: "503" if asked.question == "plain" else None
    with ScriptedServer(server.plan, pace=0.002) as other:

        async def work(engine: ServerEngine) -> None:
            others = [
                asyncio.create_task(generate(engine, request("never", 5000), 1)) for _ in range(2)
            ]
            await wait_until(lambda: server.paid and other.paid)
            with pytest.raises(EngineError, match="status 503"):
                await generate(engine, request("plain"))
            assert 2 <= engine.retries <= 12
            for task in others:
                task.cancel()

        run(work, server, other, patience=0.4)


# --- cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "close", "forget"])
def test_abandoned_streams_are_closed(server: ScriptedServer, how: str) -> None:
    server.pace = 0.005

    async def first(engine: ServerEngine) -> None:
        if how == "cancel":
            task = asyncio.create_task(generate(engine, request("never", 5000), 1))
            await wait_until(lambda: server.paid)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            stream = engine.stream(request("never", 5000), 1)
            async for _ in stream:
                break
            if how == "close":
                await stream.aclose()  # type: ignore[attr-defined]
            del stream
        await wait_until(lambda: server.left)
        assert server.left == 1
        assert engine.retries == 0
        assert [asked.kind for asked in server.asked].count("trace") == 1
        # The engine still works.
        assert (await generate(engine, request("empty"))).finish == "stop"

    run(first, server)


def test_cancelled_during_backoff(server: ScriptedServer) -> None:
    server.plan = lambda asked: "500" if asked.kind else None

    async def work(engine: ServerEngine) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await generate(engine, request("plain"))
        await asyncio.sleep(0.5)  # until the server has seen all that was sent
        count = len(server.asked)
        await asyncio.sleep(1.0)
        assert len(server.asked) == count

    run(work, server)


# --- invalid responses ---------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["index", "text", "token_ids", "finish_reason", "logprobs"])
            | st.sampled_from(["token_logprobs", "tokens", "choices", "error"]),
            inner,
            max_size=6,
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"logprobs": {"token_logprobs": [float("nan")], "tokens": ["a"]}}, "do not fit 1 tokens"),
        ({"logprobs": {"token_logprobs": [-float("inf")], "tokens": ["a"]}}, "do not fit 1 tok"),
        ({"logprobs": {"token_logprobs": [10**400], "tokens": ["a"]}}, "do not fit 1 tokens"),
        ({"logprobs": {"token_logprobs": [None], "tokens": ["a"]}}, "do not fit 1 tokens"),
        ({"logprobs": {"token_logprobs": [-1.0], "tokens": []}}, "do not fit 1 tokens"),
        ({"logprobs": []}, "do not fit 1 tokens"),
        ({"token_ids": [True]}, "a choice has invalid token ids"),
        ({"token_ids": [-1]}, "a choice has invalid token ids"),
        ({"text": None}, "a choice has no text"),
        ({"finish_reason": None}, "a choice's finish_reason is None"),
        ({"index": []}, r"a choice's index is \[\]"),
        ({"index": 1}, r"1 choices are numbered \[1\]"),
    ],
)
def test_invalid_choice(changes: dict[str, Any], message: str) -> None:
    choice = {"index": 0, "text": "a", "token_ids": [97], "finish_reason": "stop"}
    choice |= {"logprobs": {"token_logprobs": [-1], "tokens": ["a"]}}
    (valid,) = read_choices({"choices": [choice]}, "http://a", 1)
    assert valid == Generated([97], "a", "stop", [-1.0], ["a"])
    with pytest.raises(TransientError, match=f"^http://a: .*{message}"):
        read_choices({"choices": [{**choice, **changes}]}, "http://a", 1)


@settings(deadline=None)
@given(_JSON, st.integers(1, 3), st.booleans())
def test_any_response_is_valid_or_an_engine_error(result: Any, count: int, partial: bool) -> None:
    result = result if isinstance(result, dict) else {"choices": result}
    errors: list[EngineError] = []
    read: list[Generated] = []
    try:
        read = read_choices(result, "http://a/v1", count, partial=partial)
    except EngineError as error:
        errors.append(error)
    assert all(str(error).startswith("http://a/v1: ") for error in errors)
    assert all(len(str(error)) < 400 for error in errors)
    assert len(read) == (0 if errors else count)
    for one in read:
        assert all(type(token) is int and token >= 0 for token in one.tokens)
        assert isinstance(one.text, str)
        assert partial or len(one.logprobs) == len(one.pieces) == len(one.tokens)
