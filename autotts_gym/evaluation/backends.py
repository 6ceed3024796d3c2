"""Who plays a benchmark's episodes: this process, processes beside it, or a Ray cluster.

A controller is a program that somebody wrote, and it may never end. So it is played in a process
of its own, which is watched: the ledger of the running episode and the results so far lie in
memory that both processes see. An episode that takes too long, or that takes its process down, is
ended from outside and counts as failed; a new process goes on with the next one.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.resource_tracker
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError, GivenUpError
from autotts_gym.mdp import state as s
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order, branch_orders
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.episode_results import EpisodeResults, failed_row
from autotts_gym.rollout.limits import (
    MAX_CHECK_GAP,
    MAX_CONSECUTIVE_KILLS,
    START_TIMEOUT,
    TIME_LIMIT,
)
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.processes import end_with_parent

if TYPE_CHECKING:
    from autotts_gym.sandbox.player import Sandbox
    from autotts_gym.sandbox.untrusted_agent import UntrustedAgent

#: Number of episodes sent to a process at a time; the shared memory holds their results.
_CHUNK: Final = 1024

#: Seconds between two checks of a process.
_LOOK: Final = 0.1


@dataclass(frozen=True)
class Job:
    """Every question of a store once per seed.

    Attributes:
        agent, beta: who plays; β is 0 for an agent without the knob.
        store, terms: what is played.
        order, seeds: the branch orders, see :mod:`autotts_gym.rollout.branch_orders`.
        interpret: play as plain Python, even where the agent can be compiled.
        settle: work out settled tokens, see :mod:`autotts_gym.mdp.settled_tokens`.
        stands_for_all: whether the agent's other jobs are given up when this one is.
    """

    agent: Agent
    beta: float
    store: TraceStore
    terms: EpisodeConfig
    order: Order
    seeds: tuple[int, ...]
    interpret: bool = False
    settle: bool = False
    stands_for_all: bool = False

    @property
    def count(self) -> int:
        """Episodes."""
        return len(self.seeds) * self.store.card.questions

    def questions(self) -> NDArray[np.int64]:
        """int64[count], the question of every episode: all of the first seed, then the next."""
        return np.tile(np.arange(self.store.card.questions), len(self.seeds))

    def orders(self, start: int, stop: int) -> NDArray[np.int64]:
        """int64[stop - start, max_branches], the branch orders of these episodes."""
        turns, questions = np.divmod(np.arange(start, stop), self.store.card.questions)
        seeds = np.array(self.seeds, np.int64)[turns]
        return branch_orders(self.order, seeds, questions, self.store, self.terms.max_branches)


@dataclass(frozen=True)
class Played:
    """What became of a job.

    Attributes:
        episodes: in the job's order.
        path, reason: how they were played, see :class:`~autotts_gym.rollout.rollout.Rollout`.
        seconds: that playing took, without compilation.
        whole: whether no episode was ended from outside, which depends on the machine's moment.
    """

    episodes: EpisodeResults
    path: str
    reason: str
    seconds: float
    whole: bool = True


class Worker(Protocol):
    """Who plays jobs, one after the other."""

    def play(self, job: Job) -> Played:
        """Play a job.

        Raises:
            GivenUpError: too many episodes in a row had to be ended from outside, or the agent
                cannot be loaded where it is to be played.
        """

    def close(self) -> None:
        """Stop, whatever is being played."""


# --- this process --------------------------------------------------------------------------------


class InProcessWorker:
    """Plays in this process: nothing ends a program that does not end itself.

    Untrusted programs are played in a sandbox all the same.

    Args:
        ledger: see :class:`~autotts_gym.rollout.rollout.Rollout`.
        time_limit: seconds after which a sandbox ends an episode.
    """

    def __init__(
        self, ledger: s.Records | None = None, time_limit: float = TIME_LIMIT
    ) -> None:
        self._ledger, self._time_limit = ledger, time_limit
        self._rollouts: dict[tuple[Any, ...], Rollout] = {}
        self._sandbox: tuple[tuple[Any, ...], Sandbox] | None = None

    def rollout(self, job: Job) -> EpisodePlayer:
        """The job's agent on its store, compiled and kept."""
        key = job.agent.digest, job.store.card.fingerprint, job.terms, job.interpret, job.settle
        if job.agent.is_untrusted:
            return self._boxed(key, job)
        if key not in self._rollouts:
            self._rollouts[key] = Rollout(
                job.agent,
                job.store,
                job.terms,
                interpret=job.interpret,
                settle=job.settle,
                ledger=self._ledger,
            )
        return self._rollouts[key]

    def _boxed(self, key: tuple[Any, ...], job: Job) -> Sandbox:
        """The job's agent in a sandbox; the one before is closed, since it holds processes."""
        from autotts_gym.sandbox.player import Sandbox

        if self._sandbox is None or self._sandbox[0] != key:
            self._close_sandbox()
            agent = cast("UntrustedAgent", job.agent)
            sandbox = Sandbox(
                agent, job.store, job.terms, settle=job.settle, time_limit=self._time_limit
            )
            self._sandbox = key, sandbox
        return self._sandbox[1]

    def _close_sandbox(self) -> None:
        if self._sandbox is not None:
            self._sandbox[1].close()
            self._sandbox = None

    def play(self, job: Job) -> Played:
        rollout = self.rollout(job)
        started = time.perf_counter()
        episodes = rollout.play(job.questions(), job.orders(0, job.count), job.beta)
        seconds = time.perf_counter() - started
        return Played(episodes, rollout.path, rollout.reason, seconds, whole=not rollout.killed)

    def close(self) -> None:
        self._rollouts.clear()
        self._close_sandbox()


