"""Servers of completions: what is asked, and what goes wrong on the way."""

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
import tenacity
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import CLOSE, END, FAULTS, ScriptedServer, at

from autotts_gym.inference import http_engine as module
from autotts_gym.inference.engine import EngineError, Generated, Request, Sampling
from autotts_gym.inference.http_engine import ServerEngine, TransientError

#: Streams of more than a few parts, and of every kind.
QUESTIONS = ("plain 1", "plain 2", "plain 3", "silent", "empty", "never")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = tenacity.wait_random_exponential(multiplier=0.002, max=0.02)
    monkeypatch.setattr(module, "_BACKOFF", backoff)


@contextlib.asynccontextmanager
async def engine(*servers: ScriptedServer | str, **options: Any) -> AsyncIterator[ServerEngine]:
    urls = [s if isinstance(s, str) else s.url for s in servers]
    made = ServerEngine(urls, **{"stall": 20.0, "patience": 20.0, **options})
    try:
        yield made
    finally:
        await made.close()


def run(
    work: Callable[[ServerEngine], Awaitable[Any]], *servers: ScriptedServer | str, **options: Any
) -> Any:
    async def main() -> Any:
        async with engine(*servers, **options) as made:
            return await work(made)

    return asyncio.run(main())


def stall(fault: str) -> float:
    """Short where a stall is waited for; else long, for the machine may be busy."""
    return 0.3 if fault.startswith("stall") else 20.0


