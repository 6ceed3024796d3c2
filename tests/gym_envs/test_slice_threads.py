"""Tests of the pool of threads of vector environments."""

from __future__ import annotations

import gc
import os
import pickle
import threading

import numpy as np
import pytest

from autotts_gym.gym_envs.slice_threads import SliceThreads


def slices(threads: SliceThreads, total: int) -> list[tuple[int, int, int]]:
    """The slices of a job, in the order of the threads."""
    seen: list[tuple[int, int, int]] = []

    def job(first: int, last: int, thread: int) -> int:
        seen.append((thread, first, last))
        return last - first

    assert threads.run(job, total) == total
    return sorted(seen)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_episode_is_in_one_slice(count: int) -> None:
    threads = SliceThreads(count)
    for total in (0, 1, 15, 100, 101):
        parts = slices(threads, total)
        covered = np.concatenate([np.arange(first, last) for _, first, last in parts])
        assert covered.tolist() == list(range(total))
        assert len(parts) == (count if total >= 16 * count else 1)
    threads.stop()
    assert len(slices(threads, 100)) == count  # it starts again
    assert len(slices(pickle.loads(pickle.dumps(threads)), 100)) == count


def test_jobs_run_in_different_threads_that_stay() -> None:
    threads = SliceThreads(3)
    runs: list[set[int]] = []
    for _ in range(3):
        names: set[int] = set()

        def job(first: int, last: int, thread: int, names: set[int] = names) -> int:
            names.add(threading.get_ident())
            return 0

        threads.run(job, 100)
        runs.append(names)
    assert len(runs[0]) == 3
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("failing", [0, 1])
def test_errors_are_raised_and_the_pool_goes_on(failing: int) -> None:
    threads = SliceThreads(2)

    def job(first: int, last: int, thread: int) -> int:
        if thread == failing:
            raise ValueError(f"thread {thread}")
        return 1

    for _ in range(2):
        with pytest.raises(ValueError, match=f"thread {failing}"):
            threads.run(job, 100)
    assert len(slices(threads, 100)) == 2


def test_threads_end_with_the_pool() -> None:
    threads = SliceThreads(2)
    slices(threads, 100)
    (worker,) = [w for w in threading.enumerate() if w.name == "autotts-slice" and w.is_alive()][
        -1:
    ]
    del threads
    gc.collect()
    worker.join(timeout=30)
    assert not worker.is_alive()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_pool_works_after_a_fork() -> None:
    threads = SliceThreads(2)
    slices(threads, 100)
    child = os.fork()
    if not child:
        os._exit(0 if len(slices(threads, 100)) == 2 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
