"""What was played is found again, or it is said what is missing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.evaluation.results import Results
from autotts_gym.report.sources import Sources
from autotts_gym.traces.synthetic_traces import generate


def test_everything_is_found_where_it_was(results: Results) -> None:
    found = Sources.of(results)
    assert found.problems == []
    assert list(found.stores) == ["easy", "hard"]
    assert list(found.agents) == ["self_consistency", "cmc", "two_looks"]
    for env in results.environments:
        assert found.stores[env.name].card.fingerprint == env.fingerprint


@pytest.mark.usefixtures("by_name")
def test_what_has_moved_is_found_by_its_name(results: Results) -> None:
    moved = replace(
        results,
        environments=[replace(env, path="/gone/" + env.name) for env in results.environments],
        agents=[replace(agent, path="/gone.py") for agent in results.agents],
    )
    found = Sources.of(moved)
    assert list(found.stores) == ["easy", "hard"]
    assert list(found.agents) == ["self_consistency", "cmc"]
    assert found.problems == [
        "two_looks is no longer there: its episodes and its schedule are left out"
    ]


def test_what_is_gone_is_told(results: Results) -> None:
    gone = replace(
        results,
        environments=[replace(results.environments[0], name="nowhere", path="")],
        agents=[],
    )
    found = Sources.of(gone)
    assert found.stores == {}
    assert found.problems == [
        "nowhere is no longer there: its episodes and its bounds are left out"
    ]


def test_what_has_changed_does_not_count(results: Results, tmp_path: Path) -> None:
    other = generate(questions=2, branches=4, seed=9).save(tmp_path / "other")
    text = tmp_path / "cmc.py"
    text.write_text("def solve(episode):\n    return episode.answer()\n", "utf-8")
    changed = replace(
        results,
        environments=[replace(results.environments[0], name="x", path=str(other.path))],
        agents=[replace(results.agents[2], path=str(text))],
    )
    found = Sources.of(changed)
    assert not found.stores
    assert not found.agents
    assert found.problems == [
        "x holds other traces than those that were played: its episodes and its bounds are left "
        "out",
        "two_looks is not the program that was played: its episodes and its schedule are left out",
    ]


@pytest.mark.parametrize("text", ["def solve(", "raise SystemExit", "x = 1", None])
def test_a_program_that_no_longer_loads(text: str | None, results: Results, tmp_path: Path) -> None:
    path: Any = tmp_path / "two_looks.py"
    if text is not None:
        path.write_text(text, "utf-8")
    found = Sources.of(
        replace(results, environments=[], agents=[replace(results.agents[2], path=str(path))])
    )
    assert not found.agents
    what = "is no longer there" if text is None else "is not the program that was played"
    assert what in found.problems[0]