# --- a process beside it -------------------------------------------------------------------------


class SubprocessWorker:
    """Plays in a process of its own, which is replaced when it hangs or dies.

    Args:
        time_limit: seconds after which an episode is ended.
    """

    def __init__(self, time_limit: float = TIME_LIMIT) -> None:
        self._time_limit = time_limit
        # Started here, since it unblocks the signals that _start blocks.
        multiprocessing.resource_tracker.ensure_running()
        # Fork would copy whatever state the threads of this process are in.
        self._context = multiprocessing.get_context("spawn")
        self._played, self._played_memory = self._shared(1, np.dtype(np.int64))
        self._ledger, self._ledger_memory = self._shared(1, s.LEDGER)
        self._results, self._results_memory = self._shared(_CHUNK, s.RESULT)
        self._process: Any = None
        self._pipe: Connection | None = None
        self._stores: set[str] = set()
        self._lock = threading.Lock()
        self._closed = False

    def _shared(self, count: int, dtype: np.dtype[Any]) -> tuple[NDArray[Any], Any]:
        memory = self._context.RawArray("b", count * dtype.itemsize)
        return np.frombuffer(memory, dtype), memory

    def _start(self) -> Connection:
        if self._pipe is not None:
            return self._pipe
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker is closed")
            ours, theirs = self._context.Pipe()
            memories = self._played_memory, self._ledger_memory, self._results_memory
            arguments = theirs, *memories, self._time_limit
            process = self._context.Process(target=_serve, args=arguments, daemon=True)
            with _without_interrupts():
                process.start()
            theirs.close()
            self._process, self._pipe, self._stores = process, ours, set()
        return ours

    def _stop(self, patience: float = 0.0) -> int | None:
        """End the process and what it started; its exit code if it ended by itself, in seconds."""
        with self._lock:
            process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if process is None:
            return None
        # Not join: it waits for good where a program has closed what it looks at.
        end = time.monotonic() + patience
        while process.exitcode is None and time.monotonic() < end:
            time.sleep(0.01)
        code: int | None = process.exitcode
        with contextlib.suppress(OSError, AttributeError):  # no group yet, or no such thing
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.join()
        if pipe is not None:
            pipe.close()
        return code

    def close(self) -> None:
        self._closed = True
        self._stop()

    def play(self, job: Job) -> Played:
        questions = job.questions()
        results = np.zeros(job.count, s.RESULT)
        failures: dict[int, str] = {}
        path, reason, seconds, ended, in_a_row = "", "", 0.0, 0, 0
        start = 0
        while start < job.count:
            stop = min(start + _CHUNK, job.count)
            self._played[0] = 0
            self._ledger[:] = 0
            begun, outcome = False, ""
            for message in self._talk(self._start(), job, start, stop):
                match message:
                    case ("ready", path, reason):
                        begun = True
                    case ("failed", k, text):
                        failures[start + k] = text
                    case ("done", more, count):
                        seconds += more
                        ended += count
                    case ("unplayable", text):
                        raise GivenUpError(text)
                    case ("raised", error):
                        raise error
                    case ("ended", outcome):
                        pass
            done = int(self._played[0])
            results[start : start + done] = self._results[:done]
            start += done
            in_a_row = 0 if done else in_a_row
            if not outcome or start == stop:  # a process that ends between episodes harms none
                continue
            in_a_row += 1
            if in_a_row == MAX_CONSECUTIVE_KILLS:
                raise GivenUpError(self._why(job, start, outcome, in_a_row))
            if begun:
                results[start] = failed_row(self._ledger[0], job.settle)
                failures[start] = outcome
                ended += 1
                start += 1
        episodes = EpisodeResults.from_rows(job.store, questions, results, failures)
        return Played(episodes, path, reason, seconds, whole=not ended)

    def _why(self, job: Job, k: int, outcome: str, count: int) -> str:
        seed, question = divmod(k, job.store.card.questions)
        where = f"question {question}, seed {job.seeds[seed]}"
        return f"{outcome} ({where}, {count} times in a row)"

    def _talk(self, pipe: Connection, job: Job, start: int, stop: int) -> Iterator[tuple[Any, ...]]:
        """Have episodes ``start`` to ``stop`` played; what the process says, and how it ended."""
        fingerprint = job.store.card.fingerprint
        try:
            if fingerprint not in self._stores:
                pipe.send(("store", fingerprint, _portable(job.store)))
                self._stores.add(fingerprint)
            pipe.send(("play", _stripped(job), start, stop))
            playing, last, seconds, looked = False, -1, 0.0, time.monotonic()
            # A sandbox keeps the limit by itself, episode for episode, and must only not hang.
            limit = self._time_limit + (self._time_limit + START_TIMEOUT if job.agent.is_untrusted else 0)
            while True:
                heard = pipe.poll(_LOOK)
                now = time.monotonic()
                seconds += min(now - looked, MAX_CHECK_GAP)
                looked = now
                if heard:
                    message = pipe.recv()
                    yield message
                    if message[0] in ("done", "unplayable", "raised"):
                        return
                    if message[0] == "ready":
                        playing, seconds = True, 0.0
                played = int(self._played[0])
                if played != last:
                    last, seconds = played, 0.0
                elif playing and not heard and seconds > limit:
                    self._stop()
                    yield "ended", f"TimeLimitError: no end after {self._time_limit:g} s"
                    return
        except (EOFError, OSError):
            if self._closed:
                raise
            yield "ended", f"ProcessError: the process of the episode {_ending(self._stop(1.0))}"


