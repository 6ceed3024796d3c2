"""``BenchmarkResult``: the table of a benchmark, its episodes, plots and report."""

from __future__ import annotations

import functools
import html
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, cast

from autotts_gym.api.catalogue import StrPath
from autotts_gym.utils.keywords import suggest_keywords
from autotts_gym.utils.terminal_text import one_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from matplotlib.axes import Axes

    from autotts_gym.evaluation.analysis import Analysis
    from autotts_gym.evaluation.results import Results

#: Headings of the printed table.
_HEADINGS: Final = (
    "controller",
    "accuracy %",
    "tokens",
    "sequential",
    "probes",
    "Δ accuracy",
    "× tokens",
)


class SummaryRow(TypedDict):
    """One controller at one β on one environment or average: a row of ``summary.csv``.

    ``METRIC_low`` and ``METRIC_high`` are the ends of the 95% interval of ``METRIC``. Every metric
    has them, also where they are not listed here.
    """

    env: str
    split: str
    synthetic: bool
    agent: str
    beta: float | None
    billing: str
    episodes: int
    failed: int
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    tokens: float
    tokens_low: float
    tokens_high: float
    sequential_tokens: float
    probes: float
    accuracy_difference: float
    accuracy_difference_low: float
    accuracy_difference_high: float
    tokens_ratio: float
    tokens_ratio_low: float
    tokens_ratio_high: float
    sequential_ratio: float
    undominated: bool
    undominated_share: float


