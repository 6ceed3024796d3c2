"""The benchmark: agents × environments × β × seeds, every question once per seed.

Work is kept in *cells*: one (agent, β, environment, seed). Finished cells are written at once,
atomically, under a name that covers everything they depend on (the program's text, the store's
fingerprint, the terms, the version), so that an interrupted benchmark goes on where it was and
nothing is ever played twice.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import glob
import hashlib
import io
import json
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

import autotts_gym
from autotts_gym.controllers.loading import Agent
from autotts_gym.evaluation.rollout import Rollout
from autotts_gym.mdp.compiling import sources_key
from autotts_gym.mdp.replay import Terms
from autotts_gym.traces.store import TraceStore

if TYPE_CHECKING:
    import pyarrow as pa

Order = Literal["published", "random"]

#: Seeds that are played and written together: few enough to lose little, enough to be quick.
_BLOCK: Final = 10

COLUMNS: Final = (
    "agent",
    "beta",
    "env",
    "seed",
    "question",
    "correct",
    "answer",
    "tokens",
    "sequential_tokens",
    "actions",
)


@dataclass(frozen=True)
class Run:
    """One row of the benchmark's table: an agent at one β on one environment.

    Attributes:
        beta: None for an agent without a knob.
        episodes: a column of the episodes' table by its name.
        failures: message by (seed, question).
        path, reason: how it was played, see :class:`~autotts_gym.evaluation.rollout.Rollout`;
            ``"kept"`` where everything had been played before.
        rate: episodes a second while playing; NaN where nothing was played.
    """

    agent: str
    beta: float | None
    env: str
    synthetic: bool
    episodes: dict[str, Any]
    failures: dict[tuple[int, int], str]
    path: str
    reason: str
    rate: float

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.episodes["correct"]))

    @property
    def margin(self) -> float:
        """Half-width of a 95% interval of the accuracy: 1.96 standard errors over questions.

        Questions are what is sampled; seeds only average within them.
        """
        questions = np.asarray(self.episodes["question"])
        right = np.bincount(questions, self.episodes["correct"]) / np.bincount(questions)
        if len(right) < 2:
            return float("nan")
        return float(1.96 * right.std(ddof=1) / np.sqrt(len(right)))

    def mean(self, column: str) -> float:
        """Mean of a column over all episodes."""
        return float(np.mean(self.episodes[column]))


def branch_order(order: Order, seed: int, question: int, count: int) -> NDArray[np.int64]:
    """The order in which a question's ``count`` branches open.

    Args:
        order: ``"published"``, the same for every question of a seed, as the published evaluation
            shuffles (arXiv 2605.08083); ``"random"``, another one for every question.
    """
    if order == "published":
        return _published_order(seed, count)
    return np.random.default_rng([seed, question]).permutation(count)


@functools.lru_cache(maxsize=1024)  # one order serves all questions of a seed
def _published_order(seed: int, count: int) -> NDArray[np.int64]:
    branches = list(range(count))
    random.Random(seed).shuffle(branches)
    return np.array(branches, np.int64)


def run(
    agents: Sequence[Agent],
    stores: dict[str, TraceStore],
    betas: Sequence[float],
    seeds: Sequence[int],
    folder: Path,
    *,
    order: Order = "random",
    terms: Terms | None = None,
    interpret: bool = False,
    progress: Callable[[str, int], None] = lambda label, episodes: None,
) -> Iterator[Run]:
    """Play what is missing and yield the rows of the table as they are complete.

    Args:
        agents: an agent without β is played once.
        stores: environments by name.
        betas, seeds: the grid.
        folder: where cells are kept, in ``cells/``.
        progress: called with a label and the number of episodes that were just finished.

    Raises:
        ValueError: β is outside [0, 1], two agents have one name, or a store has too few branches
            for ``terms``.
    """
    terms = terms or Terms()
    outside = [beta for beta in betas if not 0 <= beta <= 1]
    if outside:
        raise ValueError(f"beta must be within [0, 1], got {outside[0]}")
    named = {agent.name: agent for agent in agents}
    for agent in agents:
        other = named[agent.name]
        if agent != other:
            raise ValueError(
                f"{agent.path} and {other.path} would both be called {agent.name!r} in the "
                "results: rename one"
            )
    # Whatever is named twice is played once; β may come as integers, and cells go by floats.
    betas, seeds = list(dict.fromkeys(map(float, betas))), list(dict.fromkeys(seeds))
    cells = folder / "cells"
    cells.mkdir(parents=True, exist_ok=True)
    for agent in dict.fromkeys(agents):
        for env, store in stores.items():
            rollout: Rollout | None = None
            grid: Sequence[float | None] = betas if agent.takes_beta else [None]
            for beta in grid:
                label = f"{agent.name}{'' if beta is None else f' β={beta:g}'} on {env}"
                kept = _Cells(cells, agent, beta, store, order, terms)
                missing = [seed for seed in seeds if seed not in kept.seeds]
                progress(label, (len(seeds) - len(missing)) * store.card.questions)
                seconds = 0.0
                if missing and rollout is None:
                    rollout = Rollout(agent, store, terms, interpret=interpret)
                for _, block in groupby(missing, key=lambda seed: seed // _BLOCK):
                    assert rollout is not None
                    some = list(block)
                    started = time.perf_counter()
                    rows = _play(rollout, store, some, 0.0 if beta is None else beta, order, terms)
                    seconds += time.perf_counter() - started
                    kept.add(some, rows)
                    progress(label, len(some) * store.card.questions)
                yield _row(agent, beta, env, store, kept, seeds, rollout, len(missing), seconds)


def _row(
    agent: Agent,
    beta: float | None,
    env: str,
    store: TraceStore,
    kept: _Cells,
    seeds: Sequence[int],
    rollout: Rollout | None,
    played: int,
    seconds: float,
) -> Run:
    episodes = kept.read(seeds)
    failed = [i for i, message in enumerate(episodes["failure"]) if message is not None]
    return Run(
        agent=agent.name,
        beta=beta,
        env=env,
        synthetic=store.card.synthetic,
        failures={
            (int(episodes["seed"][i]), int(episodes["question"][i])): episodes["failure"][i]
            for i in failed
        },
        episodes=episodes,
        path=rollout.path if played and rollout else "kept",
        reason=rollout.reason if played and rollout else "",
        rate=played * store.card.questions / seconds if played else float("nan"),
    )


def _play(
    rollout: Rollout,
    store: TraceStore,
    seeds: Sequence[int],
    beta: float,
    order: Order,
    terms: Terms,
) -> dict[str, Any]:
    """Every question of a store once per seed; columns of the episodes' table."""
    counts = store.tables.branch_counts
    questions = np.tile(np.arange(len(counts)), len(seeds))
    orders = np.array(
        [
            branch_order(order, seed, q, int(count))[: terms.max_branches]
            for seed in seeds
            for q, count in enumerate(counts)
        ]
    )
    played = rollout.play(questions, orders, beta)
    return {
        "seed": np.repeat(np.asarray(seeds, np.int64), len(counts)),
        "question": questions,
        "correct": played.correct,
        "answer": played.answers,
        "tokens": played.tokens,
        "sequential_tokens": played.sequential_tokens,
        "actions": played.actions,
        "failure": [played.failures.get(k) for k in range(len(questions))],
    }


