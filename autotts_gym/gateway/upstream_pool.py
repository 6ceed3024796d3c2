"""The upstreams of a gateway: checks of their health, and requests that are passed through."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

import aiohttp

from autotts_gym.gateway.api_errors import ApiError
from autotts_gym.gateway.gateway_metrics import GatewayMetrics
from autotts_gym.gateway.request_log import LOGGER, log
from autotts_gym.inference.http_client import HttpClient
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.http_headers import check_base_urls, request_id_header
from autotts_gym.inference.request_retries import backoff
from autotts_gym.live.live_model import LiveModel
from autotts_gym.utils.redaction import redact

#: Seconds that an upstream may take to answer a check, and to accept a connection.
_CHECK_TIMEOUT: Final = 5.0
#: Status codes after which a request is sent to another upstream.
_TRANSIENT: Final = frozenset({429, 500, 502, 503, 504})


class UpstreamPool:
    """Checks upstreams, and passes requests through to them.

    Args:
        urls: base URLs.
        headers: headers of the requests to each, by base URL.
        metrics: where the health is recorded.

    Attributes:
        up: whether each upstream answered the last check.
    """

    def __init__(
        self,
        urls: Sequence[str],
        headers: Mapping[str, Mapping[str, str]],
        metrics: GatewayMetrics,
    ) -> None:
        self._urls = check_base_urls(urls)
        self._shown = [redact(url) for url in self._urls]
        self._metrics = metrics
        self._active = [0] * len(self._urls)
        self._retries = 0
        self.up = [True] * len(self._urls)
        self._clients = [
            HttpClient(url, headers.get(url, {}), _CHECK_TIMEOUT) for url in self._urls
        ]

    async def watch(self, live: LiveModel, interval: float) -> None:
        """Check the upstreams again and again.

        Args:
            live: the model on the upstreams.
            interval: seconds between two checks.
        """
        while True:
            try:
                await self._check(live)
            except Exception:  # the next check may work
                LOGGER.exception("a check of the upstreams failed")
            await asyncio.sleep(interval)

    async def _check(self, live: LiveModel) -> None:
        assert isinstance(live.engine, ServerEngine)
        found = await asyncio.wrap_future(live.submit(live.engine.check_servers(_CHECK_TIMEOUT)))
        now_up = [found[url] for url in self._shown]
        for url, before, after in zip(self._shown, self.up, now_up, strict=True):
            self._metrics.upstream_up.labels(url).set(after)
            if before != after:
                log("upstream", logging.WARNING, upstream=url, up=after)
        self.up = now_up
        retries = live.engine.retries
        self._metrics.retries.inc(retries - self._retries)
        self._retries = retries

    async def close(self) -> None:
        """Close the connections."""
        for client in self._clients:
            await client.close()

    @contextlib.asynccontextmanager
    async def forward(
        self, path: str, content: bytes, deadline: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request to an upstream; its response is to be read as a stream.

        A failure before the response is retried, on another upstream if there is one.

        Args:
            path: path below the base URL.
            content: JSON body.
            deadline: time of ``time.monotonic()`` until which failures are retried.

        Raises:
            ApiError: no upstream can be reached.
        """
        failed: set[int] = set()
        rounds = 0
        while True:
            k = self._choose(failed)
            self._active[k] += 1
            response = None
            try:
                response = await self._open(k, path, content, deadline)
                is_last = time.monotonic() + 1.0 >= deadline
                if response is not None and (response.status not in _TRANSIENT or is_last):
                    yield response
                    return
            finally:
                self._active[k] -= 1
                if response is not None:
                    response.close()
            failed.add(k)
            if len(failed) == len(self._urls):
                failed.clear()
                rounds += 1
                pause = backoff(rounds)
                if time.monotonic() + pause >= deadline:
                    raise ApiError(502, "the model server cannot be reached", outcome="upstream")
                await asyncio.sleep(pause)

    def _choose(self, failed: set[int]) -> int:
        """The upstream with the fewest requests; those that work and have not failed first."""
        return min(
            range(len(self._urls)),
            key=lambda k: (k in failed, not self.up[k], self._active[k]),
        )

    async def _open(
        self, k: int, path: str, content: bytes, deadline: float
    ) -> aiohttp.ClientResponse | None:
        """The response of an upstream; None if it fails."""
        url = self._urls[k] + path
        try:
            async with asyncio.timeout_at(deadline):
                return await self._clients[k].send(url, content, request_id_header())
        except (aiohttp.ClientError, TimeoutError):
            return None
