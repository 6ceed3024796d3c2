"""Threads that are kept."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from autotts_gym.utils.daemon_threads import DaemonThreads

PATIENCE = 60.0


class Work:
    """Notes its thread, and waits until it may end."""

    def __init__(self, *, may_end: bool = True) -> None:
        self.thread: threading.Thread | None = None
        self.started, self.may_end = threading.Event(), threading.Event()
        if may_end:
            self.may_end.set()

    def __call__(self) -> None:
        self.thread = threading.current_thread()
        self.started.set()
        assert self.may_end.wait(PATIENCE)


def comes(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.001)
    return condition()


def test_a_thread_that_waits_runs_the_next_function() -> None:
    threads = DaemonThreads("kept")
    works = [Work() for _ in range(3)]
    for work in works:
        threads.run(work)
        assert work.started.wait(PATIENCE)
        assert comes(lambda: threads._free == 1)
    assert len({work.thread for work in works}) == 1
    assert works[0].thread is not None
    assert works[0].thread.name == "kept"
    assert works[0].thread.daemon
    threads.close()
    works[0].thread.join(PATIENCE)
    assert not works[0].thread.is_alive()


def test_functions_do_not_wait_for_each_other() -> None:
    threads = DaemonThreads("kept")
    first = Work()
    threads.run(first)
    assert comes(lambda: threads._free == 1)
    works = [Work(may_end=False) for _ in range(5)]
    for work in works:
        threads.run(work)
    assert all(work.started.wait(PATIENCE) for work in works)
    assert len({work.thread for work in works}) == 5
    assert first.thread in {work.thread for work in works}
    threads.close()  # functions that run may end
    for work in works:
        work.may_end.set()
    for work in works:
        assert work.thread is not None
        work.thread.join(PATIENCE)
        assert not work.thread.is_alive()
    with pytest.raises(RuntimeError, match="'kept' are closed"):
        threads.run(first)


def test_a_function_is_not_kept() -> None:
    threads = DaemonThreads("kept")
    work = Work()
    kept = weakref.ref(work)
    threads.run(work)
    assert comes(lambda: threads._free == 1)
    gc.disable()
    try:
        del work
        assert kept() is None
    finally:
        gc.enable()
    threads.close()
