"""Results folders of small benchmarks, one with a controller that comes with it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from autotts_gym.cli import main
from autotts_gym.evaluation.results import Results
from autotts_gym.traces.synthetic_traces import SyntheticModel, generate

#: A controller of someone else.
THREE_BRANCHES = """\
def solve(episode, beta):
    for _ in range(2 + round(2 * beta)):
        episode.probe(episode.branch())
    return episode.answer()
"""

ENVS = {"group/a": 1, "group/b": 2, "other": 3}


def play(folder: Path, agents: list[str], envs: list[str]) -> Path:
    """Play a benchmark with the command."""
    named = [part for env in envs for part in ("--env", env)]
    fixed = ["--beta", "0,0.5", "--seeds", "0-2", "--max-branches", "4", "--workers", "0"]
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", *agents, *named, *fixed, "--out", str(folder)])
    assert not ended.value.code
    shutil.rmtree(folder / "cells")
    return folder


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with environments, and with ``results/bundled`` and ``results/foreign``."""
    home = tmp_path_factory.mktemp("leaderboard")
    for name, seed in ENVS.items():
        generate(SyntheticModel(), questions=5, branches=6, seed=seed, interval=1500).save(
            home / "envs" / name
        )
    (home / "envs/group/set.yaml").write_text("search: [a]\nheld-out: [b]\n", "utf-8")
    program = home / "three_branches.py"
    program.write_text(THREE_BRANCHES, "utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTTS_ENVS", str(home / "envs"))
        play(home / "results/bundled", ["self_consistency", "cmc"], ["group", "other"])
        foreign = play(home / "results/foreign", [str(program)], ["group"])
    (foreign / "controllers").mkdir()
    program.rename(foreign / "controllers" / program.name)
    return home


@pytest.fixture(autouse=True)
def _named_environments(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTTS_ENVS", str(home / "envs"))


@pytest.fixture
def forge(home: Path, tmp_path: Path) -> Callable[..., Path]:
    """Copy ``bundled`` with one column of its first run changed in one episode."""

    def forged(column: str, change: Callable[[Any], Any], k: int = 7) -> Path:
        folder = tmp_path / "forged"
        shutil.copytree(home / "results/bundled", folder)
        results = Results.load(folder)
        values = np.array(results.runs[0].episodes[column], object)
        values[k] = change(values[k])
        results.runs[0].episodes[column] = values.tolist()
        results.save(folder)
        return folder

    return forged
