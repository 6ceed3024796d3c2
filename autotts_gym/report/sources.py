"""``Sources``: the trace stores and agents behind the results of a benchmark.

A report plays some episodes again and evaluates schedules, for which it needs the original stores
and agents. Each is searched at its path, then by its name, and is accepted only if its fingerprint
or digest is equal to that in the results.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord, Results
from autotts_gym.sandbox.untrusted_agent import load_untrusted
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceError, TraceStore

Played = TypeVar("Played", AgentRecord, EnvironmentRecord)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Sources:
    """The stores and agents of a benchmark.

    Attributes:
        stores, agents: by their names in the results.
        problems: what is missing, and what a page omits as a result, one sentence each.
    """

    stores: dict[str, TraceStore]
    agents: dict[str, Agent]
    problems: list[str]

    @classmethod
    def of(cls, results: Results) -> Sources:
        """Find the stores and agents of results.

        Loading an agent runs its file, unless it was played as untrusted.
        """
        problems: list[str] = []
        stores = _find_all(results.environments, _find_store, problems, "its episodes and bounds")
        agents = _find_all(results.agents, _find_agent, problems, "its episodes and schedule")
        return cls(stores, agents, problems)


class _MissingError(Exception):
    """A store or agent no longer exists or has changed; the message continues its name."""


def _find_all(
    wanted: list[Played], find: Callable[[Played], Found], problems: list[str], omitted: str
) -> dict[str, Found]:
    found = {}
    for played in wanted:
        try:
            found[played.name] = find(played)
        except _MissingError as problem:
            problems.append(f"{played.name} {problem}: {omitted} are omitted")
    return found


def _find_store(played: EnvironmentRecord) -> TraceStore:
    exists = False
    for store in _candidate_stores(played):
        exists = True
        if store.card.fingerprint == played.fingerprint:
            return store
    raise _MissingError("has other traces than in the benchmark" if exists else "no longer exists")


def _candidate_stores(played: EnvironmentRecord) -> Iterator[TraceStore]:
    for place in (played.path, played.name):
        try:
            if place:
                yield from registry.open_stores(place).values()
        except (TraceError, OSError):
            continue


def _find_agent(played: AgentRecord) -> Agent:
    # The name of a class in a file follows a colon.
    _, colon, program = played.name.partition(":")
    exists = False
    for place in (f"{played.path}{colon}{program}", played.name):
        try:
            agent = load_untrusted(place) if played.untrusted else load(place)
        except AgentError:
            continue
        exists = True
        if agent.digest == played.digest:
            return agent
    exists = exists or Path(played.path).is_file()
    raise _MissingError(
        "differs from the program in the benchmark" if exists else "no longer exists"
    )
