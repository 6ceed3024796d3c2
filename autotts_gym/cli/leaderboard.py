"""``autotts leaderboard``: verified results of many benchmarks as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import print_dim, print_error, print_line, progress_bar
from autotts_gym.cli.options import WeakerSandbox


def leaderboard(
    folders: Annotated[
        list[Path],
        typer.Argument(
            metavar="FOLDER...",
            help="Results folders of autotts benchmark, and folders that contain some.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("leaderboard.html"),
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the tables as Markdown.")
    ] = None,
    sample: Annotated[
        int,
        typer.Option(min=1, help="Episodes of every row and environment that are played again."),
    ] = 20,
    replay_all: Annotated[
        bool, typer.Option("--replay-all", help="Play all episodes again.")
    ] = False,
    sample_seed: Annotated[
        int | None,
        typer.Option(min=0, help="Seed of the choice of episodes; random by default."),
    ] = None,
    weaker_sandbox: WeakerSandbox = False,
) -> None:
    """Write verified results of many benchmarks as one page.

    Environments are columns, controllers are rows. Figures are recomputed from the episodes, and a
    sample of them is played again: a folder whose episodes do not end as recorded is refused.
    Controllers that are not bundled are played in the sandbox; put their files into the subfolder
    controllers of the results folder.
    """
    from autotts_gym.leaderboard import build_leaderboard, write_markdown, write_page

    if out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out must end in .html, got {out.name!r}")
    for option, file in (("--out", out), ("--markdown", markdown)):
        if file is not None and not file.absolute().parent.is_dir():
            raise ValueError(f"{option}: there is no folder {file.parent}")
    with progress_bar() as progress:
        task = progress.add_task("reading", total=None)

        def update(label: str, done: int, total: int) -> None:
            progress.update(task, description=label, completed=done, total=total)

        board = build_leaderboard(
            folders,
            sample=None if replay_all else sample,
            sample_seed=sample_seed,
            weaker_sandbox=weaker_sandbox,
            progress=update,
        )
    for name, reason in board.refused.items():
        print_error(f"refused {name}", reason)
    if board.entries:
        write_page(board, out)
        if markdown is not None:
            write_markdown(board, markdown)
        replayed = sum(entry.replayed for entry in board.entries)
        episodes = sum(entry.episodes for entry in board.entries)
        count = len(board.entries)
        folders_text = f"{count} results folder{'' if count == 1 else 's'}"
        print_line(f"wrote [bold]{escape(str(out))}[/]: {folders_text}")
        print_dim(
            f"replayed {replayed:,} of {episodes:,} episodes; --sample-seed {board.sample_seed}"
        )
    else:
        print_dim("nothing was written, because every results folder was refused")
    if board.refused:
        raise typer.Exit(1)
