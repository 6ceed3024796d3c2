"""Requests that are passed through to the model server as they are."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
from starlette.types import Receive, Scope, Send

from autotts_gym.gateway.admission import Admission
from autotts_gym.gateway.answering import CLIENT_GONE
from autotts_gym.gateway.api_errors import ApiError, invalid
from autotts_gym.gateway.episode_plan import PASS_THROUGH
from autotts_gym.gateway.gateway_metrics import GatewayMetrics
from autotts_gym.gateway.gateway_responses import PROTOCOL_HEADER, LongResponse
from autotts_gym.gateway.request_log import log
from autotts_gym.gateway.upstream_pool import UpstreamPool


@dataclass(frozen=True)
class Forwarder:
    """What passes requests through.

    Attributes:
        pool: the upstreams.
        admission: limits the number of requests.
        metrics: where they are recorded.
    """

    pool: UpstreamPool
    admission: Admission
    metrics: GatewayMetrics


def forwarded_body(body: Mapping[str, Any], model: str) -> bytes:
    """The body of a request for the upstream: with the model's name there, without ``autotts``.

    Raises:
        ApiError: the body cannot be written as JSON.
    """
    sent = {name: value for name, value in body.items() if name != "autotts"}
    try:
        return json.dumps({**sent, "model": model}, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise invalid("body", f"the body is not valid JSON: {error}") from None


class PassedThroughResponse(LongResponse):
    """The response of an upstream.

    Args:
        forwarder: sends the request on.
        path: path below the base URL.
        content: JSON body for the upstream.
        request_id: id of the request.
        timeout: seconds within which the response must be complete.
    """

    def __init__(
        self,
        forwarder: Forwarder,
        path: str,
        content: bytes,
        request_id: str,
        timeout: float,
    ) -> None:
        super().__init__()
        self._forwarder = forwarder
        self._path = path
        self._content = content
        self._request_id = request_id
        self._timeout = timeout
        self._started = time.monotonic()
        self._status = 0

    async def reply(self, scope: Scope, receive: Receive, send: Send) -> None:
        admission = self._forwarder.admission
        deadline = self._started + self._timeout
        outcome = "cancelled"
        try:
            await admission.enter(deadline)
            begun = time.monotonic()
            try:
                await self._forward(send, deadline)
            finally:
                admission.leave(time.monotonic() - begun)
            outcome = "passed"
        except ApiError as error:
            outcome, self._status = error.outcome, error.status
            await error.response()(scope, receive, send)
        except asyncio.CancelledError:
            self._status = CLIENT_GONE
            raise
        except (aiohttp.ClientError, TimeoutError):
            # The response has begun; the server closes the connection.
            outcome = "upstream"
            raise
        finally:
            self._forwarder.metrics.requests.labels(PASS_THROUGH, outcome).inc()
            log(
                "request",
                logging.INFO,
                request_id=self._request_id,
                protocol=PASS_THROUGH,
                status=self._status,
                outcome=outcome,
                seconds=round(time.monotonic() - self._started, 3),
            )

    async def _forward(self, send: Send, deadline: float) -> None:
        async with contextlib.AsyncExitStack() as stack:
            response = await stack.enter_async_context(
                self._forwarder.pool.forward(self._path, self._content, deadline)
            )
            self._status = response.status
            kind = response.headers.get("content-type", "application/json")
            headers = {"content-type": kind, PROTOCOL_HEADER: PASS_THROUGH}
            if "retry-after" in response.headers:
                headers["retry-after"] = response.headers["retry-after"]
            raw = [(name.encode(), text.encode("latin-1")) for name, text in headers.items()]
            start = {"type": "http.response.start", "status": self._status, "headers": raw}
            await send(start)
            async with asyncio.timeout_at(deadline):
                async for part in response.content.iter_any():
                    await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
