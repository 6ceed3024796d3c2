"""Results of a benchmark, and the folder that stores them.

The folder contains

- ``benchmark.json``: agents, environments, configuration and failures;
- ``episodes.parquet``: all episodes, see :mod:`autotts_gym.evaluation.runs`;
- ``summary.csv``: the table, see :mod:`autotts_gym.evaluation.summary`.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

import autotts_gym
from autotts_gym.controllers.agent import Agent
from autotts_gym.evaluation.runs import (
    IncompleteRun,
    Run,
    RunKey,
    read_episodes,
    to_arrow,
    write_episodes,
)
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import Order
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.bounded_files import read_text
from autotts_gym.utils.files import write_text

if TYPE_CHECKING:
    import pyarrow as pa

#: Format version of ``benchmark.json``.
_FORMAT: Final = 1
#: Size of ``benchmark.json``, bytes: a million failures take less.
_MAX_MANIFEST: Final = 1 << 28


@dataclass(frozen=True)
class AgentRecord:
    """An agent of a benchmark.

    Attributes:
        name: its name in the results.
        path: its file.
        digest: digest of its text.
        takes_beta: whether it has the knob β.
        published: whether it is a published program.
        billing: how its episodes were billed.
        untrusted: whether it was played in a sandbox; if so, replays use a sandbox as well.
    """

    name: str
    path: str
    digest: str
    takes_beta: bool
    published: bool
    billing: str
    untrusted: bool = False

    @classmethod
    def from_agent(cls, agent: Agent, config: EpisodeConfig) -> AgentRecord:
        """Describe an agent that plays with a configuration."""
        return cls(
            agent.name,
            str(agent.path),
            agent.digest,
            agent.takes_beta,
            agent.published,
            config.billing,
            agent.is_untrusted,
        )


@dataclass(frozen=True)
class EnvironmentRecord:
    """An environment of a benchmark.

    Attributes:
        name: its name in the results.
        path: its folder; empty if it was in memory only.
        fingerprint: fingerprint of its traces.
        split: ``"search"``, ``"held-out"``, or empty if its group defines none.
        benchmark: digest of the questions; equal for environments with the same questions and gold
            answers.
        synthetic: whether the traces were generated, not sampled from a model.
        questions: number of questions.
        branches: number of branches.
        interval: Δ, tokens.
        depth: depth of the deepest branch, intervals.
        details: other entries of its card.
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
    def from_store(cls, name: str, store: TraceStore, split: str) -> EnvironmentRecord:
        """Describe a trace store that is played under a name."""
        card = store.card
        return cls(
            name,
            str(store.path.absolute()) if store.path else "",
            card.fingerprint,
            split,
            _question_digest(store),
            card.synthetic,
            card.questions,
            card.branches,
            card.interval,
            card.depth,
            dict(card.details),
        )


