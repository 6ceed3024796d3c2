"""Intervals that a controller requests at once become one request to the model."""

from __future__ import annotations

import time
from typing import Any

import pytest
from scripted_server import ScriptedServer

from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv
from autotts_gym.live import interval_orders
from autotts_gym.mdp import actions

WIDTH = 6


def play(env: AutoTTSLiveEnv, name: int, i: int) -> None:
    env.step(actions.encode(name, i, WIDTH))


def test_one_request_for_each_branch(
    server: ScriptedServer, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interval_orders, "_HOLD", 600.0)
    env = AutoTTSLiveEnv(server.url, **options)
    try:
        env.reset(options={"question": "never 1"})
        for i, count in enumerate((5, 0, 2)):
            env.step(actions.BRANCH)
            for _ in range(count):
                play(env, actions.CONTINUE, i)
        env.step(actions.BRANCH)
        play(env, actions.PRUNE, 3)  # before its generation has started
        for i in range(3):
            play(env, actions.PROBE, i)
        play(env, actions.CONTINUE, 1)
        play(env, actions.PROBE, 1)
        traces = [asked for asked in server.asked if asked.kind == "trace"]
    finally:
        env.close()
    sizes = [(asked.start, asked.body["max_tokens"]) for asked in traces]
    assert sorted(sizes[:-1]) == [(0, 8), (0, 24), (0, 48)]
    assert sizes[-1] == (8, 8)


def test_generation_starts_without_a_probe(server: ScriptedServer, options: dict[str, Any]) -> None:
    env = AutoTTSLiveEnv(server.url, **options)
    try:
        env.reset(options={"question": "never 1"})
        env.step(actions.BRANCH)
        end = time.monotonic() + 60
        while env.generated < 8 and time.monotonic() < end:
            time.sleep(0.01)
        assert env.generated == 8
    finally:
        env.close()
