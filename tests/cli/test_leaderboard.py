"""``autotts leaderboard``: the page, the output and the errors."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.traces.store import Branch, Question, TraceStore

Command = Callable[..., Any]  # see conftest.py


@pytest.fixture
def played(autotts: Command, user_envs: Path) -> Path:
    """A folder with the results of a benchmark on a small environment."""
    branches = [Branch(["7"], 700, "7"), Branch(["8", "8"], 1200, "8"), Branch([], 400, "7")]
    questions = [Question(f"question {k}", "7", branches[k:] + branches[:k]) for k in range(3)]
    TraceStore.from_branches(questions, 500).save(user_envs / "tiny")
    small = ("--env", "tiny", "--max-branches", "3", "--workers", "0", "--seeds", "0-1")
    assert autotts("benchmark", "self_consistency", *small, "--out", "all/mine").code == 0
    return Path("all")


def test_it_writes_a_page_and_markdown(autotts: Command, played: Path) -> None:
    options = ("--sample-seed", "5", "--sample", "2", "--markdown", "tables.md")
    done = autotts("leaderboard", str(played), *options)
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "wrote leaderboard.html: 1 results folder\nreplayed 2 of 6 episodes; --sample-seed 5\n"
    )
    assert Path("leaderboard.html").read_text("utf-8").startswith("<!doctype html>")
    assert "| `self_consistency` |" in Path("tables.md").read_text("utf-8")


def test_all_episodes_can_be_replayed(autotts: Command, played: Path) -> None:
    assert "replayed 6 of 6 episodes" in autotts("leaderboard", str(played), "--replay-all").out


def test_a_forged_folder_is_refused_and_the_others_are_written(
    autotts: Command, played: Path
) -> None:
    forged = Path(shutil.copytree(played / "mine", played / "theirs"))
    manifest = json.loads((forged / "benchmark.json").read_text("utf-8"))
    manifest["environments"][0]["fingerprint"] = "0" * 64
    (forged / "benchmark.json").write_text(json.dumps(manifest), "utf-8")
    done = autotts("leaderboard", str(played))
    assert done.code == 1
    assert done.err.startswith("refused theirs: tiny: fingerprint recorded '0000")
    assert '["theirs","tiny: fingerprint' in Path("leaderboard.html").read_text("utf-8")
    done = autotts("leaderboard", str(forged), "--out", "other.html")
    assert done.code == 1
    assert "every results folder was refused" in done.out
    assert not Path("other.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["all", "--out", "page.txt"], "--out must end in .html"),
        (["all", "--markdown", "no/tables.md"], "--markdown: there is no folder no"),
    ],
)
@pytest.mark.usefixtures("played")
def test_errors(autotts: Command, arguments: list[str], message: str) -> None:
    done = autotts("leaderboard", *arguments)
    assert done.code == 1
    assert message in done.err
