"""Runs: the episodes of one agent at one β on one environment, and their Parquet table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.utils.parquet import read_table, write_table

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns of an episode and their Arrow types. Tokens are true tokens. ``settled_tokens`` is
#: optional.
EPISODE_COLUMNS: Final = {
    "seed": "int64",
    "question": "int64",
    "correct": "bool",
    "answer": "string",
    "tokens": "int64",
    "sequential_tokens": "int64",
    "actions": "int64",
    "probes": "int64",
    "settled_tokens": "int64",
}

#: Columns that name the run of an episode, and their Arrow types.
RUN_COLUMNS: Final = {"agent": "string", "beta": "double", "env": "string"}

#: Agent, β and environment of a run.
RunKey = tuple[str, float | None, str]


def episode_columns(settled: bool) -> dict[str, str]:
    """``EPISODE_COLUMNS``, with or without ``settled_tokens``."""
    return {
        name: kind for name, kind in EPISODE_COLUMNS.items() if settled or name != "settled_tokens"
    }


@dataclass(frozen=True)
class Run:
    """One agent at one β on one environment: a row of the benchmark's table.

    Attributes:
        agent: name of the agent.
        beta: β; None for an agent without the knob.
        env: name of the environment.
        synthetic: whether the traces were generated, not sampled from a model.
        episodes: columns by name, see ``EPISODE_COLUMNS``; sorted by seed and question.
        failures: error message by (seed, question).
        path, reason: how it was played, see :class:`~autotts_gym.rollout.rollout.Rollout`;
            ``"kept"`` if all episodes were cached.
        rate: episodes per second while playing; NaN if all episodes were cached.
    """

    agent: str
    beta: float | None
    env: str
    synthetic: bool
    episodes: dict[str, Any]
    failures: dict[tuple[int, int], str]
    path: str = "kept"
    reason: str = ""
    rate: float = float("nan")

    def __repr__(self) -> str:
        beta = "" if self.beta is None else f" β={self.beta:g}"
        episodes = len(self.episodes["correct"])
        return f"<Run of {self.agent}{beta} on {self.env}: {episodes:,} episodes>"

    @property
    def key(self) -> RunKey:
        """Agent, β and environment."""
        return self.agent, self.beta, self.env

    @property
    def accuracy(self) -> float:
        """Share of correct episodes."""
        return float(np.mean(self.episodes["correct"]))

    def mean(self, column: str) -> float:
        """Mean of a column over all episodes."""
        return float(np.mean(self.episodes[column]))


@dataclass(frozen=True)
class IncompleteRun:
    """A run that was given up.

    Attributes:
        agent, beta, env: as in :class:`Run`.
        message: the reason.
    """

    agent: str
    beta: float | None
    env: str
    message: str


def to_arrow(runs: Sequence[Run]) -> pa.Table:
    """All episodes as one table with ``RUN_COLUMNS`` and ``EPISODE_COLUMNS``.

    The column ``settled_tokens`` is present if any run has it.
    """
    import pyarrow as pa

    types = episode_columns(any("settled_tokens" in run.episodes for run in runs))
    schema = pa.schema([*RUN_COLUMNS.items(), *types.items()])
    tables = [schema.empty_table()]
    for run in runs:
        count = len(run.episodes["seed"])
        tables.append(
            pa.table(
                {"agent": [run.agent] * count, "beta": [run.beta] * count, "env": [run.env] * count}
                | {name: run.episodes[name] for name in types},
                schema=schema,
            )
        )
    return pa.concat_tables(tables)


def write_episodes(runs: Sequence[Run], path: str | os.PathLike[str]) -> None:
    """Write all episodes to one Parquet file."""
    write_table(to_arrow(runs), path)


def read_episodes(
    path: str | os.PathLike[str],
    synthetic: Mapping[str, bool],
    failures: Mapping[RunKey, dict[tuple[int, int], str]],
) -> list[Run]:
    """Read the runs of a file that :func:`write_episodes` wrote.

    Args:
        path: the file.
        synthetic: whether the traces of each environment were generated.
        failures: error messages of each run by (seed, question).

    Raises:
        OSError, ValueError: the file cannot be read.
        KeyError: an environment is not in ``synthetic``.
    """
    table = _read_columns(path)
    runs = []
    for start, stop, key in _run_slices(table):
        rows = table.slice(start, stop - start)
        episodes = {
            name: rows[name].to_pylist() if name == "answer" else rows[name].to_numpy()
            for name in rows.column_names
            if name in EPISODE_COLUMNS
        }
        runs.append(Run(*key, synthetic[key[2]], episodes, failures.get(key, {})))
    return runs


def _read_columns(path: str | os.PathLike[str]) -> pa.Table:
    """The table of a file with the columns' types; raises ``ValueError`` for an invalid value."""
    import pyarrow as pa

    kinds = {**RUN_COLUMNS, **episode_columns(False)}
    table = read_table(path, list(kinds), optional=["settled_tokens"])
    kinds = {name: {**kinds, **EPISODE_COLUMNS}[name] for name in table.column_names}
    try:
        table = table.cast(pa.schema(list(kinds.items())))
    except (pa.ArrowException, NotImplementedError) as error:
        raise ValueError(f"{Path(path).name}: {error}") from error
    for name, kind in kinds.items():
        column = table[name].combine_chunks()
        if column.null_count and name not in ("beta", "answer"):
            raise ValueError(f"{Path(path).name}: {name} has gaps")
        least = -1 if name == "settled_tokens" else 0
        if kind == "int64" and len(column) and np.from_dlpack(column).min() < least:
            raise ValueError(f"{Path(path).name}: {name} must be at least {least}")
    return table


def _run_slices(table: pa.Table) -> Iterator[tuple[int, int, RunKey]]:
    """First row, end and key of every run."""
    keys = [table[name].dictionary_encode().combine_chunks() for name in RUN_COLUMNS]
    codes = np.stack([key.indices.fill_null(-1).to_numpy() for key in keys], axis=1)
    starts = [0, *(1 + np.flatnonzero((codes[1:] != codes[:-1]).any(axis=1))), len(codes)]
    for start, stop in pairwise(starts):
        if stop > start:
            agent, beta, env = (key[int(start)].as_py() for key in keys)
            yield int(start), int(stop), (agent, beta, env)


def check_benchmarks(
    tables: Mapping[str, Mapping[Any, Run]], benchmarks: Mapping[str, str]
) -> None:
    """Check that environments of one benchmark have the same questions.

    Args:
        tables: runs by environment and row.
        benchmarks: digest of the questions of environments, by name.

    Raises:
        ValueError: they do not.
    """
    known: dict[str, tuple[str, NDArray[np.int64]]] = {}
    for env, env_runs in tables.items():
        if benchmark := benchmarks.get(env):
            questions = np.unique(next(iter(env_runs.values())).episodes["question"])
            first, expected = known.setdefault(benchmark, (env, questions))
            if not np.array_equal(questions, expected):
                raise ValueError(
                    f"{first} and {env} should hold the same questions, those of {benchmark}, but "
                    f"played different ones ({len(expected)} and {len(questions)})"
                )
