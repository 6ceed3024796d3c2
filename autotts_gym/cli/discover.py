"""``autotts discover``: controllers that are found."""

from __future__ import annotations

import contextlib
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from autotts_gym.cli.console import (
    Lines,
    command_of,
    console,
    errors,
    integers,
    print_dim,
    progress_bar,
    stores_of,
)

if TYPE_CHECKING:
    from autotts_gym.discovery.loop import Choice, Discovery
    from autotts_gym.discovery.proposing import Proposer, Tried


class By(StrEnum):
    """Who proposes."""

    genetic = "genetic"


def discover(
    out: Annotated[Path, typer.Option(help="Folder of the run; the controller is named after it.")],
    proposer: Annotated[By, typer.Option(help="Who proposes programs.")] = By.genetic,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="A name or a path; repeat for several.")
    ] = None,
    questions: Annotated[
        str | None, typer.Option(help="Rows of the questions to search on, as 0-23; default all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Of proposals.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of everything.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Branch orders of each question.")] = 16,
    islands: Annotated[int, typer.Option(min=1, help="genetic: that breed by themselves.")] = 4,
    children: Annotated[
        int, typer.Option(min=1, help="genetic: of an island in a generation.")
    ] = 6,
    evaluations: Annotated[
        int, typer.Option(min=1, help="genetic: sweeps to tune the constants of a program with.")
    ] = 150,
    workers: Annotated[int, typer.Option(min=1, help="genetic: processes that tune.")] = 2,
    knob: Annotated[
        bool, typer.Option(help="Demand one knob, β, that spends more as it rises.")
    ] = True,
    traces: Annotated[
        bool, typer.Option(help="Show proposers episodes action by action, and diagnoses.")
    ] = True,
) -> None:
    """Search for a controller: proposers write programs, a replay of the search set judges them.

    The genetic proposer takes no model and no network. Interrupted or killed, the same command goes
    on from where it was. What it writes plays like any controller: autotts benchmark OUT/NAME.py.
    """
    try:
        from autotts_gym.discovery.evaluating import Evaluator
        from autotts_gym.discovery.genetic import Breeding, Genetic
        from autotts_gym.discovery.loop import Discovery
        from autotts_gym.discovery.scoring import SearchSet
    except ImportError as problem:
        raise ValueError(
            f"discovery needs cma ({problem}): pip install 'autotts-gym[discover]'"
        ) from None
    search = SearchSet(stores_of(env), None if questions is None else integers(questions), seeds)
    plan: dict[str, Any] = {
        "proposer": proposer.value, "rounds": rounds, "seed": seed, "seeds": seeds,
        "islands": islands, "children": children, "evaluations": evaluations, "knob": knob,
        "traces": traces,
    }  # fmt: skip
    discovery = Discovery(Evaluator(search, knob=knob, telling=traces), out, plan)
    if discovery.archive:
        print_dim(f"going on: {len(discovery.archive)} programs were tried before")
    how = Breeding(
        islands=islands, children=children, evaluations=evaluations, knob=knob, seed=seed
    )
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(Genetic(how, search, discovery.archive, workers))
        try:
            choice = _run(discovery, made, rounds)
        except KeyboardInterrupt:
            errors.print("interrupted; the same command goes on from here")
            raise typer.Exit(130) from None
    path = discovery.save(choice, out.name, command_of(out))
    console.print(
        f"found [bold]{escape(out.name)}[/]: score {choice.tried.verdict.score:.4f}, on questions "
        f"that were left out {choice.unseen:.4f}; {len(discovery.archive)} programs were tried; "
        f"at {escape(str(path))}",
        highlight=False,
        soft_wrap=True,
    )


def _run(discovery: Discovery, proposer: Proposer, rounds: int) -> Choice:
    best: Tried | None = None
    with progress_bar() as progress:
        task = progress.add_task("round 0", total=None)
        lines = Lines(progress)

        def report(number: int, tried: Tried) -> None:
            nonlocal best
            if best is None or tried.worth > best.worth:
                best = tried
            facts = f"round {number} of {rounds}, best score {best.verdict.score:.4f}"
            progress.update(task, description=facts, advance=1)
            lines.say(f"{facts}, {len(discovery.archive)} programs")

        return discovery.run(proposer, rounds, report)
