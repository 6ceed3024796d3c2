"""Servers that never end, or send too much, are ended with an error that names their fault."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import itertools
import json
import time
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Iterable
from typing import Any

import pytest

from autotts_gym.inference import bounded_body
from autotts_gym.inference.engine import EngineError, Generated, Request
from autotts_gym.inference.http_engine import ServerEngine

OK = "HTTP/1.1 200 OK\r\nConnection: close\r\n"
STREAM = f"{OK}Content-Type: text/event-stream\r\n\r\n".encode()


def event(choice: dict[str, Any] | None = None, **more: Any) -> bytes:
    choices = [] if choice is None else [{"index": 0, "text": "", "finish_reason": None} | choice]
    return f"data: {json.dumps({'choices': choices, **more})}\n\n".encode()


def whole(content: Any, encoding: str = "identity") -> list[bytes]:
    """A response with a JSON body, or with bytes."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    head = f"{OK}Content-Type: text/event-stream\r\nContent-Encoding: {encoding}\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    return [head.encode(), *(body[i : i + 65536] for i in range(0, len(body), 65536))]


def bomb(levels: int, size: int = 1 << 28) -> bytes:
    """Zeros, compressed again and again."""
    compressor = zlib.compressobj(wbits=31)
    content = b"".join(compressor.compress(bytes(1 << 20)) for _ in range(size >> 20))
    content += compressor.flush()
    for _ in range(levels - 1):
        content = gzip.compress(content)
    return content


