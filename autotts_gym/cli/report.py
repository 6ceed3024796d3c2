"""``autotts report``: a benchmark's results as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autotts_gym.cli.console import console, errors, print_dim, progress_bar


def report(
    results: Annotated[Path, typer.Argument(help="What autotts benchmark --out wrote.")] = Path(
        "results"
    ),
    out: Annotated[Path, typer.Option(help="The page to write.")] = Path("report.html"),
    episodes: Annotated[
        int, typer.Option(help="Episodes to watch, of every row and environment; 0 for none.")
    ] = 12,
    figures: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write frontier and latency as PNG and SVG as well."),
    ] = None,
) -> None:
    """Write a benchmark's results as one HTML file that needs no network.

    It shows frontiers, the table with paired differences, what β decides, every question, and some
    episodes step by step. Those are played once more, which runs the agents' files.
    """
    from autotts_gym.report import write_report

    if out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out must end in .html, got {out.name!r}")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)

        def tell(label: str, done: int, total: int) -> None:
            progress.update(task, description=label, completed=done, total=total)

        written = write_report(results, out, episodes=episodes, progress=tell)
    most = 5
    for problem in written.problems[:most]:
        errors.print(f"[yellow]left out:[/] {escape(problem)}", highlight=False, soft_wrap=True)
    if len(written.problems) > most:
        errors.print(f"and {len(written.problems) - most} more: see the page", highlight=False)
    shown = f"{written.episodes} episodes to watch"
    if written.episodes < written.wanted:
        shown = f"{written.episodes} of {written.wanted} episodes to watch"
    console.print(
        f"wrote [bold]{escape(str(out))}[/], {written.size / 1e6:.1f} MB, {shown}",
        highlight=False,
        soft_wrap=True,
    )
    if figures is not None:
        _draw(results, figures)


def _draw(results: Path, folder: Path) -> None:
    from autotts_gym.evaluation.analysis import Analysis
    from autotts_gym.evaluation.plots import FIGURES, frontier
    from autotts_gym.evaluation.results import Results

    found = Results.load(results)
    analysis = Analysis.of(found)
    synthetic = [env.name for env in found.environments if env.synthetic]
    folder.mkdir(parents=True, exist_ok=True)
    for name, cost in FIGURES.items():
        for suffix in (".png", ".svg"):
            frontier(analysis, folder / f"{name}{suffix}", cost, synthetic)
    print_dim(f"wrote frontier and latency as .png and .svg in {folder}")
