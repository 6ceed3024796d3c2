"""The compiled event loop of a simulated fleet.

A server shares its rate among its sequences (processor sharing), and starts further requests in the
order of their arrival as sequences leave. Each server counts its *virtual* tokens: those that a
sequence would have generated if it had run since the start. A request that starts at the virtual
token v and needs w tokens completes at v + w, whatever happens in between, so that an event costs
one step in a heap.

An episode is played as ``AutoTTS-Live-v0`` plays it (:mod:`autotts_gym.live.live_branches`):
requests start when the episode waits for a probe, a request that runs is continued by another one
if more tokens were requested meanwhile, and while the episode waits, every branch that has its
requested tokens is probed.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from autotts_gym.mdp.jit import compiled, entry_point
from autotts_gym.simulation import indexed_heap
from autotts_gym.simulation.fleet_state import (
    DELAYED,
    IDLE,
    LEAST_LOADED,
    NO_PROBE,
    PROBE_DELAY,
    PROBED,
    PROBING,
    QUEUED,
    REQUEST_DELAY,
    ROUND_ROBIN,
    RUNNING,
    TEXT_DELAY,
    FleetState,
)
from autotts_gym.simulation.request_schedules import DROP, EXTEND_TO_END, KINDS, WAIT
from autotts_gym.simulation.source_digest import source_digest

# Results of the loop.
FINISHED: Final = 0
MORE_EVENTS: Final = 1
MORE_PLACES: Final = 2

_NEVER: Final = np.inf


@entry_point(source_digest(), packed=FleetState)
def run_events(state, max_events):
    """Process events until all questions are answered.

    Returns:
        ``FINISHED``; ``MORE_EVENTS`` after ``max_events`` events; or ``MORE_PLACES`` if the next
        question needs a place and there is none. In the last two cases, the loop is to be called
        again.
    """
    fleet, settings = state.fleet[0], state.settings[0]
    servers, questions = state.servers, len(state.arrivals)
    for _ in range(max_events):
        if fleet.finished == questions:
            return FINISHED
        time, source = _NEVER, -1  # the next question
        for k in range(len(servers)):
            if servers[k].next_time < time:
                time, source = servers[k].next_time, k
        for kind in range(len(state.delays)):
            r = state.delays[kind].first
            if r >= 0 and state.keys[r] < time:
                time, source = state.keys[r], -2 - kind
        if fleet.next_question < questions:
            start = max(state.arrivals[fleet.next_question], fleet.time)
            if start < time:
                if fleet.free:
                    time, source = start, -1
                elif len(state.episodes) < settings.max_episodes:
                    return MORE_PLACES
        _pass_marks(state, time)
        fleet.time = time
        if source == -1:
            _start_episode(state)
        elif source < 0:
            _end_delay(state, state.delays[-2 - source])
        else:
            _complete_request(state, source)
    return FINISHED if fleet.finished == questions else MORE_EVENTS


@compiled
def _pass_marks(state, time):
    """Record the totals at all marks before ``time``."""
    fleet = state.fleet[0]
    while fleet.next_mark < len(state.marks) and state.marks[fleet.next_mark].time <= time:
        mark = state.marks[fleet.next_mark]
        fleet.time = max(fleet.time, mark.time)
        for k in range(len(state.servers)):
            server = state.servers[k]
            _update(state, server)
            mark.work += server.work
            mark.busy += server.busy
            mark.sequences += server.sequences
        mark.served = fleet.served
        fleet.next_mark += 1


# --- servers -------------------------------------------------------------------------------------


@compiled
def _update(state, server):
    """Advance a server to the present time; its sequences do not change."""
    now = state.fleet[0].time
    elapsed = now - server.updated
    server.updated = now
    if server.occupied:
        tokens = elapsed * state.rates[server.occupied]
        server.virtual += tokens
        server.work += tokens * server.running
        server.busy += elapsed
        server.sequences += elapsed * server.occupied


@compiled
def _plan_next(state, k):
    """Compute when the next request of server ``k``, which is up to date, completes."""
    server = state.servers[k]
    if server.running:
        left = state.keys[state.heaps[k, 0]] - server.virtual
        server.next_time = server.updated + max(left, 0.0) / state.rates[server.occupied]
    else:
        server.next_time = _NEVER


@compiled
def _choose_server(state, branch):
    """Number of the server for a request of a branch."""
    routing, servers = state.settings[0].routing, state.servers
    if len(servers) == 1:
        return 0
    if routing == ROUND_ROBIN:
        fleet = state.fleet[0]
        chosen = fleet.next_server
        fleet.next_server = (chosen + 1) % len(servers)
        return chosen
    if routing != LEAST_LOADED and branch.server >= 0:
        return branch.server
    chosen = 0
    least = servers[0].occupied + servers[0].length
    for k in range(1, len(servers)):
        load = servers[k].occupied + servers[k].length
        if load < least:
            chosen, least = k, load
    branch.server = chosen
    return chosen


@compiled
def _send(state, r, branch, delay):
    """Send request ``r``, whose tokens and work are set, to a server; ``delay``: its kind."""
    request = state.requests[r]
    k = _choose_server(state, branch)
    server = state.servers[k]
    request.server = k
    request.delay = delay
    if server.occupied < state.settings[0].max_sequences:
        _occupy(state, k, r)
    else:
        request.state = QUEUED
        _append(state, server, r)


@compiled
def _occupy(state, k, r):
    """Give request ``r`` a sequence of server ``k``."""
    server = state.servers[k]
    _update(state, server)
    server.occupied += 1
    delay = state.delays[state.requests[r].delay]
    if delay.seconds > 0:
        _start_delay(state, r, delay)
        _plan_next(state, k)
    else:
        _run(state, k, r)


@compiled
def _run(state, k, r):
    """Start the work of request ``r`` on server ``k``, which is up to date."""
    server = state.servers[k]
    state.requests[r].state = RUNNING
    state.keys[r] = server.virtual + state.requests[r].work
    indexed_heap.push(state.heaps[k], server.running, state.keys, state.positions, r)
    server.running += 1
    _plan_next(state, k)


@compiled
def _release(state, k):
    """Free a sequence of server ``k``, which is up to date, and start the next in its queue."""
    server = state.servers[k]
    server.occupied -= 1
    r = server.first
    if r >= 0:
        _unlink(state, server, r)
        _occupy(state, k, r)
    else:
        _plan_next(state, k)


@compiled
def _start_delay(state, r, delay):
    state.requests[r].state = DELAYED
    state.keys[r] = state.fleet[0].time + delay.seconds
    _append(state, delay, r)


@compiled
def _append(state, queue, r):
    """Append request ``r`` to a server's queue or a list of delays."""
    request = state.requests[r]
    request.previous = queue.last
    request.next = -1
    if queue.last >= 0:
        state.requests[queue.last].next = r
    else:
        queue.first = r
    queue.last = r
    queue.length += 1


