"""The results folder: saving and loading."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.benchmark import run
from autotts_gym.evaluation.results import (
    AgentRecord,
    EnvironmentRecord,
    Results,
)
from autotts_gym.evaluation.runs import EPISODE_COLUMNS, IncompleteRun, Run
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.traces.store import Branch, Question, TraceStore

STORE = TraceStore.from_branches(
    [Question("?", "7", [Branch(["7"], 600, "7"), Branch([], 100, "8")]) for _ in range(3)],
    500,
    synthetic=True,
    details={"model": "M", "benchmark": "b"},
)
TERMS = EpisodeConfig(max_branches=2, billing="interval")


@pytest.fixture
def results(tmp_path: Path, controller: Callable[..., Agent]) -> Results:
    failing = controller("def solve(episode): raise ValueError('so')\n")
    agents = [load("self_consistency"), load("cmc"), failing]
    stores = {"x": STORE, "y": TraceStore.from_tables(STORE.tables, 400)}
    rows = run(agents, stores, (0.0, 0.5), (3, 1), tmp_path / "out", config=TERMS, settle=True)
    return Results(
        agents=[AgentRecord.from_agent(agent, TERMS) for agent in agents],
        environments=[
            EnvironmentRecord.from_store(name, store, split)
            for (name, store), split in zip(stores.items(), ("search", "held-out"), strict=True)
        ],
        runs=[row for row in rows if isinstance(row, Run)],
        incomplete=[IncompleteRun("endless", 0.5, "x", "TimeLimitError: no end after 1 s")],
        order="random",
        seeds=[3, 1],
        config=TERMS,
        protocol="paper",
    )


def test_saved_results_are_loaded(results: Results, tmp_path: Path) -> None:
    results.save(tmp_path / "out")
    loaded = Results.load(tmp_path / "out")
    for name in ("agents", "environments", "incomplete", "order", "seeds", "config", "protocol"):
        assert getattr(loaded, name) == getattr(results, name)
    assert loaded.splits == {"x": "search", "y": "held-out"}
    assert len(loaded.runs) == len(results.runs) == 8
    for one, other in zip(results.runs, loaded.runs, strict=True):
        key = ("agent", "beta", "env", "synthetic", "failures")
        assert [getattr(one, name) for name in key] == [getattr(other, name) for name in key]
        assert list(other.episodes) == list(EPISODE_COLUMNS)
        for name in EPISODE_COLUMNS:
            assert np.array_equal(one.episodes[name], other.episodes[name])
    assert loaded.runs[-1].failures == {
        (seed, q): "ValueError: so" for seed in (1, 3) for q in range(3)
    }


def test_saving_loaded_results_gives_the_same_files(results: Results, tmp_path: Path) -> None:
    names = ("episodes.parquet", "benchmark.json")
    results.save(tmp_path / "out")
    first = [(tmp_path / "out" / name).read_bytes() for name in names]
    Results.load(tmp_path / "out").save(tmp_path / "copy")
    assert [(tmp_path / "copy" / name).read_bytes() for name in names] == first


def test_settled_tokens_are_optional(tmp_path: Path, results: Results) -> None:
    rows = run([load("cmc")], {"x": STORE}, (0.5,), (0,), tmp_path / "out", config=TERMS)
    plain = [row for row in rows if isinstance(row, Run)]
    Results(results.agents, results.environments, plain, [], "random", [0], TERMS).save(
        tmp_path / "out"
    )
    assert "settled_tokens" not in pq.read_table(tmp_path / "out" / "episodes.parquet").column_names
    (row,) = Results.load(tmp_path / "out").runs
    assert "settled_tokens" not in row.episodes


def test_empty_results(tmp_path: Path) -> None:
    Results([], [], [], [], "random", [], TERMS).save(tmp_path)
    assert Results.load(tmp_path).runs == []


def test_no_results(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"contains no benchmark results: `autotts benchmark --out` writes"
    ):
        Results.load(tmp_path)


def _edit(folder: Path, **facts: object) -> None:
    file = folder / "benchmark.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | facts), "utf-8")


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def _change(folder: Path, column: str, value: object) -> None:
    """Put a value into all rows of a column of the episodes."""
    file = folder / "episodes.parquet"
    columns = pq.read_table(file).to_pydict()
    columns[column] = [value] * len(columns[column])
    pq.write_table(pa.table(columns), file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "benchmark.json").write_text("{"), "cannot be read: Expecting"),
        (
            lambda folder: (folder / "benchmark.json").write_text("[]"),
            "cannot be read: benchmark.json: Expected `object`, got `array`",
        ),
        (lambda folder: (folder / "episodes.parquet").write_bytes(b"no"), "cannot be read: Parq"),
        (lambda folder: (folder / "episodes.parquet").unlink(), "cannot be read: "),
        (lambda folder: (folder / "benchmark.json").write_text("[" * 100_000), "nested too deeply"),
        (lambda folder: _edit(folder, seeds=[-1]), "seeds must be integers from 0"),
        (lambda folder: _edit(folder, seeds=[10**400]), "cannot be read"),
        (lambda folder: _pipe(folder / "benchmark.json"), "not a regular file"),
        (lambda folder: _pipe(folder / "episodes.parquet"), "not a regular file"),
        (lambda folder: _change(folder, "tokens", "x"), "cannot be read: episodes"),
        (lambda folder: _change(folder, "tokens", -1), "tokens must be at least 0"),
        (lambda folder: _change(folder, "question", None), "question has gaps"),
        (lambda folder: _change(folder, "seed", None), "seed has gaps"),
        (lambda folder: _edit(folder, format=0, version="0.0.1"), "autotts_gym 0.0.1 wrote them"),
        (
            lambda folder: _edit(folder, agents=[{"name": "a"}]),
            r"missing required field `path` - at `\$\.agents\[0\]`",
        ),
    ],
)
def test_damaged_results(
    damage: Callable[[Path], object], message: str, results: Results, tmp_path: Path
) -> None:
    results.save(tmp_path / "out")
    damage(tmp_path / "out")
    with pytest.raises(ValueError, match=f"out: its results .*{message}"):
        Results.load(tmp_path / "out")
