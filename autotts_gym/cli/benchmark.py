"""``autotts benchmark``: agents on environments."""

from __future__ import annotations

import statistics
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from autotts_gym.cli import tables
from autotts_gym.cli.console import (
    Billing,
    Order,
    errors,
    integers,
    numbers,
    print_dim,
    progress_bar,
    stores_of,
)
from autotts_gym.utils.processes import core_count

if TYPE_CHECKING:
    from autotts_gym.evaluation.backends import WorkerPool
    from autotts_gym.evaluation.results import Incomplete, Results, Run
    from autotts_gym.mdp.trace_dataset import EpisodeConfig


class Protocol(StrEnum):
    """The protocols of ``autotts benchmark``."""

    paper = "paper"


def benchmark(
    agents: Annotated[
        list[str] | None, typer.Argument(metavar="AGENT...", help="Names in agents/, or paths.")
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option("--env", help="A name or a path; repeat for several.")
    ] = None,
    beta: Annotated[
        str | None, typer.Option(help="β of agents that have the knob; default 0,0.5,1.")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Branch orders: 0-9 (the default), or 0,3,5-7.")
    ] = None,
    protocol: Annotated[
        Protocol | None,
        typer.Option(
            help="paper: the published agents, β, orders (0-99) and billing, and the published "
            "table beside what is measured. Agents that are named besides are billed by interval."
        ),
    ] = None,
    order: Annotated[
        Order | None,
        typer.Option(
            help="One order of branches for all questions of a seed, as published, or one each "
            "(random, the default)."
        ),
    ] = None,
    billing: Annotated[
        Billing | None,
        typer.Option(
            help="Bill what was generated (tokens, the default), or every started interval in full."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("results"),
    max_branches: Annotated[int, typer.Option(help="N, the widest an episode can get.")] = 64,
    budget: Annotated[int | None, typer.Option(help="B, tokens an episode; default none.")] = None,
    action_limit: Annotated[
        int | None, typer.Option(help="Actions after which an episode has failed; default none.")
    ] = None,
    time_limit: Annotated[
        float, typer.Option(help="Seconds after which an episode has failed.")
    ] = 10.0,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that play; default one a core. 0 plays in this process, where nothing "
            "ends an endless program."
        ),
    ] = None,
    ray: Annotated[
        str | None,
        typer.Option("--ray", metavar="ADDRESS", help="Play on a Ray cluster: HOST:PORT, or auto."),
    ] = None,
    interpret: Annotated[
        bool, typer.Option("--interpret", help="Play through step, even what can be compiled.")
    ] = False,
    untrusted: Annotated[
        bool,
        typer.Option(
            "--untrusted",
            help="Play every .py file that is given by its path in a sandbox: it is never run in a "
            "process that holds traces.",
        ),
    ] = False,
) -> None:
    """Play agents on environments; print the table, write episodes, summary and frontier.

    Every question of every environment is played once per seed. Interrupted, the same call goes
    on where it was. The results are the same whoever plays.
    """
    from autotts_gym.controllers.loader import load
    from autotts_gym.evaluation import benchmark as bench
    from autotts_gym.evaluation import published_protocol
    from autotts_gym.evaluation.analysis import Analysis
    from autotts_gym.evaluation.plots import FIGURES, frontier
    from autotts_gym.evaluation.results import Incomplete, PlayedAgent, PlayedEnvironment, Results
    from autotts_gym.evaluation.summary import write_summary
    from autotts_gym.mdp.trace_dataset import EpisodeConfig
    from autotts_gym.sandbox.lockdown import protections
    from autotts_gym.sandbox.untrusted_agent import is_file, load_untrusted
    from autotts_gym.traces.splits import split_of

    if protocol and (order or billing):
        raise ValueError("--protocol paper sets the order and the billing itself")
    names = list(agents or ())
    if protocol:
        names = [
            *published_protocol.AGENTS,
            *(name for name in names if name not in published_protocol.AGENTS),
        ]
    if action_limit is not None and action_limit < 1:
        raise ValueError(f"--action-limit must be at least 1, got {action_limit}")
    if not names:
        raise ValueError("name an agent or several, such as cmc, or ask for --protocol paper")
    loaded = list(
        dict.fromkeys(
            load_untrusted(name) if untrusted and is_file(name) else load(name) for name in names
        )
    )
    boxed = [agent.name for agent in loaded if agent.is_untrusted]
    if untrusted:
        print_dim(f"untrusted: {', '.join(boxed) or 'none'}; on: {', '.join(protections())}")
    default = Billing.interval if protocol else Billing.tokens
    terms = EpisodeConfig(
        max_branches=max_branches,
        billing=(billing or default).value,
        budget=budget,
        step_limit=action_limit,
    )
    own = {
        agent.name: _billed(terms, published_protocol.BILLING.get(agent.name) if protocol else None)
        for agent in loaded
    }
    stores = stores_of(env)
    betas = list(published_protocol.BETAS) if beta is None else numbers(beta)
    chosen = integers((published_protocol.SEEDS if protocol else "0-9") if seeds is None else seeds)
    how = Order.published if protocol else order or Order.random
    rows = sum(len(betas) if agent.takes_beta else 1 for agent in loaded)
    total = rows * len(chosen) * sum(store.card.questions for store in stores.values())
    splits = {name: split_of(store.path) for name, store in stores.items()}
    team = _team(workers, ray, time_limit)
    found: list[Run | Incomplete] = []
    try:
        with progress_bar() as progress:
            task = progress.add_task("starting", total=total)

            def report(label: str, episodes: int) -> None:
                progress.update(task, description=label, advance=episodes)

            found.extend(
                bench.run(
                    loaded,
                    stores,
                    betas,
                    chosen,
                    out,
                    order=how.value,
                    terms=own,
                    interpret=interpret,
                    settle=True,
                    team=team,
                    progress=report,
                )
            )
    except KeyboardInterrupt:
        errors.print("interrupted: what was finished is kept, the same call goes on from there")
        raise typer.Exit(130) from None
    results = Results(
        agents=[PlayedAgent.of(agent, own[agent.name]) for agent in loaded],
        environments=[
            PlayedEnvironment.of(name, store, splits[name]) for name, store in stores.items()
        ],
        runs=[row for row in found if not isinstance(row, Incomplete)],
        incomplete=[row for row in found if isinstance(row, Incomplete)],
        order=how.value,
        seeds=chosen,
        terms=terms,
        protocol=protocol or "",
    )
    results.save(out)
    analysis = Analysis.of(results)
    write_summary(results, analysis, out / "summary.csv")
    if results.runs:
        synthetic = [env.name for env in results.environments if env.synthetic]
        for name, cost in FIGURES.items():
            frontier(analysis, out / f"{name}.png", cost, synthetic)
        tables.show(results, analysis, stores)
        if protocol:
            tables.show_published(results, analysis)
    _tell(results, interpret)
    print_dim(
        f"wrote {out / 'episodes.parquet'}, summary.csv, benchmark.json, frontier.png and "
        f"latency.png; a page to read: autotts report {out}"
    )
    if results.incomplete:
        raise typer.Exit(1)


