"""``autotts import``, ``envs`` and ``synth``: the environments there are, and new ones."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.console import console, print_dim, progress_bar


def import_(
    source: Annotated[
        Path, typer.Argument(help="A published JSON file, or a folder of MODEL/BENCHMARK.json.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the environment, or of the group.")],
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Environments of a group that are for the search, as '*/aime24'; the others are "
            "held out. Repeatable.",
        ),
    ] = None,
) -> None:
    """Import published traces into your environment folder."""
    from autotts_gym.traces.published_import import import_published

    with progress_bar() as progress:
        task = progress.add_task("importing", total=None)

        def report(file: str, done: int, total: int) -> None:
            progress.update(task, description=file, completed=done, total=total)

        stores = import_published(source, name, progress=report, search=search or ())
    for environment, store in stores.items():
        card = store.card
        console.print(
            f"imported [bold]{environment}[/]: {card.questions} questions, "
            f"{card.branches} branches, Δ = {card.interval} tokens",
            highlight=False,
        )


def envs(
    cards: Annotated[bool, typer.Option("--cards", help="Print every card in full.")] = False,
) -> None:
    """List the environments there are, with what their cards say."""
    from autotts_gym.traces import registry
    from autotts_gym.traces.splits import split_of
    from autotts_gym.traces.store import TraceError, TraceStore

    found = registry.listing()
    broken: dict[str, str] = {}
    table = Table(box=None, pad_edge=False)
    table.add_column("environment", style="bold", no_wrap=True, overflow="fold")
    for heading in ("questions", "branches", "Δ", "depth", "tokens each"):
        table.add_column(heading, justify="right")
    table.add_column("kind")
    for name, path in found.items():
        try:
            card, split = TraceStore.open(path).card, split_of(path)
        except TraceError as problem:
            broken[name] = str(problem)
            continue
        figures = (card.questions, card.branches, card.interval, card.depth)
        what = split or ("synthetic" if card.synthetic else "")
        table.add_row(
            escape(name), *(f"{f:,}" for f in figures), f"{card.mean_tokens:,.0f}", escape(what)
        )
        if cards:
            console.rule(name, align="left")
            console.print(card.dump(), markup=False, highlight=False)
    if cards:
        console.rule()
    console.print(table)
    for name, error in broken.items():
        console.print(f"[red]{name}:[/] {escape(error)}", highlight=False, soft_wrap=True)
    print_dim(f"\nyour own go to {registry.user_folder()}")


def describe(
    env: Annotated[list[str], typer.Argument(help="Names or paths.", metavar="ENV...")],
    published: Annotated[
        bool,
        typer.Option("--published", help="Beside the published Qwen3 traces on AIME24."),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Quantiles and figures by depth as well.")
    ] = False,
) -> None:
    """Measure environments in the ways that matter to a controller, side by side.

    Depth is relative: 0 where a branch begins, 1 where it ends.
    """
    from dataclasses import fields

    from autotts_gym.traces import registry
    from autotts_gym.traces import statistics as st

    columns = {
        name: st.describe(store)
        for wanted in env
        for name, store in registry.open_stores(wanted).items()
    }
    if published:
        columns |= {f"{model} published": s for model, s in st.PUBLISHED_AIME24.items()}
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(escape(name.replace("/", " ")), justify="right", max_width=12)
    for item in fields(st.Statistics):
        at = item.metadata["at"]
        if at and not every:
            continue
        label, form = item.metadata["label"], item.metadata["format"]
        values = [getattr(statistics, item.name) for statistics in columns.values()]
        if not at:
            table.add_row(label, *(form.format(value) for value in values))
        for place, *row in zip(at, *values, strict=True) if at else ():
            table.add_row(f"{label} {place}", *(form.format(value) for value in row))
    # Whatever the width of the terminal: figures that stand below one another are compared.
    Console(width=48 + 14 * len(columns)).print(table)


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

    The parameters are those of autotts_gym.traces.synthetic_traces.SyntheticModel. The default is fitted
    to the figures of the published Qwen3-4B traces on AIME24.
    """
    from autotts_gym.traces import registry
    from autotts_gym.traces.statistics import PUBLISHED_AIME24, compare, describe
    from autotts_gym.traces.store import TraceError
    from autotts_gym.traces.synthetic_traces import SyntheticModel, generate

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
