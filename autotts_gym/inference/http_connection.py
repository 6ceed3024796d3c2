"""Connections to one OpenAI-compatible server: requests, streams, stalls and backoff."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

from autotts_gym.inference.bounded_body import MAX_EVENT, BoundedBody, ServerFaultError
from autotts_gym.inference.engine import EngineError, Generated
from autotts_gym.inference.http_responses import (
    TransientError,
    check_status,
    error_message,
    parse_object,
    read_choices,
)
from autotts_gym.utils.redaction import redact

#: Connections per httpx client. A client checks all its connections for every request.
_POOL_SIZE: Final = 32

#: A request without data fails after this many stall times, even if the server responds to others.
_MAX_QUEUED_STALLS: Final = 10

T = TypeVar("T")


class ServerConnection:
    """Connections to one server, with its load and its recent failures.

    Args:
        url: base URL, such as ``http://127.0.0.1:8000/v1``.
        headers: headers of every request.
        stall: seconds without data from the server after which a request fails.
        concurrency: maximum number of concurrent requests.

    Attributes:
        url: base URL.
        root: base URL without ``/v1``.
        shown_url: base URL without secrets, for messages.
        active: number of requests in progress.
    """

    def __init__(self, url: str, headers: dict[str, str], stall: float, concurrency: int) -> None:
        self.url = url
        self.root = url.removesuffix("/v1")
        self.shown_url = redact(url)
        self.active = 0
        self._consecutive_failures = 0
        self._paused_until = 0.0
        self._last_data = 0.0  # time of the event loop
        self._stall = stall
        pools = -(-concurrency // _POOL_SIZE)
        size = -(-concurrency // pools)
        self._clients = [
            httpx.AsyncClient(
                headers={"Accept-Encoding": "identity", **headers},
                # Read timeouts are left to _wait; waiting in httpx's pool is not a stall.
                timeout=httpx.Timeout(None, connect=min(stall, 10.0), write=stall),
                limits=httpx.Limits(max_connections=size, max_keepalive_connections=size),
                trust_env=False,
            )
            for _ in range(pools)
        ]
        self._next_client = itertools.cycle(self._clients).__next__

    async def close(self) -> None:
        """Close the connections; never raises."""
        for client in self._clients:
            with contextlib.suppress(Exception):
                await client.aclose()

    def is_doubtful(self) -> bool:
        """Whether the server failed recently: after a pause, it gets one request at a time."""
        paused = time.monotonic() < self._paused_until
        return self._consecutive_failures > 0 and (paused or self.active > 0)

    async def request(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[dict[str, Any], str], T],
        *,
        root: bool = False,
    ) -> T:
        """Send a request and read the JSON object of the response.

        Args:
            path: path below the base URL.
            body: JSON body of a POST; None for a GET.
            read: validates and converts the response; gets the object and the URL.
            root: whether the path is below ``root`` instead.

        Raises:
            EngineError: the request failed; ``TransientError`` if the failure may be temporary.
        """
        target = (self.root if root else self.url) + path
        url = redact(target)
        async with self._tracked(url), contextlib.AsyncExitStack() as stack:
            method = "GET" if body is None else "POST"
            opening = self._next_client().stream(method, target, json=body)
            text = await self._wait(self._read(stack, opening, url))
            result = read(parse_object(text, url), url)
            self._record_success()
            return result

    async def _read(
        self,
        stack: contextlib.AsyncExitStack,
        opening: contextlib.AbstractAsyncContextManager[httpx.Response],
        url: str,
    ) -> str:
        """The body of a response with status 200."""
        response = await stack.enter_async_context(opening)
        response.stream = BoundedBody(response, url)
        await response.aread()
        check_status(response, url)
        return response.text

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Generated, None]:
        """Stream a completion of one prompt; raises as :meth:`request`."""
        target = self.url + path
        url = redact(target)
        async with self._tracked(url), contextlib.AsyncExitStack() as stack:
            opening = stack.enter_async_context(
                self._next_client().stream("POST", target, json=body)
            )
            response = await self._wait(opening)
            if response.status_code != 200:
                response.stream = BoundedBody(response, url)
                await self._wait(response.aread())
            check_status(response, url)
            response.stream = BoundedBody(response, url, events=True, received=self._record_data)
            events = EventSource(response).aiter_sse()
            async with contextlib.aclosing(events):
                # Each part is awaited as a whole, so that a server cannot delay it forever with
                # pings and empty parts.
                while part := await self._wait(_next_part(events, url)):
                    self._record_success()
                    yield part

    def _record_data(self) -> None:
        self._last_data = asyncio.get_running_loop().time()

    def _record_success(self) -> None:
        self._record_data()
        self._consecutive_failures = 0

    async def _wait(self, result: Awaitable[T]) -> T:
        """Await a result with a timeout that is extended while the server sends other data."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        check_handle: asyncio.TimerHandle

        def check() -> None:
            nonlocal check_handle
            deadline = min(
                max(start, self._last_data) + self._stall,
                start + _MAX_QUEUED_STALLS * self._stall,
            )
            if loop.time() >= deadline:
                timeout.reschedule(deadline)
            else:
                check_handle = loop.call_at(deadline, check)

        async with asyncio.timeout(None) as timeout:
            check_handle = loop.call_later(self._stall, check)
            try:
                return await result
            finally:
                check_handle.cancel()

    @contextlib.asynccontextmanager
    async def _tracked(self, url: str) -> AsyncIterator[None]:
        """Count an active request, record a failure, and convert errors to ``EngineError``."""
        self.active += 1
        try:
            with _converted_errors(url, self._stall):
                yield
        except TransientError as error:
            self._consecutive_failures += 1
            pause = max(error.retry_after, 0.2 * 2 ** min(self._consecutive_failures, 8))
            self._paused_until = time.monotonic() + min(pause, 30.0)
            raise
        finally:
            self.active -= 1


async def _next_part(events: AsyncIterator[ServerSentEvent], url: str) -> Generated | None:
    """The next part with tokens or a finish reason; None at the end of the stream."""
    text = ""
    async for event in events:
        if event.data == "[DONE]":
            return None
        if not event.data:
            continue
        chunk = parse_object(event.data, url)
        if "error" in chunk:
            raise TransientError(f"{url}: {error_message(chunk)}")
        if chunk.get("choices") == []:
            continue  # a chunk with usage statistics
        part = read_choices(chunk, url, 1, partial=True)[0]
        part.text = text + part.text
        if part.tokens or part.finish:
            return part
        text = part.text
        if len(text) > MAX_EVENT:
            raise ServerFaultError(f"{url}: sends text without tokens")
    return None


@contextlib.contextmanager
def _converted_errors(url: str, stall: float) -> Iterator[None]:
    """Raise errors of httpx as ``EngineError`` with the URL."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TransientError(f"{url}: no connection: nothing came in time") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise TransientError(f"{url}: stalled: nothing came for {stall:g} s") from error
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:  # an invalid request
        raise EngineError(f"{url}: {type(error).__name__}: {error}") from error
    except httpx.RequestError as error:  # no connection, a lost one, or an invalid response
        raise TransientError(f"{url}: {type(error).__name__}: {error}") from error
