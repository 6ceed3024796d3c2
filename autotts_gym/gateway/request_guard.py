"""The first thing that sees a request: its id, the client's key, and the size of its body."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import uuid
from collections.abc import Sequence
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from autotts_gym.gateway.api_errors import ApiError
from autotts_gym.inference.http_headers import REQUEST_ID

#: An id of a request that is sent on as it is.
_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
#: Seconds within which the body of a request must arrive.
_BODY_TIMEOUT: Final = 30.0


class RequestGuard:
    """ASGI middleware that gives every request an id, and refuses some.

    Args:
        app: the application.
        keys: keys that clients may show for paths below ``/v1``; without any, all are served.
        max_body: maximum size of a body, bytes.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], max_body: int) -> None:
        self._app = app
        self._digests = [_digest(key) for key in keys]
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _ID.fullmatch(given) else uuid.uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        REQUEST_ID.set(request_id)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            if scope["path"].startswith("/v1"):
                self._check_key(headers)
            body = await self._read(headers, receive)
        except ApiError as error:
            await error.response()(scope, receive, send_with_id)
            return
        except _DisconnectedError:
            return
        await self._app(scope, _replay(body, receive), send_with_id)

    def _check_key(self, headers: Headers) -> None:
        if not self._digests:
            return
        scheme, _, key = headers.get("authorization", "").partition(" ")
        shown = _digest(key.strip()) if scheme.lower() == "bearer" else b""
        # All are compared, so that the time does not depend on which one fits.
        if not sum(hmac.compare_digest(shown, valid) for valid in self._digests):
            raise ApiError(
                401,
                "the API key is missing or wrong: send it as Authorization: Bearer KEY",
                code="invalid_api_key",
                headers={"WWW-Authenticate": "Bearer"},
            )

    async def _read(self, headers: Headers, receive: Receive) -> bytes:
        size = headers.get("content-length", "0")
        if size.isdecimal() and int(size[:19]) > self._max_body:
            raise self._too_large()
        parts: list[bytes] = []
        total = 0
        try:
            async with asyncio.timeout(_BODY_TIMEOUT):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise _DisconnectedError
                    parts.append(message.get("body", b""))
                    total += len(parts[-1])
                    if total > self._max_body:
                        raise self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            raise ApiError(408, "the body of the request did not arrive in time") from None

    def _too_large(self) -> ApiError:
        return ApiError(
            413,
            f"the body of the request has more than {self._max_body:,} bytes",
            code="request_too_large",
            headers={"Connection": "close"},
        )


class _DisconnectedError(Exception):
    """The client has gone."""


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()


def _replay(body: bytes, receive: Receive) -> Receive:
    """A ``receive`` that gives the body first."""
    messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        return messages.pop() if messages else await receive()

    return replay