@compiled
def _unlink(state, queue, r):
    """Remove request ``r`` from a server's queue or a list of delays."""
    request = state.requests[r]
    if request.previous >= 0:
        state.requests[request.previous].next = request.next
    else:
        queue.first = request.next
    if request.next >= 0:
        state.requests[request.next].previous = request.previous
    else:
        queue.last = request.previous
    queue.length -= 1


@compiled
def _abort(state, r):
    """Abort request ``r``; returns the tokens that it has generated, which are whole tokens."""
    request = state.requests[r]
    was = request.state
    if was == IDLE:
        return 0
    request.state = IDLE
    k = request.server
    tokens = 0
    if was == QUEUED:
        _unlink(state, state.servers[k], r)
        return 0
    if was == DELAYED:
        _unlink(state, state.delays[request.delay], r)
        if k < 0:
            return 0
        _update(state, state.servers[k])
    else:
        server = state.servers[k]
        _update(state, server)
        missing = state.keys[r] - server.virtual
        tokens = min(max(int(np.floor(request.tokens - missing)), 0), request.tokens)
        indexed_heap.remove(state.heaps[k], server.running, state.keys, state.positions, r)
        server.running -= 1
    _release(state, k)
    return tokens


# --- events --------------------------------------------------------------------------------------


@compiled
def _start_episode(state):
    """Start the episode of the next question, in a free place."""
    fleet, settings = state.fleet[0], state.settings[0]
    fleet.free -= 1
    place = state.free[fleet.free]
    question = fleet.next_question
    fleet.next_question += 1
    state.waits[question] = fleet.time - state.arrivals[question]
    episode = state.episodes[place]
    episode.question = question
    episode.at = state.offsets[state.drawn[question]]
    episode.end = state.offsets[state.drawn[question] + 1]
    episode.waiting = -1
    episode.opened = 0
    n = settings.max_branches
    delay = state.delays[TEXT_DELAY]
    if delay.seconds > 0:
        r = place * (2 * n + 1) + 2 * n
        state.requests[r].server = -1
        state.requests[r].delay = TEXT_DELAY
        _start_delay(state, r, delay)
    else:
        _play(state, place)


@compiled
def _end_delay(state, delay):
    """The next delay of a kind ends: of an episode's start, a branch's end, or a request."""
    n = state.settings[0].max_branches
    r = delay.first
    _unlink(state, delay, r)
    place, slot = r // (2 * n + 1), r % (2 * n + 1)
    k = state.requests[r].server
    if k >= 0:
        _update(state, state.servers[k])
        _run(state, k, r)
        return
    state.requests[r].state = IDLE
    if slot == 2 * n:
        _play(state, place)
    else:
        _end_probe(state, place, slot - n)


