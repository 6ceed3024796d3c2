"""What was played, found again: the stores and the agents behind a folder of results.

A report replays some episodes and evaluates schedules, so it needs them as they were. Each is
looked for at its path, then by its name; it counts as found only if its fingerprint or its digest
is the one that the results name.
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
    """What was found of a benchmark's stores and agents.

    Attributes:
        stores, agents: by the names that the results have for them.
        problems: what was not found, and what a page lacks by it, a sentence each.
    """

    stores: dict[str, TraceStore]
    agents: dict[str, Agent]
    problems: list[str]

    @classmethod
    def of(cls, results: Results) -> Sources:
        """Look for everything that was played.

        An agent is loaded, which runs its file, unless it was played as untrusted.
        """
        problems: list[str] = []
        stores = _all(results.environments, _store, problems, "its episodes and its bounds")
        agents = _all(results.agents, _agent, problems, "its episodes and its schedule")
        return cls(stores, agents, problems)


class _GoneError(Exception):
    """It is no longer there, or no longer the same; the message says which."""


def _all(
    wanted: list[Played], find: Callable[[Played], Found], problems: list[str], lacking: str
) -> dict[str, Found]:
    found = {}
    for played in wanted:
        try:
            found[played.name] = find(played)
        except _GoneError as problem:
            problems.append(f"{played.name} {problem}: {lacking} are left out")
    return found


def _store(played: EnvironmentRecord) -> TraceStore:
    there = False
    for store in _stores(played):
        there = True
        if store.card.fingerprint == played.fingerprint:
            return store
    raise _GoneError(
        "holds other traces than those that were played" if there else "is no longer there"
    )


def _stores(played: EnvironmentRecord) -> Iterator[TraceStore]:
    for place in (played.path, played.name):
        try:
            if place:
                yield from registry.open_stores(place).values()
        except (TraceError, OSError):
            continue


def _agent(played: AgentRecord) -> Agent:
    # A class of a file is named after a colon.
    _, colon, program = played.name.partition(":")
    there = False
    for place in (f"{played.path}{colon}{program}", played.name):
        try:
            agent = load_untrusted(place) if played.untrusted else load(place)
        except AgentError:
            continue
        there = True
        if agent.digest == played.digest:
            return agent
    there = there or Path(played.path).is_file()
    raise _GoneError("is not the program that was played" if there else "is no longer there")
