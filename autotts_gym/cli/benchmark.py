"""``autotts benchmark``: play agents on environments and print the results."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from autotts_gym.api.catalogue import load_controllers
from autotts_gym.cli import benchmark_table, field_table, published_table
from autotts_gym.cli.console import (
    ProgressLines,
    exit_on_interrupt,
    print_dim,
    print_error,
    progress_bar,
)
from autotts_gym.cli.options import (
    Billing,
    Environments,
    LatencyWeight,
    Order,
    WeakerSandbox,
    open_environments,
    parse_integers,
    parse_numbers,
)

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.evaluation.results import Results

#: Most failed episodes of a row that are printed.
_MAX_FAILURES: Final = 3


class Protocol(StrEnum):
    """Values of ``--protocol``."""

    paper = "paper"
    field = "field"


def benchmark(
    agents: Annotated[
        list[str] | None,
        typer.Argument(metavar="AGENT...", help="Names of bundled agents, or paths."),
    ] = None,
    env: Environments = None,
    beta: Annotated[
        str | None, typer.Option(help="Values of β, for agents that take it; 0,0.5,1 by default.")
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds of the branch orders, such as 0,3,5-7; 0-9 by default."),
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            help="paper: reproduce the published table. Sets agents, β, seeds (0-99), order and "
            "billing, and prints the published figures below the measured ones. Additional agents "
            "are billed by interval. field: compare all bundled controllers at their published "
            "settings in one table."
        ),
    ] = None,
    order: Annotated[
        Order | None,
        typer.Option(
            help="published: one branch order for all questions of a seed; random: one for each "
            "question (default)."
        ),
    ] = None,
    billing: Annotated[
        Billing | None,
        typer.Option(
            help="tokens: charge generated tokens (default); interval: charge every started "
            "interval in full."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("results"),
    max_branches: Annotated[
        int | None,
        typer.Option(
            help="N, maximum width of an episode; by default 64, or the fewest branches "
            "of a question."
        ),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="B, maximum tokens of an episode; unlimited by default.")
    ] = None,
    latency_weight: LatencyWeight = 0.0,
    action_limit: Annotated[
        int | None,
        typer.Option(help="Number of actions after which an episode fails; unlimited by default."),
    ] = None,
    time_limit: Annotated[
        float, typer.Option(help="Seconds of its own after which an episode fails.")
    ] = 10.0,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Worker processes; by default one for each core. 0 plays in this process, where "
            "the time limit is not enforced."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Play on a Ray cluster: HOST:PORT or auto."),
    ] = None,
    interpret: Annotated[
        bool, typer.Option("--interpret", help="Run every agent as plain Python, uncompiled.")
    ] = False,
    untrusted: Annotated[
        bool,
        typer.Option(
            "--untrusted",
            help="Run agents that are given as .py files in a sandbox, without access to the "
            "traces.",
        ),
    ] = False,
    weaker_sandbox: WeakerSandbox = False,
) -> None:
    """Play agents on environments; print a table; write episodes, summary and plots.

    Every agent plays every question of every environment once per seed. If the command is
    interrupted, run it again to continue. The results do not depend on the number of workers.
    """
    from autotts_gym.evaluation.backends import create_pool
    from autotts_gym.evaluation.benchmark_session import (
        default_betas,
        default_seeds,
        plan_benchmark,
        play_benchmark,
    )

    if protocol == Protocol.paper and (order or billing):
        raise ValueError("--protocol paper sets the order and the billing; omit both options")
    if action_limit is not None and action_limit < 1:
        raise ValueError(f"--action-limit must be at least 1, got {action_limit}")
    if not (agents or protocol):
        raise ValueError("give at least one agent, such as cmc, or --protocol")
    loaded = load_controllers(agents or [], untrusted, weaker_sandbox)
    if untrusted:
        _print_protections(loaded)
    stores = open_environments(env)
    plan = plan_benchmark(
        loaded,
        default_betas(protocol) if beta is None else parse_numbers(beta),
        parse_integers(default_seeds(protocol) if seeds is None else seeds),
        protocol=protocol.value if protocol else None,
        order=order.value if order else None,
        billing=billing.value if billing else None,
        stores=stores,
        max_branches=max_branches,
        budget=budget,
        action_limit=action_limit,
        latency_weight=latency_weight,
    )
    pool = create_pool(workers, time_limit, ray)
    with exit_on_interrupt(), _progress(plan.episode_count(stores)) as update:
        results, analysis = play_benchmark(
            plan, stores, out, interpret=interpret, pool=pool, progress=update
        )
    if results.runs:
        if protocol == Protocol.field:
            field_table.print_tables(results, analysis, stores)
        else:
            benchmark_table.print_tables(results, analysis, stores)
        if protocol == Protocol.paper:
            published_table.print_tables(results, analysis)
    _print_execution(results, interpret)
    _print_failures(results)
    print_dim(
        f"wrote {out / 'episodes.parquet'}, summary.csv, benchmark.json, frontier.png, latency.png "
        f"and tradeoff.png; for an HTML report, run: autotts report {out}"
    )
    if results.incomplete:
        raise typer.Exit(1)


def _print_protections(agents: Sequence[Agent]) -> None:
    """Print which agents run in a sandbox, and what protects this machine from them."""
    from autotts_gym.sandbox.lockdown import missing, protections

    sandboxed = [agent.name for agent in agents if agent.is_untrusted]
    lacking = f"; missing: {', '.join(missing())}" if missing() else ""
    print_dim(
        f"sandboxed agents: {', '.join(sandboxed) or 'none'}; "
        f"active protections: {', '.join(protections())}{lacking}"
    )


@contextmanager
def _progress(episodes: int) -> Iterator[Callable[[str, int], None]]:
    """Show a progress bar; yields the function that advances it."""
    with progress_bar() as progress:
        task = progress.add_task("starting", total=episodes)
        lines = ProgressLines(progress)
        done = 0

        def update(label: str, count: int) -> None:
            nonlocal done
            done += count
            progress.update(task, description=label, advance=count)
            lines.print(
                f"{done / max(episodes, 1):.0%}, {done:,} of {episodes:,} episodes: {label}"
            )

        yield update


def _print_execution(results: Results, interpret: bool) -> None:
    """Print how each agent was run, how fast, and why it was not compiled."""
    rates: dict[str, dict[str, list[float]]] = {}
    for run in results.runs:
        of_agent = rates.setdefault(run.path, {}).setdefault(run.agent, [])
        if run.path != "kept":
            of_agent.append(run.rate)
    for path, agents in rates.items():
        parts = [
            name + (f" ({statistics.median(values):,.0f} episodes/s)" if values else "")
            for name, values in agents.items()
        ]
        print_dim(f"{'cached' if path == 'kept' else path}: {', '.join(parts)}")
    sandboxed = {agent.name for agent in results.agents if agent.untrusted}
    reasons = {
        run.agent: run.reason
        for run in results.runs
        if run.reason and not interpret and run.agent not in sandboxed
    }
    for name, reason in reasons.items():
        print_dim(f"{name} ran as plain Python: {reason}")


def _print_failures(results: Results) -> None:
    for run in results.runs:
        for (seed, question), message in list(run.failures.items())[:_MAX_FAILURES]:
            print_error(
                _label(run.agent, run.beta, run.env),
                f"question {question}, seed {seed}: {message} ({len(run.failures)} of "
                f"{len(run.episodes['seed'])} episodes failed)",
            )
    for row in results.incomplete:
        print_error(_label(row.agent, row.beta, row.env), f"not completed: {row.message}")


def _label(agent: str, beta: float | None, env: str) -> str:
    return f"{agent}{'' if beta is None else f' at β={beta:g}'} on {env}"