async def until(reached: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not reached():
            await asyncio.sleep(0.01)


def request(question: str, most: int = 120, **more: Any) -> Request:
    return Request(scripted_server.encode(f"q:{question}\n"), most, **more)


async def whole(made: ServerEngine, asked: Request, every: int = 20) -> Generated:
    found = Generated()
    async for part in made.stream(asked, every):
        assert part.finish or part.tokens
        found.append(part)
    return found


def text_of(tokens: list[int]) -> str:
    return "".join(scripted_server.piece(token) for token in tokens if token != END)


# --- undisturbed ---------------------------------------------------------------------------------


def test_facts(server: ScriptedServer) -> None:
    assert run(lambda made: made.facts(), server) == {
        "engine": "vllm server",
        "engine_version": "0.32.0",
        "model": "scripted",
        "max_model_len": 10_000,
    }


def test_texts_and_tokens(server: ScriptedServer) -> None:
    async def work(made: ServerEngine) -> None:
        tokens = await made.encode("a</think>é")
        assert tokens == [ord("a"), CLOSE, ord("é")]
        assert await made.decode([*tokens, END]) == "a</think>é<end>"
        assert server.asked[-1].body == {"model": "scripted", "tokens": [*tokens, END]}
        chat = await made.encode_chat([{"role": "user", "content": "?"}], {"enable_thinking": True})
        assert text_of(chat) == "<user>?<think>"

    run(work, server)


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("every", [1, 7, 1000])
def test_streams(server: ScriptedServer, question: str, every: int) -> None:
    async def work(made: ServerEngine) -> list[Generated]:
        return [part async for part in made.stream(request(question), every)]

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


def test_passes_on_how_tokens_are_drawn(server: ScriptedServer) -> None:
    asked = request("plain", sampling=Sampling(0.5, 0.9, 7), seed=2**63 - 1, stop=("9", "8"))
    found = run(lambda made: whole(made, asked), server)
    body = server.asked[-1].body
    wanted = {"temperature": 0.5, "top_p": 0.9, "top_k": 7, "seed": 2**63 - 1, "stop": ["9", "8"]}
    assert {key: body[key] for key in wanted} == wanted
    assert found.tokens != scripted_server.trace("plain", 120)


def test_completes_several_at_once(server: ScriptedServer) -> None:
    async def work(made: ServerEngine) -> list[Generated]:
        assert await made.complete([]) == []
        return await made.complete([request(question, 9, seed=4) for question in QUESTIONS])

    found = run(work, server)
    assert [one.tokens for one in found] == [scripted_server.trace(q, 9) for q in QUESTIONS]
    assert [one.pieces for one in found] == [
        [scripted_server.piece(token) for token in one.tokens] for one in found
    ]
    assert all(len(one.logprobs) == len(one.tokens) and max(one.logprobs) <= 0 for one in found)
    assert sum(asked.kind == "probe" for asked in server.asked) == 1
    assert "seed" not in server.asked[-1].body


# --- what is tried again -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS[:-1])
def test_a_stream_withstands(server: ScriptedServer, fault: str) -> None:
    server.plan = at([0, 1, 3, 5, 8], fault)

    async def work(made: ServerEngine) -> list[Generated]:
        found = await asyncio.gather(*[whole(made, request(q)) for q in QUESTIONS])
        assert made.retries >= server.faults[fault] == 5
        assert made.retries == 5 or fault.startswith("stall")
        return found

    found = run(work, server, stall=stall(fault))
    assert [one.tokens for one in found] == [scripted_server.trace(q, 120) for q in QUESTIONS]
    assert [one.text for one in found] == [text_of(one.tokens) for one in found]
    # Nothing is generated twice but what was on its way when a stream broke: the part that did
    # not come, and after a reset the parts before it, which may be thrown away unread.
    once = Counter(dict.fromkeys(server.paid, 1))
    assert server.paid <= once + server.lost
    if fault != "reset-mid":
        assert server.paid == once + server.lost


@pytest.mark.parametrize("fault", FAULTS)
def test_completions_withstand(server: ScriptedServer, fault: str) -> None:
    asked = [request(question, 6) for question in QUESTIONS]
    wanted = run(lambda made: made.complete(asked), server)
    before = server.paid.copy()
    server.plan = at([0, 1], fault, "probe")
    assert run(lambda made: made.complete(asked), server, stall=stall(fault)) == wanted
    assert server.faults[fault] == 2
    assert server.paid - before == before + server.lost


@pytest.mark.parametrize("fault", ["429", "500", "503", "drop", "stall", "not-json", "wrong-shape"])
def test_small_requests_withstand(server: ScriptedServer, fault: str) -> None:
    odd = iter(range(10**6))
    server.plan = lambda _: fault if next(odd) % 2 == 0 else None

    async def work(made: ServerEngine) -> Any:
        facts = await made.facts()
        tokens = await made.encode("abc")
        return facts["model"], facts["engine_version"], tokens, await made.decode(tokens)

    version = "unknown" if fault == "wrong-shape" else "0.32.0"
    found = run(work, server, stall=stall(fault))
    assert found == ("scripted", version, [97, 98, 99], "abc")


def test_where_nothing_came_the_seed_is_the_same(server: ScriptedServer) -> None:
    asked = request("plain 2", sampling=Sampling(1.0), seed=5)
    wanted = run(lambda made: whole(made, asked), server)
    server.plan = at([0, 1], "500")
    assert run(lambda made: whole(made, asked), server) == wanted
    server.plan = at([0], "no-end")
    for _ in range(50):  # until it broke with something sent
        count = len(server.asked)
        run(lambda made: whole(made, asked), server)
        server.plan = at([0], "no-end")
        seeds = [one.body["seed"] for one in server.asked[count:] if one.kind]
        starts = [one.start for one in server.asked[count:] if one.kind]
        assert seeds == [5 + start for start in starts]
        if starts[-1]:
            return
    pytest.fail("no stream broke")


def test_all_that_was_missing_is_the_word_that_it_is_over(server: ScriptedServer) -> None:
    server.plan = at([0], "no-end")
    found = run(lambda made: whole(made, request("never", 1)), server)
    assert found == Generated(found.tokens, found.text, "length")
    assert found.tokens == scripted_server.trace("never", 1)
    assert sum(asked.kind == "trace" for asked in server.asked) == 1


def test_a_separator_of_lines_is_no_line_end(server: ScriptedServer) -> None:
    found = run(lambda made: whole(made, request("never", 400)), server)
    assert {"\u2028", "\x85"} <= set(found.text)
    assert sum(asked.kind == "trace" for asked in server.asked) == 1


def test_a_request_that_waits_its_turn_has_not_stalled(server: ScriptedServer) -> None:
    """Silent for longer than a stall, while others are served."""
    server.pace = 0.05
    server.plan = at([0], "stall")

    async def work(made: ServerEngine) -> None:
        queued = asyncio.create_task(whole(made, request("plain 1")))
        await until(lambda: server.faults["stall"])
        await whole(made, request("never", 20), every=1)  # 1 s, three times a stall
        assert made.retries == 0
        assert (await queued).tokens == scripted_server.trace("plain 1", 120)
        assert made.retries == 1

    run(work, server, stall=0.3)


def test_and_does_not_wait_forever(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_QUEUED", 2)
    server.pace = 0.05
    server.plan = at([0], "stall")

    async def work(made: ServerEngine) -> None:
        queued = asyncio.create_task(whole(made, request("empty")))
        await until(lambda: server.faults["stall"])
        other = asyncio.create_task(whole(made, request("never", 1000), every=1))
        assert (await queued).finish == "stop"
        assert not other.done()
        other.cancel()

    run(work, server, stall=0.3)


# --- what ends it --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("429", "status 429: scripted 429"),
        ("500", "status 500: scripted 500"),
        ("drop", "RemoteProtocolError: Server disconnected"),
        ("stall", "stalled: nothing came for 0.1 s"),
        ("no-end", "the answer broke off"),
        ("error-chunk", "scripted error"),
        ("not-json", "answered no JSON object: {"),
        ("wrong-shape", "answered not 1 choices: {'choices': 'none'}"),
        ("bad-ids", "a choice's token ids are none: ['12', 1.5, None]"),
        ("bad-finish", "a choice's finish_reason is 'abort'"),
    ],
)
def test_patience_runs_out(server: ScriptedServer, fault: str, said: str) -> None:
    server.plan = lambda asked: fault if asked.kind else None
    begun = time.monotonic()
    # Empty traces, or a stream that breaks after something came would go on.
    with pytest.raises(EngineError) as told:
        run(
            lambda made: whole(made, request("empty")),
            server,
            stall=0.1 if fault == "stall" else 20.0,
            patience=0.4,
        )
    assert time.monotonic() - begun >= 0.4
    assert str(told.value).startswith(f"{server.url}/completions: ")
    assert said in str(told.value)
    assert server.faults[fault] >= 2


