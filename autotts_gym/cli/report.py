"""``autotts report``: write the results of a benchmark as an HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.markup import escape

from autotts_gym.cli.console import errors, print_dim, print_error, print_line, progress_bar
from autotts_gym.cli.options import WeakerSandbox

#: Most omissions that are printed.
_MAX_PROBLEMS: Final = 5


def report(
    results: Annotated[Path, typer.Argument(help="Output folder of autotts benchmark.")] = Path(
        "results"
    ),
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
    episodes: Annotated[
        int,
        typer.Option(help="Episodes to include for each row and environment; 0 for none."),
    ] = 12,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Also write the frontier and latency plots as PNG and SVG."
        ),
    ] = None,
    trusted: Annotated[
        bool | None,
        typer.Option(
            "--trusted/--untrusted",
            help="Run the programs of the results outside a sandbox, or in one. By default, only "
            "programs that you have played outside a sandbox run there.",
        ),
    ] = None,
    weaker_sandbox: WeakerSandbox = False,
) -> None:
    """Write the results of a benchmark as one HTML file that works offline.

    The page shows frontiers, a table with paired differences, the schedule of each agent over β,
    every question, and some episodes step by step. To include episodes, it plays them again, with
    the very programs that were played.
    """
    from autotts_gym.report import write_report

    if out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out must end in .html, got {out.name!r}")
    if not out.absolute().parent.is_dir():
        raise ValueError(f"--out: there is no folder {out.parent}")
    with progress_bar() as progress:
        task = progress.add_task("starting", total=None)

        def update(label: str, done: int, total: int) -> None:
            progress.update(task, description=label, completed=done, total=total)

        written = write_report(
            results,
            out,
            episodes=episodes,
            trusted=trusted,
            weaker_sandbox=weaker_sandbox,
            progress=update,
        )
    for problem in written.problems[:_MAX_PROBLEMS]:
        print_error("omitted", problem, "yellow")
    if len(written.problems) > _MAX_PROBLEMS:
        more = len(written.problems) - _MAX_PROBLEMS
        errors.print(f"and {more} more: see the page", highlight=False)
    count = str(written.episodes)
    if written.episodes < written.wanted:
        count = f"{written.episodes} of {written.wanted}"
    print_line(f"wrote [bold]{escape(str(out))}[/]: {written.size / 1e6:.1f} MB, {count} episodes")
    if figures is not None:
        _write_figures(results, figures)


def _write_figures(results: Path, folder: Path) -> None:
    from autotts_gym.evaluation.analysis import Analysis
    from autotts_gym.evaluation.plots import save_figures
    from autotts_gym.evaluation.results import Results

    loaded = Results.load(results)
    analysis = Analysis.from_results(loaded)
    folder.mkdir(parents=True, exist_ok=True)
    save_figures(analysis, folder, loaded.synthetic, (".png", ".svg"))
    print_dim(f"wrote frontier, latency and tradeoff plots as .png and .svg to {folder}")
