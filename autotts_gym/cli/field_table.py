"""The table of ``autotts benchmark --protocol field``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.benchmark_table import print_title
from autotts_gym.cli.console import console, print_dim, print_table
from autotts_gym.cli.formatting import format_interval, format_ratio, format_thousands
from autotts_gym.evaluation import field_protocol
from autotts_gym.utils.terminal_text import one_line

if TYPE_CHECKING:
    from autotts_gym.evaluation.analysis import Analysis, Row, Scope
    from autotts_gym.evaluation.results import Results
    from autotts_gym.traces.store import TraceStore

#: Headings of the columns right of the controllers.
_NUMBER_HEADINGS: Final = (
    "accuracy %",
    "tokens",
    "sequential",
    "probes",
    "Δ accuracy",
    "token ratio",
    "at equal",
)


def print_tables(results: Results, analysis: Analysis, stores: Mapping[str, TraceStore]) -> None:
    """Print one table per environment and per average, and a legend below the last."""
    environments = {env.name: env for env in results.environments}
    for scope in analysis.scopes:
        rows = field_protocol.shown_rows(analysis, scope)
        if not rows:
            continue
        print_title(scope, [environments[name] for name in scope.environments], len(results.seeds))
        print_table(_table(analysis, scope, rows))
        _print_absent(scope, stores)
        console.print()
    print_dim(
        "[95% intervals]: bootstrap over questions and seeds. Δ accuracy (points) and token ratio: "
        f"paired with {field_protocol.ROWS[0]}. at equal: tokens at which the controller "
        f"reaches the accuracy of {field_protocol.ROWS[0]}, as a share of its tokens, interpolated "
        "over β; ≤: at its cheapest; –: it does not reach it. beaten by: numbers of the rows "
        "that are at least as accurate for at most the tokens and the sequential tokens, and "
        "better in one of the three."
    )


def _table(analysis: Analysis, scope: Scope, rows: list[Row]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("controller", no_wrap=True)
    for heading in _NUMBER_HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("beaten by", no_wrap=True)
    reference = rows[0]
    for number, row in enumerate(rows, 1):
        means = analysis.means(scope, row).value
        compared = ("", "", "")
        if row != reference:
            compared = (
                format_interval(analysis.difference(scope, row, reference, "correct"), 100, "+.1f"),
                format_ratio(analysis.ratio(scope, row, reference, "tokens")),
                _equal_accuracy(analysis, scope, row, reference),
            )
        beating = field_protocol.dominating(analysis, scope, row, rows)
        table.add_row(
            f"{number}",
            escape(one_line(str(row))),
            escape(format_interval(analysis.estimate(scope, row, "correct"), 100, ".1f")),
            format_thousands(means["tokens"]),
            format_thousands(means["sequential_tokens"]),
            f"{means['probes']:,.0f}",
            *map(escape, compared),
            " ".join(str(rows.index(other) + 1) for other in beating),
        )
    return table


def _equal_accuracy(analysis: Analysis, scope: Scope, row: Row, reference: Row) -> str:
    """Share of the reference's tokens at its accuracy, over the controller's sweep."""
    comparison = analysis.compare(scope, row.agent, reference)
    if math.isnan(comparison.cost_ratio.value):
        return "–"
    return f"{'≤ ' if comparison.all_better else ''}{comparison.cost_ratio.value:.2f}"


def _print_absent(scope: Scope, stores: Mapping[str, TraceStore]) -> None:
    """Say which controllers were not played, because the traces lack what they need."""
    lacking = [
        agent
        for agent in field_protocol.AGENTS
        if not all(field_protocol.can_play(agent, stores[env]) for env in scope.environments)
    ]
    if lacking:
        print_dim(f"not played, for want of generation confidences: {', '.join(lacking)}")