def test_patience_begins_with_the_first_failure(server: ScriptedServer) -> None:
    """A stall may be longer than the patience: it is tried again once all the same."""
    server.plan = at([0], "stall")
    found = run(lambda made: whole(made, request("plain")), server, stall=0.2, patience=0.1)
    assert found.tokens == scripted_server.trace("plain", 120)


def test_no_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(EngineError, match=rf"{url}/models: ConnectError: "):
            run(lambda made: made.facts(), url, patience=0.2)


def test_is_told_at_once(server: ScriptedServer) -> None:
    async def fails(made: ServerEngine, message: str) -> None:
        calls = [whole(made, request("plain")), made.complete([request("plain")])]
        for call in calls:
            count = len([asked for asked in server.asked if asked.kind])
            with pytest.raises(EngineError, match=message) as told:
                await call
            assert not isinstance(told.value, TransientError)
            assert server.url in str(told.value)
            assert len([asked for asked in server.asked if asked.kind]) == count + 1

    server.longest = 100
    run(lambda made: fails(made, "status 400: This model's maximum context length"), server)
    server.longest = 10_000
    server.without = {"token_ids"}
    run(lambda made: fails(made, "no token ids; vLLM's server of version 0.10.2"), server)
    server.without = set()
    server.api_key = "secret"
    run(lambda made: fails(made, "status 401: Unauthorized"), server, model="scripted")
    run(lambda made: whole(made, request("plain")), server, model="scripted", api_key="secret")
    server.api_key = None
    run(lambda made: fails(made, "404: The model `other` does not"), server, model="other")


def test_completions_without_log_probabilities(server: ScriptedServer) -> None:
    server.without = {"logprobs"}
    run(lambda made: whole(made, request("plain")), server)
    with pytest.raises(EngineError, match="have no log-probabilities") as told:
        run(lambda made: made.complete([request("plain")]), server)
    assert not isinstance(told.value, TransientError)


def test_another_kind_of_server(server: ScriptedServer) -> None:
    with pytest.raises(EngineError, match=f"{server.url}/v1/models: status 404: .*Not Found"):
        run(lambda made: made.facts(), f"{server.url}/v1")


