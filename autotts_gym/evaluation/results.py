"""A benchmark's results: the rows of its table, and the folder that keeps them.

The folder holds

- ``benchmark.json``: what was played, and what failed (:class:`Results`);
- ``episodes.parquet``: every episode, the columns ``agent``, ``beta``, ``env`` and those of
  ``EPISODE``;
- ``summary.csv``: the table (:mod:`autotts_gym.evaluation.summary`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import autotts_gym
from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.files import write_atomically, write_text

if TYPE_CHECKING:
    import pyarrow as pa

#: Columns of an episode, and their types. Tokens are true ones; ``settled_tokens`` is there where
#: it was asked for.
EPISODE: Final = {
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


def columns(settled: bool) -> dict[str, str]:
    """``EPISODE``, with or without what is only there where it was asked for."""
    return {name: kind for name, kind in EPISODE.items() if settled or name != "settled_tokens"}


#: What ``benchmark.json`` says of its own form.
_FORMAT: Final = 1


@dataclass(frozen=True)
class Run:
    """One row of the benchmark's table: an agent at one β on one environment.

    Attributes:
        beta: None for an agent without a knob.
        episodes: a column by its name, see ``EPISODE``; sorted by seed and question.
        failures: message by (seed, question).
        path, reason: how it was played, see :class:`~autotts_gym.rollout.rollout.Rollout`;
            ``"kept"`` where everything had been played before.
        rate: episodes a second while playing; NaN where nothing was played.
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

    @property
    def accuracy(self) -> float:
        return float(np.mean(self.episodes["correct"]))

    def mean(self, column: str) -> float:
        """Mean of a column over all episodes."""
        return float(np.mean(self.episodes[column]))


@dataclass(frozen=True)
class Incomplete:
    """A row that could not be played to its end, and why."""

    agent: str
    beta: float | None
    env: str
    message: str


@dataclass(frozen=True)
class PlayedAgent:
    """An agent as it took part.

    Attributes:
        path, digest: its file, and what tells its text.
        billing: how its episodes were billed.
        untrusted: whether it was played in a sandbox, as it is then wherever it is played again.
    """

    name: str
    path: str
    digest: str
    takes_beta: bool
    published: bool
    billing: str
    untrusted: bool = False

    @classmethod
    def of(cls, agent: Agent, terms: EpisodeConfig) -> PlayedAgent:
        return cls(
            agent.name,
            str(agent.path),
            agent.digest,
            agent.takes_beta,
            agent.published,
            terms.billing,
            agent.is_untrusted,
        )


@dataclass(frozen=True)
class PlayedEnvironment:
    """An environment as it was played.

    Attributes:
        path: its folder; empty where it was only in memory.
        split: ``"search"``, ``"held-out"``, or empty where its set says nothing.
        benchmark: tells which environments hold the same questions, with the same answers.
        interval: Δ, tokens.
        depth: of its deepest branch, intervals.
        details: what else its card says.
    """

    name: str
    path: str
    fingerprint: str
    split: str
    benchmark: str
    synthetic: bool
    questions: int
    branches: int
    interval: int
    depth: int
    details: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, store: TraceStore, split: str) -> PlayedEnvironment:
        card = store.card
        return cls(
            name,
            str(store.path.absolute()) if store.path else "",
            card.fingerprint,
            split,
            _benchmark(store),
            card.synthetic,
            card.questions,
            card.branches,
            card.interval,
            card.depth,
            dict(card.details),
        )