@contextlib.asynccontextmanager
async def served(answer: Iterable[bytes], pause: float = 0.0) -> AsyncIterator[str]:
    """A server that answers every request with the same bytes; yields its URL."""

    handlers: set[asyncio.Task[Any]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        handlers.add(task)
        with contextlib.closing(writer), contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            for part in answer:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


class _Again:
    """An iterable that starts again for every request."""

    def __init__(self, start: Any) -> None:
        self._start = start

    def __iter__(self) -> Any:
        return iter(self._start())


async def requested(engine: ServerEngine, call: str) -> None:
    if call == "stream":
        async for part in engine.stream(Request([1], 5), 5):
            assert isinstance(part, Generated)
    elif call == "complete":
        await engine.complete([Request([1], 5)])
    elif call == "chat":
        await engine.chat([{"role": "user", "content": "?"}], {})
    else:
        await engine.encode("text")


def failure(answer: Iterable[bytes], call: str, pause: float = 0.0) -> str:
    """The message of the error that a call ends with."""

    async def main() -> str:
        async with served(answer, pause) as url:
            engine = ServerEngine(url, "m", stall=0.3, patience=0.5)
            try:
                with pytest.raises(EngineError) as caught:
                    await requested(engine, call)
                assert url.removesuffix("/v1") in str(caught.value)
                return str(caught.value)
            finally:
                await engine.close()

    start = time.monotonic()
    message = asyncio.run(main())
    assert time.monotonic() - start < 30
    return message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: itertools.repeat(b": ping\n\n"), "stalled"),
        (lambda: itertools.repeat(b": ping\n"), "stalled|an event has more than"),
        (lambda: itertools.repeat(b"data:\n\n"), "stalled"),
        (lambda: itertools.repeat(event()), "stalled"),
        (lambda: itertools.repeat(event({"token_ids": []})), "stalled"),
        (lambda: itertools.repeat(event({"token_ids": [], "text": "x" * 9999})), "without tokens"),
        (lambda: itertools.repeat(event({"token_ids": [1]})), "more than max_tokens allows"),
        (lambda: [event({"token_ids": [1] * 6})], "1 tokens more than max_tokens allows"),
        (lambda: itertools.repeat(b"x" * 65536), "an event has more than"),
        (lambda: itertools.chain([b"data: "], itertools.repeat(b"[" * 65536)), "an event has more"),
        (lambda: itertools.repeat(b"data: x\n"), "an event has more than|stalled"),
        (lambda: [event({"token_ids": [2**40]})], "invalid token ids"),
        (lambda: [event({"token_ids": [10**400]})], "invalid token ids"),
        (lambda: [b"data: " + b"[" * 100_000 + b"\n\n"], "no JSON object"),
    ],
)
def test_streams(answer: Any, message: str) -> None:
    # Pings are slow, so that the limit of time ends them and not that of size.
    pause = 0.01 if message == "stalled" else 0.0
    text = failure(_Again(lambda: itertools.chain([STREAM], answer())), "stream", pause)
    assert any(part in text for part in message.split("|"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("levels", "encoding", "message"),
    [
        (1, "gzip", "its response has more than"),
        (2, "gzip, gzip", "encoded as 'gzip, gzip'"),
        (3, "gzip,gzip,gzip", "encoded as"),
        (1, "br", "encoded as 'br'"),
    ],
)
@pytest.mark.parametrize("call", ["encode", "stream", "chat"])
def test_compressed_responses(levels: int, encoding: str, message: str, call: str) -> None:
    answer = whole(bomb(levels), encoding)
    if call == "stream":
        message = message.replace("its response has", "an event has")
    tracemalloc.start()
    assert message in failure(answer, call)
    assert tracemalloc.get_traced_memory()[1] < 4 * bounded_body.MAX_BODY
    tracemalloc.stop()


def test_one_compression_is_read() -> None:
    async def main() -> list[int]:
        body = gzip.compress(json.dumps({"tokens": [1, 2]}).encode())
        async with served(whole(body, "gzip")) as url:
            engine = ServerEngine(url, "m", stall=5, patience=0.5)
            try:
                return await engine.encode("x")
            finally:
                await engine.close()

    assert asyncio.run(main()) == [1, 2]


@pytest.mark.parametrize(
    ("call", "content", "message"),
    [
        (
            "chat",
            {"choices": [{"message": {}}], "usage": {"prompt_tokens": 10**400}},
            "impossible number of 'prompt_tokens'",
        ),
        ("encode", {"tokens": [2**40]}, "without token ids"),
        (
            "complete",
            {
                "choices": [
                    {
                        "index": 0,
                        "text": "",
                        "token_ids": [1] * 9,
                        "finish_reason": "length",
                        "logprobs": {"token_logprobs": [0.0] * 9, "tokens": [""] * 9},
                    }
                ]
            },
            "4 tokens more than max_tokens allows",
        ),
    ],
)
def test_numbers(call: str, content: Any, message: str) -> None:
    assert message in failure(whole(content), call)


def test_a_body_that_never_ends() -> None:
    answer = _Again(lambda: itertools.chain([f"{OK}\r\n".encode()], itertools.repeat(b" " * 65536)))
    message = failure(answer, "encode")
    assert "its response has more than" in message or "stalled" in message


def test_the_body_of_an_error_is_bounded() -> None:
    head = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
    answer = _Again(lambda: itertools.chain([head], itertools.repeat(b"x" * 65536)))
    message = failure(answer, "chat")
    assert "its response has more than" in message or "stalled" in message


def test_a_break_within_a_character_does_not_corrupt_the_text() -> None:
    """Each token is a byte; the first stream ends within a character."""
    sent = "x = 𝛽, 答".encode()
    cut = sent.index(b"\x9d") + 1
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
        body = json.loads(await reader.readexactly(length))
        requests.append(head.split()[1])
        if requests[-1] == b"/detokenize":
            writer.writelines(whole({"prompt": bytes(body["tokens"]).decode(errors="replace")}))
        else:
            start = len(body["prompt"]) - 1
            part, finish = (sent[:cut], None) if start == 0 else (sent[start:], "length")
            text = part.decode(errors="ignore" if start == 0 else "replace")
            choice = {"token_ids": list(part), "text": text, "finish_reason": finish}
            writer.writelines([STREAM, event(choice)])
        await writer.drain()
        writer.close()

    async def main() -> Generated:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        engine = ServerEngine(f"http://127.0.0.1:{port}/v1", "m", stall=5, patience=5)
        result = Generated()
        async for part in engine.stream(Request([0], len(sent)), 5):
            result.append(part)
        await engine.close()
        server.close()
        return result

    result = asyncio.run(main())
    assert bytes(result.tokens) == sent
    assert result.text == sent.decode()
    assert requests == [b"/v1/completions", b"/v1/completions", b"/detokenize"]
