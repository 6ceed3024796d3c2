"""The table of a benchmark as a file: every figure with its interval."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Final

from autotts_gym.evaluation.analysis import Analysis, Row, Scope
from autotts_gym.evaluation.metrics import METRICS, Estimate
from autotts_gym.evaluation.results import Results
from autotts_gym.utils.files import write_text

#: What the columns call a metric, where it is not its own name.
_NAMES: Final = {"correct": "accuracy"}

_FACTS: Final = ("env", "split", "synthetic", "agent", "beta", "billing", "episodes", "failed")


def write_summary(results: Results, analysis: Analysis, path: Path) -> None:
    """Write a row for every agent, β and environment, and for the averages, as CSV.

    ``_low`` and ``_high`` are ends of 95% intervals. ``accuracy_difference`` and ``tokens_ratio``
    compare with the first row of the table, paired.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    metrics = [_NAMES.get(metric, metric) for metric in METRICS]
    figures = [*metrics, "accuracy_difference", "tokens_ratio"]
    table.writerow(
        [*_FACTS, *(f"{name}{end}" for name in figures for end in ("", "_low", "_high"))]
    )
    for scope in analysis.scopes:
        rows = analysis.rows_of(scope)
        for row in rows:
            estimates = [analysis.estimate(scope, row, metric) for metric in METRICS]
            estimates.append(analysis.difference(scope, row, rows[0], "correct"))
            estimates.append(analysis.ratio(scope, row, rows[0], "tokens"))
            texts = [_text(end) for estimate in estimates for end in _ends(estimate)]
            table.writerow([*_facts(results, scope, row), *texts])
    write_text(path, text.getvalue())


def _facts(results: Results, scope: Scope, row: Row) -> list[str | int]:
    runs = [
        run
        for run in results.runs
        if (run.agent, run.beta) == row and run.env in scope.environments
    ]
    return [
        scope.name,
        scope.split,
        str(any(run.synthetic for run in runs)).lower(),
        row.agent,
        "" if row.beta is None else f"{row.beta:g}",
        next((agent.billing for agent in results.agents if agent.name == row.agent), ""),
        sum(len(run.episodes["seed"]) for run in runs),
        sum(len(run.failures) for run in runs),
    ]


def _ends(estimate: Estimate) -> tuple[float, float, float]:
    return estimate.value, estimate.low, estimate.high


def _text(figure: float) -> str:
    """A figure; nothing where there is none, such as the interval of a single question."""
    return "" if math.isnan(figure) else f"{figure:.6g}"
