"""``SimulationPoint``: what operators ask about one controller at one β under one load."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.simulation.request_schedules import Schedules
from autotts_gym.simulation.simulated_load import LoadResult
from autotts_gym.simulation.simulation_plan import Fleet


@dataclass(frozen=True)
class SimulationPoint:
    """One controller at one β under one load. Token counts and costs are means per question.

    Attributes:
        controller: its name.
        beta: β; None for a controller without β.
        rate: mean arrivals, questions per second.
        questions: number of questions.
        accuracy: share of correct answers.
        tokens: billed tokens, those of the replayed episodes.
        generated_tokens: tokens that branches generated; fewer if some were aborted.
        sequential_tokens: billed tokens on the critical path.
        probes: probes that were started, unused ones included.
        seconds: mean time from a question's arrival to its answer.
        p50, p95, p99: percentiles of that time, seconds.
        wait: mean part of it before the episode started, because too many were in progress.
        tokens_per_second: tokens that the fleet generated per second, those of probes not included.
        utilisation: work of the servers, for tokens, requests and probes, relative to what they
            do when they answer ``capacity`` questions per second.
        busy: share of the time in which a server had at least one sequence.
        sequences: mean number of sequences of a server.
        capacity: questions per second that the fleet can answer.
        overloaded: whether more questions arrive than that. The times to answer then grow as long
            as questions arrive, and depend on their number.
        cost: of 1,000 questions, if the fleet is paid all the time; None without a price.
        cost_at_capacity: the same if as many questions arrive as the fleet can answer.
        failures: share of the episodes that ended with an error; they are incorrect.
    """

    controller: str
    beta: float | None
    rate: float
    questions: int
    accuracy: float
    tokens: float
    generated_tokens: float
    sequential_tokens: float
    probes: float
    seconds: float
    p50: float
    p95: float
    p99: float
    wait: float
    tokens_per_second: float
    utilisation: float
    busy: float
    sequences: float
    capacity: float
    overloaded: bool
    cost: float | None
    cost_at_capacity: float | None
    failures: float

    @property
    def name(self) -> str:
        """The controller, with β if it takes β."""
        return self.controller if self.beta is None else f"{self.controller} β={self.beta:g}"

    def facts(self) -> dict[str, Any]:
        """The attributes, for JSON and tables."""
        return asdict(self)


def summarise(
    controller: str,
    beta: float | None,
    rate: float | None,
    fleet: Fleet,
    schedules: Schedules,
    arrivals: NDArray[np.float64],
    drawn: NDArray[np.int64],
    result: LoadResult,
    first_counted: int,
) -> SimulationPoint:
    """Summarise a simulated load.

    Args:
        controller, beta: what was simulated.
        rate: mean arrivals per second; None to compute it from the arrivals.
        fleet: the servers.
        schedules, arrivals, drawn: the episodes, and when which of them is started.
        result: what :func:`~autotts_gym.simulation.simulated_load.simulate_load` returned.
        first_counted: first question whose time to answer counts.
    """
    count = len(arrivals)
    span = float(arrivals[-1] - arrivals[0])
    if rate is None:  # of one arrival, or of arrivals at the same time, there is none
        rate = (count - 1) / span if span > 0 else float("inf")
    seconds = result.seconds[first_counted:]
    p50, p95, p99 = np.percentile(seconds, [50, 95, 99]).tolist()
    curve = fleet.curve
    delay = result.requests * curve.request.seconds + result.probes * curve.probe.seconds
    work = result.work / count
    capacity = fleet.capacity(work, delay / count)
    price = fleet.cost_per_second
    window = result.window if result.window > 0 else float("nan")
    return SimulationPoint(
        controller=controller,
        beta=beta,
        rate=rate,
        questions=count,
        accuracy=float(schedules.correct[drawn].mean()),
        tokens=float(schedules.tokens[drawn].mean()),
        generated_tokens=result.generated_tokens / count,
        sequential_tokens=float(schedules.sequential_tokens[drawn].mean()),
        probes=result.probes / count,
        seconds=float(seconds.mean()),
        p50=p50,
        p95=p95,
        p99=p99,
        wait=float(result.waits[first_counted:].mean()),
        tokens_per_second=result.window_tokens / window,
        utilisation=result.window_work / window / (capacity * work) if work > 0 else 0.0,
        busy=result.window_busy / window / fleet.servers,
        sequences=result.window_sequences,
        capacity=capacity,
        overloaded=bool(rate >= capacity),
        cost=None if price is None else 1000 * price / min(rate, capacity),
        cost_at_capacity=None if price is None else 1000 * price / capacity,
        failures=schedules.failures / len(schedules),
    )
