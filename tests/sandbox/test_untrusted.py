"""``autotts benchmark --untrusted``, and the report of its results."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_array_equal

from autotts_gym.evaluation.results import Results
from autotts_gym.report import write_report

sys.path.insert(0, str(Path(__file__).parent))
from programs import HONEST, STORE


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store, and a program that creates a file if it runs outside of a sandbox."""
    STORE.save(tmp_path / "store")
    trap = f"try:\n    open({str(tmp_path / 'mark')!r}, 'w').close()\nexcept OSError:\n    pass\n"
    (tmp_path / "honest.py").write_text(trap + HONEST, "utf-8")
    return tmp_path


def arguments(folder: Path, *more: str) -> tuple[str, ...]:
    place = ("--env", str(folder / "store"), "--max-branches", "2", "--seeds", "0-1")
    return "benchmark", str(folder / "honest.py"), *place, "--workers", "1", *more


@pytest.mark.slow
def test_the_program_runs_only_in_the_sandbox(folder: Path, autotts: Callable[..., Any]) -> None:
    ended = autotts(*arguments(folder, "--untrusted", "--out", "out"))
    assert ended.code == 0, ended.err
    assert "sandboxed agents: honest; active protections: a process for every episode" in ended.out
    assert "sandbox: honest" in ended.out
    facts = json.loads(Path("out/benchmark.json").read_text("utf-8"))
    assert [agent["untrusted"] for agent in facts["agents"]] == [True]
    results = Results.load(Path("out"))
    assert results.runs[0].accuracy == 1.0

    written = write_report(Path("out"), Path("report.html"), episodes=3)
    assert (written.episodes, written.wanted, written.problems) == (3, 3, [])

    again = autotts(*arguments(folder, "--untrusted", "--out", "out"))
    assert "cached: honest" in again.out
    assert not (folder / "mark").exists()

    # Sandboxed and other results are cached separately.
    trusted = autotts(*arguments(folder, "--interpret", "--out", "out"))
    assert "python: honest" in trusted.out
    assert (folder / "mark").exists()
    both = Results.load(Path("out")).runs[0]
    for name, column in both.episodes.items():
        assert_array_equal(column, results.runs[0].episodes[name])


def test_names_are_trusted(folder: Path, autotts: Callable[..., Any]) -> None:
    ended = autotts(*arguments(folder, "--untrusted", "asc", "--out", "out"))
    assert "sandboxed agents: honest; active protections:" in ended.out
    assert "compiled: asc" in ended.out


@pytest.mark.slow
def test_a_program_that_hangs_is_given_up(folder: Path, autotts: Callable[..., Any]) -> None:
    (folder / "honest.py").write_text("def solve(episode):\n    while True: pass\n", "utf-8")
    ended = autotts(*arguments(folder, "--untrusted", "--out", "out", "--time-limit", "0.5"))
    assert ended.code == 1
    assert "not completed: TimeLimitError: no end after 0.5 s (question" in ended.err


@pytest.mark.slow
def test_killed_episodes_are_not_cached(folder: Path, autotts: Callable[..., Any]) -> None:
    text = HONEST.replace("    episode.answer", "    while episode.depth(i) == 3: pass\n    0")
    text = text.replace("    0(i)", "    episode.answer(i)")
    (folder / "honest.py").write_text(text, "utf-8")
    ended = autotts(*arguments(folder, "--untrusted", "--out", "out", "--time-limit", "4"))
    assert "question 2, seed 0: TimeLimitError: no end after 4 s (2 of 12" in ended.err
    assert not list(Path("out/cells").iterdir())