class _Cells:
    """The finished seeds of one agent at one β on one store under one set of terms."""

    def __init__(
        self,
        folder: Path,
        agent: Agent,
        beta: float | None,
        store: TraceStore,
        order: Order,
        terms: Terms,
    ) -> None:
        depends = {
            "agent": agent.digest,
            "beta": beta,
            "store": store.card.fingerprint,
            "order": order,
            "terms": asdict(terms),
            "version": autotts_gym.__version__,
            "rules": sources_key(),
        }
        self._folder = folder
        text = json.dumps(depends, sort_keys=True, default=int)  # integers may be numpy's
        self._key = (
            f"{agent.name.replace(':', '.')}-{hashlib.sha256(text.encode()).hexdigest()[:24]}"
        )
        self._tables: list[pa.Table] = []
        self.seeds: set[int] = set()
        for path in sorted(folder.glob(f"{glob.escape(self._key)}-*.parquet")):
            with contextlib.suppress(OSError, ValueError):  # a damaged cell is played again
                self._keep(_read(path))

    def add(self, seeds: Sequence[int], columns: dict[str, Any]) -> None:
        import pyarrow as pa

        table = pa.table(columns, schema=_cell_schema())
        _write(table, self._folder / f"{self._key}-{seeds[0]}-{seeds[-1]}-{len(seeds)}.parquet")
        self._keep(table)

    def _keep(self, table: pa.Table) -> None:
        """Add a cell, but for seeds that benchmarks running side by side have both played."""
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pc.is_in(table["seed"], pa.array(self.seeds, pa.int64()))
        table = table.filter(pc.invert(known))
        self._tables.append(table)
        self.seeds.update(table["seed"].to_pylist())

    def read(self, seeds: Sequence[int]) -> dict[str, Any]:
        """The columns of these seeds, sorted by seed and question."""
        import pyarrow as pa
        import pyarrow.compute as pc

        table = pa.concat_tables(self._tables)
        table = table.filter(pc.is_in(table["seed"], pa.array(sorted(seeds), pa.int64())))
        table = table.sort_by([("seed", "ascending"), ("question", "ascending")])
        strings = ("answer", "failure")
        return {
            name: table[name].to_pylist() if name in strings else table[name].to_numpy()
            for name in table.column_names
        }


