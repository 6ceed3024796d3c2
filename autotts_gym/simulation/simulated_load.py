"""``simulate_load``: one controller at one β under one load, on a simulated fleet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.packed_arrays import pack
from autotts_gym.simulation import fleet_loop
from autotts_gym.simulation.fleet_state import FleetState
from autotts_gym.simulation.request_schedules import Schedules
from autotts_gym.simulation.simulation_plan import ROUTINGS, Fleet

#: Events between two reports of progress, a fraction of a second.
_EVENTS: Final = 1_000_000


class StoppedError(Exception):
    """A simulation was stopped before its end."""


@dataclass(frozen=True)
class LoadResult:
    """What happened to Q questions.

    Attributes:
        seconds: float64[Q], time from the arrival of a question to its answer.
        waits: float64[Q], the part of it before the episode was started.
        requested_tokens: tokens that the episodes requested from branches.
        generated_tokens: those that servers generated; fewer if branches were aborted.
        requests: number of requests to generate text.
        probes: number of probes that were started; each costs the servers the curve's
            ``probe.tokens``.
        work: all work of the servers, tokens: generated ones, and the costs of requests and probes.
        window: seconds from the first counted arrival to the last arrival.
        window_work: work in the window, and ``window_tokens`` the tokens of requests that
            ended in it.
        window_busy: seconds with at least one sequence, summed over the servers.
        window_sequences: mean number of sequences of a server in the window.
    """

    seconds: NDArray[np.float64]
    waits: NDArray[np.float64]
    requested_tokens: int
    generated_tokens: int
    requests: int
    probes: int
    work: float
    window: float
    window_work: float
    window_tokens: int
    window_busy: float
    window_sequences: float


def simulate_load(
    fleet: Fleet,
    schedules: Schedules,
    arrivals: NDArray[np.float64],
    drawn: NDArray[np.int64],
    *,
    first_counted: int = 0,
    stop: threading.Event | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> LoadResult:
    """Simulate a fleet that answers questions.

    The result depends on the arguments only; there are no further random numbers.

    Args:
        fleet: the servers.
        schedules: episodes of a controller.
        arrivals: float64[Q], arrival time of each question, seconds, ascending.
        drawn: int64[Q], the episode that each question gets.
        first_counted: number of the question at whose arrival the window begins.
        stop: ends the simulation when set.
        progress: called with the number of questions that were answered since the last call.

    Raises:
        ValueError: the arrivals do not ascend, or the arrays do not fit.
        StoppedError: ``stop`` was set.
    """
    count = len(arrivals)
    if count == 0 or len(drawn) != count:
        raise ValueError(f"arrivals and drawn must have the same length, got {count}, {len(drawn)}")
    if not np.isfinite(arrivals).all() or (np.diff(arrivals) < 0).any():
        raise ValueError("arrivals must be finite and ascend")
    if drawn.min() < 0 or drawn.max() >= len(schedules):
        raise ValueError(f"drawn must stay within 0..{len(schedules) - 1}")
    marks = np.array([arrivals[first_counted], arrivals[-1]])
    state = FleetState.create(
        fleet.curve, fleet.servers, ROUTINGS[fleet.routing], fleet.max_episodes, schedules,
        arrivals, drawn, marks,
    )  # fmt: skip
    answered = 0
    while True:
        result = fleet_loop.run_events(pack(state), _EVENTS)
        finished = int(state.fleet["finished"][0])
        progress(finished - answered)
        answered = finished
        if result == fleet_loop.FINISHED:
            return _load_result(state)
        if stop is not None and stop.is_set():
            raise StoppedError
        if result == fleet_loop.MORE_PLACES:
            state = state.with_places(min(2 * len(state.episodes), fleet.max_episodes))


def _load_result(state: FleetState) -> LoadResult:
    totals: Any = state.fleet[0]
    first, last = state.marks
    window = float(last["time"] - first["time"])
    servers = len(state.servers)
    sequences = float(last["sequences"] - first["sequences"])
    return LoadResult(
        seconds=state.seconds,
        waits=state.waits,
        requested_tokens=int(totals["billed"]),
        generated_tokens=int(totals["generated"]),
        requests=int(totals["requests"]),
        probes=int(totals["probes"]),
        work=float(state.servers["work"].sum()),
        window=window,
        window_work=float(last["work"] - first["work"]),
        window_tokens=int(last["served"] - first["served"]),
        window_busy=float(last["busy"] - first["busy"]),
        window_sequences=sequences / (window * servers) if window > 0 else 0.0,
    )
