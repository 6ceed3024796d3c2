"""Connections to one OpenAI-compatible server: requests, streams, stalls and backoff."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Final, TypeVar

import aiohttp
import msgspec

from autotts_gym.inference.bounded_body import (
    MAX_EVENT,
    EventReader,
    ServerFaultError,
    read_body,
)
from autotts_gym.inference.engine import EngineError, Generated
from autotts_gym.inference.http_client import HttpClient
from autotts_gym.inference.http_headers import hide_values, request_id_header
from autotts_gym.inference.http_responses import (
    TransientError,
    parse_object,
    status_error,
    stream_error,
)
from autotts_gym.inference.stall_time import StallTime
from autotts_gym.utils.redaction import redact

#: A request without data fails after this many stall times, even if the server responds to others.
_MAX_QUEUED_STALLS: Final = 10

#: Longest time in which a connection must be made, seconds.
_CONNECT_TIMEOUT: Final = 10.0

#: Seconds in which a stream must end after its last part, or its connection is closed.
_END_TIMEOUT: Final = 1.0

T = TypeVar("T")


#: A URL without secrets, for messages.
_shown = functools.lru_cache(256)(redact)


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
        concurrency: maximum number of concurrent requests; checks by :meth:`answers` come on top.

    Proxies and certificates are those of :class:`~autotts_gym.inference.http_client.HttpClient`.

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
        self._client = HttpClient(url, headers, min(stall, _CONNECT_TIMEOUT))
        self._free = asyncio.Semaphore(concurrency)
        # What ends the waits in progress, with the times at which they began.
        self._waits: dict[Callable[[_StallError], None], float] = {}
        self._next_check: asyncio.TimerHandle | None = None

    async def close(self) -> None:
        """Close the connections; never raises."""
        with contextlib.suppress(Exception):
            await self._client.close()

    def is_doubtful(self) -> bool:
        """Whether the server failed recently: after a pause, it gets one request at a time."""
        paused = time.monotonic() < self._paused_until
        return self._consecutive_failures > 0 and (paused or self.active > 0)

    async def answers(self, limit: float) -> bool:
        """Whether the server answers a request for its models within ``limit`` seconds."""
        try:
            async with asyncio.timeout(limit), self._tracked(self.shown_url):
                # Not one of the concurrent requests: those may take long.
                await self._read_object(f"{self.url}/models", None, f"{self.shown_url}/models")
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
        url = _shown(target)
        async with self._tracked(url), self._free:
            result = read(await self._read_object(target, body, url), url)
            self._record_success()
            return result

    async def _read_object(
        self, target: str, body: dict[str, Any] | None, url: str
    ) -> dict[str, Any]:
        """The JSON object of a response with status 200."""
        return await self._wait(self._receive_object(target, body, url))

    async def _receive_object(
        self, target: str, body: dict[str, Any] | None, url: str
    ) -> dict[str, Any]:
        response = await self._send(target, body)
        try:
            await _check_status(response, url)
            return parse_object(await read_body(response, url), url)
        finally:
            response.close()

    async def _send(self, target: str, body: dict[str, Any] | None) -> aiohttp.ClientResponse:
        content = None if body is None else msgspec.json.encode(body)
        return await self._client.send(target, content, request_id_header())

    async def stream(
        self, path: str, body: dict[str, Any], read: Callable[[dict[str, Any], str], Generated]
    ) -> AsyncGenerator[Generated, None]:
        """Stream a completion of one prompt.

        Args:
            path: path below the base URL.
            body: JSON body of the request.
            read: validates and converts a chunk; gets the object and the URL.

        Yields:
            Its parts; the last one has a finish reason.

        Raises:
            EngineError: as :meth:`request`.
        """
        target = self.url + path
        url = _shown(target)
        last = None
        async with self._tracked(url), self._free:
            response = await self._wait(self._send(target, body))
            try:
                if response.status != 200:
                    await self._wait(_check_status(response, url))
                events = EventReader(response, url, self._record_data)
                fail = response.content.set_exception
                # Each part is awaited as a whole, so that a server cannot delay it forever with
                # pings and empty parts.
                while True:
                    with _Wait(self, fail):
                        part = await _next_part(events, url, read)
                    if part is None:
                        break
                    self._record_success()
                    if part.finish:
                        await _read_to_end(events)
                        last = part
                        break
                    yield part
            finally:
                response.close()  # immediately; without effect at the end of the response
        if last is None:
            raise TransientError(f"{url}: the answer broke off")
        # The request has ended, so that its place is free.
        yield last

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
        timeout = asyncio.timeout(None)
        stall: _StallError | None = None

        def fail(error: _StallError) -> None:
            nonlocal stall
            stall = error
            timeout.reschedule(asyncio.get_running_loop().time())

        try:
            async with timeout:
                with _Wait(self, fail):
                    return await result
        except TimeoutError as error:
            if stall is None or not timeout.expired():
                raise
            raise stall from error

    def _begin_wait(self, fail: Callable[[_StallError], None]) -> float:
        """Watch a wait, which ``fail`` is to end if it stalls; returns the time."""
        now = asyncio.get_running_loop().time()
        self._waits[fail] = now
        if self._next_check is None:
            self._check_waits()
        return now

    def _end_wait(self, fail: Callable[[_StallError], None], begun: float, received: bool) -> None:
        self._waits.pop(fail, None)
        if received:
            self._stalls.record_wait(asyncio.get_running_loop().time() - begun)

    def _check_waits(self) -> None:
        """End the waits that have stalled, and check again when the next one may have.

        One timer for all waits: each part of a stream is a wait.
        """
        loop = asyncio.get_running_loop()
        now, stall = loop.time(), self._stalls.seconds
        # The time of a stall is never shorter, so that no later wait stalls before the next check.
        following = now + self._stalls.shortest
        for fail, start in list(self._waits.items()):
            deadline = min(
                max(start, self._last_data) + stall, start + max(stall, self._longest_queue)
            )
            if now >= deadline:
                del self._waits[fail]
                self._stalls.record_stall(start, now)
                fail(_StallError(stall, now - start))
            else:
                following = min(following, deadline)
        self._next_check = loop.call_at(following, self._check_waits) if self._waits else None

    @contextlib.asynccontextmanager
    async def _tracked(self, url: str) -> AsyncIterator[None]:
        """Count an active request, record a failure, and convert errors to ``EngineError``."""
        if not self.active:
            self._active_since = asyncio.get_running_loop().time()
        self.active += 1
        try:
            with _converted_errors(url):
                yield
        except EngineError as error:
            error.args = (hide_values(str(error), self._headers),)
            if isinstance(error, TransientError):
                self._record_failure(error.retry_after)
            raise
        finally:
            self.active -= 1


class _Wait:
    """A wait for data, watched for a stall; a class, because every part of a stream is one.

    Args:
        connection: the connection.
        fail: called if the wait stalls, to end it.
    """

    __slots__ = "_begun", "_connection", "_fail"

    def __init__(self, connection: ServerConnection, fail: Callable[[_StallError], None]) -> None:
        self._connection = connection
        self._fail = fail

    def __enter__(self) -> None:
        self._begun = self._connection._begin_wait(self._fail)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._connection._end_wait(self._fail, self._begun, kind is None)


async def _check_status(response: aiohttp.ClientResponse, url: str) -> None:
    """Raise an error, with the message in the body, unless the status is 200."""
    if response.status != 200:
        after = response.headers.get("retry-after", "")
        raise status_error(response.status, await read_body(response, url), after, url)


async def _next_part(
    events: EventReader,
    url: str,
    read: Callable[[dict[str, Any], str], Generated],
) -> Generated | None:
    """The next part with tokens or a finish reason; None at the end of the stream."""
    text = ""
    while (data := await events.next()) is not None:
        if data == b"[DONE]":
            return None
        chunk = parse_object(data, url)
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


async def _read_to_end(events: EventReader) -> None:
    """Read what follows the last part, ``[DONE]``, so that the connection can be used again."""
    with contextlib.suppress(TimeoutError, aiohttp.ClientError, EngineError):
        async with asyncio.timeout(_END_TIMEOUT):
            while await events.next() is not None:
                pass


@contextlib.contextmanager
def _converted_errors(url: str) -> Iterator[None]:
    """Raise errors of aiohttp as ``EngineError`` with the URL."""
    try:
        yield
    except aiohttp.ConnectionTimeoutError as error:
        raise TransientError(f"{url}: no connection: nothing came in time") from error
    except _StallError as error:
        message = f"{url}: stalled: nothing came for {error.seconds:g} s"
        raise TransientError(message, stalled=error.waited) from error
    except (aiohttp.InvalidURL, UnicodeError) as error:  # an invalid request
        raise EngineError(f"{url}: {type(error).__name__}: the request cannot be sent") from error
    except aiohttp.ClientConnectorError as error:
        raise TransientError(f"{url}: no connection: {error.os_error}") from error
    except aiohttp.ClientResponseError as error:
        raise TransientError(f"{url}: an invalid response: {error.message}") from error
    except aiohttp.ClientError as error:  # a lost connection, or an invalid body
        raise TransientError(f"{url}: {type(error).__name__}: {error}") from error