def _cell_schema() -> pa.Schema:
    import pyarrow as pa

    return pa.schema(
        {
            "seed": pa.int64(),
            "question": pa.int64(),
            "correct": pa.bool_(),
            "answer": pa.string(),
            "tokens": pa.int64(),
            "sequential_tokens": pa.int64(),
            "actions": pa.int64(),
            "failure": pa.string(),
        }
    )


def _read(path: Path) -> pa.Table:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()


def _write(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Let ``write`` fill a temporary file, then put it in place of ``path``."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_episodes(runs: Sequence[Run], path: Path) -> None:
    """Write all episodes to one Parquet file, with the columns of ``COLUMNS``."""
    import pyarrow as pa

    tables = []
    for row in runs:
        count = len(row.episodes["seed"])
        columns = {
            "agent": pa.array([row.agent] * count, pa.string()),
            "beta": pa.array([row.beta] * count, pa.float64()),
            "env": pa.array([row.env] * count, pa.string()),
        }
        kept = pa.table(
            {name: row.episodes[name] for name in _cell_schema().names}, schema=_cell_schema()
        )
        for name in COLUMNS[len(columns) :]:
            columns[name] = kept[name]
        tables.append(pa.table(columns))
    _write(pa.concat_tables(tables), path)


def write_summary(runs: Sequence[Run], path: Path) -> None:
    """Write a row for every agent, β and environment as CSV."""
    header = (
        "agent,beta,env,synthetic,episodes,failed,accuracy,accuracy_margin,"
        "tokens,sequential_tokens,actions"
    )
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(header.split(","))
    for row in runs:
        means = [row.mean(name) for name in ("tokens", "sequential_tokens", "actions")]
        figures = [row.accuracy, row.margin, *means]
        beta = "" if row.beta is None else f"{row.beta:g}"
        facts = [row.agent, beta, row.env, str(row.synthetic).lower()]
        counts = [str(len(row.episodes["seed"])), str(len(row.failures))]
        # One question has no margin: nothing stands there, as where there is no β.
        shown = ["" if np.isnan(figure) else f"{figure:.6g}" for figure in figures]
        table.writerow(facts + counts + shown)
    write_atomically(path, lambda temporary: _write_text(temporary, text.getvalue()))


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
