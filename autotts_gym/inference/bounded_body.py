"""Bodies of HTTP responses, read and decompressed within bounds."""

from __future__ import annotations

import re
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

import aiohttp

from autotts_gym.inference.engine import EngineError

#: Size of the body of a whole response, bytes.
MAX_BODY: Final = 1 << 26
#: Size of one event of a stream, bytes: a part of a completion takes far less.
MAX_EVENT: Final = 1 << 22
#: Bytes that are decompressed at a time.
_STEP: Final = 1 << 16

_BLANK_LINE: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


class ServerFaultError(EngineError):
    """A server sends what no correct server does; asking again would not help."""


async def read_body(response: aiohttp.ClientResponse, url: str) -> str:
    """Read the body of a response as text.

    Args:
        response: the response; its body must not have been read.
        url: where it came from, for messages.

    Raises:
        ServerFaultError: the body is compressed in an unsupported way, or too large.
    """
    decompress = _decompressor(response, url)
    parts: list[bytes] = []
    size = 0
    while chunk := await response.content.readany():
        for part in decompress(chunk):
            size += len(part)
            _check_size(size, MAX_BODY, f"{url}: its response")
            parts.append(part)
    return b"".join(parts).decode("utf-8", "replace")


class EventReader:
    """Reads the body of a response as server-sent events.

    Args:
        response, url: as for :func:`read_body`.
        received: called whenever bytes arrive.

    Raises:
        ServerFaultError: the body is compressed in an unsupported way.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, url: str, received: Callable[[], object]
    ) -> None:
        self._content = response.content
        self._decompress = _decompressor(response, url)
        self._url = url
        self._received = received
        self._parts: Iterator[bytes] = iter(())
        self._rest = bytearray()
        self._events: deque[bytes] = deque()

    async def next(self) -> bytes | None:
        """The data of the next event that has some; None at the end of the body.

        Raises:
            ServerFaultError: an event is too large, or the body is not compressed as it says.
        """
        while not self._events:
            part = next(self._parts, None)
            if part is not None:
                self._add(part)
                continue
            chunk = await self._content.readany()
            if not chunk:
                return None
            self._received()
            self._parts = self._decompress(chunk)
        return self._events.popleft()

    def _add(self, part: bytes) -> None:
        rest, start = self._rest, 0
        # Nearly always, a server sends one event of one line at a time.
        if not rest and part.endswith(b"\n\n") and part.startswith(b"data: "):
            line = part[6:-2]
            if line and b"\n" not in line and b"\r" not in line:
                self._events.append(line)
                return
        searched = max(len(rest) - 3, 0)
        rest += part
        for end in _BLANK_LINE.finditer(rest, searched):
            if data := _data(bytes(rest[start : end.start()])):
                self._events.append(data)
            start = end.end()
        del rest[:start]
        _check_size(len(rest), MAX_EVENT, f"{self._url}: an event")


def _data(event: bytes) -> bytes:
    """The data of an event: those of its lines that begin with ``data:``."""
    lines = [line[5:].removeprefix(b" ") for line in _LINE_END.split(event) if line[:5] == b"data:"]
    return b"\n".join(lines)


def _check_size(size: int, limit: int, what: str) -> None:
    if size > limit:
        raise ServerFaultError(f"{what} has more than {limit:,} bytes")


def _decompressor(response: aiohttp.ClientResponse, url: str) -> Callable[[bytes], Iterator[bytes]]:
    """A function that decompresses the chunks of a body."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("identity", ""):
        return lambda chunk: iter((chunk,))
    if encoding not in ("gzip", "deflate"):
        raise ServerFaultError(
            f"{url}: its response is encoded as {encoding!r:.80}; expected none, or gzip once"
        )
    # 15 + 32: a header of gzip or of zlib.
    decompressor = zlib.decompressobj(47)

    def decompress(chunk: bytes) -> Iterator[bytes]:
        # Step by step, since a chunk may expand a thousandfold.
        try:
            while chunk and not decompressor.eof:
                part = decompressor.decompress(chunk, _STEP)
                chunk = decompressor.unconsumed_tail
                if part:
                    yield part
        except zlib.error as error:
            raise ServerFaultError(f"{url}: its response is not compressed: {error}") from error

    return decompress
