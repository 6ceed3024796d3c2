"""``train`` and ``discover``: what they return plays, and they are the commands' work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import autotts_gym
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

SMALL: dict[str, Any] = {
    "max_branches": 4,
    "encoder": 4,
    "hidden": 8,
    "num_envs": 4,
    "num_steps": 4,
    "total_timesteps": 160,
}


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=5, branches=64, seed=1, interval=4000)


@pytest.mark.slow
def test_train(store: TraceStore, tmp_path: Path) -> None:
    policy = autotts_gym.train("autotts-ppo", store, out=tmp_path / "mine", **SMALL)
    assert policy.name == "mine"
    assert policy.is_policy
    result = autotts_gym.benchmark(
        policy, store, betas=0.5, seeds=1, max_branches=4, workers=0, out=tmp_path / "results"
    )
    assert not result.failures
    with pytest.raises(ValueError, match="already holds a policy"):
        autotts_gym.train("autotts-ppo", store, out=tmp_path / "mine", **SMALL)
    with pytest.raises(ValueError, match="unknown algorithm 'ppo2'"):
        autotts_gym.train("ppo2", store, out=tmp_path / "other", **SMALL)
    with pytest.raises(ValueError, match="needs autotts-ppo, and a validation"):
        autotts_gym.train(
            "autotts-ppo", store, out=tmp_path / "b", validation="none", keep_best=True, **SMALL
        )


@pytest.mark.slow
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
