"""Bodies of responses that are read as server-sent events."""

from __future__ import annotations

import asyncio
import zlib
from types import SimpleNamespace
from typing import Any

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.inference.bounded_body import EventReader

#: Blank lines and ends of lines as servers write them.
LINE_ENDS = st.sampled_from(["\n", "\r\n", "\r"])
#: An event: an end of lines, and lines, as fields with values.
EVENTS = st.tuples(
    LINE_ENDS,
    st.lists(
        st.tuples(
            st.sampled_from(["data: ", "data:", "event: ", "id:", ": "]),
            st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
        ),
        max_size=3,
    ),
)


def read(chunks: list[bytes], headers: dict[str, str]) -> list[bytes]:
    """The data of the events in a body that comes in chunks."""

    async def main() -> list[bytes]:
        loop = asyncio.get_running_loop()
        protocol = BaseProtocol(loop)
        protocol.connection_made(asyncio.Transport())
        content = aiohttp.StreamReader(protocol, 1 << 16, loop=loop)
        response: Any = SimpleNamespace(content=content, headers=headers)
        arrived: list[None] = []
        reader = EventReader(response, "http://server", lambda: arrived.append(None))

        async def read_all() -> list[bytes]:
            found = []
            while (data := await reader.next()) is not None:
                found.append(data)
            return found

        reading = asyncio.create_task(read_all())
        for fed, chunk in enumerate(chunks, 1):
            content.feed_data(chunk)
            while len(arrived) < fed and not reading.done():
                await asyncio.sleep(0)
        content.feed_eof()
        found = await reading
        assert len(arrived) == len(chunks)
        return found

    return asyncio.run(main())


def expected(events: list[tuple[str, list[tuple[str, str]]]]) -> list[bytes]:
    datas = []
    for _, lines in events:
        values = [
            value.removeprefix(" ") if name == "data:" else value
            for name, value in lines
            if name.startswith("data:")
        ]
        datas.append("\n".join(values).encode())
    return [data for data in datas if data]


@given(st.lists(EVENTS, max_size=4), st.data(), st.booleans())
@settings(max_examples=150, deadline=None)
def test_events_do_not_depend_on_the_chunks(
    events: list[tuple[str, list[tuple[str, str]]]], data: st.DataObject, compressed: bool
) -> None:
    written = [
        "".join(f"{name}{value}{end}" for name, value in lines).encode() + end.encode()
        for end, lines in events
    ]
    body = b"".join(written)
    headers = {"content-encoding": "deflate"} if compressed else {}
    if compressed:
        body = zlib.compress(body)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=6)))
    pieces = [body[a:b] for a, b in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    whole = expected(events)
    assert read([piece for piece in pieces if piece], headers) == whole
    if not compressed:  # an event at a time, as servers write them
        assert read(written, headers) == whole
