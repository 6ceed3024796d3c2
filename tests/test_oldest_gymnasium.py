"""The oldest Gymnasium that is supported: it has less than the one that the other tests use."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

SCRIPT = """
import gymnasium as gym

import autotts_gym
from autotts_gym.gym_envs.wrappers import MultiObjectiveVector

print(gym.__version__)
for name in ("AutoTTS-v0", "AutoTTS-Decisions-v0"):
    env = gym.make(name)
    env.reset(seed=0)
    env.step(env.action_space.sample())
    envs = MultiObjectiveVector(gym.make_vec(name, num_envs=2))
    envs.reset(seed=0)
    assert envs.step(envs.action_space.sample())[1].shape == (2, 2)
    try:
        gym.make_vec(name, num_envs=2, threads=0)
    except ValueError as error:
        assert "threads" in str(error)
"""


@pytest.mark.slow
def test_environments_work_with_the_oldest_gymnasium(tmp_path: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    (requirement,) = [r for r in project["dependencies"] if r.startswith("gymnasium")]
    oldest = requirement.removeprefix("gymnasium>=").split(",")[0]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", tmp_path]
    installed = subprocess.run(
        [*pip, f"gymnasium=={oldest}"], capture_output=True, text=True, check=False, timeout=300
    )
    if installed.returncode:
        pytest.skip(f"gymnasium {oldest} cannot be downloaded: {installed.stderr.strip()[-200:]}")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith(oldest)
