"""The tables of ``autotts benchmark``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from autotts_gym.cli.console import console, wide
from autotts_gym.evaluation import published_protocol

if TYPE_CHECKING:
    from autotts_gym.evaluation.analysis import Analysis, Row, Scope
    from autotts_gym.evaluation.metrics import Estimate
    from autotts_gym.evaluation.results import PlayedEnvironment, Results, Run
    from autotts_gym.traces.store import TraceStore

#: Branches for which pass@k is shown.
_KS = (1, 8, 64)

#: Characters of an agent's name that are shown, or no figure would fit beside it.
_NAME = 28


def show(results: Results, analysis: Analysis, stores: Mapping[str, TraceStore]) -> None:
    """Print the table of every environment and average, and what bounds it."""
    environments = {env.name: env for env in results.environments}
    for scope in analysis.scopes:
        if not analysis.rows_of(scope):
            continue
        _title(scope, [environments[name] for name in scope.environments], len(results.seeds))
        _print(_rows(results, analysis, scope))
        for line in _equal(analysis, scope):
            _remark(line)
        if not scope.is_average:
            for line in _bounds(results, scope, stores[scope.name]):
                _remark(line)
        for row, lacking in analysis.missing(scope).items():
            if scope.is_average:
                _remark(f"{row} is not in this average: it was not played on {', '.join(lacking)}")
        console.print()
    firsts = {analysis.rows_of(scope)[0] for scope in analysis.scopes if analysis.rows_of(scope)}
    first = firsts.pop() if len(firsts) == 1 else "the first row of each table"
    _remark(
        "[95% intervals]: questions resampled, and seeds within them; environments are fixed. "
        "Tokens: means per question."
    )
    _remark(
        f"Δ and ×: paired with {first}. *: no other row is as accurate for fewer tokens. spare: "
        "share of tokens after the answer was settled, or spent on what came out wrong. area: mean "
        "accuracy under the frontier over log-tokens, from the cheapest row of all to the dearest."
    )
    bills: dict[str, list[str]] = {}
    for agent in results.agents:
        bills.setdefault(agent.billing, []).append(agent.name)
    billed = [
        f"by {billing}" + (f" ({', '.join(names)})" if len(bills) > 1 else "")
        for billing, names in bills.items()
    ]
    _remark(f"Billed {'; '.join(billed)}.")
    if any(env.synthetic for env in results.environments):
        _remark("Synthetic traces are generated, not sampled from a model.")


def _title(scope: Scope, environments: Sequence[PlayedEnvironment], seeds: int) -> None:
    synthetic = any(env.synthetic for env in environments)
    questions = sum(env.questions for env in environments)
    split = f", {scope.split}" if scope.split and not scope.is_average else ""
    what = f"{len(environments)} environments, " if scope.is_average else ""
    console.print(
        f"[bold]{escape(scope.name)}[/]{split}: {what}{questions} questions × {seeds} seeds"
        + (" [yellow]SYNTHETIC[/]" if synthetic else ""),
        highlight=False,
    )


def _rows(results: Results, analysis: Analysis, scope: Scope) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    table.add_column("agent", no_wrap=True, max_width=_NAME)
    for heading in ("accuracy %", "tokens", "sequential", "probes", "Δ accuracy", "× tokens"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("spare", justify="right", no_wrap=True)
    first = analysis.rows_of(scope)[0]
    on_frontier = {point.row for point in analysis.frontier(scope) if point.on_frontier}
    for row in analysis.rows_of(scope):
        means = analysis.means(scope, row).value
        compared = ("", "")
        if row != first:
            compared = (
                _interval(analysis.difference(scope, row, first, "correct"), 100, "+.1f"),
                _ratio(analysis.ratio(scope, row, first, "tokens")),
            )
        table.add_row(
            escape(str(row)),
            escape(_interval(analysis.estimate(scope, row, "correct"), 100, ".1f"))
            + ("*" if row in on_frontier else " "),
            _thousands(means["tokens"]),
            _thousands(means["sequential_tokens"]),
            f"{means['probes']:,.0f}",
            *map(escape, compared),
            _spare(results, scope, row),
        )
    return table


def _spare(results: Results, scope: Scope, row: Row) -> str:
    """The share of a row's tokens that the same decisions would not have cost one who knows."""
    from autotts_gym.evaluation.oracle_bounds import clairvoyant

    shares = [
        found.share
        for run in _runs(results, scope, row)
        if (found := clairvoyant(run)) is not None and not math.isnan(found.share)
    ]
    return f"{100 * (1 - sum(shares) / len(shares)):.0f}%" if shares else ""


def _runs(results: Results, scope: Scope, row: Row) -> list[Run]:
    return [
        run
        for run in results.runs
        if (run.agent, run.beta) == row and run.env in scope.environments
    ]


def _equal(analysis: Analysis, scope: Scope) -> list[str]:
    """What agents with a sweep need for the first row's accuracy, and reach for its tokens."""
    first = analysis.rows_of(scope)[0]
    lines = []
    for agent in dict.fromkeys(row.agent for row in analysis.rows_of(scope)):
        if agent == first.agent or len(analysis.rows_of(scope, agent)) < 2:
            continue
        found = analysis.equal(scope, agent, first)
        parts = []
        if not math.isnan(found.share.value):
            share = _ratio(found.share)
            bound = "at most " if found.all_better else ""  # the cheapest row is there already
            needed = f"{bound}{_thousands(found.cost.value)} tokens"
            parts.append(f"{needed} (× {share}) at {first}'s accuracy")
        else:
            parts.append(f"does not reach {first}'s accuracy")
        if not math.isnan(found.gain.value):
            parts.append(f"{_interval(found.gain, 100, '+.1f')} points at its tokens")
        parts.append(f"area {_interval(analysis.area(scope, agent), 100, '.1f')}")
        lines.append(f"{agent} along β: {'; '.join(parts)}")
    return lines


