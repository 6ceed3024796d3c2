"""Connections to one server: cancellations, and checks of its health."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer

from autotts_gym.inference.engine import EngineError, Generated
from autotts_gym.inference.http_connection import ServerConnection
from autotts_gym.inference.http_responses import read_chunk

URL = "http://127.0.0.1:9/v1"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


def body(question: str, most: int = 5000) -> dict[str, Any]:
    return {
        "model": "scripted",
        "prompt": scripted_server.encode(f"q:{question}\n"),
        "max_tokens": most,
        "temperature": 0,
        "stream": True,
        "stream_interval": 4,
    }


def read(content: dict[str, Any], url: str) -> Generated:
    return read_chunk(content, url, 0)


async def stream(connection: ServerConnection, question: str, most: int = 5000) -> None:
    parts = connection.stream("/completions", body(question, most), read)
    async with contextlib.aclosing(parts):
        async for _ in parts:
            pass


async def wait_until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def test_no_cancellation_is_lost(server: ScriptedServer) -> None:
    """Streams are cancelled at any moment: while they connect, send, wait, read and end."""
    draw = random.Random(1)
    server.pace = 0.002

    async def main() -> tuple[list[bool], int]:
        connection = ServerConnection(server.url, {}, 60.0, 60.0, 4)
        cancelled = []
        for _ in range(40):
            tasks = [asyncio.create_task(stream(connection, "never 1")) for _ in range(6)]
            for _ in range(draw.randrange(60)):  # a number of turns of the event loop
                await asyncio.sleep(0)
            await asyncio.sleep(draw.choice([0, 0, 0.001, 0.01]))
            for task in tasks:
                task.cancel()  # once
            await asyncio.wait(tasks)
            cancelled += [task.cancelled() for task in tasks]
        active = connection.active
        await stream(connection, "plain 1", 50)  # it still works
        await wait_until(lambda: server.under_way == 0)
        await connection.close()
        return cancelled, active

    cancelled, active = asyncio.run(main())
    assert all(cancelled)
    assert active == 0


@pytest.mark.parametrize("streams", [False, True])
def test_a_time_limit_ends_a_request(server: ScriptedServer, streams: bool) -> None:
    server.plan = lambda _: "stall"

    async def send(connection: ServerConnection) -> None:
        async with asyncio.timeout(0.05):
            if streams:
                await stream(connection, "plain 1")
            else:
                await connection.request("/models", None, lambda content, url: content)

    async def main() -> None:
        connection = ServerConnection(server.url, {}, 60.0, 60.0, 1)
        with pytest.raises(TimeoutError):
            await send(connection)
        assert connection.active == 0
        await connection.close()

    asyncio.run(main())


def test_checks_do_not_wait_for_requests(server: ScriptedServer) -> None:
    """A server that is busy with as many requests as it may get answers checks."""
    server.pace = 0.05

    async def main() -> bool:
        connection = ServerConnection(server.url, {}, 60.0, 60.0, 1)
        task = asyncio.create_task(stream(connection, "never 1"))
        await wait_until(lambda: server.under_way == 1)
        found = await connection.answers(30.0)
        assert not task.done()
        task.cancel()
        await asyncio.wait([task])
        await connection.close()
        return found

    assert asyncio.run(main())


def test_the_place_of_a_request_is_free_at_its_last_part(server: ScriptedServer) -> None:
    async def main() -> list[str]:
        connection = ServerConnection(server.url, {}, 60.0, 60.0, 1)
        texts = []
        async for part in connection.stream("/completions", body("empty"), read):
            assert part.finish
            answer = await connection.request("/version", None, lambda c, _: c, root=True)
            texts.append(answer["version"])
        await connection.close()
        return texts

    assert asyncio.run(main()) == ["0.32.0"]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (URL, "no connection: .*Connect call failed"),
        ("http://user:pass-word@127.0.0.1:9/v1", r"http://\*\*\*@127.0.0.1:9/v1/models: no conn"),
    ],
)
def test_messages_of_connections(url: str, message: str) -> None:
    async def main() -> None:
        connection = ServerConnection(url, {}, 5.0, 5.0, 1)
        with pytest.raises(EngineError, match=message) as failure:
            await connection.request("/models", None, lambda content, _: content)
        assert "pass-word" not in str(failure.value)
        await connection.close()

    asyncio.run(main())


def test_what_cannot_be_sent(server: ScriptedServer) -> None:
    async def main() -> None:
        connection = ServerConnection(server.url, {}, 5.0, 5.0, 1)
        with pytest.raises(EngineError, match=r"/v1/tokenize: .*the request cannot be sent"):
            await connection.request("/tokenize", {"prompt": "\ud800"}, lambda c, _: c)
        await connection.close()

    asyncio.run(main())
    assert server.asked == []


def test_a_user_in_the_url(server: ScriptedServer) -> None:
    async def main() -> None:
        url = server.url.replace("://", "://me:pass@")
        for headers in ({}, {"Authorization": "Bearer key-1"}):
            connection = ServerConnection(url, headers, 5.0, 5.0, 1)
            await connection.request("/models", None, lambda content, _: content)
            await connection.close()
            shown.append(server.headers["authorization"])

    shown: list[str] = []
    asyncio.run(main())
    assert shown == ["Basic bWU6cGFzcw==", "Bearer key-1"]
