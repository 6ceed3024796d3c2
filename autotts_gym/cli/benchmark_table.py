"""Tables of ``autotts benchmark``: one for each environment and average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.console import console, print_dim, wide_console
from autotts_gym.cli.formatting import format_interval, format_ratio, format_thousands
from autotts_gym.utils.terminal_text import one_line

if TYPE_CHECKING:
    from autotts_gym.evaluation.analysis import Analysis, Cost, Row, Scope
    from autotts_gym.evaluation.comparison import Comparison
    from autotts_gym.evaluation.results import EnvironmentRecord, Results
    from autotts_gym.evaluation.runs import Run
    from autotts_gym.traces.store import TraceStore

#: Numbers of branches for which pass@k is printed.
_PASS_AT: Final = (1, 8, 64)

#: Maximum width of the agent column, in characters, so that the numbers fit next to it.
_AGENT_WIDTH: Final = 28

#: Headings of the columns right of the agents.
_NUMBER_HEADINGS: Final = (
    "accuracy %",
    "tokens",
    "sequential",
    "probes",
    "Δ accuracy",
    "token ratio",
    "wasted",
)


def print_tables(results: Results, analysis: Analysis, stores: Mapping[str, TraceStore]) -> None:
    """Print one table per environment and per average, and a legend below the last.

    Below each table: the comparisons of the β sweeps, the frontiers within the costs of the first
    row, and the oracle bounds of an environment.
    """
    environments = {env.name: env for env in results.environments}
    for scope in analysis.scopes:
        if not analysis.rows_in(scope):
            continue
        print_title(scope, [environments[name] for name in scope.environments], len(results.seeds))
        wide_console.print(_table(results, analysis, scope))
        lines = (_sweep_lines, _both_costs_lines, _frontier_lines)
        for line in (line for make in lines for line in make(analysis, scope)):
            print_dim(line)
        if not scope.is_average:
            for line in _bound_lines(results, scope, stores[scope.name]):
                print_dim(line)
        for row, missing in analysis.missing(scope).items():
            if scope.is_average:
                print_dim(
                    f"{row} is not in this average: it was not played on {', '.join(missing)}"
                )
        console.print()
    _print_legend(results, analysis)


def _print_legend(results: Results, analysis: Analysis) -> None:
    references = {
        analysis.rows_in(scope)[0] for scope in analysis.scopes if analysis.rows_in(scope)
    }
    reference = references.pop() if len(references) == 1 else "the first row of each table"
    print_dim(
        "[95% intervals]: bootstrap over questions, and over seeds within each question; "
        "environments are fixed. Tokens: means per question."
    )
    print_dim(
        f"Δ accuracy (points) and token ratio: paired with {reference}. *: no other row is as "
        "accurate for fewer tokens. +: no other row is as accurate for at most its tokens and its "
        "sequential tokens. wasted: share of the tokens that were spent after the final "
        "answer last changed, or on an incorrect answer. area: mean accuracy under the frontier "
        "over log-tokens, from the cheapest to the most expensive row of the table. (%) of a "
        "frontier: share of the bootstrap replicates in which the row is on it."
    )
    agents_by_billing: dict[str, list[str]] = {}
    for agent in results.agents:
        agents_by_billing.setdefault(agent.billing, []).append(agent.name)
    billed = [
        f"by {billing}" + (f" ({', '.join(names)})" if len(agents_by_billing) > 1 else "")
        for billing, names in agents_by_billing.items()
    ]
    print_dim(f"Billed {'; '.join(billed)}.")
    if any(env.synthetic for env in results.environments):
        print_dim("Synthetic traces are generated, not sampled from a model.")


def print_title(scope: Scope, environments: Sequence[EnvironmentRecord], seeds: int) -> None:
    """Print the line above a table: the scope, its split, its questions and seeds."""
    synthetic = any(env.synthetic for env in environments)
    questions = sum(env.questions for env in environments)
    split = f", {scope.split}" if scope.split and not scope.is_average else ""
    count = f"{len(environments)} environments, " if scope.is_average else ""
    console.print(
        f"[bold]{escape(one_line(scope.name))}[/]{split}: {count}{questions} questions × "
        f"{seeds} seeds" + (" [yellow]SYNTHETIC[/]" if synthetic else ""),
        highlight=False,
    )


def _table(results: Results, analysis: Analysis, scope: Scope) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("agent", no_wrap=True, max_width=_AGENT_WIDTH)
    for heading in _NUMBER_HEADINGS:
        table.add_column(heading, justify="right", no_wrap=True)
    reference = analysis.rows_in(scope)[0]
    undominated = {point.row for point in analysis.tradeoffs(scope) if point.undominated}
    marks = dict.fromkeys(undominated, "+")
    marks |= {point.row: "*" for point in analysis.frontier(scope) if point.on_frontier}
    for row in analysis.rows_in(scope):
        means = analysis.means(scope, row).value
        differences = ("", "")
        if row != reference:
            differences = (
                format_interval(analysis.difference(scope, row, reference, "correct"), 100, "+.1f"),
                format_ratio(analysis.ratio(scope, row, reference, "tokens")),
            )
        table.add_row(
            escape(one_line(str(row))),
            escape(format_interval(analysis.estimate(scope, row, "correct"), 100, ".1f"))
            + marks.get(row, " "),
            format_thousands(means["tokens"]),
            format_thousands(means["sequential_tokens"]),
            f"{means['probes']:,.0f}",
            *map(escape, differences),
            _wasted_share(results, scope, row),
        )
    return table


def _wasted_share(results: Results, scope: Scope, row: Row) -> str:
    """Format the share of a row's tokens that perfect stopping would have saved, as in "54%".

    Empty if settled tokens were not recorded.
    """
    from autotts_gym.evaluation.oracle_bounds import oracle_cost

    shares = [
        bound.ratio
        for run in _runs(results, scope, row)
        if (bound := oracle_cost(run)) is not None and not math.isnan(bound.ratio)
    ]
    return f"{100 * (1 - sum(shares) / len(shares)):.0f}%" if shares else ""


def _runs(results: Results, scope: Scope, row: Row) -> list[Run]:
    return [
        run
        for run in results.runs
        if (run.agent, run.beta) == row and run.env in scope.environments
    ]


def _sweep_lines(analysis: Analysis, scope: Scope) -> list[str]:
    """Lines that compare the β sweep of each agent with the first row of the table.

    Two comparisons, both interpolated over β: the tokens at equal accuracy, and the accuracy at
    equal tokens.
    """
    reference = analysis.rows_in(scope)[0]
    lines = []
    for agent in dict.fromkeys(row.agent for row in analysis.rows_in(scope)):
        if agent == reference.agent or len(analysis.rows_in(scope, agent)) < 2:
            continue
        comparison = analysis.compare(scope, agent, reference)
        parts = []
        if not math.isnan(comparison.cost_ratio.value):
            # If even the cheapest row is as accurate, its cost is only an upper bound.
            bound = "at most " if comparison.all_better else ""
            parts.append(
                f"{bound}{format_thousands(comparison.cost.value)} tokens (ratio "
                f"{format_ratio(comparison.cost_ratio)}) for {reference}'s accuracy"
            )
        else:
            parts.append(f"does not reach {reference}'s accuracy")
        if not math.isnan(comparison.accuracy_gain.value):
            gain = format_interval(comparison.accuracy_gain, 100, "+.1f")
            parts.append(f"{gain} points of accuracy for its tokens")
        parts.append(f"area {format_interval(analysis.area(scope, agent), 100, '.1f')}")
        lines.append(f"{agent}, interpolated over β: {'; '.join(parts)}")
    return lines


def _both_costs_lines(analysis: Analysis, scope: Scope) -> list[str]:
    """Lines that compare β sweeps with rows, within both of their costs.

    The rows are the first of the table, and those of CMC. A sweep is compared at the accuracy of
    the row: its tokens with at most the row's sequential tokens, and the reverse.
    """
    from autotts_gym.evaluation.both_costs import compare_both_costs

    rows = analysis.rows_in(scope)
    references = dict.fromkeys([rows[0], *(row for row in rows if row.agent == "cmc")])
    return [
        f"{found.agent} does not reach {found.row}'s accuracy within both of its costs"
        if math.isnan(found.tokens.cost.value) and math.isnan(found.latency.cost.value)
        else f"{found.agent} at {found.row}'s accuracy and latency: "
        f"{_cost(found.tokens, 'tokens')}; at its accuracy and tokens: "
        f"{_cost(found.latency, 'sequential tokens')}"
        for found in compare_both_costs(analysis, scope, references)
    ]


def _cost(comparison: Comparison, unit: str) -> str:
    """Format the cost of a sweep, with its ratio to that of the row."""
    if math.isnan(comparison.cost.value):
        return "never"
    # If even the cheapest point will do, its cost is only an upper bound.
    bound = "at most " if comparison.all_better else ""
    ratio = format_ratio(comparison.cost_ratio)
    return f"{bound}{format_thousands(comparison.cost.value)} {unit} (ratio {ratio})"


def _frontier_lines(analysis: Analysis, scope: Scope) -> list[str]:
    """Lines with the frontiers of either cost, where the other is at most the first row's."""
    reference = analysis.rows_in(scope)[0]
    means = analysis.means(scope, reference).value
    lines = []
    costs: tuple[Cost, Cost] = ("tokens", "sequential_tokens")
    for cost, other in (costs, costs[::-1]):
        points = analysis.frontier(scope, cost, means[other])
        on = [
            str(point.row) + ("" if math.isnan(point.share) else f" ({100 * point.share:.0f}%)")
            for point in points
            if point.on_frontier
        ]
        bound = f"{format_thousands(means[other])} {other.replace('_', ' ')}"
        name = cost.replace("_", " ")
        lines.append(f"frontier over {name}, within {reference}'s {bound}: {', '.join(on)}")
    return lines


