"""Commands on environments with fewer than 64 branches for each question."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from autotts_gym.evaluation.results import Results
from autotts_gym.traces.branch_width import default_width
from autotts_gym.traces.store import Branch, Question, TraceStore

PROGRAM = """
def solve(episode, beta):
    for _ in range(1 + round(beta * (episode.max_branches - 1))):
        episode.branch()
    while episode.probe_all():
        episode.extend_all()
    return episode.answer()
"""


@pytest.fixture
def narrow(tmp_path: Path) -> str:
    """An environment with 6 branches of one question and 5 of the other."""
    branches = [Branch(["1"] * (k % 3), 25 + 10 * k, "1" if k % 2 else "2") for k in range(6)]
    questions = [Question("a", "1", branches), Question("b", "2", branches[:5])]
    path = tmp_path / "narrow"
    TraceStore.from_branches(questions, 10).save(path)
    return str(path)


def test_default_width(narrow: str) -> None:
    assert default_width([TraceStore.open(narrow)]) == 5
    wide = [Question("q", "1", [Branch([], 5, "1")] * 70)]
    assert default_width([TraceStore.from_branches(wide, 10)]) == 64


def test_make(narrow: str) -> None:
    for name in ("AutoTTS-v0", "AutoTTS-Decisions-v0"):
        env = gym.make(name, env=narrow)
        assert env.get_wrapper_attr("max_branches") == 5
        env.reset(seed=0)
        env.close()
    envs = gym.make_vec(
        "AutoTTS-v0", num_envs=2, env=narrow, vectorization_mode="vector_entry_point"
    )
    envs.reset(seed=0)
    assert envs.single_action_space.n == 2 + 4 * 5  # type: ignore[attr-defined]
    envs.close()


def test_play(autotts: Callable[..., Any], narrow: str) -> None:
    played = autotts("play", "self_consistency", "--env", narrow)
    assert played.code == 0, played.err
    fewer = autotts("play", "self_consistency", "--env", narrow, "--max-branches", 2)
    assert fewer.code == 0, fewer.err
    more = autotts("play", "self_consistency", "--env", narrow, "--max-branches", 6)
    assert more.code == 1
    assert "has 5 branches" in more.err


def test_describe(autotts: Callable[..., Any], narrow: str) -> None:
    out = autotts("describe", narrow).out
    assert "accuracy, plurality of 5" in out
    assert "one of 5 correct" in out
    out = autotts("describe", narrow, "--published").out
    assert "accuracy, plurality of 5 to 64" in out


@pytest.mark.slow
def test_benchmark(autotts: Callable[..., Any], narrow: str, tmp_path: Path) -> None:
    arguments = ["--seeds", "0", "--beta", "1", "--out", tmp_path / "out"]
    done = autotts("benchmark", "self_consistency", "--env", narrow, *arguments)
    assert done.code == 0, done.err
    assert Results.load(tmp_path / "out").config.max_branches == 5


@pytest.mark.slow
def test_judge_and_discover(autotts: Callable[..., Any], narrow: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM, "utf-8")
    judged = autotts("judge", program, "--env", narrow, "--seeds", 1, "--weaker-sandbox")
    assert "broadcast" not in judged.out + judged.err
    assert judged.code == 0
    assert "Score: " in judged.out
    options = ["--rounds", 1, "--attempts", 1, "--islands", 1, "--evaluations", 2, "--finalists", 1]
    options += ["--no-knob"]
    found = autotts(
        "discover", "--env", narrow, "--out", tmp_path / "found", "--seeds", 1, *options
    )
    assert found.code == 0, found.err
