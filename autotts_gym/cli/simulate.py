"""``autotts simulate``: what β costs on a fleet of model servers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.console import (
    ProgressLines,
    exit_on_interrupt,
    print_dim,
    print_line,
    print_table,
    progress_bar,
)
from autotts_gym.cli.options import (
    Api,
    Environments,
    Headers,
    LatencyWeight,
    ServerApi,
    parse_integers,
    parse_numbers,
)

if TYPE_CHECKING:
    from autotts_gym.simulation import ServerCurve, SimulationResult


class Routing(StrEnum):
    """Which server gets a request."""

    least_loaded = "least_loaded"
    sticky = "sticky"
    round_robin = "round_robin"


def simulate(
    agents: Annotated[
        list[str] | None,
        typer.Argument(metavar="AGENT...", help="Names of bundled agents, or paths."),
    ] = None,
    curve: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="How fast a server generates: a JSON file, which --calibrate writes.",
        ),
    ] = Path("curve.json"),
    env: Environments = None,
    rate: Annotated[
        str | None,
        typer.Option(help="Questions per second, as Poisson arrivals; several as 1,2,5."),
    ] = None,
    arrivals: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Arrival times in seconds, one on each line."),
    ] = None,
    servers: Annotated[int, typer.Option(help="Number of servers.")] = 1,
    beta: Annotated[
        str, typer.Option(help="Values of β, for agents that take it.")
    ] = "0,0.25,0.5,0.75,1",
    questions: Annotated[int, typer.Option(help="Questions at each rate.")] = 100_000,
    seeds: Annotated[
        str, typer.Option(help="Seeds of the branch orders, such as 0,3,5-7.")
    ] = "0-9",
    seed: Annotated[int, typer.Option(help="Seed of the arrivals.")] = 0,
    max_branches: Annotated[
        int | None,
        typer.Option(
            help="N, maximum width of an episode; by default 64, or the fewest branches of a "
            "question."
        ),
    ] = None,
    budget: Annotated[
        int | None, typer.Option(help="B, maximum tokens of an episode; unlimited by default.")
    ] = None,
    latency_weight: LatencyWeight = 0.0,
    routing: Annotated[
        Routing,
        typer.Option(
            help="Which server gets a request: the one with the fewest, that of the branch's first "
            "request, or one after the other."
        ),
    ] = Routing.least_loaded,
    max_episodes: Annotated[
        int, typer.Option(help="Most questions in progress; further ones wait.")
    ] = 4096,
    gpu_hour: Annotated[
        float | None, typer.Option(help="Price of a GPU for an hour, for costs.")
    ] = None,
    gpus_per_server: Annotated[int, typer.Option(help="GPUs of a server.")] = 1,
    warm_up: Annotated[
        float | None,
        typer.Option(
            help="Share of the first questions that times leave out; by default 0.1, or 0 with "
            "--arrivals."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Threads; by default one for each core.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("simulation"),
    calibrate: Annotated[
        str | None,
        typer.Option(
            metavar="BASE_URL",
            help="First measure the curve of the server at this URL, and write it to --curve.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            help="For --calibrate: an environment collected from the server's model; by default "
            "that of --env."
        ),
    ] = None,
    seconds: Annotated[
        float, typer.Option(help="For --calibrate: how long the measurement takes.")
    ] = 60.0,
    max_sequences: Annotated[
        int,
        typer.Option(help="For --calibrate: most concurrent sequences of the server."),
    ] = 256,
    context: Annotated[
        int | None,
        typer.Option(
            help="For --calibrate: tokens before every branch; by default half a branch of the "
            "reference if that has 1,000 or more."
        ),
    ] = None,
    server_api: Api = ServerApi.tokens,
    api_key: Annotated[
        str | None, typer.Option(envvar="OPENAI_API_KEY", help="API key for the server.")
    ] = None,
    header: Headers = None,
) -> None:
    """Simulate a fleet of model servers that answers questions, and print the time to answer by β.

    Recorded episodes share the servers: their requests run at the measured rate, and wait for each
    other as those of live episodes do. If the command is interrupted, run it again to continue.
    """
    from autotts_gym.api import fleet_simulation

    if calibrate is None and reference is not None:
        raise ValueError("--reference is for --calibrate; give the environment as --env")
    if calibrate is not None:
        from autotts_gym.inference.http_headers import parse_headers

        known = [reference] if reference else list(env or [])
        if len(known) != 1:
            raise ValueError("--calibrate needs one environment: give it as --reference or --env")
        if not curve.absolute().parent.is_dir():
            raise ValueError(f"--curve: there is no folder {curve.parent}")
        with _calibration_progress() as show:
            measured = fleet_simulation.calibrate(
                calibrate,
                known[0],
                out=curve,
                seconds=seconds,
                max_sequences=max_sequences,
                context=context,
                api=server_api.value,
                api_key=api_key,
                headers=parse_headers(header or ()),
                progress=show,
            )
        _print_curve(measured)
        print_line(f"wrote [bold]{escape(str(curve))}[/]")
        if not agents:
            return
    if not agents:
        raise ValueError("give at least one agent, such as cmc, or --calibrate")
    if (rate is None) == (arrivals is None):
        raise ValueError("give either --rate, such as --rate 1,5, or --arrivals")
    with exit_on_interrupt(), _progress() as update:
        result = fleet_simulation.simulate(
            agents,
            env,
            curve=curve,
            rates=() if rate is None else parse_numbers(rate),
            arrivals=arrivals,
            servers=servers,
            betas=parse_numbers(beta),
            questions=questions,
            seeds=parse_integers(seeds),
            seed=seed,
            max_branches=max_branches,
            budget=budget,
            latency_weight=latency_weight,
            routing=routing.value,
            max_episodes=max_episodes,
            gpu_hour=gpu_hour,
            gpus_per_server=gpus_per_server,
            warm_up=warm_up,
            workers=workers,
            out=out,
            progress=update,
        )
    _print_result(result)
    print_dim(f"wrote {out / 'simulation.csv'}, simulation.json and simulation.html")


def _print_result(result: SimulationResult) -> None:
    head, *rows = result.cells()
    table = Table(box=None, pad_edge=False)
    for k, name in enumerate(head):
        table.add_column(name, justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(escape, row))
    print_table(table)
    if any(point.overloaded for point in result):
        print_dim(
            "! overloaded: more questions arrive than the servers can answer; times depend on the "
            "number of questions"
        )
    synthetic = [env["name"] for env in result.facts["environments"] if env["synthetic"]]
    if synthetic:
        print_dim(f"synthetic traces: {', '.join(synthetic)}")
    failed = {point.name: point.failures for point in result if point.failures}
    for name, share in failed.items():
        print_dim(f"{name}: {100 * share:.1f}% of the episodes failed, and count as incorrect")


def _print_curve(curve: ServerCurve) -> None:
    table = Table(box=None, pad_edge=False)
    for name in ("sequences", "tokens/s each", "tokens/s in total"):
        table.add_column(name, justify="right")
    for count, each in zip(curve.concurrency, curve.tokens_per_second, strict=True):
        table.add_row(f"{count}", f"{each:,.1f}", f"{count * each:,.0f}")
    print_table(table)
    for name, cost in (("request", curve.request), ("probe", curve.probe)):
        print_dim(f"a {name} costs {1000 * cost.seconds:.1f} ms and {cost.tokens:.1f} tokens")


@contextmanager
def _progress() -> Iterator[Callable[[str, int], None]]:
    """Show how many questions have been simulated."""
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)
        lines = ProgressLines(progress)
        done = 0

        def update(label: str, count: int) -> None:
            nonlocal done
            done += count
            progress.update(task, description=label, advance=count)
            lines.print(f"{done:,} questions simulated: {label}")

        yield update


@contextmanager
def _calibration_progress() -> Iterator[Callable[[int, int], None]]:
    """Show the number of concurrent requests that is being measured."""
    with progress_bar() as progress:
        task = progress.add_task("measuring", total=None)
        lines = ProgressLines(progress)

        def update(workers: int, largest: int) -> None:
            label = f"{workers} of up to {largest} concurrent requests"
            progress.update(task, description=label)
            lines.print(label)

        yield update
