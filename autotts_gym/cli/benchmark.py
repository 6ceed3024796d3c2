"""``autotts benchmark``: play agents on environments and print the results."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from autotts_gym.cli import benchmark_table, published_table
from autotts_gym.cli.console import exit_on_interrupt, print_dim, print_error, progress_bar
from autotts_gym.cli.options import (
    Billing,
    Environments,
    Order,
    open_environments,
    parse_integers,
    parse_numbers,
)
from autotts_gym.utils.processes import core_count

if TYPE_CHECKING:
    from autotts_gym.controllers.agent import Agent
    from autotts_gym.evaluation.backends import WorkerPool
    from autotts_gym.evaluation.results import Results
    from autotts_gym.evaluation.runs import IncompleteRun, Run
    from autotts_gym.mdp.trace_dataset import EpisodeConfig
    from autotts_gym.traces.store import TraceStore

#: Most failed episodes of a row that are printed.
_MAX_FAILURES: Final = 3


class Protocol(StrEnum):
    """Values of ``--protocol``."""

    paper = "paper"


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
            "are billed by interval."
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
    max_branches: Annotated[int, typer.Option(help="N, maximum width of an episode.")] = 64,
    budget: Annotated[
        int | None, typer.Option(help="B, maximum tokens of an episode; unlimited by default.")
    ] = None,
    action_limit: Annotated[
        int | None,
        typer.Option(help="Number of actions after which an episode fails; unlimited by default."),
    ] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds after which an episode fails.")] = 10.0,
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
) -> None:
    """Play agents on environments; print a table; write episodes, summary and plots.

    Every agent plays every question of every environment once per seed. If the command is
    interrupted, run it again to continue. The results do not depend on the number of workers.
    """
    from autotts_gym.evaluation import published_protocol
    from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord, Results
    from autotts_gym.evaluation.runs import IncompleteRun
    from autotts_gym.mdp.trace_dataset import EpisodeConfig
    from autotts_gym.traces.splits import split_of

    if protocol and (order or billing):
        raise ValueError("--protocol paper sets the order and the billing; omit both options")
    if action_limit is not None and action_limit < 1:
        raise ValueError(f"--action-limit must be at least 1, got {action_limit}")
    loaded = _load_agents(agents or [], protocol, untrusted)
    default_billing = Billing.interval if protocol else Billing.tokens
    config = EpisodeConfig(
        max_branches=max_branches,
        billing=(billing or default_billing).value,
        budget=budget,
        step_limit=action_limit,
    )
    configs = {
        agent.name: _with_billing(
            config, published_protocol.BILLING.get(agent.name) if protocol else None
        )
        for agent in loaded
    }
    stores = open_environments(env)
    splits = {name: split_of(store.path) for name, store in stores.items()}
    betas = list(published_protocol.BETAS) if beta is None else parse_numbers(beta)
    default_seeds = published_protocol.SEEDS if protocol else "0-9"
    chosen_seeds = parse_integers(default_seeds if seeds is None else seeds)
    chosen_order = Order.published if protocol else order or Order.random
    pool = _worker_pool(workers, ray, time_limit)
    rows = _play(loaded, stores, betas, chosen_seeds, out, chosen_order, configs, interpret, pool)
    results = Results(
        agents=[AgentRecord.from_agent(agent, configs[agent.name]) for agent in loaded],
        environments=[
            EnvironmentRecord.from_store(name, store, splits[name])
            for name, store in stores.items()
        ],
        runs=[row for row in rows if not isinstance(row, IncompleteRun)],
        incomplete=[row for row in rows if isinstance(row, IncompleteRun)],
        order=chosen_order.value,
        seeds=chosen_seeds,
        config=config,
        protocol=protocol or "",
    )
    _write_and_print(results, stores, out)
    _print_execution(results, interpret)
    _print_failures(results)
    print_dim(
        f"wrote {out / 'episodes.parquet'}, summary.csv, benchmark.json, frontier.png and "
        f"latency.png; for an HTML report, run: autotts report {out}"
    )
    if results.incomplete:
        raise typer.Exit(1)


def _load_agents(given: Sequence[str], protocol: Protocol | None, untrusted: bool) -> list[Agent]:
    """Load the agents, each once; with a protocol, its agents come first."""
    from autotts_gym.controllers.loader import load
    from autotts_gym.evaluation import published_protocol
    from autotts_gym.sandbox.lockdown import protections
    from autotts_gym.sandbox.untrusted_agent import is_file, load_untrusted

    names = list(given)
    if protocol:
        names = [
            *published_protocol.AGENTS,
            *(name for name in names if name not in published_protocol.AGENTS),
        ]
    if not names:
        raise ValueError("give at least one agent, such as cmc, or --protocol paper")
    loaded = list(
        dict.fromkeys(
            load_untrusted(name) if untrusted and is_file(name) else load(name) for name in names
        )
    )
    if untrusted:
        sandboxed = [agent.name for agent in loaded if agent.is_untrusted]
        print_dim(
            f"sandboxed agents: {', '.join(sandboxed) or 'none'}; "
            f"active protections: {', '.join(protections())}"
        )
    return loaded


def _with_billing(config: EpisodeConfig, billing: str | None) -> EpisodeConfig:
    return config if billing is None else replace(config, billing=billing)  # type: ignore[arg-type]


def _worker_pool(workers: int | None, ray: str | None, time_limit: float) -> WorkerPool | None:
    from autotts_gym.evaluation import backends

    if workers is not None and workers < 0:
        raise ValueError(f"--workers must be at least 0, got {workers}")
    if not time_limit > 0:
        raise ValueError(f"--time-limit must be above 0 seconds, got {time_limit:g}")
    if ray is not None:
        return backends.ray_pool(ray, workers, time_limit)
    if workers == 0:
        return None
    return backends.local_pool(workers or core_count(), time_limit)


def _play(
    agents: Sequence[Agent],
    stores: dict[str, TraceStore],
    betas: Sequence[float],
    seeds: Sequence[int],
    out: Path,
    order: Order,
    configs: Mapping[str, EpisodeConfig],
    interpret: bool,
    pool: WorkerPool | None,
) -> list[Run | IncompleteRun]:
    """Play everything that is not in the result cache, with a progress bar."""
    from autotts_gym.evaluation import benchmark as evaluation

    rows = sum(len(betas) if agent.takes_beta else 1 for agent in agents)
    questions = sum(store.card.questions for store in stores.values())
    with exit_on_interrupt(), progress_bar() as progress:
        task = progress.add_task("starting", total=rows * len(seeds) * questions)

        def update(label: str, episodes: int) -> None:
            progress.update(task, description=label, advance=episodes)

        return list(
            evaluation.run(
                agents,
                stores,
                betas,
                seeds,
                out,
                order=order.value,
                config=configs,
                interpret=interpret,
                settle=True,
                pool=pool,
                progress=update,
            )
        )


def _write_and_print(results: Results, stores: Mapping[str, TraceStore], out: Path) -> None:
    """Write the output folder, and print the tables."""
    from autotts_gym.evaluation.analysis import Analysis
    from autotts_gym.evaluation.plots import FIGURES, save_frontier
    from autotts_gym.evaluation.summary import write_summary

    results.save(out)
    analysis = Analysis.from_results(results)
    write_summary(results, analysis, out / "summary.csv")
    if not results.runs:
        return
    for name, cost in FIGURES.items():
        save_frontier(analysis, out / f"{name}.png", cost, results.synthetic)
    benchmark_table.print_tables(results, analysis, stores)
    if results.protocol:
        published_table.print_tables(results, analysis)


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