@pytest.mark.parametrize(
    ("names", "model", "message"),
    [
        (("a", "b"), None, "serves a, b: name one of them"),
        ((), None, "serves no model"),
        (("a", "b"), "c", "serves a, b, not 'c'"),
    ],
)
def test_which_model(names: tuple[str, ...], model: str | None, message: str) -> None:
    with ScriptedServer(names=names) as server:
        with pytest.raises(EngineError, match=message) as told:
            run(lambda made: made.facts(), server, model=model)
        assert server.url in str(told.value)
        assert len(server.asked) == 1
    if "b" in names:
        with ScriptedServer(names=names) as server:
            assert run(lambda made: made.facts(), server, model="b")["model"] == "b"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), "at least one base URL"),
        (("127.0.0.1:8000",), "'127.0.0.1:8000' is no base URL"),
        (("http://",), "is no base URL"),
        (("http://[::1/v1",), "is no base URL"),
        (("http://a:999999/v1",), "is no base URL"),
        (("http://a/v1", None, {"stall": 0}), "stall must be above 0 seconds, got 0"),
        (("http://a/v1", None, {"patience": float("nan")}), "patience must be above 0 seconds"),
        (("http://a/v1", None, {"concurrency": 0}), "concurrency must be at least 1, got 0"),
    ],
)
def test_arguments_out_of_range(arguments: tuple[Any, ...], message: str) -> None:
    url, model, options = (*arguments, None, None)[:3]
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        ServerEngine(url, model, **(options or {}))


def test_a_key_that_cannot_be_sent_is_told_at_once(server: ScriptedServer) -> None:
    with pytest.raises(EngineError, match="LocalProtocolError"):
        run(lambda made: made.facts(), server, api_key="two\nlines")


# --- several servers -----------------------------------------------------------------------------


def test_requests_spread(server: ScriptedServer) -> None:
    async def work(made: ServerEngine) -> None:
        await asyncio.gather(*[whole(made, request(f"plain {i}")) for i in range(20)])

    with ScriptedServer(pace=0.01) as other:
        server.pace = 0.01
        run(work, server, other)
        counts = [sum(asked.kind == "trace" for asked in s.asked) for s in (server, other)]
    assert sum(counts) == 20
    assert min(counts) >= 8


@pytest.mark.parametrize("fault", ["down", "503", "429", "reset-mid", "not-json"])
def test_the_healthy_one_does_the_work(server: ScriptedServer, fault: str) -> None:
    asked = [request(f"plain {i}") for i in range(12)]

    async def work(made: ServerEngine) -> Any:
        begun = time.monotonic()
        found = await asyncio.gather(*[whole(made, one) for one in asked])
        # Nothing has to wait for the other's rest: what failed there goes on here.
        assert time.monotonic() - begun < 10
        return found

    with ScriptedServer(lambda asked: fault if asked.kind else None) as other:
        run(lambda made: made.facts(), other)  # as it was well when it began
        if fault == "down":
            other.die()
        found = run(work, server, other, model="scripted")
        tries = [one.question for one in other.asked if one.kind]
    assert [one.tokens for one in found] == [
        scripted_server.trace(f"plain {i}", 120) for i in range(12)
    ]
    assert len(tries) <= 12


def test_one_that_failed_once_is_used_again(server: ScriptedServer) -> None:
    async def work(made: ServerEngine) -> None:
        await asyncio.gather(*[whole(made, request(f"plain {i}")) for i in range(2)])
        assert other.faults["500"] == 1
        other.plan = scripted_server.healthy
        await asyncio.sleep(0.5)  # its rest after a failure
        count = len(other.asked)
        for tried in (1, 3):  # one at first, to see how it does; then its share
            await asyncio.gather(*[whole(made, request(f"plain {i}")) for i in range(4)])
            assert len(other.asked) == count + tried

    with ScriptedServer(lambda asked: "500" if asked.kind else None) as other:
        server.pace = other.pace = 0.005
        run(work, server, other)


