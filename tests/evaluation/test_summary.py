"""The summary table of a benchmark."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.analysis import Analysis
from autotts_gym.evaluation.benchmark import run
from autotts_gym.evaluation.results import AgentRecord, EnvironmentRecord, Results
from autotts_gym.evaluation.runs import Run
from autotts_gym.evaluation.summary import write_summary
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.traces.store import Branch, Question, TraceStore

TERMS = EpisodeConfig(max_branches=2, billing="interval")


def store(questions: int, interval: int = 500) -> TraceStore:
    branches = [Branch(["7"], 600, "7"), Branch([], 100, "8"), Branch(["8"], 900, "7")]
    return TraceStore.from_branches([Question("?", "7", branches)] * questions, interval)


def summary(
    agents: list[Agent], stores: dict[str, TraceStore], split: str, folder: Path
) -> tuple[list[dict[str, str]], Results]:
    rows = run(agents, stores, (0.0, 0.5), range(5), folder, config=TERMS)
    results = Results(
        [AgentRecord.from_agent(agent, TERMS) for agent in agents],
        [EnvironmentRecord.from_store(name, store, split) for name, store in stores.items()],
        [row for row in rows if isinstance(row, Run)],
        [],
        "random",
        list(range(5)),
        TERMS,
    )
    write_summary(results, Analysis.from_results(results), folder / "summary.csv")
    with (folder / "summary.csv").open(newline="") as lines:
        return list(csv.DictReader(lines)), results


def test_a_row_for_every_agent_environment_and_average(tmp_path: Path) -> None:
    stores = {"a,b": store(3), "c": store(4, 400)}
    agents = [load("self_consistency"), load("cmc")]
    rows, results = summary(agents, stores, "search", tmp_path)
    assert [(row["agent"], row["beta"], row["env"]) for row in rows] == [
        (agent, beta, env)
        for env in ("a,b", "c", "search average")
        for agent, beta in (("self_consistency", ""), ("cmc", "0"), ("cmc", "0.5"))
    ]
    assert {row["split"] for row in rows} == {"search"}
    assert {row["billing"] for row in rows} == {"interval"}
    assert [row["episodes"] for row in rows] == ["15"] * 3 + ["20"] * 3 + ["35"] * 3
    for row, played in zip(rows[:3], results.runs[:1] + results.runs[2:4], strict=True):
        assert (played.agent, played.env) == (row["agent"], "a,b")
        for name in ("tokens", "sequential_tokens", "actions", "probes"):
            mean = np.mean(played.episodes[name])
            assert float(row[name]) == pytest.approx(mean, rel=1e-5)
            assert float(row[f"{name}_low"]) <= mean * (1 + 1e-5)
            assert float(row[f"{name}_high"]) >= mean * (1 - 1e-5)
    first, second, _ = rows[:3]
    gap = float(second["accuracy"]) - float(first["accuracy"])
    assert float(second["accuracy_difference"]) == pytest.approx(gap, abs=1e-5)
    share = float(second["tokens"]) / float(first["tokens"])
    assert float(second["tokens_ratio"]) == pytest.approx(share, rel=1e-4)
    assert (first["accuracy_difference"], first["tokens_ratio"]) == ("0", "1")
    share = float(second["sequential_tokens"]) / float(first["sequential_tokens"])
    assert float(second["sequential_ratio"]) == pytest.approx(share, rel=1e-4)
    assert {row["undominated"] for row in rows} <= {"true", "false"}
    assert all(0 <= float(row["undominated_share"]) <= 1 for row in rows)


def test_one_question_has_no_interval(tmp_path: Path, controller: Callable[..., Agent]) -> None:
    """Its columns are empty, and no warning is raised."""
    failing = controller("def solve(episode): raise ValueError('so')\n")
    rows, _ = summary([load("self_consistency"), failing], {"one": store(1)}, "", tmp_path)
    assert [row["failed"] for row in rows] == ["0", "5"]
    for row in rows:
        assert row["accuracy_low"] == row["accuracy_high"] == row["tokens_low"] == ""
        assert 0 <= float(row["accuracy"]) <= 1
    assert "nan" not in (tmp_path / "summary.csv").read_text("utf-8")


@pytest.mark.parametrize("name", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1"])
def test_names_do_not_begin_formulas(tmp_path: Path, name: str) -> None:
    agent = replace(load("self_consistency"), name=name)
    played = list(
        run([agent], {"e": store(2)}, [0.5], [0], tmp_path, config=EpisodeConfig(max_branches=2))
    )
    results = Results(
        [AgentRecord.from_agent(agent, TERMS)],
        [EnvironmentRecord.from_store("e", store(2), "")],
        [row for row in played if isinstance(row, Run)],
        [],
        "random",
        [0],
        TERMS,
    )
    write_summary(results, Analysis.from_results(results), tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["agent"] == f"'{name}"
    assert float(row["tokens"]) > 0
