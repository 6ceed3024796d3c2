"""Latency as a cost in live episodes."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_server import ScriptedServer

from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv
from autotts_gym.mdp import actions
from autotts_gym.traces.store import Branch, Question, TraceStore

WIDTH = 6


@pytest.mark.parametrize("with_reference", [False, True])
def test_returns_add_up(
    server: ScriptedServer, options: dict[str, Any], tmp_path: Any, with_reference: bool
) -> None:
    """L is that of the reference, here with fewer branches than the episode; or the maximum."""
    longest, mean = 120.0, 120.0
    if with_reference:
        branches = [Branch(["7"], tokens, "7") for tokens in (12, 40)]
        reference = TraceStore.from_branches([Question("?", "7", branches)], 8)
        reference.save(tmp_path / "reference")
        options |= {"reference": str(tmp_path / "reference")}
        longest, mean = 40.0, 26.0
    env = AutoTTSLiveEnv(server.url, beta=0.25, latency_weight=(0.5, 1.0), **options)
    try:
        env.reset(seed=1, options={"question": "plain 1", "gold": "7", "latency_weight": 0.75})
        assert env.latency_weight == 0.75
        rewards = []
        for action in (
            actions.BRANCH,
            actions.BRANCH,
            actions.encode(actions.CONTINUE, 0, WIDTH),
            actions.encode(actions.PROBE, 0, WIDTH),
            actions.encode(actions.PROBE, 1, WIDTH),
            actions.encode(actions.CONTINUE, 1, WIDTH),
            actions.ANSWER,
        ):
            observation, reward, *_, info = env.step(action)
            rewards.append(reward)
    finally:
        env.close()
    w, beta = info["latency_weight"], info["beta"]
    assert (w, beta, observation["globals"][5]) == (0.75, 0.25, 0.75)
    assert info["sequential_tokens"] > 0
    cost = (1 - w) * info["tokens"] / (WIDTH * mean) + w * info["sequential_tokens"] / longest
    expected = beta * info["accuracy_reward"] - (1 - beta) * cost
    assert sum(rewards) == pytest.approx(expected, abs=1e-12)
