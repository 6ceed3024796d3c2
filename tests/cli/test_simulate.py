"""``autotts simulate`` and the top-level functions behind it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import autotts_gym
from autotts_gym.simulation import ServerCurve

ENV = "tinylm/small/chain"
OPTIONS = ("--env", ENV, "--seeds", "0", "--max-branches", "4", "--questions", "200")


@pytest.fixture
def curve() -> ServerCurve:
    return ServerCurve.create(
        concurrency=[1, 64], tokens_per_second=[100.0, 40.0], max_sequences=64
    )


@pytest.fixture
def run(autotts: Callable[..., Any], curve: ServerCurve) -> Callable[..., Any]:
    curve.save("curve.json")
    return autotts


def test_a_simulation_is_printed_and_written(run: Callable[..., Any]) -> None:
    options = ("--rate", "1,4", "--beta", "0,1", "--servers", 2, "--gpu-hour", 2)
    done = run("simulate", "cmc", "self_consistency", *OPTIONS, *options)
    assert (done.code, done.err) == (0, "")
    rows = [line.split() for line in done.out.splitlines()]
    assert rows[0][-1] == "cost/1000"
    assert [row[:2] for row in rows[1:5]] == [["cmc", "β=0"]] * 2 + [["cmc", "β=1"]] * 2
    assert [row[1] for row in rows[5:7]] == ["1", "4"]
    data = json.loads(Path("simulation/simulation.json").read_text())
    assert [point["rate"] for point in data["points"]] == [1, 4] * 3
    assert Path("simulation/simulation.csv").is_file()
    assert Path("simulation/simulation.html").is_file()


def test_arrival_times_from_a_file(run: Callable[..., Any]) -> None:
    Path("times.txt").write_text("".join(f"{k}\n" for k in range(30)))
    done = run("simulate", "self_consistency", *OPTIONS, "--arrivals", "times.txt", "--out", "out")
    assert done.code == 0
    (point,) = json.loads(Path("out/simulation.json").read_text())["points"]
    assert (point["questions"], point["rate"]) == (30, 1.0)


def test_overload_is_explained(run: Callable[..., Any]) -> None:
    done = run("simulate", "self_consistency", *OPTIONS, "--rate", "1000")
    assert done.code == 0
    assert "! overloaded: more questions arrive than the servers can answer" in done.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cmc"], "give either --rate, such as --rate 1,5, or --arrivals"),
        (["cmc", "--rate", "1", "--arrivals", "x"], "give either --rate"),
        (["--rate", "1"], "give at least one agent, such as cmc, or --calibrate"),
        (["cmc", "--rate", "0"], "a rate must be above 0 questions per second, got 0"),
        (["cmc", "--rate", "1", "--curve", "none.json"], "none.json: No such file or directory"),
        (["cmc", "--rate", "1", "--servers", "0"], "servers must be from 1 to 10,000, got 0"),
        (["cmc", "--rate", "1", "--reference", ENV], "--reference is for --calibrate"),
        (["--calibrate", "http://127.0.0.1:1/v1"], "--calibrate needs one environment"),
        (
            ["--calibrate", "http://127.0.0.1:1/v1", "--env", ENV, "--curve", "no/curve.json"],
            "--curve: there is no folder no",
        ),
    ],
)
def test_errors(run: Callable[..., Any], arguments: list[str], message: str) -> None:
    done = run("simulate", *arguments)
    assert done.code == 1
    assert message in done.err
    assert not Path("simulation").exists()


def test_the_function_takes_what_the_command_does(curve: ServerCurve, tmp_path: Path) -> None:
    options: dict[str, Any] = {"seeds": 0, "max_branches": 4, "betas": 1.0}
    from_object = autotts_gym.simulate(
        "cmc", ENV, curve=curve, rates=2, questions=100, out=tmp_path / "out", **options
    )
    curve.save(tmp_path / "curve.json")
    from_file = autotts_gym.simulate(
        "cmc", ENV, curve=tmp_path / "curve.json", rates=[2.0], questions=100, **options
    )
    assert from_object.points == from_file.points
    assert (tmp_path / "out" / "simulation.html").is_file()
    given = autotts_gym.simulate("cmc", ENV, curve=curve, arrivals=[3, 1, 2], **options)
    assert given.points[0].questions == 3


def test_a_controller_as_a_function(curve: ServerCurve) -> None:
    def one(episode: Any) -> None:
        i = episode.branch()
        episode.probe(i)
        episode.answer(i)

    (point,) = autotts_gym.simulate(
        one, ENV, curve=curve, rates=1, questions=50, seeds=0, max_branches=4
    )
    assert (point.controller, point.beta, point.probes) == ("one", None, 1.0)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_calibration_of_a_real_server(autotts: Callable[..., Any], vllm_url: str) -> None:
    options = ("--env", "tinylm/medium/chain", "--seconds", 3, "--max-sequences", 4)
    more = ("cmc", "--rate", "0.1", "--seeds", "0", "--questions", "50", "--beta", "0")
    done = autotts("simulate", "--calibrate", vllm_url, *options, *more)
    assert done.code == 0
    assert "wrote curve.json" in done.out
    assert ServerCurve.load("curve.json").concurrency == (1, 2, 4)
    assert Path("simulation/simulation.json").is_file()
