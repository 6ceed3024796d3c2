"""``autotts discover``: controllers that are found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    from autotts_gym.discovery.genetic import Bred
    from autotts_gym.discovery.loop import Choice, Discovery


def discover(
    out: Annotated[Path, typer.Option(help="Folder of the run; the controller is named after it.")],
    env: Annotated[
        list[str] | None, typer.Option("--env", help="A name or a path; repeat for several.")
    ] = None,
    questions: Annotated[
        str | None, typer.Option(help="Rows of the questions to search on, as 0-23; default all.")
    ] = None,
    rounds: Annotated[int, typer.Option(min=0, help="Generations.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of everything.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Branch orders of each question.")] = 4,
    islands: Annotated[int, typer.Option(min=1, help="That breed by themselves.")] = 4,
    children: Annotated[int, typer.Option(min=1, help="Of an island in a generation.")] = 6,
    evaluations: Annotated[
        int, typer.Option(min=1, help="Sweeps to tune the constants of a program with.")
    ] = 120,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Search for a controller: breed programs, tune their constants, and write the best as source.

    It takes no model and no network. Interrupted or killed, the same command goes on from where it
    was. What it writes plays like any controller: autotts benchmark OUT/NAME.py.
    """
    try:
        from autotts_gym.discovery.genetic import Breeding
        from autotts_gym.discovery.loop import Discovery, Plan
    except ImportError as problem:
        raise ValueError(
            f"discovery needs cma ({problem}): pip install 'autotts-gym[discover]'"
        ) from None
    stores = stores_of(env)
    rows = None if questions is None else tuple(integers(questions))
    breeding = Breeding(islands=islands, children=children, evaluations=evaluations, seed=seed)
    plan = Plan(breeding, rounds=rounds, seeds=seeds, questions=rows)
    discovery = Discovery(stores, plan, out, workers)
    if discovery.tried:
        print_dim(f"going on: {discovery.tried} programs were tried before")
    try:
        choice = _run(discovery, plan.rounds)
    except KeyboardInterrupt:
        errors.print("interrupted; the same command goes on from here")
        raise typer.Exit(130) from None
    path = discovery.save(choice, out.name, command_of(out))
    console.print(
        f"found [bold]{escape(out.name)}[/]: score {choice.bred.score:.4f}, on questions that its "
        f"constants were not tuned on {choice.unseen:.4f}; {discovery.tried} programs were tried; "
        f"at {escape(str(path))}",
        highlight=False,
        soft_wrap=True,
    )


def _run(discovery: Discovery, rounds: int) -> Choice:
    best: Bred | None = None
    with progress_bar() as progress:
        task = progress.add_task("round 0", total=discovery.planned)
        lines = Lines(progress)

        def report(number: int, bred: Bred) -> None:
            nonlocal best
            if best is None or bred.worth > best.worth:
                best = bred
            facts = f"round {number} of {rounds}, best score {best.score:.4f}"
            progress.update(task, description=facts, advance=1)
            lines.say(f"{facts}, {discovery.tried} programs")

        return discovery.run(report)
