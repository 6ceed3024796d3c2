"""A pool of threads that share the episodes of a batch."""

from __future__ import annotations

import os
import queue
import threading
import weakref
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import slices
from autotts_gym.mdp.slices import ASLEEP, READY, STATE, STOPPED, Program

#: Fewer episodes than this for each thread are played by the calling thread alone.
_FEWEST: Final = 16

#: How long a thread waits in compiled code for the next step, in rests of about 1 µs. A loop that
#: does little else takes the next step sooner. In each rest, other threads can have the core, such
#: as those of a learner that works between the steps.
_PATIENCE: Final = 300

_NO_WORKERS: Final = slices.lines(0)


class _Worker:
    """A thread that plays slices, see :mod:`autotts_gym.mdp.slices`."""

    def __init__(self, line: NDArray[np.int64], number: int) -> None:
        self._line = line
        self._calls: queue.SimpleQueue[None] = queue.SimpleQueue()
        arguments = line, number, self._calls
        threading.Thread(target=_serve, args=arguments, daemon=True, name="autotts-slice").start()

    def wake(self) -> None:
        if self._line[STATE] == ASLEEP:
            self._line[STATE] = READY
            self._calls.put(None)

    def stop(self) -> None:
        self._line[STATE] = STOPPED
        self._calls.put(None)


def _serve(line: NDArray[np.int64], number: int, calls: queue.SimpleQueue[None]) -> None:
    while not slices.serve(line, number, _PATIENCE):
        calls.get()


class SliceThreads:
    """Runs programs on slices of the episodes of a batch, one slice per thread.

    The calling thread plays the first slice. The other threads start with the first program and
    wait for the next one until :meth:`stop`: about 0.3 ms in compiled code, which uses a core that
    nothing else needs, and then asleep.

    Args:
        count: number of threads, the calling one included.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._lines = _NO_WORKERS
        self._workers: list[_Worker] = []
        self._process = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["count"])  # type: ignore[misc]

    def run(self, program: Program, total: int) -> int:
        """Do the operations of a program on ``total`` episodes.

        Returns:
            The sum of the results of the operations.
        """
        if total < _FEWEST * self.count or self.count == 1:
            return int(slices.play_slices(program, total, _NO_WORKERS))
        if self._process != os.getpid():  # threads do not survive a fork
            self._start()
        for worker in self._workers:
            worker.wake()
        return int(slices.play_slices(program, total, self._lines))

    def _start(self) -> None:
        self._process = os.getpid()
        self._lines = slices.lines(self.count - 1)
        # Compiled by this thread: one that the end of the process interrupts must not compile.
        ended = slices.lines(1)[0]
        ended[STATE] = STOPPED
        slices.serve(ended, 0, 0)
        self._workers = [_Worker(line, k) for k, line in enumerate(self._lines, 1)]
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def stop(self) -> None:
        """End the threads; the next program starts them again."""
        if self._finalizer is not None:
            if self._process == os.getpid():
                self._finalizer()
            self._finalizer = None
        self._process, self._workers = 0, []


def _stop_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stop()
