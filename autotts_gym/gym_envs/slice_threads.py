"""A pool of threads that share the episodes of a batch."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final

#: A job: plays the episodes from ``first`` to ``last`` - 1 in thread ``thread``, and returns a
#: number. It should spend its time in code that releases the interpreter's lock.
Job = Callable[[int, int, int], int]

#: Fewer episodes than this for each thread are played by the calling thread alone.
_FEWEST: Final = 16


class _Worker:
    """A thread that waits for jobs. Locks are the fastest way to wake it."""

    def __init__(self) -> None:
        self._begin, self._done = threading.Lock(), threading.Lock()
        self._begin.acquire()
        self._done.acquire()
        self._job: Job | None = None
        self._arguments = 0, 0, 0
        self._result = 0
        self._error: BaseException | None = None
        threading.Thread(target=self._run, daemon=True, name="autotts-slice").start()

    def _run(self) -> None:
        while True:
            self._begin.acquire()
            if self._job is None:
                return
            try:
                self._result, self._error = self._job(*self._arguments), None
            except BaseException as error:  # raised again by the calling thread
                self._error = error
            self._job = None
            self._done.release()

    def begin(self, job: Job, first: int, last: int, thread: int) -> None:
        self._job, self._arguments = job, (first, last, thread)
        self._begin.release()

    def wait(self) -> None:
        self._done.acquire()

    @property
    def result(self) -> int:
        """The result of the job; raises its error."""
        if self._error is not None:
            raise self._error
        return self._result

    def stop(self) -> None:
        self._begin.release()


class SliceThreads:
    """Runs a job on slices of the episodes of a batch, one slice per thread.

    The calling thread plays the first slice. The other threads start with the first job and wait
    for the next one until :meth:`stop`.

    Args:
        count: number of threads, the calling one included.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._workers: list[_Worker] = []
        self._process = 0
        self._finalizer: weakref.finalize[Any, Any] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"count": self.count}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["count"])  # type: ignore[misc]

    def run(self, job: Job, total: int) -> int:
        """Run a job on ``total`` episodes; returns the sum of its results."""
        if total < _FEWEST * self.count or self.count == 1:
            return job(0, total, 0)
        if self._process != os.getpid():  # threads do not survive a fork
            self._start()
        bounds = [total * k // self.count for k in range(self.count + 1)]
        for k, worker in enumerate(self._workers, 1):
            worker.begin(job, bounds[k], bounds[k + 1], k)
        try:
            result = job(0, bounds[1], 0)
        finally:
            for worker in self._workers:
                worker.wait()
        return result + sum(worker.result for worker in self._workers)

    def _start(self) -> None:
        self._process = os.getpid()
        self._workers = [_Worker() for _ in range(self.count - 1)]
        self._finalizer = weakref.finalize(self, _stop_all, self._workers)

    def stop(self) -> None:
        """End the threads; the next job starts them again."""
        if self._finalizer is not None:
            if self._process == os.getpid():
                self._finalizer()
            self._finalizer = None
        self._process, self._workers = 0, []


def _stop_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.stop()
