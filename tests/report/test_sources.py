"""Stores and agents of a benchmark are found, or reported as missing."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.evaluation.results import Results
from autotts_gym.report.sources import Sources
from autotts_gym.sandbox import seccomp
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent
from autotts_gym.traces.synthetic_traces import generate


def test_stores_and_agents_are_found(results: Results) -> None:
    found = Sources.of(results)
    assert found.problems == []
    assert list(found.stores) == ["easy", "hard"]
    assert list(found.agents) == ["self_consistency", "cmc", "two_probes"]
    for env in results.environments:
        assert found.stores[env.name].card.fingerprint == env.fingerprint


@pytest.mark.usefixtures("by_name")
def test_moved_stores_and_agents_are_found_by_name(results: Results) -> None:
    moved = replace(
        results,
        environments=[replace(env, path="/gone/" + env.name) for env in results.environments],
        agents=[replace(agent, path="/gone.py") for agent in results.agents],
    )
    found = Sources.of(moved)
    assert list(found.stores) == ["easy", "hard"]
    assert list(found.agents) == ["self_consistency", "cmc"]
    assert found.problems == ["two_probes no longer exists: its episodes and schedule are omitted"]


def test_missing_stores_are_reported(results: Results) -> None:
    gone = replace(
        results,
        environments=[replace(results.environments[0], name="nowhere", path="")],
        agents=[],
    )
    found = Sources.of(gone)
    assert found.stores == {}
    assert found.problems == ["nowhere no longer exists: its episodes and bounds are omitted"]


def test_changed_stores_and_agents_are_rejected(results: Results, tmp_path: Path) -> None:
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
        "x has other traces than in the benchmark: its episodes and bounds are omitted",
        "two_probes differs from the program in the benchmark: its episodes and schedule are "
        "omitted",
    ]


@pytest.mark.parametrize("text", ["def solve(", "raise SystemExit", "x = 1", None])
def test_a_program_that_no_longer_loads(text: str | None, results: Results, tmp_path: Path) -> None:
    path: Any = tmp_path / "two_probes.py"
    if text is not None:
        path.write_text(text, "utf-8")
    found = Sources.of(
        replace(results, environments=[], agents=[replace(results.agents[2], path=str(path))])
    )
    assert not found.agents
    what = "no longer exists" if text is None else "differs from the program"
    assert what in found.problems[0]


def _marking(marker: Path) -> str:
    return f"""\
from pathlib import Path

Path({str(marker)!r}).touch()


def solve(episode):
    i = episode.branch()
    episode.probe(i)
    episode.answer(i)
"""


@pytest.mark.parametrize("name", ["two_probes", "cmc", "two_probes:Program"])
def test_a_program_with_another_digest_does_not_run(
    results: Results, tmp_path: Path, name: str
) -> None:
    marker, program = tmp_path / "ran", tmp_path / "program.py"
    program.write_text(_marking(marker), "utf-8")
    agent = replace(results.agents[2], name=name, path=str(program))
    found = Sources.of(replace(results, environments=[], agents=[agent]), trusted=True)
    assert not found.agents
    assert "differs from the program in the benchmark" in found.problems[0]
    assert not marker.exists()


@pytest.mark.parametrize("trusted", [None, False, True])
def test_a_program_of_someone_else_runs_only_in_a_sandbox_unless_asked(
    results: Results, tmp_path: Path, trusted: bool | None
) -> None:
    marker, program = tmp_path / "ran", tmp_path / "program.py"
    program.write_text(_marking(marker), "utf-8")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    agent = replace(results.agents[2], name="program", path=str(program), digest=digest)
    found = Sources.of(replace(results, environments=[], agents=[agent]), trusted=trusted)
    assert found.agents["program"].is_untrusted is (trusted is not True)
    assert marker.exists() is (trusted is True)


@pytest.mark.parametrize("weaker", [False, True])
def test_a_sandbox_that_lacks_a_protection_is_used_only_if_that_is_accepted(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weaker: bool
) -> None:
    monkeypatch.setattr(seccomp, "is_available", lambda: False)
    program = tmp_path / "program.py"
    program.write_text(_marking(tmp_path / "ran"), "utf-8")
    digest = hashlib.sha256(program.read_bytes()).hexdigest()
    agent = replace(results.agents[2], name="program", path=str(program), digest=digest)
    wanted = replace(results, environments=[], agents=[agent])
    found = Sources.of(wanted, trusted=False, weaker_sandbox=weaker)
    if weaker:
        (played,) = found.agents.values()
        assert isinstance(played, UntrustedAgent)
        assert played.weaker_sandbox
        assert not found.problems
    else:
        assert not found.agents
        (problem,) = found.problems
        assert "is not played again, because the sandbox of this machine lacks seccomp" in problem
        assert "--weaker-sandbox (in Python: weaker_sandbox=True)" in problem


def test_the_path_of_an_environment_is_not_searched(results: Results, tmp_path: Path) -> None:
    env = results.environments[0]
    inner = Path(env.path)
    moved = replace(results, agents=[], environments=[replace(env, name="?", path=inner.parent)])
    assert not Sources.of(moved).stores
