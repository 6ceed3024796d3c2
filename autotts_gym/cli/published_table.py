"""The published table, with measured figures, for ``autotts benchmark --protocol paper``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.console import console, print_dim, wide_console
from autotts_gym.cli.formatting import format_thousands
from autotts_gym.evaluation import published_protocol
from autotts_gym.utils.terminal_text import one_line

if TYPE_CHECKING:
    from autotts_gym.evaluation.analysis import Analysis, Scope
    from autotts_gym.evaluation.results import Results


def print_tables(results: Results, analysis: Analysis) -> None:
    """Print tables in the published layout: measured figures, and published ones below them."""
    benchmarks: dict[str, list[Scope]] = {}
    details = {env.name: env.details for env in results.environments}
    for scope in analysis.scopes:
        if not scope.is_average:
            name = str(details[scope.name].get("benchmark", scope.name))
            benchmarks.setdefault(name, []).append(scope)
    for name, scopes in benchmarks.items():
        cards = {scope: details[scope.name] for scope in scopes}
        title = f"{name}: accuracy % / total tokens"
        _print_table(title, cards, analysis, _measured_outcome, _published_outcome)
        title = f"{name}: sequential tokens"
        _print_table(title, cards, analysis, _measured_latency, _published_latency)
    for (label, model), reason in published_protocol.NOT_REPRODUCED.items():
        print_dim(f"† {label} on {model}: {reason}")
    print_dim(
        "Published sequential tokens are those of the longest branch (ESC: of every window); "
        "measured sequential tokens are those of the critical path."
    )
    config = results.config
    limits = config.max_branches, config.budget, config.step_limit
    if limits != (published_protocol.WIDTH, None, None):
        print_dim(
            f"The published figures are for {published_protocol.WIDTH} branches and no limit; "
            "this run had another width, a budget or an action limit."
        )


def _print_table(
    title: str,
    cards: Mapping[Scope, Mapping[str, object]],
    analysis: Analysis,
    measured: Callable[[Mapping[str, float]], str],
    published: Callable[[published_protocol.PublishedFigures], str],
) -> None:
    """Print a table with a column for each model, and published figures below measured ones."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(escape(one_line(title)), no_wrap=True)
    models = {scope: str(card.get("model", scope.name)) for scope, card in cards.items()}
    for model in models.values():
        table.add_column(escape(one_line(model)), justify="right", no_wrap=True)
    for entry in published_protocol.ROWS:
        row = entry.agent, entry.beta
        rows = {scope: [r for r in analysis.rows_in(scope) if r == row] for scope in cards}
        table.add_row(
            entry.label,
            *(
                f"{measured(analysis.means(scope, found[0]).value)} " if found else ""
                for scope, found in rows.items()
            ),
        )
        cells = []
        for scope, card in cards.items():
            figures = published_protocol.published_figures(entry.label, card)
            mark = "†" if (entry.label, models[scope]) in published_protocol.NOT_REPRODUCED else " "
            cells.append(f"{text}{mark}" if figures and (text := published(figures)) else "")
        if any(cells):
            table.add_row("  published", *cells, style="dim")
    wide_console.print(table)
    console.print()


def _measured_outcome(means: Mapping[str, float]) -> str:
    return f"{100 * means['correct']:.1f} / {format_thousands(means['tokens'])}"


def _published_outcome(figures: published_protocol.PublishedFigures) -> str:
    return f"{figures.accuracy:.1f} / {figures.tokens:,.1f}k"


def _measured_latency(means: Mapping[str, float]) -> str:
    return format_thousands(means["sequential_tokens"])


def _published_latency(figures: published_protocol.PublishedFigures) -> str:
    return "" if figures.sequential is None else f"{figures.sequential:,.1f}k"
