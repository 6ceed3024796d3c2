"""``Sources``: the trace stores and agents behind the results of a benchmark.

A report plays some episodes again and evaluates schedules, for which it needs the original stores
and agents. Each is searched at its path, then by its name, and is accepted only if its fingerprint
or digest is equal to that in the results. Results may come from someone else: the digest of a
program is compared before anything of it runs, and what runs is the text that was compared.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.function_agent import agent_from_source, may_have_digest
from autotts_gym.controllers.loader import is_bundled, is_program, load, read
from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord, Results
from autotts_gym.evaluation.trusted_programs import is_trusted
from autotts_gym.sandbox import lockdown
from autotts_gym.sandbox.lockdown import MissingProtectionError
from autotts_gym.sandbox.untrusted_agent import untrusted_from_source
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceError, TraceStore

#: Subfolder of results with the programs that come with them.
PROGRAMS: Final = "controllers"

Played = TypeVar("Played", AgentRecord, EnvironmentRecord)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Sources:
    """The stores and agents of a benchmark.

    Attributes:
        stores, agents: by their names in the results.
        problems: what is missing, and what a page omits as a result, one sentence each.
        missing: why stores and agents are missing, by name.
    """

    stores: dict[str, TraceStore]
    agents: dict[str, Agent]
    problems: list[str]
    missing: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        results: Results,
        trusted: bool | None = None,
        *,
        weaker_sandbox: bool = False,
        handed_in: Path | None = None,
    ) -> Sources:
        """Find the stores and agents of results.

        Args:
            results: the results.
            trusted: whether programs run outside a sandbox. By default, those do that were not
                played as untrusted and are bundled or were run so by this user before, see
                :mod:`autotts_gym.evaluation.trusted_programs`.
            weaker_sandbox: run the others even if the sandbox of this machine lacks a protection;
                otherwise, they are missing there.
            handed_in: folder of the results, if they are someone else's: programs are searched in
                its subfolder ``controllers`` first, and by default only bundled ones run outside a
                sandbox.
        """
        stores, lost_stores = _find_all(results.environments, _find_store)
        agents, lost_agents = _find_all(
            results.agents,
            lambda played: _find_agent(played, trusted, weaker_sandbox, handed_in),
        )
        problems = [
            f"{name} {reason}: {omitted} are omitted"
            for lost, omitted in (
                (lost_stores, "its episodes and bounds"),
                (lost_agents, "its episodes and schedule"),
            )
            for name, reason in lost.items()
        ]
        return cls(stores, agents, problems, lost_stores | lost_agents)


class _MissingError(Exception):
    """A store or agent no longer exists or has changed; the message continues its name."""


def _find_all(
    wanted: list[Played], find: Callable[[Played], Found]
) -> tuple[dict[str, Found], dict[str, str]]:
    """What is found, and why the others are missing, both by name."""
    found, lost = {}, {}
    for played in wanted:
        try:
            found[played.name] = find(played)
        except _MissingError as problem:
            lost[played.name] = str(problem)
    return found, lost


def _find_store(played: EnvironmentRecord) -> TraceStore:
    exists = False
    for store in _candidate_stores(played):
        exists = True
        if store.card.fingerprint == played.fingerprint:
            try:
                _ = store.tables
            except TraceError as error:
                raise _MissingError(f"cannot be read ({error})") from error
            return store
    raise _MissingError("has other traces than in the benchmark" if exists else "no longer exists")


def _candidate_stores(played: EnvironmentRecord) -> Iterator[TraceStore]:
    if played.path:
        with contextlib.suppress(TraceError, OSError, ValueError):  # ValueError: a null character
            yield TraceStore.open(played.path)  # not a group: that would search its folder
    with contextlib.suppress(TraceError, OSError):
        registry.check_name(played.name)
        yield from registry.open_stores(played.name).values()


def _find_agent(
    played: AgentRecord, trusted: bool | None, weaker_sandbox: bool, handed_in: Path | None
) -> Agent:
    # The name of a class in a file follows a colon.
    stem, colon, program = played.name.partition(":")
    places = [f"{played.path}{colon}{program}", played.name]
    if handed_in is not None:
        file = handed_in / PROGRAMS / f"{Path(stem).name}.py"
        places.insert(0, f"{file}{colon}{program}")
    exists = False
    for place in places:
        try:
            found = _load(place, played, trusted, weaker_sandbox, handed_in is not None)
        except MissingProtectionError as error:
            raise _MissingError(f"is not played again, because {error}") from error
        except (AgentError, OSError, ValueError):
            continue
        exists = True
        if found is not None:
            return found
    raise _MissingError(
        "differs from the program in the benchmark" if exists else "no longer exists"
    )


def _load(
    place: str, played: AgentRecord, trusted: bool | None, weaker_sandbox: bool, handed_in: bool
) -> Agent | None:
    """The agent at a place; None if it is not the one that was played."""
    if not is_program(place):  # an installed package's function, or a policy, which has no code
        installed = load(place)
        return installed if installed.digest == played.digest else None
    path, source, program = read(place)
    if not may_have_digest(source, program, played.digest):
        return None
    if trusted is None:
        known = is_bundled(path) or (not handed_in and is_trusted(played.digest))
        trusted = known and not played.untrusted
    agent: Agent
    if trusted:
        agent = agent_from_source(path, source, program)
    else:
        lockdown.check(weaker_sandbox)
        agent = untrusted_from_source(path, source, program, weaker_sandbox=weaker_sandbox)
    return agent if agent.digest == played.digest else None
