"""``autotts import``: convert published traces to environments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import print_line, progress_bar


def import_(
    source: Annotated[
        Path, typer.Argument(help="A published JSON file, or a folder of MODEL/BENCHMARK.json.")
    ],
    name: Annotated[str, typer.Option("--name", help="Name of the environment, or of the group.")],
    search: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Environments of the group that belong to the search split, such as '*/aime24'; "
            "the others are held out. Repeatable.",
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
        print_line(
            f"imported [bold]{escape(environment)}[/]: {card.questions} questions, "
            f"{card.branches} branches, Δ = {card.interval} tokens"
        )
