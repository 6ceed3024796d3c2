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
from autotts_gym.inference.http_headers import hide_values, is_local, request_id_header
from autotts_gym.inference.http_responses import (
    TransientError,
    check_status,
    parse_object,
    stream_error,
)
from autotts_gym.inference.stall_time import StallTime
from autotts_gym.utils.redaction import redact

#: Connections per httpx client. A client checks all its connections for every request.
_POOL_SIZE: Final = 32

#: A request without data fails after this many stall times, even if the server responds to others.
_MAX_QUEUED_STALLS: Final = 10

#: Seconds for which an idle connection is kept. vLLM's server closes it after 5, and a request that
#: is sent at that moment fails.
_KEEP_ALIVE: Final = 2.0

#: Seconds in which a stream must end after its last part, or its connection is closed.
_END_TIMEOUT: Final = 1.0

T = TypeVar("T")


class _StallError(Exception):
    """No data came for a while.

    Attributes:
        seconds: time without data after which a request fails.
        waited: time that this request waited, seconds.
    """

    def __init__(self, seconds: float, waited: float) -> None:
        super().__init__(seconds, waited)
        self.seconds = seconds
        self.waited = waited


class ServerConnection:
    """Connections to one server, with its load and its recent failures.

    Args:
        url: base URL, such as ``http://127.0.0.1:8000/v1``.
        headers: headers of every request; their values are hidden in messages.
        stall: seconds without data from the server after which a request fails. After a failure,
            the next requests get twice the time: a stall that repeats is a slow server.
        longest_stall: largest value to which that time grows, seconds.
        concurrency: maximum number of concurrent requests.

    Proxies are those of the environment (``HTTPS_PROXY``, ``NO_PROXY``), except for servers on this
    machine; so are certificates (``SSL_CERT_FILE``, ``SSL_CERT_DIR``).

    Attributes:
        url: base URL.
        root: base URL without ``/v1``.
        shown_url: base URL without secrets, for messages.
        active: number of requests in progress.
    """

    def __init__(
        self,
        url: str,
        headers: dict[str, str],
        stall: float,
        longest_stall: float,
        concurrency: int,
    ) -> None:
        self.url = url
        self.root = url.removesuffix("/v1")
        self.shown_url = redact(url)
        self.active = 0
        self._headers = headers
        self._consecutive_failures = 0
        self._paused_until = 0.0
        self._last_data = self._active_since = 0.0  # times of the event loop
        self._stalls = StallTime(stall, longest_stall)
        self._longest_queue = _MAX_QUEUED_STALLS * stall
        local = is_local(url)
        # Made once: reading the certificates takes a while.
        encrypted = url.startswith("https:") or not local  # or a proxy's connection is
        certificates = httpx.create_ssl_context() if encrypted else False
        pools = -(-concurrency // _POOL_SIZE)
        size = -(-concurrency // pools)
        self._clients = [
            httpx.AsyncClient(
                headers={"Accept-Encoding": "identity", **headers},
                # Read timeouts are left to _wait; waiting in httpx's pool is not a stall.
                timeout=httpx.Timeout(None, connect=min(stall, 10.0), write=stall),
                limits=httpx.Limits(
                    max_connections=size,
                    max_keepalive_connections=size,
                    keepalive_expiry=_KEEP_ALIVE,
                ),
                trust_env=not local,
                verify=certificates,
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

    async def answers(self, limit: float) -> bool:
        """Whether the server answers a request for its models within ``limit`` seconds."""
        try:
            async with asyncio.timeout(limit):
                await self.request("/models", None, lambda content, url: content)
        except TransientError:
            return False
        except EngineError:  # a server that refuses a request works
            self._record_success()
        except TimeoutError:
            self._record_failure(0.0)
            return False
        return True

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
            opening = self._next_client().stream(
                method, target, json=body, headers=request_id_header()
            )
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

    async def stream(
        self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any], str], Generated]
    ) -> AsyncGenerator[Generated, None]:
        """Stream a completion of one prompt.

        Args:
            path: path below the base URL.
            body: JSON body of the request.
            read: validates and converts a chunk; gets the object and the URL.

        Raises:
            EngineError: as :meth:`request`.
        """
        target = self.url + path
        url = redact(target)
        async with self._tracked(url), contextlib.AsyncExitStack() as stack:
            opening = stack.enter_async_context(
                self._next_client().stream("POST", target, json=body, headers=request_id_header())
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
                while part := await self._wait(_next_part(events, url, read)):
                    self._record_success()
                    if part.finish:
                        await _read_to_end(events)
                    yield part

    def _record_data(self) -> None:
        self._last_data = asyncio.get_running_loop().time()

    def _record_success(self) -> None:
        self._record_data()
        self._stalls.record_success()
        self._consecutive_failures = 0

    def _record_failure(self, retry_after: float) -> None:
        """Pause, for longer with every failure; ``retry_after`` is what the server asks for."""
        self._consecutive_failures += 1
        pause = max(retry_after, 0.2 * 2 ** min(self._consecutive_failures, 8))
        self._paused_until = time.monotonic() + min(pause, 30.0)

    def seconds_without_data(self) -> float:
        """Seconds since the server sent data to any request; 0 without requests in progress."""
        if not self.active:
            return 0.0
        return asyncio.get_running_loop().time() - max(self._last_data, self._active_since)

    async def _wait(self, result: Awaitable[T]) -> T:
        """Await a result with a timeout that is extended while the server sends other data."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        check_handle: asyncio.TimerHandle

        def check() -> None:
            nonlocal check_handle
            stall = self._stalls.seconds
            deadline = min(
                max(start, self._last_data) + stall, start + max(stall, self._longest_queue)
            )
            if loop.time() >= deadline:
                timeout.reschedule(deadline)
            else:
                check_handle = loop.call_at(deadline, check)

        timeout = asyncio.timeout(None)
        try:
            async with timeout:
                check_handle = loop.call_later(self._stalls.seconds, check)
                try:
                    received = await result
                finally:
                    check_handle.cancel()
        except TimeoutError as error:
            if not timeout.expired():
                raise
            stall, now = self._stalls.seconds, loop.time()
            self._stalls.record_stall(start, now)
            raise _StallError(stall, now - start) from error
        self._stalls.record_wait(loop.time() - start)
        return received

    @contextlib.asynccontextmanager
    async def _tracked(self, url: str) -> AsyncIterator[None]:
        """Count an active request, record a failure, and convert errors to ``EngineError``.

        If the request is cancelled, an error of its cleanup must not replace the cancellation: the
        request would be sent again.
        """
        if not self.active:
            self._active_since = asyncio.get_running_loop().time()
        self.active += 1
        try:
            with _converted_errors(url):
                yield
        except EngineError as error:
            error.args = (hide_values(str(error), self._headers),)
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise asyncio.CancelledError from error
            if not isinstance(error, TransientError):
                raise
            self._record_failure(error.retry_after)
            raise
        finally:
            self.active -= 1


async def _next_part(
    events: AsyncIterator[ServerSentEvent],
    url: str,
    read: Callable[[dict[str, Any], str], Generated],
) -> Generated | None:
    """The next part with tokens or a finish reason; None at the end of the stream."""
    text = ""
    async for event in events:
        if event.data == "[DONE]":
            return None
        if not event.data:
            continue
        chunk = parse_object(event.data, url)
        if "error" in chunk:
            raise stream_error(chunk, url)
        if chunk.get("choices") == []:
            continue  # a chunk with usage statistics
        part = read(chunk, url)
        part.text = text + part.text
        if part.tokens or part.finish:
            return part
        text = part.text
        if len(text) > MAX_EVENT:
            raise ServerFaultError(f"{url}: sends text without tokens")
    return None


async def _read_to_end(events: AsyncIterator[ServerSentEvent]) -> None:
    """Read what follows the last part, ``[DONE]``, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, httpx.HTTPError, EngineError):
        async with asyncio.timeout(_END_TIMEOUT):
            async for _ in events:
                pass


@contextlib.contextmanager
def _converted_errors(url: str) -> Iterator[None]:
    """Raise errors of httpx as ``EngineError`` with the URL."""
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TransientError(f"{url}: no connection: nothing came in time") from error
    except _StallError as error:
        message = f"{url}: stalled: nothing came for {error.seconds:g} s"
        raise TransientError(message, stalled=error.waited) from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise TransientError(f"{url}: stalled: {type(error).__name__}") from error
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol, UnicodeError) as error:
        # An invalid request.
        raise EngineError(f"{url}: {type(error).__name__}: {error}") from error
    except httpx.RequestError as error:  # no connection, a lost one, or an invalid response
        raise TransientError(f"{url}: {type(error).__name__}: {error}") from error
