"""``train`` and ``discover``: what they return plays, and a second call resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import autotts_gym
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=5, branches=64, seed=1, interval=4000)


def test_discover(store: TraceStore, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"rounds": 1, "seeds": 1, "islands": 1, "attempts": 1}
    arguments |= {"evaluations": 4, "finalists": 1, "workers": 1}
    names: list[str] = []
    result = autotts_gym.discover(
        store, out=tmp_path / "found", progress=lambda _, one: names.append(one.name), **arguments
    )
    assert result.path == tmp_path / "found" / "found.py"
    assert result.controller.name == "found"
    assert result.candidates == len(names) + 1  # the final program is not reported
    again = autotts_gym.discover(store, out=tmp_path / "found", **arguments)
    assert again == result
    with pytest.raises(ValueError, match="different plan"):
        autotts_gym.discover(store, out=tmp_path / "found", **{**arguments, "rounds": 2})
    with pytest.raises(ValueError, match="unknown proposer 'gentic'"):
        autotts_gym.discover(store, out=tmp_path / "b", proposer="gentic")
