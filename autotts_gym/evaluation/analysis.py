"""What is made of a benchmark's episodes: figures with intervals, differences, frontiers.

Every figure is that of a *row* (an agent at one β) in a *scope* (an environment, or the average
over the environments of a split). A failed episode is in all of them as wrong, at what it had cost.
What is resampled for the intervals stands in :mod:`autotts_gym.evaluation.metrics`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from autotts_gym.evaluation.metrics import (
    REPLICATES,
    Comparison,
    Estimate,
    Floats,
    Means,
    area,
    compare,
    difference,
    macro,
    ratio,
    resample,
    undominated,
)
from autotts_gym.evaluation.results import Results, Run

#: What accuracy can be set against.
Cost = Literal["tokens", "sequential_tokens"]


class Row(NamedTuple):
    """A row of the benchmark's table, whatever the environment.

    Attributes:
        beta: None for an agent without the knob.
    """

    agent: str
    beta: float | None

    def __str__(self) -> str:
        return self.agent if self.beta is None else f"{self.agent} β={self.beta:g}"


@dataclass(frozen=True)
class Scope:
    """An environment, or several whose means are averaged, each weighing the same.

    Attributes:
        name: the environment's, or such as ``"held-out average"``.
        environments: their names; one for an environment.
        split: ``"search"``, ``"held-out"`` or empty.
    """

    name: str
    environments: tuple[str, ...]
    split: str = ""

    @property
    def is_average(self) -> bool:
        return len(self.environments) > 1


@dataclass(frozen=True)
class Point:
    """A row as a point of accuracy against cost.

    Attributes:
        cost: mean tokens, or sequential tokens.
        accuracy: between 0 and 1.
        on_frontier: whether no other row of the scope is at least as accurate for at most the same
            cost, and better in one of the two.
        share: of the replicates in which that is so; NaN where there are none.
    """

    row: Row
    cost: float
    accuracy: float
    on_frontier: bool
    share: float


class Analysis:
    """The rows of a benchmark, and what can be said of them.

    Rows may have been billed differently. On an environment, they must have played the same
    questions and seeds. Where a row lacks an environment of an average, it is not part of that
    average: an average over fewer environments would not compare (see ``missing``).

    Args:
        runs: the complete rows, environment by environment, in the order of the table.
        splits: split of an environment by its name (``"search"``, ``"held-out"`` or empty); one
            that is not named has none.
        benchmarks: name of the set of questions that an environment holds, by the environment's
            name. Environments of one benchmark hold the same questions in the same order, and a
            replicate draws the same ones in all of them; without it, the interval of an average
            over several models is too narrow. One that is not named shares its questions with none.
        replicates: B, for the intervals.
        seed: the same seed draws the same replicates. What is drawn for an environment depends on
            nothing but this seed, its own name and its benchmark's, and its number of questions and
            seeds.

    Attributes:
        scopes: the environments in the order of the runs, then the average over those of each
            split that has two or more.
        rows: all of them, in the order of the runs, whether or not each is complete.

    Raises:
        ValueError: a row is there twice; two rows of an environment did not play the same
            questions and seeds; two environments of one benchmark did not play the same questions.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        splits: Mapping[str, str] | None = None,
        benchmarks: Mapping[str, str] | None = None,
        *,
        replicates: int = REPLICATES,
        seed: int = 0,
    ) -> None:
        tables: dict[str, dict[Row, Run]] = {}
        for run in runs:
            row = Row(run.agent, run.beta)
            if row in tables.setdefault(run.env, {}):
                raise ValueError(f"{run.env}: {row} is there twice")
            tables[run.env][row] = run
        self.scopes = _scopes(list(tables), splits or {})
        self.rows = list(dict.fromkeys(Row(run.agent, run.beta) for run in runs))
        self._means: dict[tuple[str, Row], Means] = {}
        benchmarks = benchmarks or {}
        _check_benchmarks(tables, benchmarks)
        for env, played in tables.items():
            benchmark = benchmarks.get(env, "")
            try:
                found = resample(
                    {row: run.episodes for row, run in played.items()},
                    replicates=replicates,
                    seed=(seed, 0, crc32(env.encode())),
                    question_seed=(seed, 1, crc32(benchmark.encode())) if benchmark else None,
                )
            except ValueError as error:
                raise ValueError(f"{env}: {error}") from None
            self._means |= {(env, row): means for row, means in found.items()}
        self._averages: dict[tuple[Scope, Row], Means] = {}

    @classmethod
    def of(cls, results: Results) -> Analysis:
        """The analysis of a benchmark's results."""
        return cls(results.runs, results.splits, results.benchmarks)

    # --- rows of a scope -------------------------------------------------------------------------

    def rows_of(self, scope: Scope, agent: str | None = None) -> list[Row]:
        """The rows that were played on every environment of a scope; all, or one agent's."""
        return [
            row
            for row in self.rows
            if agent in (None, row.agent)
            and all((env, row) in self._means for env in scope.environments)
        ]

    def missing(self, scope: Scope) -> dict[Row, list[str]]:
        """The rows that are left out of a scope, and the environments that each lacks."""
        lacking = {
            row: [env for env in scope.environments if (env, row) not in self._means]
            for row in self.rows
        }
        return {row: envs for row, envs in lacking.items() if envs}

    # --- figures ---------------------------------------------------------------------------------

    def means(self, scope: Scope, row: Row) -> Means:
        """A row's means in a scope, and their replicates, paired with those of the other rows.

        Raises:
            ValueError: the row was not played on every environment of the scope.
        """
        lacking = [env for env in scope.environments if (env, row) not in self._means]
        if lacking:
            raise ValueError(f"{row} has no figure in {scope.name}: not played on {lacking[0]}")
        if (scope, row) not in self._averages:
            parts = [self._means[env, row] for env in scope.environments]
            self._averages[scope, row] = macro(parts) if scope.is_average else parts[0]
        return self._averages[scope, row]

    def estimate(self, scope: Scope, row: Row, metric: str) -> Estimate:
        """The mean of one of ``metrics.METRICS`` with its 95% interval; accuracy is ``correct``."""
        return self.means(scope, row).estimate(metric)

    def difference(self, scope: Scope, a: Row, b: Row, metric: str) -> Estimate:
        """The paired difference a − b of a metric."""
        return difference(self.means(scope, a), self.means(scope, b), metric)

    def ratio(self, scope: Scope, a: Row, b: Row, metric: str) -> Estimate:
        """The paired ratio a / b of a metric, in an average that of the averages; NaN for b = 0."""
        return ratio(self.means(scope, a), self.means(scope, b), metric)

    # --- frontiers -------------------------------------------------------------------------------

    def frontier(self, scope: Scope, cost: Cost = "tokens") -> list[Point]:
        """Every row of a scope by rising cost, and whether it is on the Pareto frontier."""
        rows = self.rows_of(scope)
        costs, drawn_costs = self._columns(scope, rows, cost)
        accuracies, drawn_accuracies = self._columns(scope, rows, "correct")
        on = undominated(costs, accuracies)
        drawn_on = undominated(drawn_costs, drawn_accuracies)
        shares = drawn_on.mean(axis=0) if len(drawn_on) else np.full(len(rows), np.nan)
        points = [
            Point(row, float(costs[i]), float(accuracies[i]), bool(on[i]), float(shares[i]))
            for i, row in enumerate(rows)
        ]
        return sorted(points, key=lambda point: (point.cost, -point.accuracy))

    def area(self, scope: Scope, agent: str, cost: Cost = "tokens") -> Estimate:
        """Mean accuracy along an agent's frontier, over the logarithm of the cost.

        It runs from the cheapest to the dearest row of the scope, whoever played them, and counts
        the best accuracy that some row of the agent has for at most that cost: 0 below the agent's
        cheapest row. Between 0 and 1; NaN where all rows of the scope cost the same. So it compares
        agents of one benchmark, not of two.

        Raises:
            ValueError: the agent has no row in the scope.
        """
        costs, drawn_costs = self._columns(scope, self._sweep(scope, agent), cost)
        accuracies, drawn_accuracies = self._columns(scope, self._sweep(scope, agent), "correct")
        all_costs, drawn_all = self._columns(scope, self.rows_of(scope), cost)
        return Estimate.of(
            float(area(all_costs.min(), all_costs.max(), costs, accuracies)),
            area(drawn_all.min(axis=-1), drawn_all.max(axis=-1), drawn_costs, drawn_accuracies),
        )

    def equal(self, scope: Scope, agent: str, row: Row, cost: Cost = "tokens") -> Comparison:
        """What an agent's β sweep needs for a row's accuracy, and reaches for a row's cost.

        Raises:
            ValueError: the agent has no row in the scope, or the row is not part of it.
        """
        sweep = [self.means(scope, point) for point in self._sweep(scope, agent)]
        return compare(sweep, self.means(scope, row), cost)

    def _sweep(self, scope: Scope, agent: str) -> list[Row]:
        rows = self.rows_of(scope, agent)
        if not rows:
            raise ValueError(f"{agent} has no figure in {scope.name}: not played on all of it")
        return rows

    def _columns(self, scope: Scope, rows: Sequence[Row], metric: str) -> tuple[Floats, Floats]:
        """A metric of some rows, float64[R], and its replicates, float64[B, R]."""
        means = [self.means(scope, row) for row in rows]
        values = np.array([of.value[metric] for of in means])
        return values, np.stack([of.replicates[metric] for of in means], axis=-1)


def _scopes(environments: Sequence[str], splits: Mapping[str, str]) -> list[Scope]:
    scopes = [Scope(env, (env,), splits.get(env, "")) for env in environments]
    for split in dict.fromkeys(scope.split for scope in scopes[: len(environments)]):
        inside = tuple(env for env in environments if splits.get(env, "") == split)
        if len(inside) < 2:
            continue
        alone = len(inside) == len(environments)
        name = f"{split} average" if split else "average" if alone else "average without a split"
        scopes.append(Scope(name, inside, split))
    return scopes


def _check_benchmarks(
    tables: Mapping[str, Mapping[Row, Run]], benchmarks: Mapping[str, str]
) -> None:
    """Raise ``ValueError`` where environments of one benchmark have not the same questions."""
    known: dict[str, tuple[str, NDArray[np.int64]]] = {}
    for env, played in tables.items():
        if benchmark := benchmarks.get(env):
            questions = np.unique(next(iter(played.values())).episodes["question"])
            other, others = known.setdefault(benchmark, (env, questions))
            if not np.array_equal(questions, others):
                raise ValueError(
                    f"{other} and {env} are said to hold the questions of {benchmark}, but one has "
                    f"{len(others)} and the other {len(questions)}, or they are not the same"
                )
