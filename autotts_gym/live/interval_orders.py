"""``IntervalOrders``: intervals that a controller requests, on their way to the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from autotts_gym.live.live_model import LiveModel

#: Seconds for which requested intervals wait for further ones.
_HOLD: Final = 0.005


class IntervalOrders:
    """Takes the intervals that a controller requests to the model's event loop.

    A controller requests intervals one by one, and each message from thread to thread costs as much
    as several of its actions. Intervals are therefore taken together: when the controller waits for
    a probe, or soon. Those of one branch become one request to the model.

    Args:
        model: the model, with its event loop.
        extend: adds an interval to a branch; returns whether its generation must be started.
        start: starts the generation of a branch. Both are called on the event loop.
    """

    def __init__(
        self, model: LiveModel, extend: Callable[[int], bool], start: Callable[[int], object]
    ) -> None:
        self._model = model
        self._extend = extend
        self._start = start
        self._orders: deque[int] = deque()
        self._held: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._added = self._taken = 0

    @property
    def are_started(self) -> bool:
        """Whether the generation of all intervals has started; for the controller's thread."""
        return self._added == self._taken and self._held is None

    def add(self, i: int) -> None:
        """Request another interval of branch ``i``; called in the controller's thread."""
        self._added += 1
        self._orders.append(i)
        if len(self._orders) == 1:  # else the event loop has not taken earlier ones yet
            self._model.call_soon(self._wait_for_more)

    def start_all(self) -> None:
        """Start the generation of all requested intervals; called on the event loop."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._take()
        self._start_held()

    def _wait_for_more(self) -> None:
        if self._timer is None and (self._orders or self._held is not None):
            self._timer = asyncio.get_running_loop().call_later(_HOLD, self._start_soon)

    def _start_soon(self) -> None:
        self._timer = None
        if self._orders:
            self._take()
            self._wait_for_more()
        else:
            self._start_held()

    def _take(self) -> None:
        """Take the orders. The last branch is held, because it may get further intervals."""
        while self._orders:
            i = self._orders.popleft()
            if self._extend(i) and self._held != i:
                self._start_held()
                self._held = i
            self._taken += 1

    def _start_held(self) -> None:
        if self._held is not None:
            self._start(self._held)
            self._held = None  # last, because another thread reads it

    def close(self) -> None:
        """Forget the functions, which belong to an object that has this one."""
        self._extend = self._start = _ignore


def _ignore(_: int) -> bool:
    return False
