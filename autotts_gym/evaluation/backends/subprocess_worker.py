"""Worker that plays jobs in a supervised child process.

The protocol and the child's side are in :mod:`autotts_gym.evaluation.backends.worker_process`.

Process pools (``concurrent.futures``, ``pebble``) are not used. They return the result of a task
when it ends, and a killed task has no result. Here an episode that is killed keeps its true cost,
and the episodes before it keep their results, because both are in memory shared with the parent. A
task for each episode would allow that with a pool, but costs more than a compiled episode takes.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.evaluation.backends.job import Job, JobResult
from autotts_gym.evaluation.backends.worker_process import CHUNK, serve_jobs
from autotts_gym.mdp import state as s
from autotts_gym.rollout.episode_results import EpisodeResults, failed_row
from autotts_gym.rollout.limits import MAX_CHECK_GAP, MAX_CONSECUTIVE_KILLS, TIME_LIMIT
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.cpu_time import OwnTime
from autotts_gym.utils.processes import check_can_spawn

#: Seconds between two checks of the child process.
_POLL_SECONDS: Final = 0.1


class SubprocessWorker:
    """Plays in a child process, which is replaced if it hangs or dies.

    Args:
        time_limit: seconds of its own after which an episode is killed: computing and sleeping
            count, waiting for a processor does not.

    Raises:
        RuntimeError: this process cannot start others.
    """

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        check_can_spawn("a benchmark with workers (workers=0 plays in this process)")
        self._time_limit = time_limit
        # Starts here because it unblocks the signals that _start blocks.
        multiprocessing.resource_tracker.ensure_running()
        # Fork would copy the state of all threads of this process.
        self._context = multiprocessing.get_context("spawn")
        self._played, self._played_memory = self._shared(1, np.dtype(np.int64))
        self._ledger, self._ledger_memory = self._shared(1, s.LEDGER)
        self._results, self._results_memory = self._shared(CHUNK, s.RESULT)
        self._process: Any = None
        self._pipe: Connection | None = None
        self._stores: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    def _shared(self, count: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], Any]:
        memory = self._context.RawArray("b", count * dtype.itemsize)
        return np.frombuffer(memory, dtype), memory

    def play(self, job: Job) -> JobResult:
        questions = job.questions()
        results = np.zeros(job.count, s.RESULT)
        failures: dict[int, str] = {}
        path, reason, seconds, killed, failed_in_a_row = "", "", 0.0, 0, 0
        start = 0
        while start < job.count:
            stop = min(start + CHUNK, job.count)
            self._played[0] = 0
            self._ledger[:] = 0
            ready, failure = False, ""
            for message in self._messages(self._start(), job, start, stop):
                match message:
                    case ("ready", path, reason, _):
                        ready = True
                    case ("failed", k, text):
                        failures[start + k] = text
                    case ("done", chunk_seconds, chunk_killed):
                        seconds += chunk_seconds
                        killed += chunk_killed
                    case ("unplayable", text):
                        raise GivenUpError(text)
                    case ("raised", error):
                        raise error
                    case ("died", failure):
                        pass
            done = int(self._played[0])
            results[start : start + done] = self._results[:done]
            start += done
            failed_in_a_row = 0 if done else failed_in_a_row
            if not failure or start == stop:  # a process that dies between episodes affects none
                continue
            failed_in_a_row += 1
            if failed_in_a_row == MAX_CONSECUTIVE_KILLS:
                raise GivenUpError(_give_up_message(job, start, failure, failed_in_a_row))
            if ready:
                results[start] = failed_row(self._ledger[0], job.settle)
                failures[start] = failure
                killed += 1
                start += 1
        episodes = EpisodeResults.from_rows(job.store, questions, results, failures)
        return JobResult(episodes, path, reason, seconds, reproducible=not killed)

    def _messages(
        self, pipe: Connection, job: Job, start: int, stop: int
    ) -> Iterator[tuple[Any, ...]]:
        """Send episodes ``start`` to ``stop`` to the child; yield its messages.

        The last message is ``("died", message)`` if the child was killed or died.
        """
        fingerprint = job.store.card.fingerprint
        try:
            if fingerprint not in self._stores:
                pipe.send(("store", fingerprint, _portable(job.store)))
                self._stores.add(fingerprint)
            pipe.send(("play", job.pack(), start, stop))
            own_time = OwnTime(self._process.pid, MAX_CHECK_GAP)
            batch_size, last_played = 0, -1  # no limit while the agent is compiled
            while True:
                has_message = pipe.poll(_POLL_SECONDS)
                if has_message:
                    message = pipe.recv()
                    yield message
                    if message[0] in ("done", "unplayable", "raised"):
                        return
                    if message[0] == "ready":
                        batch_size = message[3]
                        own_time.reset()
                played = int(self._played[0])
                limit = self._time_limit * min(batch_size, stop - start - played)
                if played != last_played:
                    last_played = played
                    own_time.reset()
                elif not has_message and 0 < limit < own_time.read():
                    self._stop()
                    yield "died", f"TimeLimitError: no end after {self._time_limit:g} s"
                    return
        except (EOFError, OSError):
            if self._closed:
                raise
            how = _exit_description(self._stop(1.0))
            yield "died", f"ProcessError: the process of the episode {how}"

    def close(self) -> None:
        self._closed = True
        self._stop()

    def _start(self) -> Connection:
        """Start the child process unless it is running; return the connection to it."""
        if self._pipe is not None:
            return self._pipe
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            pipe, child_pipe = self._context.Pipe()
            memories = self._played_memory, self._ledger_memory, self._results_memory
            arguments = child_pipe, *memories, self._time_limit
            process = self._context.Process(target=serve_jobs, args=arguments, daemon=True)
            with _sigint_blocked():
                process.start()
            child_pipe.close()
            self._process, self._pipe, self._stores = process, pipe, set()
        return pipe

    def _stop(self, patience: float = 0.0) -> int | None:
        """Kill the child process and everything that it started.

        Args:
            patience: seconds to wait for the child to exit by itself.

        Returns:
            Its exit code if it exited by itself, else None.
        """
        with self._lock:
            process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if process is None:
            return None
        # Not join, which blocks forever if a program has closed the sentinel that join waits for.
        end = time.monotonic() + patience
        while process.exitcode is None and time.monotonic() < end:
            time.sleep(0.01)
        code: int | None = process.exitcode
        with contextlib.suppress(OSError, AttributeError):  # no group yet, or no such function
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        if pipe is not None:
            pipe.close()
        return code


def _portable(store: TraceStore) -> TraceStore:
    """The store in a form that pickles as its folder, if it has one."""
    return store if store.path is None else TraceStore(store.card, store.path.absolute())


def _give_up_message(job: Job, k: int, failure: str, count: int) -> str:
    row, question = divmod(k, job.store.card.questions)
    where = f"question {question}, seed {job.seeds[row]}"
    return f"{failure} ({where}, {count} times in a row)"


def _exit_description(code: int | None) -> str:
    if code is None:
        return "closed its connection"
    return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block SIGINT, so that processes started in this context never receive Ctrl-C."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