class BenchmarkResult:
    """Results of a benchmark; printed as a table. ``len`` and iteration are those of ``summary``.

    Args:
        results: the results.
        folder: the folder that they were written to.
        analysis: the analysis of the results; computed on first use if None.

    Attributes:
        results: episodes, failures and configuration.
        folder: the folder that they were written to; ``autotts report`` reads it.
    """

    def __init__(self, results: Results, folder: Path, analysis: Analysis | None = None) -> None:
        self.results, self.folder = results, folder
        if analysis is not None:
            self.analysis = analysis

    @classmethod
    def load(cls, folder: StrPath) -> BenchmarkResult:
        """Load the results folder of :func:`~autotts_gym.benchmark` or ``autotts benchmark``.

        Raises:
            ValueError: the folder does not hold results.
        """
        from autotts_gym.evaluation.results import Results

        return cls(Results.load(Path(folder)), Path(folder))

    @functools.cached_property
    def analysis(self) -> Analysis:
        """Estimates with intervals, comparisons and frontiers."""
        from autotts_gym.evaluation.analysis import Analysis

        return Analysis.from_results(self.results)

    @functools.cached_property
    def summary(self) -> list[SummaryRow]:
        """The rows of the table: one per controller, β and environment or average."""
        from autotts_gym.evaluation.summary import summary_rows

        return cast(list[SummaryRow], summary_rows(self.results, self.analysis))

    @property
    def failures(self) -> list[str]:
        """Messages of episodes that failed, and of runs that were not completed."""
        messages = [
            f"{run.agent} on {run.env}: question {question}, seed {seed}: {message}"
            for run in self.results.runs
            for (seed, question), message in run.failures.items()
        ]
        return messages + [
            f"{row.agent} on {row.env}: not completed: {row.message}"
            for row in self.results.incomplete
        ]

    def __len__(self) -> int:
        return len(self.summary)

    def __iter__(self) -> Iterator[SummaryRow]:
        return iter(self.summary)

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        parts = []
        for env, rows in self._tables():
            cells = [_HEADINGS, *rows]
            widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
            lines = [
                "  ".join(
                    cell.rjust(width) if k else cell.ljust(width)
                    for k, (cell, width) in enumerate(zip(row, widths, strict=True))
                ).rstrip()
                for row in cells
            ]
            parts.append("\n".join([env, *lines]))
        if self.failures:
            parts.append(f"{len(self.failures)} failures, see .failures")
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        parts = []
        for env, rows in self._tables():
            head = "".join(f"<th>{html.escape(name)}</th>" for name in _HEADINGS)
            body = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in rows
            )
            parts.append(
                f"<table><caption>{html.escape(env)}</caption>"
                f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
            )
        if self.failures:
            parts.append(f"<p>{len(self.failures)} failures, see <code>.failures</code></p>")
        return "".join(parts)

    def _tables(self) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
        """Title and rows of the table of each environment and average."""
        for env in dict.fromkeys(row["env"] for row in self.summary):
            rows = [row for row in self.summary if row["env"] == env]
            title = f"{env} (synthetic traces)" if rows[0]["synthetic"] else env
            yield one_line(title), [_cells(row, is_first=row is rows[0]) for row in rows]

    def to_arrow(self, table: Literal["summary", "episodes"] = "summary") -> pa.Table:
        """Return the summary, or all episodes, as an Arrow table.

        Args:
            table: ``"summary"``: one row per controller, β and environment, with the columns of
                ``summary.csv``. ``"episodes"``: one row per episode, with the columns of
                ``episodes.parquet``.

        Raises:
            ValueError: ``table`` is neither.
        """
        import pyarrow as pa

        if table == "episodes":
            from autotts_gym.evaluation.runs import to_arrow

            return to_arrow(self.results.runs)
        if table != "summary":
            raise ValueError(f'table must be "summary" or "episodes", got {table!r}')
        return pa.Table.from_pylist([dict(row) for row in self.summary])

    def to_pandas(self, table: Literal["summary", "episodes"] = "summary") -> pd.DataFrame:
        """Return the summary, or all episodes, as a pandas DataFrame.

        Args:
            table: as in :meth:`to_arrow`.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "to_pandas needs pandas: pip install pandas; to_arrow works without it"
            ) from error
        return self.to_arrow(table).to_pandas()

    @suggest_keywords()
    def frontier(
        self,
        ax: Axes | None = None,
        *,
        env: str | None = None,
        cost: Literal["tokens", "sequential_tokens"] = "tokens",
    ) -> Axes:
        """Plot accuracy against cost for one environment or average.

        Args:
            ax: axes to draw on; new ones by default.
            env: the environment or average; the first by default.
            cost: mean total tokens, or mean sequential tokens (latency).

        Returns:
            The axes.

        Raises:
            ValueError: there is no such environment in the results.
        """
        from autotts_gym.evaluation.plots import plot_frontier

        scopes = {scope.name: scope for scope in self.analysis.scopes}
        if env is not None and env not in scopes:
            raise ValueError(f"env must be one of {', '.join(scopes)}, got {env!r}")
        scope = scopes[env] if env is not None else next(iter(scopes.values()))
        synthetic = any(e.name == scope.name and e.synthetic for e in self.results.environments)
        return plot_frontier(self.analysis, scope, cost, synthetic=synthetic, ax=ax)

    @suggest_keywords()
    def report(
        self,
        path: StrPath = "report.html",
        *,
        episodes: int = 12,
        trusted: bool | None = None,
        weaker_sandbox: bool = False,
    ) -> Path:
        """Write a self-contained HTML report.

        Args:
            path: the file to write.
            episodes: number of episodes to show for each row and environment. They are played
                again.
            trusted: whether programs run outside a sandbox. By default, only those do that you
                have played outside a sandbox.
            weaker_sandbox: run the others even if the sandbox of this machine lacks a protection.

        Returns:
            The path of the file.

        Raises:
            ValueError: no run is complete.
        """
        from autotts_gym.report import write_report

        return write_report(
            self.folder,
            Path(path),
            episodes=episodes,
            trusted=trusted,
            weaker_sandbox=weaker_sandbox,
        ).path


def _cells(row: SummaryRow, *, is_first: bool) -> tuple[str, ...]:
    beta = "" if row["beta"] is None else f" β={row['beta']:g}"
    values: dict[str, Any] = dict(row)

    def interval(name: str, scale: float, form: str) -> str:
        value, low, high = (scale * values[name + end] for end in ("", "_low", "_high"))
        if math.isnan(value):
            return ""
        text = f"{value:{form}}"
        return text if math.isnan(low) else f"{text} [{low:{form}}, {high:{form}}]"

    return (
        one_line(f"{row['agent']}{beta}"),
        interval("accuracy", 100, ".1f"),
        f"{row['tokens']:,.0f}",
        f"{row['sequential_tokens']:,.0f}",
        f"{row['probes']:,.0f}",
        "" if is_first else interval("accuracy_difference", 100, "+.1f"),
        "" if is_first else interval("tokens_ratio", 1, ".2f"),
    )