def _question_digest(store: TraceStore) -> str:
    """Digest of the questions; the fingerprint of the store if it lacks their texts."""
    t = store.tables
    if not all(t.texts):
        return store.card.fingerprint
    text = json.dumps([t.texts, t.golds], ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Results:
    """Results of a benchmark.

    Attributes:
        agents: the agents.
        environments: the environments.
        runs: complete runs, in the order of the table.
        incomplete: runs that were given up.
        order: how branch orders were drawn.
        seeds: seeds of the branch orders.
        config: configuration of the episodes; the billing of :class:`AgentRecord` overrides its
            billing.
        protocol: ``"paper"`` or ``"field"``; empty without a protocol.
        version: version of this package.
    """

    agents: list[AgentRecord]
    environments: list[EnvironmentRecord]
    runs: list[Run]
    incomplete: list[IncompleteRun]
    order: Order
    seeds: list[int]
    config: EpisodeConfig
    protocol: str = ""
    version: str = autotts_gym.__version__

    def __repr__(self) -> str:
        return (
            f"<Results: {len(self.agents)} agents, {len(self.environments)} environments, "
            f"{len(self.runs)} runs>"
        )

    @property
    def splits(self) -> dict[str, str]:
        """The split of each environment by its name."""
        return {env.name: env.split for env in self.environments}

    @property
    def benchmarks(self) -> dict[str, str]:
        """The digest of the questions of each environment by its name."""
        return {env.name: env.benchmark for env in self.environments}

    @property
    def synthetic(self) -> list[str]:
        """Names of the environments whose traces were generated."""
        return [env.name for env in self.environments if env.synthetic]

    def to_arrow(self) -> pa.Table:
        """All episodes as one table, see :func:`autotts_gym.evaluation.runs.to_arrow`."""
        return to_arrow(self.runs)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write ``episodes.parquet``, then ``benchmark.json``, each atomically.

        Raises:
            OSError: a file cannot be written.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_episodes(self.runs, folder / "episodes.parquet")
        manifest = _Manifest(
            _FORMAT,
            self.version,
            self.protocol,
            self.order,
            self.seeds,
            self.config,
            self.agents,
            self.environments,
            self.incomplete,
            [
                _Failure(*run.key, seed, question, message)
                for run in self.runs
                for (seed, question), message in run.failures.items()
            ],
        )
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False, default=str) + "\n"
        write_text(folder / "benchmark.json", text)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Results:
        """Read a folder of results.

        Raises:
            ValueError: the folder has no results, they are damaged, or their format has changed.
        """
        folder = Path(folder)
        file = folder / "benchmark.json"
        if not os.path.lexists(file):
            raise ValueError(
                f"{folder} contains no benchmark results: `autotts benchmark --out` writes them"
            )
        try:
            manifest = _read_manifest(read_text(file, _MAX_MANIFEST))
            failures: dict[RunKey, dict[tuple[int, int], str]] = {}
            for row in manifest.failures:
                messages = failures.setdefault((row.agent, row.beta, row.env), {})
                messages[row.seed, row.question] = row.message
            synthetic = {env.name: env.synthetic for env in manifest.environments}
            runs = read_episodes(folder / "episodes.parquet", synthetic, failures)
            known = {agent.name for agent in manifest.agents}
            if unknown := sorted({run.agent for run in runs} - known):
                raise ValueError(f"benchmark.json describes no agent {unknown[0]!r}")
        except KeyError as error:
            message = f"benchmark.json describes no environment {error}"
            raise ValueError(f"{folder}: its results cannot be read: {message}") from error
        except (OSError, ValueError, OverflowError) as error:
            raise ValueError(f"{folder}: its results cannot be read: {error}") from error
        except RecursionError as error:
            message = "benchmark.json is nested too deeply"
            raise ValueError(f"{folder}: its results cannot be read: {message}") from error
        return cls(
            manifest.agents,
            manifest.environments,
            runs,
            manifest.incomplete,
            manifest.order,
            manifest.seeds,
            manifest.terms,
            manifest.protocol,
            manifest.version,
        )


@dataclass(frozen=True)
class _Failure:
    """A failed episode in ``benchmark.json``."""

    agent: str
    beta: float | None
    env: str
    seed: int
    question: int
    message: str


@dataclass(frozen=True)
class _Manifest:
    """The content of ``benchmark.json``."""

    format: int
    version: str
    protocol: str
    order: Order
    seeds: list[int]
    terms: EpisodeConfig
    agents: list[AgentRecord]
    environments: list[EnvironmentRecord]
    incomplete: list[IncompleteRun]
    failures: list[_Failure]


def _read_manifest(text: str) -> _Manifest:
    """Parse and validate ``benchmark.json``.

    Raises:
        ValueError: it is damaged, or has another format.
    """
    content = json.loads(text)
    if isinstance(content, dict) and content.get("format", _FORMAT) != _FORMAT:
        raise ValueError(
            f"autotts_gym {content.get('version')} wrote them: run the benchmark again"
        )
    try:
        manifest = msgspec.convert(content, _Manifest, strict=False)
    except msgspec.ValidationError as error:
        raise ValueError(f"benchmark.json: {error}") from error
    for what, names in (
        ("agent", [agent.name for agent in manifest.agents]),
        ("environment", [env.name for env in manifest.environments]),
    ):
        if len(set(names)) < len(names):
            raise ValueError(f"benchmark.json: two entries have the name of one {what}")
    if not all(0 <= seed < 2**63 for seed in manifest.seeds):
        raise ValueError("benchmark.json: seeds must be integers from 0 to 2^63 - 1")
    return manifest
