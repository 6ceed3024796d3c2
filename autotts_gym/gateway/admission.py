"""Admission of requests: a limit of concurrency, and a queue with a bound."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Final

from autotts_gym.gateway.api_errors import ApiError

#: Longest time that ``Retry-After`` asks for, seconds.
_LONGEST_RETRY: Final = 60
#: Weight of the last episode in the mean time of an episode.
_NEWEST: Final = 0.2


class Admission:
    """Admits requests in the order in which they come.

    Args:
        concurrency: maximum number of requests that are admitted at the same time.
        queue: maximum number of requests that wait.

    Attributes:
        running: number of admitted requests.
        waiting: number of waiting requests.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self._concurrency = concurrency
        self._queue = queue
        self._free = asyncio.Semaphore(concurrency)
        self._mean_seconds = 1.0
        self.running = 0
        self.waiting = 0

    async def enter(self, deadline: float) -> float:
        """Wait until a request is admitted; :meth:`leave` must follow.

        Args:
            deadline: time of ``time.monotonic()`` until which it waits.

        Returns:
            Seconds that it waited.

        Raises:
            ApiError: the queue is full, or the deadline has passed; status 429.
        """
        if self._free.locked() and self.waiting >= self._queue:
            raise self._busy(f"{self.running} requests run and {self.waiting} wait")
        start = time.monotonic()
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline):
                await self._free.acquire()
        except TimeoutError:
            raise self._busy("the request has waited in the queue up to its timeout") from None
        finally:
            self.waiting -= 1
        self.running += 1
        return time.monotonic() - start

    def leave(self, seconds: float) -> None:
        """End an admitted request, which took so many seconds."""
        self.running -= 1
        self._free.release()
        self._mean_seconds += _NEWEST * (seconds - self._mean_seconds)

    def _busy(self, reason: str) -> ApiError:
        """The error of a request that finds no place, with the time until one is likely free."""
        seconds = math.ceil(self._mean_seconds * (self.waiting + 1) / self._concurrency)
        after = min(max(seconds, 1), _LONGEST_RETRY)
        return ApiError(
            429,
            f"too many requests: {reason}; try again in {after} s",
            code="rate_limit_exceeded",
            headers={"Retry-After": str(after)},
            outcome="busy",
        )