def _billed(terms: EpisodeConfig, billing: str | None) -> EpisodeConfig:
    """The terms with a billing of their own."""
    return terms if billing is None else replace(terms, billing=billing)  # type: ignore[arg-type]


def _team(workers: int | None, ray: str | None, time_limit: float) -> WorkerPool | None:
    from autotts_gym.evaluation import backends as w

    if workers is not None and workers < 0:
        raise ValueError(f"--workers must be at least 0, got {workers}")
    if not time_limit > 0:
        raise ValueError(f"--time-limit must be above 0 seconds, got {time_limit:g}")
    if ray is not None:
        return w.on_ray(ray, workers, time_limit)
    if workers == 0:
        return None
    return w.local(workers or core_count(), time_limit)


def _tell(results: Results, interpret: bool) -> None:
    """What did not run as it should, or not as fast as it could."""
    ways: dict[str, dict[str, list[float]]] = {}
    for run in results.runs:
        rates = ways.setdefault(run.path, {}).setdefault(run.agent, [])
        if run.path != "kept":
            rates.append(run.rate)
    for way, agents in ways.items():
        parts = [
            name + (f" ({statistics.median(rates):,.0f} episodes/s)" if rates else "")
            for name, rates in agents.items()
        ]
        print_dim(f"{way}: {', '.join(parts)}")
    boxed = {agent.name for agent in results.agents if agent.untrusted}
    reasons = {
        run.agent: run.reason
        for run in results.runs
        if run.reason and not interpret and run.agent not in boxed
    }
    for name, reason in reasons.items():
        print_dim(f"{name} ran as plain Python: {reason}")
    for run in results.runs:
        for (seed, question), message in list(run.failures.items())[:3]:
            _complain(
                _label(run.agent, run.beta, run.env),
                f"question {question}, seed {seed}: {message} ({len(run.failures)} of "
                f"{len(run.episodes['seed'])} episodes failed)",
            )
    for row in results.incomplete:
        _complain(_label(row.agent, row.beta, row.env), f"given up: {row.message}")


def _label(agent: str, beta: float | None, env: str) -> str:
    return f"{agent}{'' if beta is None else f' at β={beta:g}'} on {env}"


def _complain(who: str, what: str) -> None:
    errors.print(f"[red]{escape(who)}:[/] {escape(what)}", highlight=False, soft_wrap=True)