def test_all_of_them_failing_are_not_hammered(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BACKOFF", tenacity.wait_fixed(0.1))
    with ScriptedServer(lambda asked: "429" if asked.kind else None) as other:
        server.plan = other.plan

        async def work(made: ServerEngine) -> None:
            with pytest.raises(EngineError, match="status 429"):
                await whole(made, request("plain"))
            assert made.retries <= 12

        run(work, server, other, patience=0.5)


def test_nor_by_a_request_that_fails_alone(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both servers do well, but for one request, which either refuses."""
    monkeypatch.setattr(module, "_BACKOFF", tenacity.wait_fixed(0.1))
    server.pace = 0.002
    server.plan = lambda asked: "503" if asked.question == "plain" else None
    with ScriptedServer(server.plan, pace=0.002) as other:

        async def work(made: ServerEngine) -> None:
            others = [asyncio.create_task(whole(made, request("never", 5000), 1)) for _ in range(2)]
            await until(lambda: server.paid and other.paid)
            with pytest.raises(EngineError, match="status 503"):
                await whole(made, request("plain"))
            assert 2 <= made.retries <= 12
            for task in others:
                task.cancel()

        run(work, server, other, patience=0.4)


# --- cancelling ----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["cancel", "close", "forget"])
def test_the_server_notices_that_nobody_listens(server: ScriptedServer, how: str) -> None:
    server.pace = 0.005

    async def first(made: ServerEngine) -> None:
        if how == "cancel":
            task = asyncio.create_task(whole(made, request("never", 5000), 1))
            await until(lambda: server.paid)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            stream = made.stream(request("never", 5000), 1)
            async for _ in stream:
                break
            if how == "close":
                await stream.aclose()  # type: ignore[attr-defined]
            del stream
        await until(lambda: server.left)
        assert server.left == 1
        assert made.retries == 0
        assert [asked.kind for asked in server.asked].count("trace") == 1
        # The engine goes on as if nothing had been.
        assert (await whole(made, request("empty"))).finish == "stop"

    run(first, server)


def test_cancelled_while_it_waits_for_another_try(server: ScriptedServer) -> None:
    server.plan = lambda asked: "500" if asked.kind else None

    async def work(made: ServerEngine) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await whole(made, request("plain"))
        count = len(server.asked)
        await asyncio.sleep(0.1)
        assert len(server.asked) == count

    run(work, server)


# --- junk ----------------------------------------------------------------------------------------

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
        ({"token_ids": [True]}, "a choice's token ids are none"),
        ({"token_ids": [-1]}, "a choice's token ids are none"),
        ({"text": None}, "a choice has no text"),
        ({"finish_reason": None}, "a choice's finish_reason is None"),
        ({"index": []}, r"a choice's index is \[\]"),
        ({"index": 1}, r"1 choices are numbered \[1\]"),
    ],
)
def test_a_choice_that_is_none(changes: dict[str, Any], message: str) -> None:
    choice = {"index": 0, "text": "a", "token_ids": [97], "finish_reason": "stop"}
    choice |= {"logprobs": {"token_logprobs": [-1], "tokens": ["a"]}}
    (sound,) = module._choices({"choices": [choice]}, "http://a", 1)
    assert sound == Generated([97], "a", "stop", [-1.0], ["a"])
    with pytest.raises(TransientError, match=f"^http://a: .*{message}"):
        module._choices({"choices": [{**choice, **changes}]}, "http://a", 1)


@settings(deadline=None)
@given(_JSON, st.integers(1, 3), st.booleans())
def test_a_junk_answer_is_an_engine_error_or_sound(found: Any, count: int, partial: bool) -> None:
    found = found if isinstance(found, dict) else {"choices": found}
    said: list[EngineError] = []
    read: list[Generated] = []
    try:
        read = module._choices(found, "http://a/v1", count, partial=partial)
    except EngineError as error:
        said.append(error)
    assert all(str(error).startswith("http://a/v1: ") for error in said)
    assert all(len(str(error)) < 400 for error in said)
    assert len(read) == (0 if said else count)
    for one in read:
        assert all(type(token) is int and token >= 0 for token in one.tokens)
        assert isinstance(one.text, str)
        assert partial or len(one.logprobs) == len(one.pieces) == len(one.tokens)
