"""``autotts envs``: list the environments."""

from __future__ import annotations

import contextlib
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from autotts_gym.cli.console import console, print_dim, print_line, print_table
from autotts_gym.utils.terminal_text import one_line


def envs(
    cards: Annotated[bool, typer.Option("--cards", help="Also print every card in full.")] = False,
) -> None:
    """List the available environments with the main facts of their cards."""
    from autotts_gym.traces import registry
    from autotts_gym.traces.splits import split_of
    from autotts_gym.traces.store import TraceError, TraceStore

    broken: dict[str, str] = {}
    table = Table(box=None, pad_edge=False)
    table.add_column("environment", style="bold", no_wrap=True, overflow="fold")
    for heading in ("questions", "branches", "Δ", "depth", "tokens/branch"):
        table.add_column(heading, justify="right")
    table.add_column("kind")
    for name, path in registry.listing().items():
        try:
            card, split = TraceStore.open(path).card, split_of(path)
        except (TraceError, OSError) as problem:
            broken[name] = str(problem)
            continue
        figures = (card.questions, card.branches, card.interval, card.depth)
        kind = split or ("synthetic" if card.synthetic else "")
        table.add_row(
            escape(one_line(name)),
            *(f"{f:,}" for f in figures),
            f"{card.mean_tokens:,.0f}",
            escape(kind),
        )
        if cards:
            console.rule(Text(one_line(name)), align="left")
            console.print(card.dump(), markup=False, highlight=False)
    if cards:
        console.rule()
    print_table(table)
    for name, error in broken.items():
        print_line(f"[red]{escape(one_line(name))}:[/] {escape(one_line(error))}")
    with contextlib.suppress(TraceError):  # no home folder
        print_dim(f"\nyour environment folder: {registry.user_folder()}")
