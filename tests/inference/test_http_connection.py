"""Connections to a server whose cleanup fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from autotts_gym.inference.engine import EngineError
from autotts_gym.inference.http_connection import ServerConnection


class _BrokenBody(httpx.AsyncByteStream):
    """A body that never arrives, and whose connection is lost when it is closed."""

    def __init__(self, reading: asyncio.Event) -> None:
        self._reading = reading

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self._reading.set()
        await asyncio.Event().wait()
        yield b""

    async def aclose(self) -> None:
        raise httpx.ReadError("the connection was lost while it was closed")


class _BrokenTransport(httpx.AsyncBaseTransport):
    def __init__(self) -> None:
        self.reading = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {"content-type": "text/event-stream"}
        stream = _BrokenBody(self.reading)
        return httpx.Response(200, headers=headers, stream=stream, request=request)


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("by_timeout", [False, True])
def test_a_failing_cleanup_does_not_replace_a_cancellation(
    monkeypatch: pytest.MonkeyPatch, streams: bool, by_timeout: bool
) -> None:
    async def main() -> None:
        connection = ServerConnection("http://127.0.0.1:9/v1", {}, 60.0, 60.0, 1)
        transport = _BrokenTransport()
        async with httpx.AsyncClient(transport=transport) as client:
            monkeypatch.setattr(connection, "_next_client", lambda: client)

            async def send() -> None:
                if streams:
                    async for _ in connection.stream("/completions", {}, lambda *_: None):  # type: ignore[arg-type, return-value]
                        pass
                else:
                    await connection.request("/models", None, lambda content, url: content)

            async def send_with_limit() -> None:
                async with asyncio.timeout(0.05):
                    await send()

            if by_timeout:
                with pytest.raises(TimeoutError):
                    await send_with_limit()
            else:
                task = asyncio.create_task(send())
                await transport.reading.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            # Without a cancellation, the error is the engine's.
            with pytest.raises(EngineError, match="ReadError"):
                async with connection._tracked("http://127.0.0.1:9/v1"):
                    raise httpx.ReadError("the connection was lost")
        await connection.close()

    asyncio.run(main())
