"""A benchmark of two small environments, and the report of its results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from autotts_gym.cli import main
from autotts_gym.evaluation.results import Results
from autotts_gym.report import WrittenReport, write_report
from autotts_gym.traces.synthetic_traces import SyntheticModel, generate

#: A controller with a schedule, without notes.
TWO_PROBES = """\
from typing import NamedTuple


class Plan(NamedTuple):
    width: int  # branches
    share: float


def schedule(beta):
    return Plan(2 + round(4 * beta), beta / 3)


def solve(episode, beta):
    for _ in range(2 + round(4 * beta)):
        i = episode.branch()
        episode.extend(i)
    episode.probe_all()
    return episode.answer()
"""


class Place(NamedTuple):
    """The folders and the agent of the benchmark."""

    results: Path
    agent: Path
    envs: Path


def played(home: Path, agents: list[str], envs: list[str], betas: str = "0,0.5,1") -> Path:
    """Play small environments with the command, and return the folder of the results."""
    folder = home / "results"
    options = [part for env in envs for part in ("--env", env)]
    arguments = ["--beta", betas, "--seeds", "0-3", "--max-branches", "8", "--workers", "0"]
    with pytest.raises(SystemExit) as ended:
        main(["benchmark", *agents, *options, *arguments, "--out", str(folder)])
    assert not ended.value.code
    return folder


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    home = tmp_path_factory.mktemp("benchmark")
    model = SyntheticModel()
    for name, seed in (("easy", 1), ("hard", 2)):
        generate(model, questions=6, branches=10, seed=seed, interval=1500).save(
            home / "envs" / name
        )
    agent = home / "two_probes.py"
    agent.write_text(TWO_PROBES, "utf-8")
    agents = ["self_consistency", "cmc", str(agent)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTTS_ENVS", str(home / "envs"))
        return Place(played(home, agents, ["easy", "hard"]), agent, home / "envs")


@pytest.fixture
def by_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the environments of the tests available by name."""
    monkeypatch.setenv("AUTOTTS_ENVS", str(place.envs))


@pytest.fixture
def play(by_name: None) -> Callable[..., Path]:
    """Play other agents on the environments of the tests."""
    return played


@pytest.fixture(scope="session")
def results(place: Place) -> Results:
    return Results.load(place.results)


@pytest.fixture(scope="session")
def written(place: Place, tmp_path_factory: pytest.TempPathFactory) -> WrittenReport:
    """The page, with four episodes for every row."""
    return write_report(place.results, tmp_path_factory.mktemp("page") / "r.html", episodes=4)