def _ending(code: int | None) -> str:
    if code is None:
        return "closed its connection"
    return f"ended with signal {-code}" if code < 0 else f"ended with exit code {code}"


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes that are started in here never see Ctrl-C, which is for their parent to decide."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _portable(store: TraceStore) -> TraceStore:
    """A store as another process opens it: by its folder where it has one."""
    return store if store.path is None else TraceStore(store.card, store.path.absolute())


def _stripped(job: Job) -> tuple[Any, ...]:
    return (
        job.agent,
        job.beta,
        job.store.card.fingerprint,
        job.terms,
        job.order,
        job.seeds,
        job.interpret,
        job.settle,
    )


def _serve(pipe: Connection, played: Any, ledger: Any, results: Any, time_limit: float) -> None:
    """What the process does: play what it is sent until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    if hasattr(os, "setpgrp"):
        os.setpgrp()  # so that what a program starts ends with this process
    end_with_parent(group=True)
    with contextlib.suppress(OSError):
        os.dup2(2, 1)  # what a program prints is no part of the tables
    here = InProcessWorker(np.frombuffer(ledger, s.LEDGER), time_limit)
    counter = np.frombuffer(played, np.int64)
    rows = np.frombuffer(results, s.RESULT)
    stores: dict[str, TraceStore] = {}
    while True:
        try:
            message = pipe.recv()
        except (EOFError, OSError):
            return
        except AgentError as error:  # though it could be loaded where the benchmark was started
            pipe.send(("unplayable", str(error)))
            continue
        if message[0] == "store":
            stores[message[1]] = message[2]
            continue
        _, (agent, beta, fingerprint, *others), start, stop = message
        try:
            job = Job(agent, beta, stores[fingerprint], *others)
            rollout = here.rollout(job)
            pipe.send(("ready", rollout.path, rollout.reason))
            started = time.perf_counter()
            rollout.play_remaining(
                job.questions()[start:stop],
                job.orders(start, stop),
                beta,
                rows[: stop - start],
                counter,
                lambda k, text: pipe.send(("failed", k, text)),
            )
            pipe.send(("done", time.perf_counter() - started, rollout.killed))
        except Exception as error:  # the caller's mistake (terms, store), not the controller's
            pipe.send(("raised", error))


# --- many of them --------------------------------------------------------------------------------


class _GivenUp:
    """Which jobs need not be played any more.

    That follows from the jobs before them, never from who was quicker: results are the same for any
    number of workers.
    """

    def __init__(self) -> None:
        self._agents: dict[Agent, GivenUpError] = {}
        self._cells: dict[tuple[Any, ...], tuple[int, GivenUpError]] = {}

    def find(self, number: int, job: Job) -> GivenUpError | None:
        """Why the job of this number is not to be played; None if it is."""
        before, error = self._cells.get(self._cell(job), (number, None))
        return self._agents.get(job.agent) or (error if before < number else None)

    def add(self, number: int, job: Job, error: GivenUpError) -> None:
        if job.stands_for_all:
            self._agents[job.agent] = error
        cell = self._cell(job)
        before, _ = self._cells.get(cell, (number, error))
        if number <= before:
            self._cells[cell] = number, error

    @staticmethod
    def _cell(job: Job) -> tuple[Any, ...]:
        return job.agent, job.beta, job.store.card.fingerprint, job.terms


@dataclass
class WorkerPool:
    """Workers that share jobs.

    An agent's first job goes ahead of its others: it compiles the agent for all of them. A team
    plays once, and is closed then.

    Args:
        workers: at least one.
    """

    workers: Sequence[Worker]
    _idle: queue.SimpleQueue[Worker] = field(default_factory=queue.SimpleQueue, init=False)

    def play(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, Played | GivenUpError]]:
        """Play jobs; yields each with what became of it, in the order in which they end.

        Once a job is given up, so are the later ones of that agent with that β on that store, or
        all of the agent's where the job stands for them.
        """
        for worker in self.workers:
            self._idle.put(worker)
        given_up = _GivenUp()

        def play(number: int, job: Job) -> Played | GivenUpError:
            if known := given_up.find(number, job):
                return known
            worker = self._idle.get()
            try:
                return worker.play(job)
            except GivenUpError as error:
                given_up.add(number, job, error)
                return error
            finally:
                self._idle.put(worker)

        if len(self.workers) == 1:
            try:
                for number, job in enumerate(jobs):
                    yield job, play(number, job)
            finally:
                self.close()
            return
        waiting: dict[Agent, list[tuple[int, Job]]] = {}
        for number, job in enumerate(jobs):
            waiting.setdefault(job.agent, []).append((number, job))
        pool = ThreadPoolExecutor(len(self.workers))
        try:
            running: dict[Future[Played | GivenUpError], Job] = {
                pool.submit(play, *some[0]): some.pop(0)[1] for some in waiting.values()
            }
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    result = future.result()
                    for number, other in waiting.pop(job.agent, ()):
                        running[pool.submit(play, number, other)] = other
                    yield job, result
        finally:
            self.close()
            pool.shutdown(cancel_futures=True)

    def close(self) -> None:
        for worker in self.workers:
            worker.close()


def local(count: int, time_limit: float = TIME_LIMIT) -> WorkerPool:
    """A team of ``count`` processes on this machine."""
    return WorkerPool([SubprocessWorker(time_limit) for _ in range(count)])


# --- a Ray cluster -------------------------------------------------------------------------------


class _OnRay:
    """A worker on a Ray cluster: an actor that holds one core and a watched process on it."""

    def __init__(self, time_limit: float, stores: dict[str, Any]) -> None:
        import ray

        self._ray = ray
        self._actor = ray.remote(num_cpus=1)(_Host).remote(time_limit)
        self._stores = stores

    def play(self, job: Job) -> Played:
        fingerprint = job.store.card.fingerprint
        if fingerprint not in self._stores:
            # By value: other machines do not have its folder.
            whole = TraceStore(job.store.card, None, job.store.tables)
            self._stores[fingerprint] = self._ray.put(whole)
        stripped = _stripped(job)
        result = self._ray.get(self._actor.play.remote(stripped, self._stores[fingerprint]))
        if isinstance(result, GivenUpError):
            raise result
        played: Played = result
        return played

    def close(self) -> None:
        with contextlib.suppress(Exception):  # a cluster that is gone has closed it
            self._ray.kill(self._actor)


class _Host:
    """What runs on the cluster for :class:`_OnRay`."""

    def __init__(self, time_limit: float) -> None:
        self._worker = SubprocessWorker(time_limit)

    def play(self, stripped: tuple[Any, ...], store: TraceStore) -> Played | GivenUpError:
        agent, beta, _, *others = stripped
        try:
            return self._worker.play(Job(agent, beta, store, *others))
        except GivenUpError as error:
            return error


def on_ray(address: str, count: int | None = None, time_limit: float = TIME_LIMIT) -> WorkerPool:
    """A team on a Ray cluster, one worker for each of its cores or ``count`` of them.

    Args:
        address: of the cluster, as ``ray.init`` takes it: ``"HOST:PORT"``, ``"auto"``.

    Raises:
        ValueError: Ray is not installed, or there is no cluster.
    """
    try:
        import ray
    except ImportError as error:
        raise ValueError("--ray needs Ray: pip install 'autotts-gym[ray]'") from error
    try:
        host, _, port = address.rpartition(":")
        if host and port.isdigit():  # Ray by itself would go on asking for minutes
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        raise ValueError(f"there is no Ray cluster at {address!r}: {error}") from error
    most = int(ray.cluster_resources().get("CPU", 0))
    stores: dict[str, Any] = {}
    return WorkerPool([_OnRay(time_limit, stores) for _ in range(max(1, min(count or most, most)))])
