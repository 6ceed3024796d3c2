"""``SimulationPlan``: what is simulated, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.simulation.arrivals import MAX_QUESTIONS, poisson_arrivals
from autotts_gym.simulation.fleet_state import LEAST_LOADED, ROUND_ROBIN, STICKY
from autotts_gym.simulation.server_curve import ServerCurve
from autotts_gym.traces.store import TraceStore

Routing = Literal["least_loaded", "sticky", "round_robin"]

ROUTINGS: Final[dict[Routing, int]] = {
    "least_loaded": LEAST_LOADED,
    "sticky": STICKY,
    "round_robin": ROUND_ROBIN,
}

#: Largest number of servers: the event loop visits each at every event.
MAX_SERVERS: Final = 10_000


@dataclass(frozen=True)
class Fleet:
    """Servers of the same kind.

    Attributes:
        curve: how fast a server generates.
        servers: number of servers.
        routing: which server gets a request. ``"least_loaded"``: the one with the fewest requests,
            as live episodes choose it; ``"sticky"``: the same for the first request of a branch,
            whose further requests and probes follow it; ``"round_robin"``: one after the other.
        max_episodes: largest number of questions in progress; further ones wait.
        gpus_per_server: number of GPUs of a server, for costs.
        gpu_hour: price of a GPU for an hour, in any currency; None if costs are not wanted.

    Raises:
        ValueError: an argument is out of range.
    """

    curve: ServerCurve
    servers: int = 1
    routing: Routing = "least_loaded"
    max_episodes: int = 4096
    gpus_per_server: int = 1
    gpu_hour: float | None = None

    def __post_init__(self) -> None:
        _check_integer("servers", self.servers, MAX_SERVERS)
        _check_integer("max_episodes", self.max_episodes, 10_000_000)
        _check_integer("gpus_per_server", self.gpus_per_server, 1_000_000)
        if self.routing not in get_args(Routing):
            raise ValueError(
                f"routing must be one of {', '.join(get_args(Routing))}, got {self.routing!r}"
            )
        if self.gpu_hour is not None and not 0 <= self.gpu_hour < np.inf:
            raise ValueError(f"gpu_hour must be at least 0, got {self.gpu_hour!r}")

    @property
    def max_tokens_per_second(self) -> float:
        """The largest total rate of all servers, tokens per second."""
        return self.servers * self.curve.max_tokens_per_second

    def capacity(self, work: float, delay: float) -> float:
        """Questions per second that the fleet can answer.

        A request occupies a sequence during its delay as well.

        Args:
            work: tokens of a question, the work of requests and probes included.
            delay: latencies of all its requests and probes, seconds.
        """
        rates = self.curve.rates()[1:]
        sequences = np.arange(1, len(rates) + 1)
        occupied = delay + work / rates  # seconds of one sequence
        with np.errstate(divide="ignore"):
            return float((self.servers * sequences / occupied).max())

    @property
    def cost_per_second(self) -> float | None:
        """Price of the whole fleet for a second; None without ``gpu_hour``."""
        if self.gpu_hour is None:
            return None
        return self.servers * self.gpus_per_server * self.gpu_hour / 3600

    def facts(self) -> dict[str, Any]:
        """The attributes, for JSON."""
        return {
            "servers": self.servers,
            "routing": self.routing,
            "max_episodes": self.max_episodes,
            "gpus_per_server": self.gpus_per_server,
            "gpu_hour": self.gpu_hour,
            "max_tokens_per_second": self.max_tokens_per_second,
        }


@dataclass(frozen=True)
class SimulationPlan:
    """Controllers, traces, loads and a fleet.

    Attributes:
        agents: the controllers.
        betas: values of β, for controllers that take it.
        stores: the environments; every question of each is as frequent as any other.
        seeds: seeds of the branch orders that are played.
        config: configuration of the episodes.
        fleet: the servers.
        rates: mean questions per second of Poisson arrivals; empty with ``arrivals``.
        arrivals: float64[Q], arrival times, seconds; None with ``rates``.
        questions: number of questions of each Poisson process.
        seed: seed of the arrivals, and of which question arrives.
        warm_up: share of the first questions that the times to answer leave out, because the
            servers are empty at the start.

    Raises:
        ValueError: an argument is out of range.
    """

    agents: Sequence[Agent]
    betas: Sequence[float]
    stores: Mapping[str, TraceStore]
    seeds: Sequence[int]
    config: EpisodeConfig
    fleet: Fleet
    rates: Sequence[float] = ()
    arrivals: NDArray[np.float64] | None = field(default=None, compare=False)
    questions: int = 100_000
    seed: int = 0
    warm_up: float = 0.1

    def __post_init__(self) -> None:
        if not self.agents:
            raise ValueError("give at least one controller, such as cmc")
        if not self.betas:
            raise ValueError("give at least one β")
        for beta in self.betas:
            if not 0 <= beta <= 1:
                raise ValueError(f"β must be within [0, 1], got {beta}")
        if not self.seeds:
            raise ValueError("give at least one seed of the branch orders")
        if bool(self.rates) == (self.arrivals is not None):
            raise ValueError("give either rates of arrival, or arrival times")
        for rate in self.rates:
            if not 0 < rate < np.inf:
                raise ValueError(f"a rate must be above 0 questions per second, got {rate!r}")
        _check_integer("questions", self.questions, MAX_QUESTIONS)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed must be an integer of at least 0, got {self.seed!r}")
        if not 0 <= self.warm_up < 1:
            raise ValueError(f"warm_up must be at least 0 and below 1, got {self.warm_up!r}")
        for agent in self.agents:
            if agent.is_untrusted:
                raise ValueError(f"{agent.name} is untrusted: a simulation plays trusted programs")

    def rows(self) -> list[tuple[Agent, float | None]]:
        """Each controller at each β; None for a controller without β."""
        return [
            (agent, beta)
            for agent in self.agents
            for beta in (self.betas if agent.takes_beta else (None,))
        ]

    @property
    def loads(self) -> list[float | None]:
        """The rates of arrival; None for arrival times that are given."""
        return list(self.rates) if self.arrivals is None else [None]

    @property
    def question_count(self) -> int:
        """Number of questions at each load."""
        return self.questions if self.arrivals is None else len(self.arrivals)

    def arrival_times(self, rate: float | None) -> NDArray[np.float64]:
        """Arrival times at a load, the same for every controller and β."""
        if self.arrivals is not None:
            return self.arrivals
        assert rate is not None
        return poisson_arrivals(rate, self.questions, np.random.default_rng([self.seed, 0]))

    def drawn_schedules(self, count: int) -> NDArray[np.int64]:
        """Which of ``count`` played episodes each question gets, the same at every load and β."""
        generator = np.random.default_rng([self.seed, 1])
        return generator.integers(count, size=self.question_count)


def _check_integer(name: str, value: object, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise ValueError(f"{name} must be an integer, got {value!r}")
    if not 1 <= value <= high:
        raise ValueError(f"{name} must be from 1 to {high:,}, got {value}")