@compiled
def _complete_request(state, k):
    """The next request of server ``k`` completes."""
    n = state.settings[0].max_branches
    server = state.servers[k]
    _update(state, server)
    r = state.heaps[k, 0]
    server.virtual = max(server.virtual, state.keys[r])
    indexed_heap.remove(state.heaps[k], server.running, state.keys, state.positions, r)
    server.running -= 1
    request = state.requests[r]
    request.state = IDLE
    state.fleet[0].served += request.tokens
    _release(state, k)
    place, slot = r // (2 * n + 1), r % (2 * n + 1)
    if slot >= n:
        _end_probe(state, place, slot - n)
        return
    branch = state.branches[place * n + slot]
    branch.done += request.tokens
    branch.generating = 0
    if branch.done < branch.target:
        _generate(state, place, slot)
        return
    _probe(state, place, slot)
    episode = state.episodes[place]
    if branch.probe == PROBED and episode.waiting == slot:
        _play(state, place)


@compiled
def _end_probe(state, place, i):
    n = state.settings[0].max_branches
    state.branches[place * n + i].probe = PROBED
    if state.episodes[place].waiting == i:
        _play(state, place)


# --- episodes ------------------------------------------------------------------------------------


@compiled
def _generate(state, place, i):
    """Request the tokens of branch ``i`` that are missing."""
    fleet, settings = state.fleet[0], state.settings[0]
    n = settings.max_branches
    branch = state.branches[place * n + i]
    branch.generating = 1
    r = place * (2 * n + 1) + i
    request = state.requests[r]
    request.tokens = branch.target - branch.done
    request.work = request.tokens + settings.request_tokens
    fleet.requests += 1
    _send(state, r, branch, REQUEST_DELAY)


@compiled
def _probe(state, place, i):
    """Probe branch ``i`` at its present length; the end of a branch is only read."""
    fleet, settings = state.fleet[0], state.settings[0]
    n = settings.max_branches
    branch = state.branches[place * n + i]
    branch.probe = PROBING
    r = place * (2 * n + 1) + n + i
    request = state.requests[r]
    request.tokens = 0
    if branch.ended:
        request.server = -1
        request.delay = TEXT_DELAY
        delay = state.delays[TEXT_DELAY]
        if delay.seconds > 0:
            _start_delay(state, r, delay)
        else:
            branch.probe = PROBED
        return
    fleet.probes += 1
    request.work = settings.probe_tokens
    if request.work > 0 or state.delays[PROBE_DELAY].seconds > 0:
        _send(state, r, branch, PROBE_DELAY)
    else:
        branch.probe = PROBED


@compiled
def _stop_branch(state, place, i):
    """Abort what branch ``i`` still generates, and its probe."""
    n = state.settings[0].max_branches
    branch = state.branches[place * n + i]
    if branch.generating:
        tokens = _abort(state, place * (2 * n + 1) + i)
        branch.done += tokens
        branch.generating = 0
        state.fleet[0].served += tokens
    if branch.probe == PROBING:
        _abort(state, place * (2 * n + 1) + n + i)
    branch.probe = NO_PROBE
    branch.dropped = 1


@compiled
def _play(state, place):
    """Play an episode from its next operation to the next probe that it has to wait for."""
    fleet = state.fleet[0]
    n = state.settings[0].max_branches
    episode = state.episodes[place]
    episode.waiting = -1
    while episode.at < episode.end:
        operation = state.operations[episode.at]
        i, kind = operation // KINDS, operation % KINDS
        branch = state.branches[place * n + i]
        if kind == WAIT:
            if branch.probe != PROBED or branch.generating:
                _request_all(state, place)
            if branch.probe != PROBED or branch.generating:
                episode.waiting = i
                episode.at += 1
                return
        elif kind == DROP:
            _stop_branch(state, place, i)
        else:
            if i == episode.opened:
                episode.opened += 1
                branch.done = 0
                branch.server = -1
                branch.generating = 0
                branch.probe = NO_PROBE
                branch.dropped = 0
            branch.target = state.targets[episode.at]
            branch.ended = kind == EXTEND_TO_END
            if branch.probe == PROBING:  # it was not used
                _abort(state, place * (2 * n + 1) + n + i)
            branch.probe = NO_PROBE
        episode.at += 1
    for i in range(episode.opened):
        _stop_branch(state, place, i)
        fleet.billed += state.branches[place * n + i].target
        fleet.generated += state.branches[place * n + i].done
    state.seconds[episode.question] = fleet.time - state.arrivals[episode.question]
    fleet.finished += 1
    state.free[fleet.free] = place
    fleet.free += 1


@compiled
def _request_all(state, place):
    """Request what the branches miss, and probe those that have their requested tokens."""
    n = state.settings[0].max_branches
    for i in range(state.episodes[place].opened):
        branch = state.branches[place * n + i]
        if branch.generating or branch.dropped:
            continue
        if branch.done < branch.target:
            _generate(state, place, i)
        elif branch.probe == NO_PROBE:
            _probe(state, place, i)
