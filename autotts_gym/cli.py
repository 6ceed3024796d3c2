"""The ``autotts`` command."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

import autotts_gym

if TYPE_CHECKING:
    from autotts_gym.evaluation.benchmark import Run

app = typer.Typer(
    help="Test-time scaling as a Gymnasium environment.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
console = Console()
errors = Console(stderr=True)


class Order(StrEnum):
    """The branch orders of ``autotts benchmark``."""

    published = "published"
    random = "random"


class Billing(StrEnum):
    """The billings of ``autotts benchmark``."""

    tokens = "tokens"
    interval = "interval"


def _version(value: bool) -> None:
    if value:
        console.print(f"autotts_gym {autotts_gym.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Test-time scaling as a Gymnasium environment."""


# --- environments --------------------------------------------------------------------------------


@app.command("import")
def import_(
    source: Annotated[
        Path, typer.Argument(help="A published JSON file, or a folder of MODEL/BENCHMARK.json.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the environment, or of the group.")],
) -> None:
    """Import published traces into your environment folder."""
    from autotts_gym.traces.published import import_published

    with _progress() as progress:
        task = progress.add_task("importing", total=None)

        def report(file: str, done: int, total: int) -> None:
            progress.update(task, description=file, completed=done, total=total)

        stores = import_published(source, name, progress=report)
    for environment, store in stores.items():
        card = store.card
        console.print(
            f"imported [bold]{environment}[/]: {card.questions} questions, "
            f"{card.branches} branches, Δ = {card.interval} tokens",
            highlight=False,
        )


@app.command()
def envs(
    cards: Annotated[bool, typer.Option("--cards", help="Print every card in full.")] = False,
) -> None:
    """List the environments there are, with what their cards say."""
    from autotts_gym.traces import registry
    from autotts_gym.traces.store import TraceError, TraceStore

    found = registry.listing()
    broken: dict[str, str] = {}
    table = Table(box=None, pad_edge=False)
    table.add_column("environment", style="bold", overflow="fold")
    for heading in ("questions", "branches", "Δ", "depth", "tokens/branch"):
        table.add_column(heading, justify="right")
    table.add_column("what", overflow="fold")
    for name, path in found.items():
        try:
            card = TraceStore.open(path).card
        except TraceError as problem:
            broken[name] = str(problem)
            continue
        figures = (card.questions, card.branches, card.interval, card.depth)
        what = [str(card.details[key]) for key in ("model", "benchmark") if key in card.details]
        if card.synthetic:
            what.insert(0, "synthetic")
        table.add_row(
            name, *(f"{f:,}" for f in figures), f"{card.mean_tokens:,.0f}", escape(", ".join(what))
        )
        if cards:
            console.rule(name, align="left")
            console.print(card.dump(), markup=False, highlight=False)
    if cards:
        console.rule()
    console.print(table)
    for name, error in broken.items():
        console.print(f"[red]{name}:[/] {escape(error)}", highlight=False, soft_wrap=True)
    _print_dim(f"\nyour own go to {registry.user_folder()}")


@app.command()
def synth(
    name: Annotated[str, typer.Option("--name", help="Name of the environment.")],
    questions: Annotated[int, typer.Option(help="How many questions.")] = 60,
    branches: Annotated[int, typer.Option(help="Branches of each question.")] = 128,
    interval: Annotated[int, typer.Option(help="Δ, tokens between two probes.")] = 500,
    seed: Annotated[int, typer.Option(help="The same seed makes the same store.")] = 0,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the model; repeatable."),
    ] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder to write below, instead of your own.")
    ] = None,
) -> None:
    """Generate an environment of synthetic traces, and compare it with published ones.

    The parameters are those of autotts_gym.traces.synthetic.SyntheticModel. The default is fitted
    to the figures of the published Qwen3-4B traces on AIME24.
    """
    from autotts_gym.traces import registry
    from autotts_gym.traces.statistics import PUBLISHED_AIME24, compare, describe
    from autotts_gym.traces.store import TraceError
    from autotts_gym.traces.synthetic import SyntheticModel, generate

    registry.check_name(name)
    parameters: dict[str, float] = {}
    for assignment in set_ or []:
        key, _, value = assignment.partition("=")
        if key not in SyntheticModel.__dataclass_fields__:
            raise TraceError(
                f"there is no parameter {key!r}; there are "
                f"{', '.join(SyntheticModel.__dataclass_fields__)}"
            )
        try:
            parameters[key] = float(value)
        except ValueError:
            raise TraceError(f"{assignment!r}: give a number, such as {key}=0.5") from None
    store = generate(SyntheticModel(**parameters), questions, branches, seed, interval)
    saved = store.save((to or registry.user_folder()) / name)
    where = escape(str(saved.path))
    console.print(f"made [bold]{name}[/] at {where}, [yellow]synthetic[/]", highlight=False)
    console.print(compare(describe(store), PUBLISHED_AIME24["Qwen3-4B"], (name, "Qwen3-4B")))


