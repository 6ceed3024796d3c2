"""``SimulationResult``: the points of a simulation, as a table, files and a page."""

from __future__ import annotations

import csv
import html
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

import autotts_gym
from autotts_gym.simulation.simulation_page import render_simulation
from autotts_gym.simulation.simulation_plan import SimulationPlan
from autotts_gym.simulation.simulation_points import SimulationPoint
from autotts_gym.utils.files import write_text
from autotts_gym.utils.terminal_text import one_line

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Names of the files of a simulation.
CSV: Final = "simulation.csv"
JSON: Final = "simulation.json"
PAGE: Final = "simulation.html"

_HEADINGS: Final = (
    *("controller", "rate/s", "accuracy %", "p50 s", "p95 s", "p99 s"),
    *("tokens", "tokens/s", "used %", "capacity/s"),
)


@dataclass(frozen=True)
class SimulationResult:
    """Results of a simulation; printed as a table. ``len`` and iteration are those of ``points``.

    Attributes:
        points: one per controller, β and load, in this order.
        facts: what was simulated: environments, servers, arrivals and seeds, for JSON.
    """

    points: Sequence[SimulationPoint]
    facts: dict[str, Any]

    @classmethod
    def of_plan(cls, plan: SimulationPlan, points: Sequence[SimulationPoint]) -> SimulationResult:
        """The result of a plan."""
        return cls(
            points,
            {
                "version": autotts_gym.__version__,
                "environments": [
                    {
                        "name": name,
                        "fingerprint": store.card.fingerprint,
                        "synthetic": bool(store.card.synthetic),
                        "questions": store.card.questions,
                    }
                    for name, store in plan.stores.items()
                ],
                "seeds": [int(seed) for seed in plan.seeds],
                "max_branches": plan.config.max_branches,
                "budget": plan.config.budget,
                "questions": plan.question_count,
                "arrivals": "poisson" if plan.arrivals is None else "given",
                "seed": plan.seed,
                "warm_up": plan.warm_up,
                "fleet": plan.fleet.facts(),
                "curve": msgspec.to_builtins(plan.fleet.curve),
            },
        )

    def __len__(self) -> int:
        return len(self.points)

    def __iter__(self) -> Iterator[SimulationPoint]:
        return iter(self.points)

    def __str__(self) -> str:
        cells = self.cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines = [
            "  ".join(
                cell.rjust(width) if k else cell.ljust(width)
                for k, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in cells
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        head, *rows = self.cells()
        heading = "".join(f"<th>{html.escape(name)}</th>" for name in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in rows
        )
        return f"<table><thead><tr>{heading}</tr></thead><tbody>{body}</tbody></table>"

    def cells(self) -> list[tuple[str, ...]]:
        """The printed table: its headings, and one row per point.

        Times of an overloaded fleet, which depend on the number of questions, have a ``!``.
        """
        has_cost = any(point.cost is not None for point in self.points)
        head: tuple[str, ...] = (*_HEADINGS, "cost/1000") if has_cost else _HEADINGS
        rows = [head]
        for point in self.points:
            mark = "!" if point.overloaded else ""
            row: tuple[str, ...] = (
                one_line(point.name),
                f"{point.rate:.3g}",
                f"{100 * point.accuracy:.1f}",
                *(f"{seconds:,.2f}{mark}" for seconds in (point.p50, point.p95, point.p99)),
                f"{point.tokens:,.0f}",
                f"{point.tokens_per_second:,.0f}",
                f"{100 * point.utilisation:.0f}",
                f"{point.capacity:.3g}",
            )
            if has_cost:
                row = (*row, _cost_text(point.cost))
            rows.append(row)
        return rows

    def to_arrow(self) -> pa.Table:
        """Return the points as an Arrow table, one row each."""
        import pyarrow as pa

        return pa.Table.from_pylist([point.facts() for point in self.points])

    def to_pandas(self) -> pd.DataFrame:
        """Return the points as a pandas DataFrame.

        Raises:
            ImportError: pandas is not installed.
        """
        try:
            import pandas  # noqa: F401
        except ImportError as error:
            raise ImportError(
                "to_pandas needs pandas: pip install pandas; to_arrow works without it"
            ) from error
        return self.to_arrow().to_pandas()

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``simulation.csv``, ``simulation.json`` and ``simulation.html`` to a folder.

        Raises:
            OSError: a file cannot be written.
        """
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        text = io.StringIO(newline="")
        names = [field.name for field in fields(SimulationPoint)]
        writer = csv.DictWriter(text, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(point.facts() for point in self.points)
        write_text(target / CSV, text.getvalue())
        data = self.data()
        write_text(target / JSON, json.dumps(data, ensure_ascii=False, indent=1) + "\n")
        write_text(target / PAGE, render_simulation(data))

    def data(self) -> dict[str, Any]:
        """Facts and points, for JSON; numbers that do not exist are None."""
        points = [
            {name: _finite(value) for name, value in point.facts().items()} | {"name": point.name}
            for point in self.points
        ]
        return {**self.facts, "points": points}


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _cost_text(cost: float | None) -> str:
    return "" if cost is None else f"{cost:,.2f}" if cost >= 0.1 else f"{cost:.2g}"
