"""Pauses between the attempts of a request, and the patience after which it fails."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable
from typing import Final

from autotts_gym.inference.http_responses import TransientError

#: Longest pause after the first attempt, and after any, seconds.
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 30.0


def backoff(attempt: int) -> float:
    """Seconds to wait after an attempt, from 1: exponential backoff with full jitter."""
    return random.uniform(0, min(_FIRST_PAUSE * 2.0 ** min(attempt - 1, 32), _LONGEST_PAUSE))


class RequestRetries:
    """The failed attempts of one request.

    Args:
        patience: seconds after the first failure since the last progress for which the request is
            sent again; after a stall, at least until it has waited for as long.
        wait: returns the seconds before the next attempt; gets the number of attempts and the
            error of the last one.
    """

    def __init__(self, patience: float, wait: Callable[[int, TransientError], float]) -> None:
        self._patience = patience
        self._wait = wait
        self._attempts = 0
        self.renew()

    def renew(self) -> None:
        """Record progress: patience starts again at the next failure."""
        self._end = math.inf

    async def pause(self, error: TransientError) -> None:
        """Wait before the next attempt.

        Args:
            error: the error of the last attempt.

        Raises:
            TransientError: patience has run out; it is ``error``.
        """
        self._attempts += 1
        now = time.monotonic()
        if self._end == math.inf:
            self._end = now + self._patience
        if now >= self._end and not 0 < error.stalled < self._patience:
            raise error
        await asyncio.sleep(self._wait(self._attempts, error))