# --- benchmark -----------------------------------------------------------------------------------


def numbers(text: str) -> list[float]:
    """``0,0.5,1`` as numbers, each once; raises ``typer.BadParameter``."""
    try:
        return list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no list of numbers such as 0,0.5,1") from None


def integers(text: str) -> list[int]:
    """``0-9`` or ``0,3,5-7`` as integers, each once; raises ``typer.BadParameter``."""
    found: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise typer.BadParameter(f"{text!r} is no list of seeds such as 0-9 or 0,3,5-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise typer.BadParameter(f"{part!r} runs backwards")
        found += range(first, last + 1)
    return list(dict.fromkeys(found))


@app.command()
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
        with _progress() as progress:
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
            _print_dim(f"{run.agent} ran as plain Python: {run.reason}")
        for (seed, question), message in list(run.failures.items())[:3]:
            errors.print(
                f"[red]{escape(f'{run.agent} failed on {run.env}')}[/], question {question}, "
                f"seed {seed}: {escape(message)} ({len(run.failures)} failed in all)",
                highlight=False,
                soft_wrap=True,
            )
    _print_dim(f"wrote {out / 'episodes.parquet'}, summary.csv and frontier.png")


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


@app.command()
def play(
    agent: Annotated[str, typer.Argument(help="A name in agents/, or a path.")],
    env: Annotated[str | None, typer.Option("--env", help="A name or a path.")] = None,
    question: Annotated[int | None, typer.Option(help="Its row; drawn by default.")] = None,
    beta: Annotated[float, typer.Option(help="β of this episode.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Draws the branch order, and the question.")] = 0,
    billing: Annotated[Billing, typer.Option(help="As for the benchmark.")] = Billing.tokens,
    image: Annotated[
        Path | None, typer.Option(help="Write how it ended (.png) or how it went (.gif).")
    ] = None,
) -> None:
    """Play one episode through reset and step, and show how it ended."""
    import gymnasium as gym
    from PIL import Image

    from autotts_gym.controllers.loading import AgentError, load
    from autotts_gym.traces import registry
    from autotts_gym.wrappers import Film

    if image is not None and image.suffix not in (".png", ".gif"):
        raise ValueError(f"--image must end in .png or .gif, got {image.name!r}")
    loaded = load(agent)
    options: dict[str, Any] = {} if question is None else {"question": question}

    def episode(render_mode: str, every: int = 0) -> tuple[Film, dict[str, Any]]:
        made = gym.make(
            "AutoTTS-v0",
            env=env or registry.DEFAULT,
            beta=beta,
            billing=billing.value,
            render_mode=render_mode,
        )
        film = Film(made, every)
        film.reset(seed=seed, options=options)  # what is wrong with the options is no agent's fault
        try:
            return film, loaded.play(film, seed=seed, **options)
        except Exception as error:
            raise AgentError(f"{loaded.path}: {type(error).__name__}: {error}") from error

    film, info = episode("ansi")
    console.print(Text.from_ansi(str(film.render())), no_wrap=True, crop=False, soft_wrap=True)
    console.print(
        f"{info['steps']:,} actions, {info['tokens']:,} tokens, {info['sequential_tokens']:,} of "
        f"them in sequence",
        highlight=False,
    )
    if image is None:
        return
    # The same seed plays the same episode: the second time it is filmed, in about 100 frames.
    film, _ = episode("rgb_array", 0 if image.suffix == ".png" else max(1, info["steps"] // 100))
    frames = [Image.fromarray(frame) for frame in [*film.frames, film.render()]]
    if image.suffix == ".png":
        frames[-1].save(image, optimize=True)
    else:
        frames[0].save(image, save_all=True, append_images=frames[1:], duration=80, optimize=True)
    _print_dim(f"wrote {image}")


# --- helpers -------------------------------------------------------------------------------------


def _progress() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        transient=True,
        disable=not errors.is_terminal,  # or it leaves an empty line in files
    )


def _print_dim(text: str) -> None:
    console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def main(arguments: Sequence[str] | None = None) -> Any:
    """Run the command; what the user did wrong is told in a line, without a traceback."""
    try:
        return app(args=arguments)
    except OSError as error:
        what = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ValueError as error:  # AgentError and TraceError are such
        what = str(error)
    what = escape(" ".join(what.split()))
    errors.print(f"[red]autotts:[/] {what}", highlight=False, soft_wrap=True)
    sys.exit(1)
