"""Live episodes on a server that fails: what was there by then is told, and nothing hangs."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_server
import tenacity
from scripted_server import FAULTS, ScriptedServer, at_random

from autotts_gym.controllers.loader import load
from autotts_gym.deployment.solver import solve
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv, LiveError
from autotts_gym.inference import http_engine as module
from autotts_gym.inference.engine import EngineError
from autotts_gym.mdp import actions

WIDTH = 6


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    backoff = tenacity.wait_random_exponential(multiplier=0.002, max=0.02)
    monkeypatch.setattr(module, "_BACKOFF", backoff)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


@pytest.fixture
def terms(tmp_path: Path) -> dict[str, Any]:
    """The likeliest tokens, so that an episode is the same each time."""
    return {
        "protocol": scripted_server.protocol_file(tmp_path),
        "interval": 8,
        "max_tokens": 120,
        "sampling": {"temperature": 0.0},
        "max_branches": WIDTH,
    }


def played(server: ScriptedServer, agent: str, terms: dict[str, Any]) -> dict[str, Any]:
    env = AutoTTSLiveEnv(server.url, **terms)
    try:
        info = load(agent).play(env, question="plain 1", gold="7")
    finally:
        env.close()
    return {k: v for k, v in info.items() if k not in ("action_mask", "wall_seconds")}


@pytest.mark.parametrize("agent", ["cmc", "self_consistency"])
def test_what_passes_is_not_noticed(
    server: ScriptedServer, terms: dict[str, Any], agent: str
) -> None:
    """Every fault that may pass, at random points: the episode is the undisturbed one."""
    undisturbed = played(server, agent, terms)
    assert undisturbed["answer"]
    for seed in range(4):
        server.plan = at_random(seed, FAULTS, 0.3)
        disturbed = played(server, agent, {**terms, "engine": {"stall": 0.3}})
        assert disturbed == undisturbed
    assert sum(server.faults.values()) >= 5


def test_a_server_that_dies_leaves_the_best_answer_so_far(
    server: ScriptedServer, terms: dict[str, Any]
) -> None:
    env = AutoTTSLiveEnv(server.url, patience=0.5, **terms)
    env.reset(options={"question": "plain 1", "gold": "7"})
    for i in range(4):
        env.step(actions.BRANCH)
        env.step(actions.encode(actions.PROBE, i, WIDTH))
    votes = env.votes
    assert sum(votes.values()) == 4
    server.die()
    env.step(actions.encode(actions.CONTINUE, 0, WIDTH))  # does not wait, so nothing is wrong yet
    begun = time.monotonic()
    with pytest.raises(LiveError, match="in the midst of an episode") as failure:
        env.step(actions.encode(actions.PROBE, 0, WIDTH))
    assert time.monotonic() - begun < 10
    info = failure.value.info
    assert info["votes"] == votes
    assert info["answer"] == max(votes, key=votes.__getitem__)
    assert info["correct"] is (info["answer"] == "7")
    assert info["tokens"] == 5 * 8
    assert server.url in str(failure.value)
    from gymnasium.error import ResetNeeded

    with pytest.raises(ResetNeeded):
        env.step(actions.ANSWER)
    env.close()


@pytest.mark.parametrize("agent", ["cmc", "self_consistency", "parallel_probe"])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_solve_returns_what_there_was(
    server: ScriptedServer, terms: dict[str, Any], agent: str, after: int
) -> None:
    """Dead after some requests, wherever that is: an answer or none, and why; no thread stays."""
    seen = 0

    def plan(asked: scripted_server.Asked) -> str | None:
        nonlocal seen
        seen += asked.kind != ""
        if seen > after:
            server.die_soon()
            return "drop"
        return None

    server.plan = plan
    found = solve("plain 2", agent, base_url=server.url, patience=0.5, **terms)
    assert server.url.removesuffix("/v1") in found.error
    assert found.answer == max(found.votes, key=found.votes.__getitem__, default="")
    assert found.correct is None
    assert not [thread for thread in threading.enumerate() if thread.name == "autotts-live"]


def test_a_stall_is_no_hang(server: ScriptedServer, terms: dict[str, Any]) -> None:
    server.plan = lambda asked: "stall" if asked.kind else None
    begun = time.monotonic()
    found = solve("plain 1", "cmc", base_url=server.url, patience=0.4, **terms)
    assert found.error
    assert time.monotonic() - begun < 15


def test_what_will_not_pass_is_told_at_once(server: ScriptedServer, terms: dict[str, Any]) -> None:
    server.without = {"token_ids"}
    begun = time.monotonic()
    found = solve("plain 1", "cmc", base_url=server.url, patience=60, **terms)
    assert "no token ids" in found.error
    assert time.monotonic() - begun < 20


def test_a_server_that_was_never_there_is_an_error(terms: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9"):
        solve("plain 1", "cmc", base_url="http://127.0.0.1:9/v1", patience=0.3, **terms)


def test_pruned_and_abandoned_generation_is_aborted(
    server: ScriptedServer, terms: dict[str, Any]
) -> None:
    """The server notices that nobody reads any more."""
    server.pace = 0.2
    env = AutoTTSLiveEnv(server.url, **terms)
    env.reset(options={"question": "never 1"})
    for i in range(2):
        env.step(actions.BRANCH)
        for _ in range(10):
            env.step(actions.encode(actions.CONTINUE, i, WIDTH))
    until = time.monotonic() + 10
    while server.under_way < 2 and time.monotonic() < until:
        time.sleep(0.02)
    env.step(actions.encode(actions.PRUNE, 1, WIDTH))
    while server.left < 1 and time.monotonic() < until:
        time.sleep(0.02)
    assert server.left == 1
    *_, info = env.step(actions.ANSWER)
    while server.left < 2 and time.monotonic() < until:
        time.sleep(0.02)
    assert server.left == 2
    assert info["tokens"] == 2 * 11 * 8  # as requested
    assert info["generated_tokens"] < info["tokens"]
    env.close()


@pytest.mark.parametrize("as_json", [False, True])
def test_solve_command_prints_the_best_answer_and_fails(
    autotts, server: ScriptedServer, terms: dict[str, Any], as_json: bool
) -> None:
    seen = 0

    def plan(asked: scripted_server.Asked) -> str | None:
        nonlocal seen
        seen += asked.kind != ""
        if seen > 14:
            server.die_soon()
            return "drop"
        return None

    server.plan = plan
    told = autotts(
        "solve", "plain 2", "--agent", "parallel_probe", "--base-url", server.url,
        "--protocol", terms["protocol"], "--interval", 8, "--max-tokens", 120,
        "--temperature", 0, "--max-branches", WIDTH, "--patience", 0.5,
        *(["--json"] if as_json else []),
    )  # fmt: skip
    assert told.code == 1
    if as_json:
        found = json.loads(told.out)
        assert "in the midst of an episode" in found["error"]
        assert found["answer"] == max(found["votes"], key=found["votes"].__getitem__, default="")
    else:
        assert "in the midst of an episode" in told.err
        assert "votes:" in told.out
