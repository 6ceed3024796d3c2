"""Kept work: what a benchmark has played, so that nothing is played twice.

A *cell* holds some seeds of one agent at one β on one store. It is written at once, atomically,
under a name that covers everything it depends on (the program's text, the store's fingerprint, the
terms, the version), so that an interrupted benchmark goes on where it was.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import autotts_gym
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.evaluation.backends import Job, Played
from autotts_gym.evaluation.results import Incomplete, Run, columns, read_table, write_table
from autotts_gym.mdp.jit import sources_key
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.traces.store import TraceStore

if TYPE_CHECKING:
    import pyarrow as pa


class ResultCache:
    """The finished seeds of one agent at one β on one store under one set of terms.

    Attributes:
        open: jobs of it that are still to be played.
    """

    def __init__(
        self,
        folder: Path,
        agent: Agent,
        beta: float | None,
        store: TraceStore,
        order: Order,
        terms: EpisodeConfig,
        settle: bool,
    ) -> None:
        depends = {
            "agent": agent.digest,
            "beta": beta,
            "store": store.card.fingerprint,
            "order": order,
            "terms": asdict(terms),
            "settle": settle,
            "version": autotts_gym.__version__,
            "rules": sources_key(),
        }
        if agent.is_untrusted:
            # A program may notice where it runs: neither kind of cell stands for the other.
            depends["untrusted"] = True
        text = json.dumps(depends, sort_keys=True, default=int)  # integers may be numpy's
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        # The name is for people; file names end at 255 bytes.
        self.key = f"{agent.name.replace(':', '.')[:50]}-{digest}"
        self.beta = beta
        self.open = 0
        self.seeds: set[int] = set()
        self._agent, self._store, self._folder = agent, store, folder
        self._played, self._seconds = 0, 0.0
        self._path, self._reason = "kept", ""
        self._given_up: dict[tuple[int, ...], str] = {}  # by seeds
        self._tables: list[pa.Table] = []
        for path in sorted(folder.glob(f"{glob.escape(self.key)}-*.parquet")):
            with contextlib.suppress(OSError, ValueError):  # a damaged cell is played again
                self._keep(read_table(path))

    def finish(self, job: Job, played: Played | GivenUpError) -> None:
        """Take in what became of a job."""
        self.open -= 1
        if isinstance(played, GivenUpError):
            self._given_up[job.seeds] = str(played)
            return
        self._path, self._reason = played.path, played.reason
        self._played += job.count
        self._seconds += played.seconds
        table = _table(job, played.episodes)
        if played.whole:  # it is what it would be at any other time
            seeds = job.seeds
            name = f"{self.key}-{seeds[0]}-{seeds[-1]}-{len(seeds)}.parquet"
            write_table(table, self._folder / name)
        self._keep(table)

    def row(self, env: str, seeds: Sequence[int]) -> Run | Incomplete:
        """The table's row, once nothing is open."""
        if self._given_up:
            first = self._given_up[min(self._given_up)]
            return Incomplete(self._agent.name, self.beta, env, first)
        episodes = self._columns(seeds)
        failed = [i for i, message in enumerate(episodes["failure"]) if message is not None]
        return Run(
            agent=self._agent.name,
            beta=self.beta,
            env=env,
            synthetic=self._store.card.synthetic,
            failures={
                (int(episodes["seed"][i]), int(episodes["question"][i])): episodes["failure"][i]
                for i in failed
            },
            episodes=episodes,
            path=self._path,
            reason=self._reason,
            rate=self._played / self._seconds if self._seconds else float("nan"),
        )

    def _keep(self, table: pa.Table) -> None:
        """Add a cell, but for seeds that benchmarks running side by side have both played."""
        import pyarrow as pa
        import pyarrow.compute as pc

        known = pc.is_in(table["seed"], pa.array(self.seeds, pa.int64()))
        table = table.filter(pc.invert(known))
        self._tables.append(table)
        self.seeds.update(table["seed"].to_pylist())

    def _columns(self, seeds: Sequence[int]) -> dict[str, Any]:
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


def _table(job: Job, played: EpisodeResults) -> pa.Table:
    """The columns of an episode, and how it failed if it did."""
    import pyarrow as pa

    values = {
        "seed": np.repeat(np.asarray(job.seeds, np.int64), job.store.card.questions),
        "question": job.questions(),
        "correct": played.correct,
        "answer": played.answers,
        "tokens": played.tokens,
        "sequential_tokens": played.sequential_tokens,
        "actions": played.actions,
        "probes": played.probes,
        "settled_tokens": played.settled_tokens,
        "failure": [played.failures.get(k) for k in range(job.count)],
    }
    types = {**columns(job.settle), "failure": "string"}
    return pa.table({name: values[name] for name in types}, schema=pa.schema([*types.items()]))
