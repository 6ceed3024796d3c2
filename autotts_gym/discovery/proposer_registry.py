"""Registry of proposers: the built-in ones, and those of other packages, found by entry points.

A package adds a proposer to the entry-point group ``autotts_gym.proposers``:

.. code-block:: toml

    [project.entry-points."autotts_gym.proposers"]
    my-proposer = "my_package.proposer:create"

The entry point names a function that takes a :class:`SearchContext` and returns a
:class:`~autotts_gym.discovery.proposal.Proposer`. If the proposer is a context manager, it is
entered before the search and exited after it. ``autotts discover --by my-proposer`` then uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Final

from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.proposal import Candidate, Proposer
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.utils.redaction import redact

if TYPE_CHECKING:
    from autotts_gym.discovery.proposers.claude_code import ClaudeProposer
    from autotts_gym.discovery.proposers.command import CommandProposer
    from autotts_gym.discovery.proposers.genetic import GeneticConfig, GeneticProposer
    from autotts_gym.discovery.proposers.openai_chat import ChatProposer
    from autotts_gym.discovery.proposers.regression import RegressionProposer

#: Entry-point group of proposers.
GROUP: Final = "autotts_gym.proposers"
#: Name of the genetic proposer, the default.
GENETIC: Final = "genetic"
#: Name of the proposer of fitted stop rules.
REGRESSION: Final = "regression"
#: Proposers of typed trees, which are played in compiled code and need no sandbox.
TREE_PROPOSERS: Final = (GENETIC, REGRESSION)
#: Built-in proposers by name. Other packages cannot replace them.
BUILT_IN: Final = {
    name: EntryPoint(name, f"{__name__}:_create_{name}", GROUP)
    for name in (*TREE_PROPOSERS, "command", "openai", "claude")
}


@dataclass(frozen=True)
class ProposerOptions:
    """Options of proposers; a proposer uses those that apply to it.

    Attributes:
        attempts: number of proposals per round; for the genetic proposer, children per island.
        islands: number of islands of the genetic proposer.
        evaluations: evaluations of the genetic proposer for tuning the constants of a program.
        finalists: number of programs that the genetic proposer cross-validates at the end.
        seed: random seed of the genetic proposer.
        shrinkage: penalty of the distance of constants from those that their tuning starts from,
            of the genetic proposer; None for its default.
        patient: fit controllers that read few branches at a time, of regression.
        workers: number of processes of the genetic proposer.
        command: shell command that writes ``controller.py``.
        base_url: URL of a chat endpoint.
        model: name of a language model.
        max_tokens: maximum number of completion tokens of a response.
        time_limit: seconds after which a command or a session is ended.
        budget: limits of tokens and cost.
    """

    attempts: int = 4
    islands: int = 3
    evaluations: int = 120
    finalists: int = 3
    seed: int = 0
    shrinkage: float | None = None
    patient: bool = False
    workers: int = 2
    command: str = ""
    base_url: str = ""
    model: str = ""
    max_tokens: int = 16384
    time_limit: float = 1800.0
    budget: Budget = field(default_factory=Budget)


@dataclass(frozen=True)
class SearchContext:
    """The search for which a proposer is created.

    Attributes:
        options: options of the proposer.
        search: environments, questions and branch orders.
        archive: recorded candidates by name; a proposer skips their names.
        workspace: folder in which the proposer may work.
    """

    options: ProposerOptions
    search: SearchSet
    archive: Mapping[str, Candidate]
    workspace: Workspace


def proposer_names() -> list[str]:
    """Names of all proposers, the built-in ones first."""
    others = {entry.name for entry in entry_points(group=GROUP)}
    return [*BUILT_IN, *sorted(others - BUILT_IN.keys())]


def check_proposer_name(name: str) -> str:
    """Return the name of a proposer.

    Raises:
        ValueError: there is no such proposer; the message lists those that exist.
    """
    names = proposer_names()
    if name not in names:
        raise ValueError(f"unknown proposer {name!r}: choose one of {', '.join(names)}")
    return name


def create_proposer(name: str, context: SearchContext) -> Proposer:
    """Create a proposer by name.

    Raises:
        ValueError: there is no such proposer, or one of its options is missing or out of range.
    """
    check_proposer_name(name)
    entry = BUILT_IN.get(name) or next(iter(entry_points(group=GROUP, name=name)))
    proposer: Proposer = entry.load()(context)
    return proposer


def recorded_options(name: str, options: ProposerOptions, *, knob: bool) -> dict[str, Any]:
    """The options that identify a search, for ``run.json``; without the secrets in them."""
    if name == GENETIC:
        return asdict(_genetic_config(options, knob))
    if name == REGRESSION:
        return {"patient": True} if options.patient else {}
    return {
        "command": redact(options.command),
        "base_url": redact(options.base_url),
        "model": options.model,
    }


# --- built-in proposers --------------------------------------------------------------------------


def _genetic_config(options: ProposerOptions, knob: bool) -> GeneticConfig:
    from autotts_gym.discovery.proposers.genetic import SHRINKAGE, GeneticConfig

    return GeneticConfig(
        islands=options.islands,
        children=options.attempts,
        evaluations=options.evaluations,
        finalists=options.finalists,
        knob=knob,
        seed=options.seed,
        shrinkage=SHRINKAGE if options.shrinkage is None else options.shrinkage,
    )


def _create_genetic(context: SearchContext) -> GeneticProposer:
    from autotts_gym.discovery.proposers.genetic import GeneticProposer

    config = _genetic_config(context.options, context.workspace.knob)
    return GeneticProposer(config, context.search, context.archive, context.options.workers)


def _create_regression(context: SearchContext) -> RegressionProposer:
    from autotts_gym.discovery.proposers.regression import RegressionProposer

    options, knob = context.options, context.workspace.knob
    return RegressionProposer(
        context.search, context.archive, options.attempts, knob, options.patient
    )


def _create_command(context: SearchContext) -> CommandProposer:
    from autotts_gym.discovery.proposers.command import CommandProposer

    options = context.options
    return CommandProposer(
        options.command,
        context.workspace,
        attempts=options.attempts,
        time_limit=options.time_limit,
        budget=options.budget,
        recorded=context.archive,
    )


def _create_openai(context: SearchContext) -> ChatProposer:
    from autotts_gym.discovery.proposers.openai_chat import ChatProposer

    options = context.options
    return ChatProposer(
        options.base_url,
        options.model,
        context.workspace,
        attempts=options.attempts,
        max_tokens=options.max_tokens,
        budget=options.budget,
        recorded=context.archive,
    )


def _create_claude(context: SearchContext) -> ClaudeProposer:
    from autotts_gym.discovery.proposers.claude_code import ClaudeProposer

    options = context.options
    return ClaudeProposer(
        context.workspace,
        model=options.model or None,
        attempts=options.attempts,
        time_limit=options.time_limit,
        budget=options.budget,
        recorded=context.archive,
    )
