"""Analysis of a benchmark: estimates with intervals, paired differences and frontiers.

Each estimate belongs to a *row* (an agent at one β) in a *scope* (an environment, or the average
over the environments of a split). A failed episode counts as incorrect, at its cost so far. The
bootstrap is described in :mod:`autotts_gym.evaluation.bootstrap`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from autotts_gym.evaluation.bootstrap import (
    REPLICATES,
    Estimate,
    Means,
    difference,
    macro_average,
    ratio,
    resample,
)
from autotts_gym.evaluation.comparison import OTHER_COST, Comparison, compare_sweep
from autotts_gym.evaluation.pareto import frontier_area, on_frontier
from autotts_gym.evaluation.results import Results
from autotts_gym.evaluation.runs import Run, check_benchmarks
from autotts_gym.traces import registry
from autotts_gym.traces.exceptions import TraceError
from autotts_gym.traces.splits import split_of
from autotts_gym.utils.arrays import Floats

#: Cost axes of a frontier.
Cost = Literal["tokens", "sequential_tokens"]


class Row(NamedTuple):
    """A row of the benchmark's table, in any environment.

    Attributes:
        agent: name of the agent.
        beta: β; None for an agent that ignores β.
    """

    agent: str
    beta: float | None

    def __str__(self) -> str:
        return self.agent if self.beta is None else f"{self.agent} β={self.beta:g}"


@dataclass(frozen=True)
class Scope:
    """An environment, or the average over several environments with equal weights.

    Attributes:
        name: name of the environment, or for example ``"held-out average"``.
        environments: names of the environments; a single one if the scope is not an average.
        split: ``"search"``, ``"held-out"``, or empty if there is no split.
    """

    name: str
    environments: tuple[str, ...]
    split: str = ""

    @property
    def is_average(self) -> bool:
        """Whether the scope is an average over several environments."""
        return len(self.environments) > 1


@dataclass(frozen=True)
class Point:
    """A row as a point of accuracy against cost.

    Attributes:
        row: the row.
        cost: mean tokens, or mean sequential tokens.
        accuracy: between 0 and 1.
        on_frontier: whether the point is on the Pareto frontier, that is, no other row of the scope
            dominates it (at most its cost, at least its accuracy, and strictly better in one).
        share: share of the bootstrap replicates in which the point is on the frontier; NaN without
            replicates.
    """

    row: Row
    cost: float
    accuracy: float
    on_frontier: bool
    share: float


@dataclass(frozen=True)
class Tradeoff:
    """A row with its accuracy and both costs.

    Attributes:
        row: the row.
        tokens, sequential_tokens: means per question.
        accuracy: between 0 and 1.
        undominated: whether no other row of the scope has at least its accuracy for at most its
            tokens and its sequential tokens, and is strictly better in one of the three.
        share: share of the bootstrap replicates in which it is undominated; NaN without replicates.
    """

    row: Row
    tokens: float
    sequential_tokens: float
    accuracy: float
    undominated: bool
    share: float


class Analysis:
    """Estimates, comparisons and frontiers of a benchmark's rows.

    On an environment, all rows must have played the same questions and seeds; their billing may
    differ. An average contains only the rows that were played on all of its environments, because
    averages over different environments are not comparable (see :meth:`missing`).

    Args:
        runs: complete runs, environment by environment, in the order of the table; or the results
            of a benchmark, which also have the splits and the digests.
        splits: split of each environment by its name (``"search"``, ``"held-out"`` or empty); by
            default that of the installed environment of this name, so that search and held-out
            environments are not averaged.
        benchmarks: digest of the questions of each environment by its name. Environments with the
            same digest have the same questions in the same order, and each replicate draws the same
            questions in all of them. With independent draws, the interval of an average over
            several models would be too narrow. An environment that is not listed is drawn
            independently.
        replicates: number of bootstrap replicates, B.
        seed: random seed of the replicates. The replicates of an environment depend only on this
            seed, the names of the environment and its benchmark, and its numbers of questions and
            seeds.

    Attributes:
        scopes: the environments in the order of the runs, then the average of each split with at
            least two environments.
        rows: all rows in the order of the runs, including rows not played on every environment.

    Raises:
        ValueError: a row occurs twice on an environment; two rows of an environment played
            different questions or seeds; two environments of one benchmark have different
            questions.
    """

    def __init__(
        self,
        runs: Sequence[Run] | Results,
        splits: Mapping[str, str] | None = None,
        benchmarks: Mapping[str, str] | None = None,
        *,
        replicates: int = REPLICATES,
        seed: int = 0,
    ) -> None:
        if not isinstance(runs, Sequence):
            splits = runs.splits if splits is None else splits
            benchmarks = runs.benchmarks if benchmarks is None else benchmarks
            runs = runs.runs
        if splits is None:
            splits = {env: _installed_split(env) for env in {run.env for run in runs}}
        tables: dict[str, dict[Row, Run]] = {}
        for run in runs:
            row = Row(run.agent, run.beta)
            if row in tables.setdefault(run.env, {}):
                raise ValueError(f"{run.env}: two runs of {row}")
            tables[run.env][row] = run
        self.scopes = _scopes(list(tables), splits)
        self.rows = list(dict.fromkeys(Row(run.agent, run.beta) for run in runs))
        self._means: dict[tuple[str, Row], Means] = {}
        benchmarks = benchmarks or {}
        check_benchmarks(tables, benchmarks)
        for env, env_runs in tables.items():
            benchmark = benchmarks.get(env, "")
            try:
                means = resample(
                    {row: run.episodes for row, run in env_runs.items()},
                    replicates=replicates,
                    seed=(seed, 0, crc32(env.encode())),
                    question_seed=(seed, 1, crc32(benchmark.encode())) if benchmark else None,
                )
            except ValueError as error:
                raise ValueError(f"{env}: {error}") from None
            self._means |= {(env, row): row_means for row, row_means in means.items()}
        self._averages: dict[tuple[Scope, Row], Means] = {}

    @classmethod
    def from_results(cls, results: Results) -> Analysis:
        """Analyse the results of a benchmark."""
        return cls(results.runs, results.splits, results.benchmarks)

    # --- rows ------------------------------------------------------------------------------------

    def rows_in(self, scope: Scope, agent: str | None = None) -> list[Row]:
        """The rows in a scope: those played on all of its environments, of one agent if given."""
        return [
            row
            for row in self.rows
            if agent in (None, row.agent)
            and all((env, row) in self._means for env in scope.environments)
        ]

    def missing(self, scope: Scope) -> dict[Row, list[str]]:
        """The rows that are not in a scope, each with the environments that it lacks."""
        lacking = {
            row: [env for env in scope.environments if (env, row) not in self._means]
            for row in self.rows
        }
        return {row: envs for row, envs in lacking.items() if envs}

    # --- estimates -------------------------------------------------------------------------------

    def means(self, scope: Scope, row: Row) -> Means:
        """The means of a row in a scope and their replicates, paired with those of other rows.

        Raises:
            ValueError: the row was not played on every environment of the scope.
        """
        lacking = [env for env in scope.environments if (env, row) not in self._means]
        if lacking:
            raise ValueError(f"{row} is not in {scope.name}: it was not played on {lacking[0]}")
        if (scope, row) not in self._averages:
            parts = [self._means[env, row] for env in scope.environments]
            self._averages[scope, row] = macro_average(parts) if scope.is_average else parts[0]
        return self._averages[scope, row]

    def estimate(self, scope: Scope, row: Row, metric: str) -> Estimate:
        """The mean of a metric with its 95% interval.

        Args:
            scope: the scope.
            row: the row.
            metric: one of ``bootstrap.METRICS``; accuracy is ``"correct"``.
        """
        return self.means(scope, row).estimate(metric)

    def difference(self, scope: Scope, a: Row, b: Row, metric: str) -> Estimate:
        """The paired difference a − b of a metric."""
        return difference(self.means(scope, a), self.means(scope, b), metric)

    def ratio(self, scope: Scope, a: Row, b: Row, metric: str) -> Estimate:
        """The paired ratio a / b of a metric; NaN if b is 0.

        For an average scope: the ratio of the two averages, not the average of ratios.
        """
        return ratio(self.means(scope, a), self.means(scope, b), metric)

    # --- frontiers -------------------------------------------------------------------------------

    def frontier(self, scope: Scope, cost: Cost = "tokens", bound: float = np.inf) -> list[Point]:
        """All rows of a scope by rising cost, each marked if it is on the Pareto frontier.

        Args:
            scope: the scope.
            cost: the cost.
            bound: the highest mean of the other cost: rows with more are left out, in every
                replicate by its own means.
        """
        rows = self.rows_in(scope)
        costs, drawn_costs = self.columns(scope, rows, cost)
        accuracies, drawn_accuracies = self.columns(scope, rows, "correct")
        others, drawn_others = self.columns(scope, rows, OTHER_COST[cost])
        # Without a cost and an accuracy, a row that is left out dominates no other.
        inside, drawn_inside = others <= bound, drawn_others <= bound
        on = on_frontier(np.where(inside, costs, np.inf), np.where(inside, accuracies, -np.inf))
        drawn_on = drawn_inside & on_frontier(
            np.where(drawn_inside, drawn_costs, np.inf),
            np.where(drawn_inside, drawn_accuracies, -np.inf),
        )
        shares = _shares(drawn_on)
        points = [
            Point(row, float(costs[i]), float(accuracies[i]), bool(on[i]), float(shares[i]))
            for i, row in enumerate(rows)
            if inside[i]
        ]
        return sorted(points, key=lambda point: (point.cost, -point.accuracy))

    def tradeoffs(self, scope: Scope) -> list[Tradeoff]:
        """The rows of a scope with both costs, in the order of the table."""
        rows = self.rows_in(scope)
        if not rows:
            return []
        (tokens, drawn_tokens), (sequential, drawn_sequential), (accuracies, drawn_accuracies) = (
            self.columns(scope, rows, metric)
            for metric in ("tokens", "sequential_tokens", "correct")
        )
        undominated = on_frontier(tokens, accuracies, sequential)
        shares = _shares(on_frontier(drawn_tokens, drawn_accuracies, drawn_sequential))
        return [
            Tradeoff(
                row,
                float(tokens[i]),
                float(sequential[i]),
                float(accuracies[i]),
                bool(undominated[i]),
                float(shares[i]),
            )
            for i, row in enumerate(rows)
        ]

    def area(self, scope: Scope, agent: str, cost: Cost = "tokens") -> Estimate:
        """The mean accuracy along an agent's frontier over the logarithm of the cost.

        The costs range from the cheapest to the most expensive row of the scope, over all agents.
        At each cost, the frontier is the highest accuracy of the agent's rows with at most that
        cost, and 0 below its cheapest row. The result is between 0 and 1, and NaN if all rows of
        the scope cost the same. It compares agents within one benchmark, not across benchmarks.

        Raises:
            ValueError: the agent has no row in the scope.
        """
        sweep = self._sweep(scope, agent)
        costs, drawn_costs = self.columns(scope, sweep, cost)
        accuracies, drawn_accuracies = self.columns(scope, sweep, "correct")
        all_costs, all_drawn = self.columns(scope, self.rows_in(scope), cost)
        return Estimate.from_replicates(
            float(frontier_area(all_costs.min(), all_costs.max(), costs, accuracies)),
            frontier_area(
                all_drawn.min(axis=-1), all_drawn.max(axis=-1), drawn_costs, drawn_accuracies
            ),
        )

    def compare(
        self,
        scope: Scope,
        agent: str,
        row: Row,
        cost: Cost = "tokens",
        *,
        within_both: bool = False,
    ) -> Comparison:
        """Compare an agent's β sweep with a row, at equal accuracy and at equal cost.

        Args:
            scope: the scope.
            agent: the agent with the sweep.
            row: the row.
            cost: the cost that is compared.
            within_both: the sweep must not have more than the row of the other cost either.

        Raises:
            ValueError: the agent has no row in the scope, or the row is not part of it.
        """
        sweep = [self.means(scope, point) for point in self._sweep(scope, agent)]
        return compare_sweep(sweep, self.means(scope, row), cost, within_both=within_both)

    def _sweep(self, scope: Scope, agent: str) -> list[Row]:
        rows = self.rows_in(scope, agent)
        if not rows:
            raise ValueError(
                f"{agent} is not in {scope.name}: no row was played on all of its environments"
            )
        return rows

    def columns(self, scope: Scope, rows: Sequence[Row], metric: str) -> tuple[Floats, Floats]:
        """A metric of some rows, float64[R], and its replicates, float64[B, R]."""
        means = [self.means(scope, row) for row in rows]
        values = np.array([row_means.value[metric] for row_means in means])
        replicates = [row_means.replicates[metric] for row_means in means]
        return values, np.stack(replicates, axis=-1)


def _installed_split(env: str) -> str:
    """The split of the installed environment of this name; empty if there is none."""
    try:
        return split_of(registry.resolve(env).get(env))
    except TraceError:
        return ""


def _shares(drawn: NDArray[np.bool_]) -> Floats:
    """Share of the replicates, bool[B, R], in which each row is marked; NaN without replicates."""
    return drawn.mean(axis=0) if len(drawn) else np.full(drawn.shape[1], np.nan)


def _scopes(environments: Sequence[str], splits: Mapping[str, str]) -> list[Scope]:
    scopes = [Scope(env, (env,), splits.get(env, "")) for env in environments]
    for split in dict.fromkeys(scope.split for scope in scopes[: len(environments)]):
        members = tuple(env for env in environments if splits.get(env, "") == split)
        if len(members) < 2:
            continue
        if split:
            name = f"{split} average"
        elif len(members) == len(environments):
            name = "average"
        else:
            name = "average without a split"
        scopes.append(Scope(name, members, split))
    return scopes
