"""``DaemonThreads``: threads that are kept for the next function."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable


class DaemonThreads:
    """Runs each function in a thread at once; a thread that has run one waits for the next.

    To start a thread takes half a millisecond of processor time, and the caller waits until the
    thread runs, which takes several milliseconds on a busy core. Unlike those of
    ``concurrent.futures.ThreadPoolExecutor``, the threads do not keep the process from ending.

    Args:
        name: name of the threads.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._functions: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._free = 0  # threads that wait, and have no function on its way
        self._is_closed = False

    def run(self, function: Callable[[], object]) -> None:
        """Run a function, which must not raise.

        Raises:
            RuntimeError: the threads are closed.
        """
        with self._lock:
            if self._is_closed:
                raise RuntimeError(f"the threads {self._name!r} are closed")
            has_thread = self._free > 0
            if has_thread:
                self._free -= 1
        self._functions.put(function)
        if not has_thread:
            threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def _serve(self) -> None:
        while (function := self._functions.get()) is not None:
            function()
            del function  # not kept while the thread waits
            with self._lock:
                if self._is_closed:
                    return
                self._free += 1

    def close(self) -> None:
        """Let every thread end when its function has; further calls have no effect."""
        with self._lock:
            self._is_closed = True
            waiting, self._free = self._free, 0
        for _ in range(waiting):
            self._functions.put(None)
