"""Cache of finished episodes, so that an interrupted benchmark continues where it stopped.

A *cell* is a Parquet file with the episodes of some seeds of one agent at one β on one store. It is
written atomically. Its name contains a digest of everything that the episodes depend on: the text
of the program, the fingerprint of the store, the configuration, and the version of the rules.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import autotts_gym
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.evaluation.backends import Job, JobResult
from autotts_gym.evaluation.runs import IncompleteRun, Run, episode_columns
from autotts_gym.mdp.jit import sources_key
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.parquet import read_table, write_table

if TYPE_CHECKING:
    import pyarrow as pa


#: Characters that file names leave out, such as slashes and control characters.
_NOT_IN_NAMES: Final = re.compile(r"[^\w.+ =@-]", re.ASCII)


class ResultCache:
    """The finished seeds of one agent at one β on one store with one configuration.

    Args:
        folder: folder of the cells.
        agent: the agent.
        beta: β; None for an agent without the knob.
        store: the traces.
        order: how branch orders are drawn.
        config: configuration of the episodes.
        settle: whether the episodes have settled tokens.

    Attributes:
        key: name of the cells, without their seeds.
        beta: as above.
        seeds: seeds that have been played.
        pending: number of jobs that are still to be played.
    """

    def __init__(
        self,
        folder: Path,
        agent: Agent,
        beta: float | None,
        store: TraceStore,
        order: Order,
        config: EpisodeConfig,
        settle: bool,
    ) -> None:
        dependencies = {
            "agent": agent.digest,
            "beta": beta,
            "store": store.card.fingerprint,
            "order": order,
            "terms": asdict(config),
            "settle": settle,
            "version": autotts_gym.__version__,
            "rules": sources_key(),
        }
        if agent.is_untrusted:
            # A program may behave differently in a sandbox, so the two kinds are kept apart.
            dependencies["untrusted"] = True
        text = json.dumps(dependencies, sort_keys=True, default=int)  # integers may be numpy's
        digest = hashlib.sha256(text.encode()).hexdigest()[:24]
        # The name is for readers only, shortened because file names end at 255 bytes.
        self.key = f"{_NOT_IN_NAMES.sub('.', agent.name)[:50]}-{digest}"
        self.beta = beta
        self.pending = 0
        self.seeds: set[int] = set()
        self._agent, self._store, self._folder = agent, store, folder
        self._episodes_played, self._seconds = 0, 0.0
        self._path, self._reason = "kept", ""
        self._given_up: dict[tuple[int, ...], str] = {}  # message by seeds
        self._tables: list[pa.Table] = []
        for path in sorted(folder.glob(f"{glob.escape(self.key)}-*.parquet")):
            with contextlib.suppress(OSError, ValueError):  # a damaged cell is played again
                self._append(read_table(path))

    def add(self, job: Job, result: JobResult | GivenUpError) -> None:
        """Add the result of a job, and write it to disk if it is reproducible."""
        self.pending -= 1
        if isinstance(result, GivenUpError):
            self._given_up[job.seeds] = str(result)
            return
        self._path, self._reason = result.path, result.reason
        self._episodes_played += job.count
        self._seconds += result.seconds
        table = _episode_table(job, result.episodes)
        if result.reproducible:
            seeds = job.seeds
            name = f"{self.key}-{seeds[0]}-{seeds[-1]}-{len(seeds)}.parquet"
            write_table(table, self._folder / name)
        self._append(table)

    def run(self, env: str, seeds: Sequence[int]) -> Run | IncompleteRun:
        """The run over these seeds on an environment; all jobs must have ended."""
        if self._given_up:
            first = self._given_up[min(self._given_up)]
            return IncompleteRun(self._agent.name, self.beta, env, first)
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
            rate=self._episodes_played / self._seconds if self._seconds else float("nan"),
        )

    def _append(self, table: pa.Table) -> None:
        """Add a cell, without seeds that a concurrent benchmark has played as well."""
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


def _episode_table(job: Job, episodes: EpisodeResults) -> pa.Table:
    """The episode columns of a job, and the column ``failure``, null for an episode without one."""
    import pyarrow as pa

    values = {
        "seed": np.repeat(np.asarray(job.seeds, np.int64), job.store.card.questions),
        "question": job.questions(),
        "correct": episodes.correct,
        "answer": episodes.answers,
        "tokens": episodes.tokens,
        "sequential_tokens": episodes.sequential_tokens,
        "actions": episodes.actions,
        "probes": episodes.probes,
        "settled_tokens": episodes.settled_tokens,
        "failure": [episodes.failures.get(k) for k in range(job.count)],
    }
    types = {**episode_columns(job.settle), "failure": "string"}
    return pa.table({name: values[name] for name in types}, schema=pa.schema([*types.items()]))
