"""Summary table of a benchmark: every row in every scope, with intervals."""

from __future__ import annotations

import csv
import io
import math
import os
from pathlib import Path
from typing import Final

from autotts_gym.evaluation.analysis import Analysis, Row, Scope
from autotts_gym.evaluation.bootstrap import METRICS
from autotts_gym.evaluation.results import Results
from autotts_gym.utils.files import write_text

#: Value of a summary column; an undefined estimate is NaN.
Value = str | int | float | bool | None

#: Metrics whose column has another name.
_COLUMN_NAMES: Final = {"correct": "accuracy"}

#: First characters of formulas in spreadsheets.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")

_ESTIMATES: Final = (
    *(_COLUMN_NAMES.get(metric, metric) for metric in METRICS),
    "accuracy_difference",
    "tokens_ratio",
    "sequential_ratio",
)

#: Columns of the summary. ``beta`` is None for an agent without the knob. ``_low`` and ``_high``
#: are the ends of 95% intervals. ``accuracy_difference``, ``tokens_ratio`` and
#: ``sequential_ratio`` compare with the first row of the scope, paired. ``undominated``: no other
#: row of the scope is as accurate for at most its tokens and sequential tokens;
#: ``undominated_share`` is the share of the bootstrap replicates in which that holds.
COLUMNS: Final = (
    *("env", "split", "synthetic", "agent", "beta", "billing", "episodes", "failed"),
    *(f"{name}{end}" for name in _ESTIMATES for end in ("", "_low", "_high")),
    *("undominated", "undominated_share"),
)


def summary_rows(results: Results, analysis: Analysis) -> list[dict[str, Value]]:
    """One dict with ``COLUMNS`` for each row in each environment and average."""
    table = []
    for scope in analysis.scopes:
        rows = analysis.rows_in(scope)
        for row, tradeoff in zip(rows, analysis.tradeoffs(scope), strict=True):
            estimates = [
                *(analysis.estimate(scope, row, metric) for metric in METRICS),
                analysis.difference(scope, row, rows[0], "correct"),
                analysis.ratio(scope, row, rows[0], "tokens"),
                analysis.ratio(scope, row, rows[0], "sequential_tokens"),
            ]
            values = [
                value
                for estimate in estimates
                for value in (estimate.value, estimate.low, estimate.high)
            ]
            facts = _facts(results, scope, row)
            dominance = tradeoff.undominated, tradeoff.share
            table.append(dict(zip(COLUMNS, [*facts, *values, *dominance], strict=True)))
    return table


def write_summary(results: Results, analysis: Analysis, path: str | os.PathLike[str]) -> None:
    """Write :func:`summary_rows` as CSV, with six digits; NaN and None are empty.

    A name that begins like a formula of a spreadsheet is preceded by an apostrophe.

    Raises:
        OSError: the file cannot be written.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for row in summary_rows(results, analysis):
        table.writerow(map(_text, row.values()))
    write_text(Path(path), text.getvalue())


def _facts(results: Results, scope: Scope, row: Row) -> list[Value]:
    runs = [
        run
        for run in results.runs
        if (run.agent, run.beta) == row and run.env in scope.environments
    ]
    return [
        scope.name,
        scope.split,
        any(run.synthetic for run in runs),
        row.agent,
        row.beta,
        next((agent.billing for agent in results.agents if agent.name == row.agent), ""),
        sum(len(run.episodes["seed"]) for run in runs),
        sum(len(run.failures) for run in runs),
    ]


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, str):
        # A spreadsheet runs a cell that begins like a formula.
        return f"'{value}" if value.startswith(_FORMULA) else value
    return f"{value:.6g}" if isinstance(value, float) else str(value)
