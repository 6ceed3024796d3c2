"""Responses that take as long as an episode: whole replies, streams, and passed-through ones."""

from __future__ import annotations

import abc
import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from autotts_gym.gateway.answering import AnsweringService
from autotts_gym.gateway.api_errors import ApiError, JsonResponse
from autotts_gym.gateway.episode_plan import EpisodePlan
from autotts_gym.gateway.replies import bill, chat_reply, text_reply
from autotts_gym.gateway.reply_stream import ChunkWriter
from autotts_gym.gateway.until_disconnect import ClientGoneError, until_disconnect

#: Header of all replies, with the name of the protocol.
PROTOCOL_HEADER: Final = "x-autotts-protocol"
#: Seconds without progress after which a stream sends a chunk nevertheless.
_HEARTBEAT: Final = 5.0


class LongResponse(Response, abc.ABC):
    """A response that ends early when the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with contextlib.suppress(ClientGoneError):
            await until_disconnect(receive, self.reply(scope, receive, send))

    @abc.abstractmethod
    async def reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply."""


class EpisodeResponse(LongResponse):
    """The reply of an episode.

    Args:
        service: plays it.
        plan: the episode.
        is_chat: whether the request is for a chat completion.
    """

    def __init__(self, service: AnsweringService, plan: EpisodePlan, is_chat: bool) -> None:
        super().__init__()
        self._service = service
        self._plan = plan
        self._is_chat = is_chat
        kind = "chatcmpl" if is_chat else "cmpl"
        name = f"{kind}-{plan.request_id}"
        self._head: dict[str, Any] = {"id": name, "created": plan.created, "model": plan.model}

    async def reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        plan = self._plan
        try:
            await self._service.enter(plan)
            solution = await self._service.start(plan).solution()
        except ApiError as error:
            response = error.response()
        else:
            make = chat_reply if self._is_chat else text_reply
            made = make(self._head, solution, bill(solution, plan.controller, plan.beta))
            response = JsonResponse(made.model_dump(), headers={PROTOCOL_HEADER: plan.protocol})
        await response(scope, receive, send)


class EpisodeStream(EpisodeResponse):
    """The reply of an episode as a stream.

    Args:
        service, plan, is_chat: as for :class:`EpisodeResponse`.
        include_usage: whether the stream ends with the usage.
    """

    def __init__(
        self, service: AnsweringService, plan: EpisodePlan, is_chat: bool, include_usage: bool
    ) -> None:
        super().__init__(service, plan, is_chat)
        self._writer = ChunkWriter(self._head, is_chat, include_usage)

    async def reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        plan = self._plan
        try:
            await self._service.enter(plan)
        except ApiError as error:
            await error.response()(scope, receive, send)
            return
        latest: asyncio.Queue[dict[str, Any]] = asyncio.Queue(1)

        def progress(facts: dict[str, Any]) -> None:
            if latest.full():  # a slow client gets the newest only
                latest.get_nowait()
            latest.put_nowait(facts)

        episode = self._service.start(plan, progress)
        answering = asyncio.ensure_future(episode.solution())
        try:
            await _start(send, 200, {"content-type": "text/event-stream; charset=utf-8"}, plan)
            await _send(send, self._writer.start())
            facts: dict[str, Any] = {}
            while not answering.done():
                with contextlib.suppress(TimeoutError):
                    facts = await _next_progress(latest, answering)
                if not answering.done():
                    await _send(send, self._writer.progress(facts))
            try:
                solution = answering.result()
            except ApiError as error:
                chunks = self._writer.error(error)
            else:
                made = bill(solution, plan.controller, plan.beta)
                chunks = self._writer.reply(solution, made)
            for chunk in chunks:
                await _send(send, chunk)
            await send({"type": "http.response.body", "body": b""})
        finally:
            episode.abandon()  # without effect at the end
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)


async def _next_progress(
    latest: asyncio.Queue[dict[str, Any]], answering: asyncio.Future[Any]
) -> dict[str, Any]:
    """The next report of progress; raises ``TimeoutError`` if there is none in time."""
    getting = asyncio.ensure_future(latest.get())
    try:
        await asyncio.wait(
            {getting, answering}, timeout=_HEARTBEAT, return_when=asyncio.FIRST_COMPLETED
        )
        if getting.done():
            return getting.result()
        raise TimeoutError
    finally:
        getting.cancel()


async def _start(send: Send, status: int, headers: Mapping[str, str], plan: EpisodePlan) -> None:
    sent = {**headers, "cache-control": "no-cache", PROTOCOL_HEADER: plan.protocol}
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in sent.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def _send(send: Send, body: bytes) -> None:
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})