def _benchmark(store: TraceStore) -> str:
    """Digest of the questions; of the whole store where it does not say what they are."""
    t = store.tables
    if not all(t.texts):
        return store.card.fingerprint
    text = json.dumps([t.texts, t.golds], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Results:
    """What a benchmark found.

    Attributes:
        agents, environments: who played, and what.
        runs: the complete rows.
        incomplete: the others.
        order, seeds: the branch orders.
        terms: of play; an agent's own billing goes before theirs.
        protocol: ``"paper"`` where the published protocol was asked for, else empty.
        version: of this package.
    """

    agents: list[PlayedAgent]
    environments: list[PlayedEnvironment]
    runs: list[Run]
    incomplete: list[Incomplete]
    order: Order
    seeds: list[int]
    terms: EpisodeConfig
    protocol: str = ""
    version: str = autotts_gym.__version__

    @property
    def splits(self) -> dict[str, str]:
        """The split of every environment by its name."""
        return {env.name: env.split for env in self.environments}

    @property
    def benchmarks(self) -> dict[str, str]:
        """What tells the questions of every environment, by its name."""
        return {env.name: env.benchmark for env in self.environments}

    def save(self, folder: Path) -> None:
        """Write the folder's files, each replaced atomically; ``benchmark.json`` comes last."""
        folder.mkdir(parents=True, exist_ok=True)
        write_episodes(self.runs, folder / "episodes.parquet")
        facts = {
            "format": _FORMAT,
            "version": self.version,
            "protocol": self.protocol,
            "order": self.order,
            "seeds": self.seeds,
            "terms": asdict(self.terms),
            "agents": [asdict(agent) for agent in self.agents],
            "environments": [asdict(env) for env in self.environments],
            "incomplete": [asdict(row) for row in self.incomplete],
            "failures": [
                {"agent": run.agent, "beta": run.beta, "env": run.env}
                | {"seed": seed, "question": question, "message": message}
                for run in self.runs
                for (seed, question), message in run.failures.items()
            ],
        }
        text = json.dumps(facts, indent=1, ensure_ascii=False, default=str) + "\n"
        write_text(folder / "benchmark.json", text)

    @classmethod
    def load(cls, folder: Path) -> Results:
        """Read a folder of results.

        Raises:
            ValueError: it is none, it is damaged, or another version wrote it.
        """
        manifest = folder / "benchmark.json"
        if not manifest.is_file():
            raise ValueError(f"{folder}: holds no results: `autotts benchmark --out` writes some")
        try:
            facts = json.loads(manifest.read_text("utf-8"))
            if facts["format"] != _FORMAT:
                raise ValueError(
                    f"was written by autotts_gym {facts['version']}: run the benchmark again"
                )
            return cls(
                agents=[PlayedAgent(**agent) for agent in facts["agents"]],
                environments=[PlayedEnvironment(**env) for env in facts["environments"]],
                runs=_read_runs(folder / "episodes.parquet", facts),
                incomplete=[Incomplete(**row) for row in facts["incomplete"]],
                order=facts["order"],
                seeds=facts["seeds"],
                terms=EpisodeConfig(**facts["terms"]),
                protocol=facts["protocol"],
                version=facts["version"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            what = f"{type(error).__name__} {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{folder}: its results cannot be read: {what}") from error


# --- episodes ------------------------------------------------------------------------------------


def write_episodes(runs: Sequence[Run], path: Path) -> None:
    """Write all episodes to one Parquet file."""
    import pyarrow as pa

    types = columns(any("settled_tokens" in run.episodes for run in runs))
    facts = {"agent": "string", "beta": "double", "env": "string"}
    schema = pa.schema([*facts.items(), *types.items()])
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
    write_table(pa.concat_tables(tables), path)


def _read_runs(path: Path, facts: dict[str, Any]) -> list[Run]:
    failures: dict[tuple[str, float | None, str], dict[tuple[int, int], str]] = {}
    for failure in facts["failures"]:
        of = failures.setdefault((failure["agent"], failure["beta"], failure["env"]), {})
        of[failure["seed"], failure["question"]] = failure["message"]
    synthetic = {env["name"]: env["synthetic"] for env in facts["environments"]}
    table = read_table(path)
    runs = []
    for start, stop, key in _stretches(table):
        rows = table.slice(start, stop - start)
        episodes = {name: rows[name] for name in rows.column_names if name in EPISODE}
        values = {
            name: column.to_pylist() if name == "answer" else column.to_numpy()
            for name, column in episodes.items()
        }
        runs.append(Run(*key, synthetic[key[2]], values, failures.get(key, {})))
    return runs


def _stretches(table: pa.Table) -> Iterator[tuple[int, int, tuple[str, float | None, str]]]:
    """Where the rows of one agent, β and environment begin and end."""
    keys = [table[name].dictionary_encode().combine_chunks() for name in ("agent", "beta", "env")]
    codes = np.stack([key.indices.fill_null(-1).to_numpy() for key in keys], axis=1)
    starts = [0, *(1 + np.flatnonzero((codes[1:] != codes[:-1]).any(axis=1))), len(codes)]
    for start, stop in pairwise(starts):
        if stop > start:
            agent, beta, env = (key[int(start)].as_py() for key in keys)
            yield int(start), int(stop), (agent, beta, env)


# --- files ---------------------------------------------------------------------------------------


def read_table(path: Path) -> pa.Table:
    """Read a Parquet file."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()


def write_table(table: pa.Table, path: Path) -> None:
    """Write a Parquet file atomically."""
    import pyarrow.parquet as pq

    write_atomically(path, lambda temporary: pq.write_table(table, temporary, compression="zstd"))
