"""``run_simulation`` and its result: points, files, and continuation after an interruption."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fleets
import numpy as np
import pytest

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.simulation import Fleet, ServerCurve, SimulationPlan, run_simulation
from autotts_gym.simulation import simulation_run as module

CURVE = ServerCurve.create(
    concurrency=[1, 8], tokens_per_second=[50.0, 20.0], max_sequences=16,
    request={"seconds": 0.1, "tokens": 1}, probe={"seconds": 0.2, "tokens": 3},
)  # fmt: skip


def by_beta(episode: Any, beta: float) -> None:
    """Read more branches at a higher β."""
    for _ in range(1 + round(beta * (episode.max_branches - 1))):
        episode.branch()
    while episode.extend_all():
        pass
    episode.probe_all()
    episode.answer()


@pytest.fixture
def plan() -> SimulationPlan:
    lengths = np.random.default_rng(0).integers(1, 100, size=(6, 4)).tolist()
    return SimulationPlan(
        agents=[load(by_beta), load(fleets.race)],
        betas=[0.0, 1.0],
        stores={"lengths": fleets.store_of(lengths)},
        seeds=[0, 1],
        config=EpisodeConfig(max_branches=4),
        fleet=Fleet(CURVE, 2, gpu_hour=3.6),
        rates=[0.5, 2.0],
        questions=500,
    )


def test_points_by_controller_beta_and_load(plan: SimulationPlan) -> None:
    result = run_simulation(plan)
    assert [(point.name, point.rate) for point in result] == [
        (name, rate) for name in ("by_beta β=0", "by_beta β=1", "race") for rate in (0.5, 2.0)
    ]
    slow, fast = result.points[2:4]
    assert slow.p50 < slow.p95 < slow.p99
    assert slow.p95 < fast.p95
    assert slow.tokens == fast.tokens  # the same questions with the same episodes
    assert slow.accuracy == fast.accuracy
    assert slow.tokens > result.points[0].tokens


def test_figures_of_a_point(plan: SimulationPlan) -> None:
    """Cost and utilisation follow from rate, capacity and work."""
    for point in run_simulation(plan):
        assert point.overloaded == (point.rate >= point.capacity)
        # Two GPUs at 3.6 an hour cost 0.002 a second.
        assert point.cost == pytest.approx(1000 * 0.002 / min(point.rate, point.capacity))
        assert point.cost_at_capacity == pytest.approx(1000 * 0.002 / point.capacity)
        if not point.overloaded:
            assert point.utilisation == pytest.approx(point.rate / point.capacity, rel=0.15)
            expected = point.rate * point.generated_tokens
            assert point.tokens_per_second == pytest.approx(expected, rel=0.15)
        assert point.failures == 0


def test_the_capacity_is_reached_under_overload(plan: SimulationPlan) -> None:
    """Far too many questions: the fleet answers ``capacity`` of them per second."""
    overload = replace(plan, rates=[1000.0], questions=5000, agents=[load(by_beta)], betas=[1.0])
    (point,) = run_simulation(overload)
    assert point.overloaded
    # All questions arrive within 5 seconds: the last is answered after 5000 / capacity seconds.
    assert point.p99 == pytest.approx(0.99 * 5000 / point.capacity, rel=0.1)


@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_deterministic(plan: SimulationPlan, workers: int) -> None:
    assert run_simulation(plan, workers=workers).points == run_simulation(plan).points


def test_another_seed_draws_other_arrivals(plan: SimulationPlan) -> None:
    points = run_simulation(replace(plan, seed=1)).points
    assert points != run_simulation(plan).points


def test_arrival_times(plan: SimulationPlan) -> None:
    times = np.repeat(np.arange(50.0), 2)
    result = run_simulation(replace(plan, rates=(), arrivals=times, warm_up=0.0))
    assert [point.questions for point in result] == [100] * 3
    assert result.points[0].rate == pytest.approx(99 / 49)


def test_a_single_arrival(plan: SimulationPlan, tmp_path: Path) -> None:
    """There is no rate, and no time in which servers are used."""
    result = run_simulation(replace(plan, rates=(), arrivals=np.zeros(1), warm_up=0.0), tmp_path)
    data = json.loads((tmp_path / "simulation.json").read_text())
    assert data["points"][0]["rate"] is None
    assert data["points"][0]["tokens_per_second"] is None
    assert data["points"][0]["p50"] == result.points[0].p50


def test_files(plan: SimulationPlan, tmp_path: Path) -> None:
    result = run_simulation(plan, tmp_path)
    with (tmp_path / "simulation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["p95"]) for row in rows] == [point.p95 for point in result]
    assert [row["beta"] for row in rows] == ["0.0", "0.0", "1.0", "1.0", "", ""]
    data = json.loads((tmp_path / "simulation.json").read_text())
    assert [point["accuracy"] for point in data["points"]] == [p.accuracy for p in result]
    assert data["fleet"]["servers"] == 2
    assert data["curve"]["concurrency"] == [1, 8]
    assert "Plotly" in (tmp_path / "simulation.html").read_text("utf-8")
    assert result.to_arrow().column("p50").to_pylist() == [point.p50 for point in result]
    assert list(result.to_pandas()["controller"]) == [point.controller for point in result]


def test_the_printed_table(plan: SimulationPlan) -> None:
    result = run_simulation(replace(plan, rates=[0.5, 1000.0]))
    lines = str(result).splitlines()
    assert lines[0].split()[:3] == ["controller", "rate/s", "accuracy"]
    assert [line.count("!") for line in lines[1:3]] == [0, 3]  # the second is overloaded
    assert result._repr_html_().count("<tr>") == len(result) + 1 == 7
    assert repr(result) == str(result)


def test_a_simulation_continues(
    plan: SimulationPlan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After an interruption, finished points are not simulated again."""
    simulated: list[float] = []
    simulate_load: Callable[..., Any] = module.simulate_load

    def interrupted(*arguments: Any, **options: Any) -> Any:
        simulated.append(arguments[2][-1])
        if len(simulated) == 4:
            raise KeyboardInterrupt
        return simulate_load(*arguments, **options)

    monkeypatch.setattr(module, "simulate_load", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_simulation(plan, tmp_path, workers=1)
    before = len(simulated)
    with (tmp_path / module.JOURNAL).open("a") as file:
        file.write('{"key": "cut')
    finished = len((tmp_path / module.JOURNAL).read_text().splitlines()) - 1
    points = run_simulation(plan, tmp_path, workers=1).points
    assert len(simulated) - before == len(points) - finished
    assert finished >= 3
    count = len(simulated)
    assert run_simulation(plan, tmp_path).points == points
    assert len(simulated) == count
    monkeypatch.undo()
    assert run_simulation(plan).points == points
    changed = replace(plan, fleet=Fleet(CURVE, 3, gpu_hour=3.6))
    assert run_simulation(changed, tmp_path).points != points


def test_a_damaged_journal(plan: SimulationPlan, tmp_path: Path) -> None:
    (tmp_path / module.JOURNAL).write_text('{"key": "x", "point": {"beta": 3}}\n')
    with pytest.raises(ValueError, match=r"points\.jsonl: line 1 is damaged"):
        run_simulation(plan, tmp_path)


def test_an_error_ends_all_threads(plan: SimulationPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise MemoryError("no room")

    monkeypatch.setattr(module, "summarise", fail)
    with pytest.raises(MemoryError, match="no room"):
        run_simulation(plan, workers=2)


def test_progress_counts_all_questions(plan: SimulationPlan, tmp_path: Path) -> None:
    counts: list[int] = []
    run_simulation(plan, tmp_path, progress=lambda _, count: counts.append(count))
    assert sum(counts) == 6 * 500
    counts.clear()
    run_simulation(plan, tmp_path, progress=lambda _, count: counts.append(count))
    assert sum(counts) == 6 * 500


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"agents": []}, "at least one controller"),
        ({"betas": []}, "at least one β"),
        ({"betas": [1.5]}, r"β must be within \[0, 1\], got 1\.5"),
        ({"seeds": []}, "at least one seed"),
        ({"rates": []}, "either rates of arrival, or arrival times"),
        ({"arrivals": np.zeros(1)}, "either rates of arrival, or arrival times"),
        ({"rates": [1.0, 0.0]}, "a rate must be above 0 questions per second, got 0"),
        ({"questions": 0}, "questions must be from 1"),
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"warm_up": 1.0}, "warm_up must be at least 0 and below 1, got 1"),
    ],
)
def test_invalid_plans(plan: SimulationPlan, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(plan, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"servers": 0}, "servers must be from 1 to 10,000, got 0"),
        ({"servers": 1.5}, "servers must be an integer, got 1.5"),
        ({"routing": "random"}, "routing must be one of least_loaded, sticky, round_robin"),
        ({"max_episodes": 0}, "max_episodes must be from 1"),
        ({"gpus_per_server": 0}, "gpus_per_server must be from 1"),
        ({"gpu_hour": -1.0}, "gpu_hour must be at least 0, got -1"),
    ],
)
def test_invalid_fleets(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Fleet(CURVE, **changes)


def test_invalid_workers(plan: SimulationPlan) -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        run_simulation(plan, workers=0)


def test_untrusted_programs_are_refused(plan: SimulationPlan) -> None:
    class Untrusted(Agent):
        is_untrusted = True

        def __call__(self, episode: Any, beta: float) -> None:
            raise NotImplementedError

    agent = Untrusted("stranger", Path("stranger.py"), takes_beta=False, digest="1")
    with pytest.raises(ValueError, match="stranger is untrusted"):
        replace(plan, agents=[agent])
