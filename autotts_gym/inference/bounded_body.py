"""Bodies of HTTP responses, read and decompressed within bounds."""

from __future__ import annotations

import re
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, cast

import httpx

from autotts_gym.inference.engine import EngineError

#: Size of the body of a whole response, bytes.
MAX_BODY: Final = 1 << 26
#: Size of one event of a stream, bytes: a part of a completion takes far less.
MAX_EVENT: Final = 1 << 22
#: Bytes that are decompressed at a time.
_STEP: Final = 1 << 16

_BLANK_LINE: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")


class ServerFaultError(EngineError):
    """A server sends what no correct server does; asking again would not help."""


class BoundedBody(httpx.AsyncByteStream):
    """The body of a response, decompressed; iteration fails at a size limit.

    Args:
        response: the response; its body must not have been read.
        url: where it came from, for messages.
        events: limit each event of a stream instead of the whole body.
        received: called whenever data arrives.

    Raises:
        ServerFaultError: the body is compressed in an unsupported way, or too large.
    """

    def __init__(
        self,
        response: httpx.Response,
        url: str,
        *,
        events: bool = False,
        received: Callable[[], object] = lambda: None,
    ) -> None:
        self._stream = cast(httpx.AsyncByteStream, response.stream)
        self._url, self._events, self._received = url, events, received
        encoding = response.headers.pop("content-encoding", "identity").strip().lower()
        if encoding not in ("identity", "gzip", "deflate", ""):
            raise ServerFaultError(
                f"{url}: its response is encoded as {encoding!r:.80}; expected none, or gzip once"
            )
        # 15 + 32: a header of gzip or of zlib.
        self._decompressor = zlib.decompressobj(47) if encoding in ("gzip", "deflate") else None

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, tail = 0, b""
        limit = MAX_EVENT if self._events else MAX_BODY
        async for chunk in self._stream:
            self._received()
            for part in self._decompressed(chunk):
                size += len(part)
                if self._events:
                    text = tail + part
                    ends = [match.end() for match in _BLANK_LINE.finditer(text)]
                    size = len(text) - ends[-1] if ends else size
                    tail = text[-3:]
                if size > limit:
                    what = "an event" if self._events else "its response"
                    raise ServerFaultError(f"{self._url}: {what} has more than {limit:,} bytes")
                yield part

    def _decompressed(self, chunk: bytes) -> Iterator[bytes]:
        """Decompress a chunk step by step, since it may expand a thousandfold."""
        if self._decompressor is None:
            yield chunk
            return
        try:
            while chunk and not self._decompressor.eof:
                part = self._decompressor.decompress(chunk, _STEP)
                chunk = self._decompressor.unconsumed_tail
                if part:
                    yield part
        except zlib.error as error:
            raise ServerFaultError(
                f"{self._url}: its response is not compressed: {error}"
            ) from error

    async def aclose(self) -> None:
        await self._stream.aclose()
