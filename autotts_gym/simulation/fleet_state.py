"""The state of a simulated fleet: arrays of records that the event loop reads and changes."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.state import Records
from autotts_gym.simulation.request_schedules import Schedules
from autotts_gym.simulation.server_curve import ServerCurve

# How requests are routed to servers.
LEAST_LOADED: Final = 0
STICKY: Final = 1
ROUND_ROBIN: Final = 2

# States of a request.
IDLE: Final = 0
DELAYED: Final = 1  # in its latency, during which the server does nothing for it
RUNNING: Final = 2
QUEUED: Final = 3

# Kinds of delays, each of the same duration for all requests.
REQUEST_DELAY: Final = 0
PROBE_DELAY: Final = 1
TEXT_DELAY: Final = 2

# States of the probe of a branch at its present length.
NO_PROBE: Final = 0
PROBING: Final = 1
PROBED: Final = 2


def _records(**fields: type) -> np.dtype[np.void]:
    layout: Any = {"names": list(fields), "formats": list(fields.values())}
    kind: np.dtype[np.void] = np.dtype(layout, align=True)
    return kind


#: The fleet: one record.
FLEET: Final = _records(
    time=np.float64,  # of the latest event, seconds
    next_question=np.int64,  # questions that have been started
    finished=np.int64,  # questions that have been answered
    free=np.int64,  # number of free places for episodes
    next_server=np.int64,  # of round robin
    next_mark=np.int64,  # marks that have passed
    billed=np.int64,  # tokens that finished episodes requested
    generated=np.int64,  # tokens that the branches of finished episodes generated
    served=np.int64,  # tokens that servers generated so far
    requests=np.int64,  # to generate text
    probes=np.int64,  # that were started
)

#: What is the same for the whole simulation: one record.
SETTINGS: Final = _records(
    max_branches=np.int64,
    max_sequences=np.int64,  # per server
    max_episodes=np.int64,
    routing=np.int64,
    request_tokens=np.float64,
    probe_tokens=np.float64,
)

#: One record per kind of delay: the requests that wait for its end, in the order of their ends.
DELAY: Final = _records(
    seconds=np.float64,
    first=np.int64,  # request at the head of the list, -1 if it is empty
    last=np.int64,
    length=np.int64,
)

#: One record per server; ``first``, ``last`` and ``length`` are those of its queue.
SERVER: Final = _records(
    occupied=np.int64,  # sequences on the server: running or in their latency
    running=np.int64,
    first=np.int64,
    last=np.int64,
    length=np.int64,
    virtual=np.float64,  # tokens that a sequence would have generated since the start
    updated=np.float64,  # time of ``virtual``
    next_time=np.float64,  # when the next request completes
    work=np.float64,  # tokens so far, the work of requests and probes included
    busy=np.float64,  # seconds with at least one sequence
    sequences=np.float64,  # sequences, integrated over seconds
)

#: One record per episode in progress.
EPISODE: Final = _records(
    question=np.int64,
    at=np.int64,  # next operation
    end=np.int64,
    waiting=np.int64,  # branch whose probe it waits for, -1 if none
    opened=np.int64,
)

#: One record per branch of an episode in progress.
BRANCH: Final = _records(
    target=np.int64,  # tokens requested
    done=np.int64,  # tokens of completed requests
    server=np.int64,  # that it was opened on
    generating=np.int8,
    ended=np.int8,  # whether the branch ends at its target
    probe=np.int8,
    dropped=np.int8,
)

#: One record per request that an episode in progress can have.
REQUEST: Final = _records(
    tokens=np.int64,  # that it generates
    work=np.float64,  # tokens, with its cost
    server=np.int64,  # -1 if it needs none
    previous=np.int64,  # in its queue or its list of delays
    next=np.int64,
    delay=np.int8,
    state=np.int8,
)

#: What is recorded when a mark passes.
MARK: Final = _records(
    time=np.float64,
    work=np.float64,
    busy=np.float64,
    sequences=np.float64,
    served=np.int64,
)


class FleetState(NamedTuple):
    """The arrays of a simulation, for compiled code.

    An episode in progress has a *place*, with N branches and 2N + 1 requests: one per branch to
    generate text, one per branch for its probe, and one for its start.
    """

    fleet: Annotated[Records, Axes(FLEET, 1)]
    settings: Annotated[Records, Axes(SETTINGS, 1)]
    delays: Annotated[Records, Axes(DELAY, 1)]
    servers: Annotated[Records, Axes(SERVER, 1)]
    heaps: Annotated[NDArray[np.int64], Axes(np.int64, 2)]  # [servers, max_sequences]
    rates: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    episodes: Annotated[Records, Axes(EPISODE, 1)]
    free: Annotated[NDArray[np.int64], Axes(np.int64, 1)]  # stack of free places
    branches: Annotated[Records, Axes(BRANCH, 1)]
    requests: Annotated[Records, Axes(REQUEST, 1)]
    keys: Annotated[NDArray[np.float64], Axes(np.float64, 1)]  # by request
    positions: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    offsets: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    operations: Annotated[NDArray[np.int32], Axes(np.int32, 1)]
    targets: Annotated[NDArray[np.int32], Axes(np.int32, 1)]
    arrivals: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    drawn: Annotated[NDArray[np.int64], Axes(np.int64, 1)]  # schedule of each question
    seconds: Annotated[NDArray[np.float64], Axes(np.float64, 1)]  # time to answer, filled in
    waits: Annotated[NDArray[np.float64], Axes(np.float64, 1)]  # time before the start
    marks: Annotated[Records, Axes(MARK, 1)]

    @classmethod
    def create(
        cls,
        curve: ServerCurve,
        servers: int,
        routing: int,
        max_episodes: int,
        schedules: Schedules,
        arrivals: NDArray[np.float64],
        drawn: NDArray[np.int64],
        marks: NDArray[np.float64],
    ) -> FleetState:
        """The state before the first arrival.

        Args:
            curve: of every server.
            servers: number of servers.
            routing: ``LEAST_LOADED``, ``STICKY`` or ``ROUND_ROBIN``.
            max_episodes: largest number of episodes in progress.
            schedules: the episodes.
            arrivals: float64[Q], seconds, ascending.
            drawn: int64[Q], number of the schedule of each question.
            marks: times at which the totals of the servers are recorded, ascending.
        """
        settings = np.zeros(1, SETTINGS)
        settings["max_branches"] = schedules.max_branches
        settings["max_sequences"] = curve.max_sequences
        settings["max_episodes"] = max_episodes
        settings["routing"] = routing
        settings["request_tokens"] = curve.request.tokens
        settings["probe_tokens"] = curve.probe.tokens
        delays = np.zeros(3, DELAY)
        delays["seconds"] = curve.request.seconds, curve.probe.seconds, curve.text_seconds
        delays["first"] = delays["last"] = -1
        records = np.zeros(servers, SERVER)
        records["first"] = records["last"] = -1
        records["next_time"] = np.inf
        marked = np.zeros(len(marks), MARK)
        marked["time"] = marks
        state = cls(
            fleet=np.zeros(1, FLEET),
            settings=settings,
            delays=delays,
            servers=records,
            heaps=np.empty((servers, curve.max_sequences), np.int64),
            rates=curve.rates(),
            episodes=np.empty(0, EPISODE),
            free=np.empty(0, np.int64),
            branches=np.empty(0, BRANCH),
            requests=np.empty(0, REQUEST),
            keys=np.empty(0, np.float64),
            positions=np.empty(0, np.int64),
            offsets=np.ascontiguousarray(schedules.offsets),
            operations=np.ascontiguousarray(schedules.operations),
            targets=np.ascontiguousarray(schedules.targets),
            arrivals=np.ascontiguousarray(arrivals, np.float64),
            drawn=np.ascontiguousarray(drawn, np.int64),
            seconds=np.full(len(arrivals), np.nan),
            waits=np.full(len(arrivals), np.nan),
            marks=marked,
        )
        return state.with_places(min(64, max_episodes))

    def with_places(self, count: int) -> FleetState:
        """A copy of the state with ``count`` places for episodes, at least as many as now."""
        n = int(self.settings["max_branches"][0])
        before = len(self.episodes)
        free = np.empty(count, np.int64)
        held = int(self.fleet["free"][0])
        free[:held] = self.free[:held]
        free[held : held + count - before] = np.arange(count - 1, before - 1, -1)
        self.fleet["free"] += count - before
        return self._replace(
            episodes=_extended(self.episodes, count),
            free=free,
            branches=_extended(self.branches, count * n),
            requests=_extended(self.requests, count * (2 * n + 1)),
            keys=_extended(self.keys, count * (2 * n + 1)),
            positions=_extended(self.positions, count * (2 * n + 1)),
        )


def _extended(array: NDArray[Any], size: int) -> NDArray[Any]:
    """A copy of an array, with zeros at the end."""
    longer = np.zeros(size, array.dtype)
    longer[: len(array)] = array
    return longer
