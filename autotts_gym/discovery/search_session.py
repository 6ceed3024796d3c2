"""``open_search``: a search for a controller with all its parts, from its options."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotts_gym.discovery.archive import Archive
from autotts_gym.discovery.evaluator import INTERPRETED_SEEDS, Evaluator
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.proposal import Candidate, Proposer
from autotts_gym.discovery.proposer_registry import (
    GENETIC,
    TREE_PROPOSERS,
    ProposerOptions,
    SearchContext,
    check_proposer_name,
    create_proposer,
    recorded_options,
)
from autotts_gym.discovery.search_loop import Choice, Discovery
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.sandbox import lockdown
from autotts_gym.traces.store import TraceStore

#: Default branch orders for each question, where programs are compiled.
COMPILED_SEEDS = 8


@dataclass(frozen=True)
class SearchSession:
    """An open search.

    Attributes:
        discovery: the search loop.
        proposer: generates the programs.
        rounds: number of rounds of proposals.
    """

    discovery: Discovery
    proposer: Proposer
    rounds: int

    @property
    def archive(self) -> Archive:
        """All candidates so far."""
        return self.discovery.archive

    def run(self, progress: Callable[[int, Candidate], None] = lambda *_: None) -> Choice:
        """Run the search, see :meth:`autotts_gym.discovery.search_loop.Discovery.run`."""
        return self.discovery.run(self.proposer, self.rounds, progress)

    def save(self, choice: Choice, command: str) -> Path:
        """Write the chosen program as a controller that is named after the folder.

        Args:
            choice: the result of :meth:`run`.
            command: the command that ran the search, for the file's header.
        """
        return self.discovery.save(choice, self.discovery.folder.resolve().name, command)


@contextmanager
def open_search(
    stores: Mapping[str, TraceStore],
    folder: str | os.PathLike[str],
    *,
    proposer: str = GENETIC,
    options: ProposerOptions | None = None,
    questions: Sequence[int] | None = None,
    seeds: int | None = None,
    rounds: int = 5,
    knob: bool = True,
    diagnostics: bool = True,
    env_names: Sequence[str] = (),
    weaker_sandbox: bool = False,
    latency: Sequence[float] = (0.0,),
) -> Iterator[SearchSession]:
    """Open a search; it resumes if ``folder`` holds one.

    Args:
        stores: environments to search on, by name.
        folder: folder of the search.
        proposer: name of a proposer.
        options: options of the proposer; the default ones if None.
        questions: rows of the questions to search on; all if None.
        seeds: branch orders of each question; default 8, or 4 for programs that run in a sandbox.
        rounds: rounds of proposals.
        knob: require one knob, β, that spends more as it rises.
        diagnostics: show proposers episodes action by action, and diagnoses.
        env_names: names or paths of ``stores`` for the command that evaluates a program in the
            workspace; by default the default environment.
        weaker_sandbox: accept a machine whose sandbox lacks a protection.
        latency: weights of latency in the score, each in [0, 1].

    Raises:
        MissingProtectionError: the proposer's programs need a sandbox, and this machine's lacks
            a protection.
        ValueError: there is no such proposer, an option is out of range, or ``folder`` holds
            another search.
    """
    check_proposer_name(proposer)
    options = options or ProposerOptions()
    compiled = proposer in TREE_PROPOSERS
    if not compiled:
        lockdown.check(weaker_sandbox)
    seeds = seeds or (COMPILED_SEEDS if compiled else INTERPRETED_SEEDS)
    folder = Path(folder)
    plan: dict[str, Any] = {
        "proposer": proposer, "rounds": rounds, "seeds": seeds, "knob": knob,
        "traces": diagnostics, "attempts": options.attempts,
    }  # fmt: skip
    plan |= recorded_options(proposer, options, knob=knob)
    search = SearchSet(stores, questions, seeds, latency=latency)
    if search.latency != (0.0,):
        plan["latency"] = list(search.latency)
    evaluator = Evaluator(search, knob=knob, diagnostics=diagnostics, weaker_sandbox=weaker_sandbox)
    discovery = Discovery(evaluator, folder, plan)
    workspace = Workspace(
        folder / "workspace",
        diagnostics=diagnostics,
        knob=knob,
        evaluation=judge_command(
            *(env_names, questions, seeds),
            knob=knob,
            diagnostics=diagnostics,
            weaker_sandbox=weaker_sandbox,
            latency=search.latency,
        ),
        latency=search.latency,
    )
    context = SearchContext(options, search, discovery.archive, workspace)
    with ExitStack() as stack:
        created = create_proposer(proposer, context)
        if isinstance(created, AbstractContextManager):
            stack.enter_context(created)
        yield SearchSession(discovery, created, rounds)


def judge_command(
    env_names: Sequence[str],
    questions: Sequence[int] | None,
    seeds: int,
    *,
    knob: bool,
    diagnostics: bool,
    weaker_sandbox: bool = False,
    latency: Sequence[float] = (0.0,),
) -> str:
    """The command that evaluates ``controller.py`` as the search does, in any folder.

    Args:
        env_names: names or paths of environments; a path that exists becomes absolute.
        questions, seeds, knob, diagnostics, weaker_sandbox, latency: as for :func:`open_search`.
    """
    words = ["autotts", "judge", "controller.py"]
    for name in env_names:
        words += ["--env", str(Path(name).absolute()) if Path(name).exists() else name]
    words += [] if questions is None else ["--questions", format_ranges(questions)]
    words += ["--seeds", str(seeds)]
    words += [] if knob else ["--no-knob"]
    words += [] if diagnostics else ["--no-traces"]
    words += ["--weaker-sandbox"] if weaker_sandbox else []
    if tuple(latency) != (0.0,):
        words += ["--latency", ",".join(f"{weight:g}" for weight in latency)]
    return shlex.join(words)


def format_ranges(numbers: Sequence[int]) -> str:
    """Format integers as the command line reads them, such as ``0-4,7``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
