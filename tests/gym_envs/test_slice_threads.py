"""Tests of the pool of threads of vector environments."""

from __future__ import annotations

import _thread
import gc
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from autotts_gym.gym_envs import slice_threads
from autotts_gym.gym_envs.slice_threads import SliceThreads
from autotts_gym.mdp.atomics import pause
from autotts_gym.mdp.packed_arrays import Axes, pack
from autotts_gym.mdp.slices import ASLEEP, STATE, bound, operation


class Played(NamedTuple):
    """How often each episode was played, by which thread last, and pauses for each episode."""

    counts: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    threads: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    pauses: Annotated[NDArray[np.int64], Axes(np.int64, 1)]


@operation(Played)
def _play(arrays, first, last, thread):
    for e in range(first, last):
        arrays.counts[e] += 1
        arrays.threads[e] = thread
        for _ in range(arrays.pauses[0]):
            pause()
    return last - first


class Episodes:
    """Episodes that count how often they are played."""

    def __init__(self, total: int = 100) -> None:
        self.counts, self.threads = np.zeros(total, np.int64), np.zeros(total, np.int64)
        self.pauses = np.zeros(1, np.int64)
        self._packed = pack(Played(self.counts, self.threads, self.pauses))
        self.program = bound(_play, self._packed)

    def play(self, threads: SliceThreads, total: int = 100) -> None:
        result = threads.run(self.program, total)
        if result != len(self.program) * total:
            raise AssertionError(f"{result} of {total} episodes were played")

    def play_shared(self, threads: SliceThreads) -> None:
        """Play until all threads have taken part at once, as soon as they have the cores for it."""
        self.pauses[0] = 1000
        while len(set(self.threads.tolist())) < threads.count:
            self.play(threads)
        self.pauses[0] = 0


@pytest.fixture(params=[slice_threads._PATIENCE, 0], ids=["patient", "impatient"])
def patience(request: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait in compiled code, and threads that fall asleep at once."""
    monkeypatch.setattr(slice_threads, "_PATIENCE", request.param)


@pytest.fixture
def pool() -> Iterator[SliceThreads]:
    threads = SliceThreads(2)
    yield threads
    threads.stop()


@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_episode_is_played_once(count: int) -> None:
    threads = SliceThreads(count)
    for total in (0, 1, 15, 100, 101):
        episodes = Episodes(max(total, 1))
        episodes.play(threads, total)
        assert episodes.counts.sum() == total
        assert (episodes.counts[:total] == 1).all()
    threads.stop()


@pytest.mark.usefixtures("patience")
def test_no_slice_is_lost_whenever_threads_fall_asleep() -> None:
    threads, episodes, rng = SliceThreads(3), Episodes(), np.random.default_rng(0)
    for k in range(1, 1001):
        episodes.play(threads)
        assert (episodes.counts == k).all()
        if rng.random() < 0.3:
            time.sleep(2e-4 * rng.random())
    threads.stop()


def test_operations_of_a_program_follow_each_other(pool: SliceThreads) -> None:
    episodes = Episodes()
    assert pool.run(np.concatenate([episodes.program] * 3), 100) == 300
    assert (episodes.counts == 3).all()


@pytest.mark.parametrize("count", [2, 3])
def test_threads_share_the_episodes(count: int) -> None:
    threads, episodes = SliceThreads(count), Episodes()
    episodes.play_shared(threads)
    assert (np.diff(episodes.threads) >= 0).all()
    assert np.bincount(episodes.threads).max() <= -(-100 // count)
    episodes.play(threads, 16 * count - 1)
    assert not episodes.threads[: 16 * count - 1].any()  # too few to share
    threads.stop()
    episodes.threads[:] = 0
    episodes.play_shared(threads)  # they start again
    copied = pickle.loads(pickle.dumps(threads))
    episodes.threads[:] = 0
    episodes.play_shared(copied)
    assert len(set(episodes.threads.tolist())) == count
    threads.stop()
    copied.stop()


def test_threads_without_work_fall_asleep(pool: SliceThreads) -> None:
    episodes = Episodes()
    for _ in range(2):
        episodes.threads[:] = 0
        episodes.play_shared(pool)
        until = time.monotonic() + 30
        while pool._lines[0, STATE] != ASLEEP and time.monotonic() < until:
            time.sleep(0.001)
        assert pool._lines[0, STATE] == ASLEEP


def test_threads_end_with_the_pool() -> None:
    before = set(threading.enumerate())
    threads = SliceThreads(2)
    Episodes().play(threads)
    (worker,) = set(threading.enumerate()) - before
    del threads
    gc.collect()
    worker.join(timeout=30)
    assert not worker.is_alive()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGINT raises KeyboardInterrupt, also if a shell runs the tests in the background."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("interruptible")
def test_the_pool_goes_on_after_an_interrupt(pool: SliceThreads) -> None:
    episodes = Episodes()
    episodes.play(pool)
    timer = threading.Timer(0.05, _thread.interrupt_main)
    timer.start()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 - it comes at any time
        while True:
            episodes.play(pool)
    timer.join()
    episodes.counts[:] = 0
    episodes.play(pool)
    assert (episodes.counts == 1).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_pool_works_after_a_fork(pool: SliceThreads) -> None:
    episodes = Episodes()
    episodes.play_shared(pool)
    child = os.fork()
    if not child:
        episodes.threads[:] = 0
        episodes.play_shared(pool)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Exits immediately after a step, while the thread waits in compiled code or has fallen asleep.
EXIT = """
import time
import numpy as np
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv

envs = AutoTTSVectorEnv(64, observation="compact", threads=2)
envs.reset(seed=0)
envs.step(np.ones(64, np.int64))
time.sleep({idle})
"""


@pytest.mark.parametrize("idle", [0, 0.01])
def test_a_process_exits_with_its_threads(idle: float) -> None:
    script = EXIT.format(idle=idle)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, b"")
