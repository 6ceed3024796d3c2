"""Pool of workers that share a queue of jobs."""

from __future__ import annotations

import queue
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.evaluation.backends.job import Job, JobResult, Worker
from autotts_gym.evaluation.backends.subprocess_worker import SubprocessWorker
from autotts_gym.rollout.limits import TIME_LIMIT


class WorkerPool:
    """Workers that share jobs.

    An agent's first job runs before its others, so that the agent is compiled once. A pool plays
    once and is closed afterwards.

    Args:
        workers: at least one.

    Attributes:
        workers: as above.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.workers = workers
        self._idle: queue.SimpleQueue[Worker] = queue.SimpleQueue()

    def play(self, jobs: Iterable[Job]) -> Iterator[tuple[Job, JobResult | GivenUpError]]:
        """Play jobs and yield each with its result, in the order in which they end.

        If a job is given up, so are the later jobs of the same agent and β on the same store; all
        jobs of the agent if ``Job.is_trial`` is set.
        """
        for worker in self.workers:
            self._idle.put(worker)
        given_up = _GivenUpJobs()

        def play(number: int, job: Job) -> JobResult | GivenUpError:
            if skipped := given_up.find(number, job):
                return skipped
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
        executor = ThreadPoolExecutor(len(self.workers))
        try:
            running: dict[Future[JobResult | GivenUpError], Job] = {}
            for numbered in waiting.values():
                number, job = numbered.pop(0)
                running[executor.submit(play, number, job)] = job
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    job = running.pop(future)
                    result = future.result()
                    for number, other in waiting.pop(job.agent, ()):
                        running[executor.submit(play, number, other)] = other
                    yield job, result
        finally:
            self.close()
            executor.shutdown(cancel_futures=True)

    def close(self) -> None:
        """Stop all workers, even during a job."""
        for worker in self.workers:
            worker.close()


class _GivenUpJobs:
    """Jobs that need not be played because an earlier job was given up.

    A job is skipped only because of jobs with lower numbers, never because of which worker was
    faster, so that results are the same for any number of workers.
    """

    def __init__(self) -> None:
        self._agents: dict[Agent, GivenUpError] = {}
        self._cells: dict[tuple[Any, ...], tuple[int, GivenUpError]] = {}

    def find(self, number: int, job: Job) -> GivenUpError | None:
        """The error for which to skip a job; None if it must be played."""
        first, error = self._cells.get(self._cell(job), (number, None))
        return self._agents.get(job.agent) or (error if first < number else None)

    def add(self, number: int, job: Job, error: GivenUpError) -> None:
        """Record that a job was given up."""
        if job.is_trial:
            self._agents[job.agent] = error
        cell = self._cell(job)
        first, _ = self._cells.get(cell, (number, error))
        if number <= first:
            self._cells[cell] = number, error

    @staticmethod
    def _cell(job: Job) -> tuple[Any, ...]:
        return job.agent, job.beta, job.store.card.fingerprint, job.config


def local_pool(count: int, time_limit: float = TIME_LIMIT) -> WorkerPool:
    """Create a pool of ``count`` child processes on this machine."""
    return WorkerPool([SubprocessWorker(time_limit) for _ in range(count)])