def _bound_lines(results: Results, scope: Scope, store: TraceStore) -> list[str]:
    """Lines with the oracle bounds of an environment: accuracy that no controller can exceed."""
    from autotts_gym.evaluation import oracle_bounds
    from autotts_gym.traces.splits import HELD_OUT

    min_branches = int(store.tables.branch_counts.min())
    pass_rates = oracle_bounds.pass_at(store, [k for k in _PASS_AT if k <= min_branches])
    ceiling = oracle_bounds.ceiling(store)
    pass_at = "  ".join(f"pass@{k} {100 * share:.1f}" for k, share in pass_rates.items())
    lines = [
        f"bounds (% of questions): {pass_at}  plurality of all branches "
        f"{100 * ceiling.plurality:.1f}  gold answer never final {100 * ceiling.never_final:.1f}, "
        f"never revealed {100 * ceiling.never_revealed:.1f}"
    ]
    for agent in dict.fromkeys(run.agent for run in results.runs if run.beta is not None):
        runs = [run for run in results.runs if (run.agent, run.env) == (agent, scope.name)]
        if len(runs) > 1 and len(results.seeds) > 1 and scope.split != HELD_OUT:
            best = oracle_bounds.best_beta_per_question(runs, scope.split)
            lines.append(
                f"{agent} with the best β for each question: {100 * best.accuracy:.1f}% at "
                f"{format_thousands(best.tokens)} tokens (β chosen on half of the seeds, scored "
                "on the other half)"
            )
    return lines