def _bounds(results: Results, scope: Scope, store: TraceStore) -> list[str]:
    from autotts_gym.evaluation import oracle_bounds
    from autotts_gym.traces.splits import HELD_OUT

    fewest = int(store.tables.branch_counts.min())
    passes = oracle_bounds.pass_at(store, [k for k in _KS if k <= fewest])
    ceiling = oracle_bounds.ceiling(store)
    shown = "  ".join(f"pass@{k} {100 * share:.1f}" for k, share in passes.items())
    lines = [
        f"bounds: {shown}  plurality of all branches {100 * ceiling.plurality:.1f}  "
        f"right answer never final {100 * ceiling.never_final:.1f}, never shown "
        f"{100 * ceiling.never_shown:.1f} (% of questions)"
    ]
    for agent in dict.fromkeys(run.agent for run in results.runs if run.beta is not None):
        runs = [run for run in results.runs if (run.agent, run.env) == (agent, scope.name)]
        if len(runs) > 1 and len(results.seeds) > 1 and scope.split != HELD_OUT:
            best = oracle_bounds.best_fixed_beta(runs, scope.split)
            lines.append(
                f"{agent}, best β of each question: {100 * best.accuracy:.1f}% at "
                f"{_thousands(best.tokens)} tokens (chosen on half of the seeds, scored on the "
                "other)"
            )
    return lines


# --- the published table -------------------------------------------------------------------------


def show_published(results: Results, analysis: Analysis) -> None:
    """Print the published table's shape: measured figures, and published ones below them."""
    benchmarks: dict[str, list[Scope]] = {}
    details = {env.name: env.details for env in results.environments}
    for scope in analysis.scopes:
        if not scope.is_average:
            name = str(details[scope.name].get("benchmark", scope.name))
            benchmarks.setdefault(name, []).append(scope)
    for name, scopes in benchmarks.items():
        where = {scope: details[scope.name] for scope in scopes}
        _published(f"{name}: accuracy % / total tokens", where, analysis, _outcome, _known_outcome)
        _published(f"{name}: sequential tokens", where, analysis, _latency, _known_latency)
    for (label, model), why in published_protocol.UNLIKE.items():
        _remark(f"† {label} on {model}: {why}")
    _remark(
        "Published sequential tokens count the longest branch (ESC: of every window); those that "
        "are measured are the clock of the critical path."
    )
    terms = results.terms
    if (terms.max_branches, terms.budget, terms.step_limit) != (
        published_protocol.WIDTH,
        None,
        None,
    ):
        _remark(
            f"The published figures are for {published_protocol.WIDTH} branches without a limit: these were "
            "played under other terms."
        )


def _published(
    title: str,
    details: Mapping[Scope, Mapping[str, object]],
    analysis: Analysis,
    measured: Callable[[Mapping[str, float]], str],
    known: Callable[[published_protocol.Figures], str],
) -> None:
    """A table with a column for every model, and published figures below the measured ones."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column(title, no_wrap=True)
    models = {scope: str(card.get("model", scope.name)) for scope, card in details.items()}
    for model in models.values():
        table.add_column(model, justify="right", no_wrap=True)
    for entry in published_protocol.ENTRIES:
        row = entry.agent, entry.beta
        found = {scope: [r for r in analysis.rows_of(scope) if r == row] for scope in details}
        table.add_row(
            entry.label,
            *(
                f"{measured(analysis.means(scope, rows[0]).value)} " if rows else ""
                for scope, rows in found.items()
            ),
        )
        given = []
        for scope, card in details.items():
            figures = published_protocol.published(entry.label, card)
            mark = "†" if (entry.label, models[scope]) in published_protocol.UNLIKE else " "
            given.append(f"{text}{mark}" if figures and (text := known(figures)) else "")
        if any(given):
            table.add_row("  published", *given, style="dim")
    _print(table)
    console.print()


def _outcome(means: Mapping[str, float]) -> str:
    return f"{100 * means['correct']:.1f} / {_thousands(means['tokens'])}"


def _known_outcome(figures: published_protocol.Figures) -> str:
    return f"{figures.accuracy:.1f} / {figures.tokens:,.1f}k"


def _latency(means: Mapping[str, float]) -> str:
    return _thousands(means["sequential_tokens"])


def _known_latency(figures: published_protocol.Figures) -> str:
    return "" if figures.sequential is None else f"{figures.sequential:,.1f}k"


# --- helpers -------------------------------------------------------------------------------------


def _print(table: Table) -> None:
    wide.print(table)


def _remark(text: str) -> None:
    console.print(text, style="dim", markup=False, highlight=False, soft_wrap=True)


def _interval(estimate: Estimate, scale: float, form: str) -> str:
    """A figure and its interval; the figure alone where there is none."""
    if math.isnan(estimate.value):
        return ""
    value = format(scale * estimate.value, form)
    if math.isnan(estimate.low):
        return value
    low, high = (format(scale * end, form) for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def _ratio(estimate: Estimate) -> str:
    """A ratio and its interval, with two digits that say something."""
    small = not math.isnan(estimate.value) and estimate.value < 0.095
    return _interval(estimate, 1, ".3f" if small else ".2f")


def _thousands(tokens: float) -> str:
    return f"{tokens / 1000:,.1f}k"
