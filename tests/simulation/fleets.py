"""Helpers of the simulation's tests: stores with given branches, and a plain reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.simulation.request_schedules import (
    DROP,
    EXTEND_TO_END,
    KINDS,
    WAIT,
    Schedules,
    play_schedules,
)
from autotts_gym.simulation.simulation_plan import Fleet
from autotts_gym.traces.records import Branch, Question
from autotts_gym.traces.store import TraceStore


def store_of(lengths: Sequence[Sequence[int]], interval: int = 10) -> TraceStore:
    """A store: for every question, the tokens of its branches; answers alternate."""
    questions = []
    for number, tokens in enumerate(lengths):
        branches = [
            Branch([str(k % 2)] * ((length - 1) // interval), length, str(k % 2))
            for k, length in enumerate(tokens)
        ]
        questions.append(Question(f"question {number}", "0", branches))
    return TraceStore.from_branches(questions, interval=interval)


def schedules_of(
    controller: Callable[..., Any] | str, store: TraceStore, width: int, seeds: Sequence[int] = (0,)
) -> Schedules:
    """Schedules of every question of a store."""
    config = EpisodeConfig(max_branches=width)
    return play_schedules(load(controller), {"store": store}, seeds, 0.5, config)


def read_all(episode: Any) -> None:
    """Read every branch to its end at the same time, and answer."""
    for _ in range(episode.max_branches):
        episode.branch()
    while episode.extend_all():
        pass
    episode.probe_all()
    episode.answer()


def read_in_turn(episode: Any) -> None:
    """Read one branch after the other."""
    for i in range(episode.max_branches):
        episode.branch()
        while episode.can_extend(i):
            episode.extend(i)
        episode.probe(i)
    episode.answer()


def race(episode: Any) -> None:
    """Probe all branches after every interval; the first that ends gives the answer."""
    for _ in range(episode.max_branches):
        episode.branch()
    while True:
        for i in range(episode.opened):
            if episode.can_probe(i) and episode.probe(i)[1]:
                episode.answer(i)
                return
        if episode.opened > 2 and episode.can_prune(1):
            episode.prune(1)
        episode.extend_all()


def first_of_all(episode: Any) -> None:
    """Request all branches to their ends, but wait for the first only; prune the second."""
    for _ in range(episode.max_branches):
        episode.branch()
    while episode.extend_all():
        pass
    if episode.opened > 1:
        episode.prune(1)
    episode.probe(0)
    episode.answer(0)


CONTROLLERS = (read_all, read_in_turn, race, first_of_all)


class ReferenceFleet:
    """What :func:`~autotts_gym.simulation.simulated_load.simulate_load` computes, naively.

    Every request is an object with its remaining work; at each event, all of them advance.
    """

    def __init__(self, fleet: Fleet, schedules: Schedules) -> None:
        self.curve, self.fleet, self.schedules = fleet.curve, fleet, schedules
        self.rates = fleet.curve.rates()
        self.servers: list[list[dict[str, Any]]] = [[] for _ in range(fleet.servers)]
        self.queues: list[list[dict[str, Any]]] = [[] for _ in range(fleet.servers)]
        self.timers: list[dict[str, Any]] = []
        self.now = 0.0
        self.generated = 0
        self.turn = 0

    def run(self, arrivals: NDArray[np.float64], drawn: NDArray[np.int64]) -> NDArray[np.float64]:
        self.seconds = np.full(len(arrivals), np.nan)
        self.arrivals = arrivals
        started, active = 0, self.fleet.max_episodes
        while np.isnan(self.seconds).any():
            in_progress = started - int((~np.isnan(self.seconds)).sum())
            times = [(timer["end"], 1, timer) for timer in self.timers]
            for requests in self.servers:
                for request in requests:
                    if request["delay"] == 0:
                        left = request["work"] / self.rates[len(requests)]
                        times.append((self.now + left, 0, request))
                    else:
                        times.append((request["delay_end"], 1, request))
            if started < len(arrivals) and in_progress < active:
                times.append((max(arrivals[started], self.now), 2, {}))
            time, kind, what = min(times, key=lambda entry: entry[:2])
            for requests in self.servers:
                for request in requests:
                    if request["delay"] == 0:
                        request["work"] -= (time - self.now) * self.rates[len(requests)]
            self.now = time
            if kind == 2:
                self.start(started, int(drawn[started]))
                started += 1
            elif kind == 1 and "end" in what:
                self.timers.remove(what)
                what["then"]()
            elif kind == 1:
                what["delay"] = 0
            else:
                self.leave(what)
                what["then"]()
        return self.seconds

    def delay(self, seconds: float, then: Callable[[], None]) -> dict[str, Any]:
        timer = {"end": self.now + seconds, "then": then}
        self.timers.append(timer)
        return timer

    def send(
        self, branch: dict[str, Any], tokens: float, delay: float, then: Callable[[], None]
    ) -> dict[str, Any]:
        loads = [len(a) + len(b) for a, b in zip(self.servers, self.queues, strict=True)]
        server = loads.index(min(loads))
        if self.fleet.routing == "round_robin":
            server, self.turn = self.turn, (self.turn + 1) % len(loads)
        elif self.fleet.routing == "sticky":
            server = branch.setdefault("server", server)
        request = {"work": tokens, "delay": delay, "then": then, "server": server}
        if len(self.servers[server]) < self.curve.max_sequences:
            self.enter(request)
        else:
            self.queues[server].append(request)
        return request

    def enter(self, request: dict[str, Any]) -> None:
        request["delay_end"] = self.now + request["delay"]
        self.servers[request["server"]].append(request)

    def leave(self, request: dict[str, Any]) -> None:
        server = request["server"]
        if request in self.queues[server]:
            self.queues[server].remove(request)
            return
        self.servers[server].remove(request)
        if self.queues[server]:
            self.enter(self.queues[server].pop(0))

    def start(self, question: int, schedule: int) -> None:
        first, last = self.schedules.offsets[schedule : schedule + 2]
        episode: dict[str, Any] = {
            "question": question,
            "left": list(
                zip(
                    self.schedules.operations[first:last].tolist(),
                    self.schedules.targets[first:last].tolist(),
                    strict=True,
                )
            ),
            "branches": {},
            "waiting": None,
        }
        if self.curve.text_seconds > 0:
            self.delay(self.curve.text_seconds, lambda: self.play(episode))
        else:
            self.play(episode)

    def play(self, episode: dict[str, Any]) -> None:
        episode["waiting"] = None
        while episode["left"]:
            operation, target = episode["left"][0]
            i, kind = divmod(operation, KINDS)
            branch = episode["branches"].setdefault(
                i, {"done": 0, "generation": None, "probe": None, "probed": False, "dropped": False}
            )
            if kind == WAIT:
                ready = branch["probed"] and branch["generation"] is None
                if not ready:
                    self.request_all(episode)
                    ready = branch["probed"] and branch["generation"] is None
                if not ready:
                    episode["waiting"] = branch
                    episode["left"].pop(0)
                    return
            elif kind == DROP:
                self.stop(branch)
            else:
                branch["target"], branch["ended"] = target, kind == EXTEND_TO_END
                self.cancel_probe(branch)
            episode["left"].pop(0)
        for branch in episode["branches"].values():
            self.stop(branch)
            self.generated += branch["done"]
        self.seconds[episode["question"]] = self.now - self.arrivals[episode["question"]]

    def cancel_probe(self, branch: dict[str, Any]) -> None:
        if branch["probe"] is not None:
            if "end" in branch["probe"]:
                self.timers.remove(branch["probe"])
            else:
                self.leave(branch["probe"])
        branch["probe"], branch["probed"] = None, False

    def stop(self, branch: dict[str, Any]) -> None:
        if branch["generation"] is not None:
            request = branch["generation"]
            in_service = request in self.servers[request["server"]] and request["delay"] == 0
            if in_service:
                missing = max(request["work"], 0.0)
                made = int(np.floor(branch["asked"] - missing))
                branch["done"] += min(max(made, 0), branch["asked"])
            self.leave(request)
            branch["generation"] = None
        self.cancel_probe(branch)
        branch["dropped"] = True

    def request_all(self, episode: dict[str, Any]) -> None:
        for branch in episode["branches"].values():
            if branch["generation"] is not None or branch["dropped"]:
                continue
            if branch["done"] < branch["target"]:
                self.generate(episode, branch)
            elif not branch["probed"] and branch["probe"] is None:
                self.probe(episode, branch)

    def generate(self, episode: dict[str, Any], branch: dict[str, Any]) -> None:
        branch["asked"] = branch["target"] - branch["done"]
        work = branch["asked"] + self.curve.request.tokens

        def then() -> None:
            branch["done"] += branch["asked"]
            branch["generation"] = None
            if branch["done"] < branch["target"]:
                self.generate(episode, branch)
                return
            self.probe(episode, branch)
            if branch["probed"] and episode["waiting"] is branch:
                self.play(episode)

        branch["generation"] = self.send(branch, work, self.curve.request.seconds, then)

    def probe(self, episode: dict[str, Any], branch: dict[str, Any]) -> None:
        def then() -> None:
            branch["probe"], branch["probed"] = None, True
            if episode["waiting"] is branch:
                self.play(episode)

        cost = self.curve.probe
        if branch["ended"]:
            if self.curve.text_seconds > 0:
                branch["probe"] = self.delay(self.curve.text_seconds, then)
            else:
                branch["probed"] = True
        elif cost.tokens > 0 or cost.seconds > 0:
            branch["probe"] = self.send(branch, cost.tokens, cost.seconds, then)
        else:
            branch["probed"] = True
