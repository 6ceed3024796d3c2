"""Limits on the time of episodes: only what their processes use themselves counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from autotts_gym.rollout.limits import MAX_CHECK_GAP

#: Most and fewest seconds from one check to the next.
_INTERVAL: Final = 0.5
_SHORTEST: Final = 0.02

#: Seconds after which a process that has used no processor time at all is stuck: it waits for an
#: outcome without having sent an action, which never comes. Every other way to wait is refused to
#: it. A process that merely waits for a processor gets one sooner, on a machine that works at all.
_STUCK: Final = 10.0


class OwnTimeLimits:
    """Watches the processor time of running processes.

    Processes cannot sleep (:mod:`autotts_gym.sandbox.seccomp`), so their processor time is all that
    they use. The time in which they wait for a processor or for the player is not theirs.

    Args:
        cpu_times: returns the processor times of some processes, seconds, given their numbers.
        limit: processor time of a process, seconds.
    """

    def __init__(self, cpu_times: Callable[[Sequence[int]], list[float]], limit: float) -> None:
        self.limit = limit
        self._cpu_times = cpu_times
        # Of every process: when it was last seen to make progress, and its processor time then.
        self._seen: dict[int, tuple[float, float]] = {}
        # Seconds in which this process ran: not those in which it was suspended.
        self._clock, self._read = 0.0, time.monotonic()
        self._next_check = math.inf

    def add(self, number: int) -> None:
        """Watch a new process."""
        self._seen[number] = self._clock, 0.0
        self._next_check = min(self._next_check, self._earliest(number))

    def remove(self, number: int) -> bool:
        """Stop watching a process; returns whether it was watched."""
        return self._seen.pop(number, None) is not None

    def until_check(self) -> float:
        """Seconds until the next check, at most."""
        return min(max(0.0, self._next_check - self._clock), _INTERVAL)

    def late(self) -> set[int]:
        """Numbers of the processes that are beyond their limit, or stuck."""
        now = time.monotonic()
        self._clock += min(now - self._read, MAX_CHECK_GAP)
        self._read = now
        if self._clock < self._next_check:
            return set()
        late = set()
        numbers = list(self._seen)
        for number, used in zip(numbers, self._cpu_times(numbers), strict=True):
            since, before = self._seen[number]
            if used > before:
                since = self._clock
            self._seen[number] = since, used
            if used > self.limit or self._clock - since > _STUCK:
                late.add(number)
        earliest = min(map(self._earliest, numbers), default=math.inf)
        self._next_check = max(earliest, self._clock + _SHORTEST)
        return late

    def _earliest(self, number: int) -> float:
        """When a process can be beyond its limit, or stuck, at the earliest."""
        since, used = self._seen[number]
        return min(since + _STUCK, self._clock + self.limit - used)
