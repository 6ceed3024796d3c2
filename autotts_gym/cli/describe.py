"""``autotts describe``: statistics of environments, side by side."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.console import SafeConsole
from autotts_gym.utils.terminal_text import one_line


def describe(
    env: Annotated[
        list[str], typer.Argument(help="Names or paths of environments.", metavar="ENV...")
    ],
    published: Annotated[
        bool,
        typer.Option("--published", help="Add columns for the published Qwen3 traces on AIME24."),
    ] = False,
    every: Annotated[
        bool, typer.Option("--all", help="Also print quantiles and statistics by depth.")
    ] = False,
) -> None:
    """Print the statistics of environments that matter to a controller, side by side.

    Depth is relative: 0 at the start of a branch, 1 at its end.
    """
    from dataclasses import fields

    from autotts_gym.traces import registry
    from autotts_gym.traces import statistics as st
    from autotts_gym.traces.branch_width import MAX_WIDTH, default_width
    from autotts_gym.traces.published_statistics import PUBLISHED_AIME24

    stores = {name: store for given in env for name, store in registry.open_stores(given).items()}
    columns = {name: st.describe(store) for name, store in stores.items()}
    widths = {default_width([store]) for store in stores.values()}
    if published:
        widths.add(MAX_WIDTH)
        columns |= {f"{model} published": s for model, s in PUBLISHED_AIME24.items()}
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for name in columns:
        table.add_column(escape(one_line(name.replace("/", " "))), justify="right", max_width=12)
    for item in fields(st.Statistics):
        places = item.metadata["at"]
        if places and not every:
            continue
        form = item.metadata["format"]
        label = item.metadata["label"].replace(f"of {MAX_WIDTH}", f"of {_width_label(widths)}")
        values = [getattr(statistics, item.name) for statistics in columns.values()]
        if not places:
            table.add_row(label, *(st.formatted(value, form) for value in values))
        for place, *row in zip(places, *values, strict=True) if places else ():
            table.add_row(f"{label} {place}", *(st.formatted(value, form) for value in row))
    # A fixed width: rows must not wrap in a narrow terminal.
    SafeConsole(width=48 + 14 * len(columns)).print(table)


def _width_label(widths: set[int]) -> str:
    """How many branches a vote has, in the columns together."""
    least, most = min(widths), max(widths)
    return str(most) if least == most else f"{least} to {most}"
