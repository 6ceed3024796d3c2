"""``autotts benchmark``: agents on environments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.console import (
    Billing,
    Order,
    console,
    errors,
    integers,
    numbers,
    print_dim,
    progress_bar,
)

if TYPE_CHECKING:
    from autotts_gym.evaluation.benchmark import Run


def benchmark(
    agents: Annotated[
        list[str], typer.Argument(metavar="AGENT...", help="Names in agents/, or paths.")
    ],
    env: Annotated[
        list[str] | None, typer.Option("--env", help="A name or a path; repeat for several.")
    ] = None,
    beta: Annotated[str, typer.Option(help="β of agents that have the knob.")] = "0,0.5,1",
    seeds: Annotated[str, typer.Option(help="Branch orders: 0-9, or 0,3,5-7.")] = "0-9",
    order: Annotated[
        Order,
        typer.Option(
            help="One order of branches for all questions of a seed, as published, or one each."
        ),
    ] = Order.random,
    billing: Annotated[
        Billing, typer.Option(help="Bill what was generated, or every started interval in full.")
    ] = Billing.tokens,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results"),
    max_branches: Annotated[int, typer.Option(help="N, the widest an episode can get.")] = 64,
    budget: Annotated[int | None, typer.Option(help="B, tokens an episode; default none.")] = None,
    interpret: Annotated[
        bool, typer.Option("--interpret", help="Play through step, even what can be compiled.")
    ] = False,
) -> None:
    """Play agents on environments; print the table, write episodes, summary and frontier.

    Every question of every environment is played once per seed. Interrupted, the same call goes
    on where it was.
    """
    from autotts_gym.controllers.loading import load
    from autotts_gym.evaluation import benchmark as bench
    from autotts_gym.evaluation.figures import frontier
    from autotts_gym.mdp.replay import Terms
    from autotts_gym.traces import registry

    terms = Terms(max_branches=max_branches, billing=billing.value, budget=budget)
    loaded = list(dict.fromkeys(load(agent) for agent in agents))
    stores = {
        name: store
        for environment in env or [registry.DEFAULT]
        for name, store in registry.open_stores(environment).items()
    }
    betas, chosen = numbers(beta), integers(seeds)
    rows = sum(len(betas) if agent.takes_beta else 1 for agent in loaded)
    total = rows * len(chosen) * sum(store.card.questions for store in stores.values())
    runs: list[Run] = []
    try:
        with progress_bar() as progress:
            task = progress.add_task("starting", total=total)

            def report(label: str, episodes: int) -> None:
                progress.update(task, description=label, advance=episodes)

            runs.extend(
                bench.run(
                    loaded,
                    stores,
                    betas,
                    chosen,
                    out,
                    order=order.value,
                    terms=terms,
                    interpret=interpret,
                    progress=report,
                )
            )
    except KeyboardInterrupt:
        errors.print("interrupted: what was finished is kept, the same call goes on from there")
        raise typer.Exit(130) from None
    bench.write_episodes(runs, out / "episodes.parquet")
    bench.write_summary(runs, out / "summary.csv")
    frontier(runs, out / "frontier.png")
    _print_results(runs, billing.value, len(chosen))
    for run in runs:
        if run.reason and not interpret:
            print_dim(f"{run.agent} ran as plain Python: {run.reason}")
        for (seed, question), message in list(run.failures.items())[:3]:
            errors.print(
                f"[red]{escape(f'{run.agent} failed on {run.env}')}[/], question {question}, "
                f"seed {seed}: {escape(message)} ({len(run.failures)} failed in all)",
                highlight=False,
                soft_wrap=True,
            )
    print_dim(f"wrote {out / 'episodes.parquet'}, summary.csv and frontier.png")


def _print_results(runs: Sequence[Run], billing: str, seeds: int) -> None:
    synthetic = any(run.synthetic for run in runs)
    note = "±: 1.96 standard errors over questions. Tokens: means per question."
    if synthetic:
        note += " Synthetic traces are generated, not sampled from a model."
    for env in dict.fromkeys(run.env for run in runs):
        group = [run for run in runs if run.env == env]
        title = f"{env}, {seeds} seeds, billed by {billing}"
        console.print(
            f"[bold]{escape(title)}[/]" + (" [yellow]SYNTHETIC[/]" if group[0].synthetic else ""),
            highlight=False,
        )
        console.print(_results(group))
    console.print(note, style="dim", highlight=False)


def _results(runs: Sequence[Run]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("agent", min_width=16)
    widths = {"β": 4, "accuracy %": 10, "tokens": 8, "sequential": 10, "actions": 7, "eps/s": 7}
    for heading, width in widths.items():
        table.add_column(heading, justify="right", no_wrap=True, min_width=width)
    table.add_column("ran", no_wrap=True)
    for run in runs:
        margin = "" if math.isnan(run.margin) else f" ±{100 * run.margin:4.1f}"
        table.add_row(
            escape(run.agent),
            "" if run.beta is None else f"{run.beta:g}",
            f"{100 * run.accuracy:.1f}{margin}",
            f"{run.mean('tokens') / 1000:,.1f}k",
            f"{run.mean('sequential_tokens') / 1000:,.1f}k",
            f"{run.mean('actions'):,.0f}",
            "" if math.isnan(run.rate) else f"{run.rate:,.0f}",
            run.path,
        )
    return table
