"""``run_simulation``: plays the episodes of a plan, and simulates every load in threads."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

import autotts_gym
from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp.jit import sources_key
from autotts_gym.simulation.request_schedules import Schedules, play_schedules
from autotts_gym.simulation.simulated_load import simulate_load
from autotts_gym.simulation.simulation_plan import SimulationPlan
from autotts_gym.simulation.simulation_points import SimulationPoint, summarise
from autotts_gym.simulation.simulation_result import SimulationResult
from autotts_gym.simulation.source_digest import source_digest
from autotts_gym.utils.journal import JsonlJournal

#: Seconds between two reports of progress.
_REPORT_INTERVAL: Final = 0.2

#: File of finished points in the folder of the results.
JOURNAL: Final = "points.jsonl"

#: Called with a label, and the questions that were simulated since the last call.
Progress = Callable[[str, int], None]


def run_simulation(
    plan: SimulationPlan,
    folder: Path | None = None,
    *,
    workers: int | None = None,
    progress: Progress = lambda *_: None,
) -> SimulationResult:
    """Simulate every controller at every β under every load.

    Results are the same for any number of workers.

    Args:
        plan: what is simulated.
        folder: finished points are kept there, so that an interrupted simulation continues, and
            the results are written to it; None for no files.
        workers: number of threads; by default one per core.
        progress: called from this thread.

    Raises:
        ValueError: ``workers`` is out of range, or the plan does not fit the environments.
        OSError: the folder cannot be written.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"workers must be at least 1, got {workers}")
    finished = _FinishedPoints(folder)
    count = workers or len(os.sched_getaffinity(0))
    runner = _Runner(plan, finished, count)
    with ThreadPoolExecutor(count, thread_name_prefix="autotts-simulate") as pool:
        try:
            points = runner.run(pool, progress)
        except BaseException:
            runner.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    result = SimulationResult.of_plan(plan, points)
    if folder is not None:
        result.save(folder)
    return result


class _FinishedPoints:
    """Points by a digest of everything that they depend on, in a journal."""

    def __init__(self, folder: Path | None) -> None:
        self._points: dict[str, SimulationPoint] = {}
        self._journal: JsonlJournal | None = None
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._journal = JsonlJournal(folder / JOURNAL, self._receive)

    def _receive(self, record: Any) -> None:
        try:
            point = msgspec.convert(record["point"], SimulationPoint)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from None
        self._points[str(record["key"])] = point

    def get(self, key: str) -> SimulationPoint | None:
        return self._points.get(key)

    def add(self, key: str, point: SimulationPoint) -> None:
        self._points[key] = point
        # Infinite rates, of questions that arrive at once, are no JSON.
        if self._journal is not None and np.isfinite([point.rate, point.capacity]).all():
            self._journal.append({"key": key, "point": point.facts()})


class _Runner:
    """Runs a plan in ``workers`` threads; ``stop`` ends them."""

    def __init__(self, plan: SimulationPlan, finished: _FinishedPoints, workers: int) -> None:
        self.stop = threading.Event()
        self._plan = plan
        self._finished = finished
        self._ahead = workers
        self._first_counted = int(plan.warm_up * plan.question_count)
        self._lock = threading.Lock()
        self._answered = 0  # since the last report

    def run(self, pool: ThreadPoolExecutor, progress: Progress) -> list[SimulationPoint]:
        plan = self._plan
        futures: list[Future[SimulationPoint]] = []
        for agent, beta in plan.rows():
            label = agent.name if beta is None else f"{agent.name} β={beta:g}"
            keys = [self._key(agent, beta, load) for load in plan.loads]
            missing = [key for key in keys if self._finished.get(key) is None]
            progress(label, (len(keys) - len(missing)) * plan.question_count)
            schedules = None
            if missing:
                schedules = play_schedules(
                    agent, plan.stores, plan.seeds, 0.5 if beta is None else beta, plan.config
                )
            for key, load in zip(keys, plan.loads, strict=True):
                if (point := self._finished.get(key)) is not None:
                    futures.append(Future())
                    futures[-1].set_result(point)
                    continue
                assert schedules is not None
                futures.append(pool.submit(self._simulate, agent, beta, load, schedules, key))
            # Schedules can be large: play only as many rows ahead as keep the threads busy.
            self._await(futures[: -max(self._ahead, len(plan.loads))], label, progress)
        self._await(futures, "finishing", progress)
        return [future.result() for future in futures]

    def _await(
        self, futures: list[Future[SimulationPoint]], label: str, progress: Progress
    ) -> None:
        pending = set(futures)
        while pending:
            done, pending = wait(pending, _REPORT_INTERVAL)
            for future in done:
                future.result()  # raises its error
            with self._lock:
                answered, self._answered = self._answered, 0
            progress(label, answered)

    def _count(self, answered: int) -> None:
        with self._lock:
            self._answered += answered

    def _simulate(
        self,
        agent: Agent,
        beta: float | None,
        load: float | None,
        schedules: Schedules,
        key: str,
    ) -> SimulationPoint:
        plan = self._plan
        arrivals = plan.arrival_times(load)
        drawn = plan.drawn_schedules(len(schedules))
        result = simulate_load(
            plan.fleet,
            schedules,
            arrivals,
            drawn,
            first_counted=self._first_counted,
            stop=self.stop,
            progress=self._count,
        )
        point = summarise(
            agent.name, beta, load, plan.fleet, schedules, arrivals, drawn, result,
            self._first_counted,
        )  # fmt: skip
        with self._lock:
            self._finished.add(key, point)
        return point

    def _key(self, agent: Agent, beta: float | None, load: float | None) -> str:
        """Digest of everything that a point depends on."""
        plan = self._plan
        arrivals = b"" if plan.arrivals is None else plan.arrivals.tobytes()
        dependencies = {
            "agent": agent.digest,
            "name": agent.name,
            "beta": beta,
            "load": load,
            "stores": [store.card.fingerprint for store in plan.stores.values()],
            "seeds": list(plan.seeds),
            "config": asdict(plan.config),
            "fleet": plan.fleet.facts(),
            "curve": msgspec.to_builtins(plan.fleet.curve),
            "arrivals": hashlib.sha256(arrivals).hexdigest(),
            "questions": plan.question_count,
            "seed": plan.seed,
            "warm_up": plan.warm_up,
            "version": autotts_gym.__version__,
            "rules": sources_key(),
            "simulation": source_digest(),
        }
        text = json.dumps(dependencies, sort_keys=True, default=float)
        return hashlib.sha256(text.encode()).hexdigest()[:32]
