"""``autotts regrade``: make the answer classes of an environment anew."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import print_line, progress_bar


def regrade(
    env: Annotated[str, typer.Argument(help="Name or path of an environment.")],
    out: Annotated[
        Path, typer.Option(metavar="FOLDER", help="Folder of the new environment; must not exist.")
    ],
    form: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN",
            help="Questions, by id, whose answers must be written like the gold answer to equal "
            "it: 2/4 is not 1/2. Repeat for several.",
        ),
    ] = None,
) -> None:
    """Write an environment with answer classes made anew from its raw answers, without a model.

    Published traces were compared as strings by their authors; regraded, their figures change.
    """
    from autotts_gym.api import load_env
    from autotts_gym.collection.regrading import changed_answers
    from autotts_gym.collection.regrading import regrade as regrade_store
    from autotts_gym.traces.statistics import describe

    store = load_env(env)
    with progress_bar() as progress:
        task = progress.add_task("comparing answers", total=len(store))
        made = regrade_store(
            store,
            out,
            lambda done, total: progress.update(task, completed=done, total=total),
            form=form or (),
        )
    changes = changed_answers(store, made)
    for question, was, now, was_right, is_right in changes:
        if was_right != is_right:
            verdict = "now correct" if is_right else "no longer correct"
            print_line(f"{escape(question)}: {escape(was)!s} → {escape(now)!s}, {verdict}")
    before, after = (describe(each) for each in (store, made))
    print_line(
        f"wrote [bold]{escape(str(out))}[/]: {len(changes):,} answers in another class; "
        f"accuracy of a branch {before.accuracy:.2%} → {after.accuracy:.2%}"
    )
