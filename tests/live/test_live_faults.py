"""Live episodes on a failing server: partial results are returned, and nothing hangs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import scripted_server
from scripted_server import FAULTS, ScriptedServer, at_random

from autotts_gym.controllers.loader import load
from autotts_gym.deployment.solver import solve
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv, LiveError
from autotts_gym.inference.engine import EngineError
from autotts_gym.mdp import actions

WIDTH = 6


def play(server: ScriptedServer, agent: str, options: dict[str, Any]) -> dict[str, Any]:
    env = AutoTTSLiveEnv(server.url, info_strings=True, **options)
    try:
        info = load(agent).play(env, question="plain 1", gold="7")
    finally:
        env.close()
    return {k: v for k, v in info.items() if k not in ("action_mask", "wall_seconds")}


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["cmc", "self_consistency"])
def test_transient_faults_do_not_change_the_episode(
    server: ScriptedServer, options: dict[str, Any], agent: str
) -> None:
    """Every transient fault, at random points: the episode is the same as without faults."""
    undisturbed = play(server, agent, options)
    assert undisturbed["answer"]
    for seed in range(4):
        server.plan = at_random(seed, FAULTS, 0.3)
        disturbed = play(server, agent, {**options, "engine": {"stall": 0.3}})
        assert disturbed == undisturbed
    assert sum(server.faults.values()) >= 5


def test_a_server_that_dies_during_an_episode(
    server: ScriptedServer, options: dict[str, Any]
) -> None:
    env = AutoTTSLiveEnv(server.url, patience=0.5, **options)
    env.reset(options={"question": "plain 1", "gold": "7"})
    for i in range(4):
        env.step(actions.BRANCH)
        env.step(actions.encode(actions.PROBE, i, WIDTH))
    votes = env.votes
    assert sum(votes.values()) == 4
    server.die()
    env.step(actions.encode(actions.CONTINUE, 0, WIDTH))  # does not wait, so it does not fail
    started = time.monotonic()
    with pytest.raises(LiveError, match="during an episode") as failure:
        env.step(actions.encode(actions.PROBE, 0, WIDTH))
    assert time.monotonic() - started < 10
    info = failure.value.info
    assert info["votes"] == votes
    assert info["answer"] == max(votes, key=votes.__getitem__)
    assert info["has_gold"]
    assert info["correct"] == (info["answer"] == "7")
    assert env.answer_text(info["answer_class"]) == info["answer"]
    assert info["tokens"] == 5 * 8
    assert server.url in str(failure.value)
    from gymnasium.error import ResetNeeded

    with pytest.raises(ResetNeeded):
        env.step(actions.ANSWER)
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["cmc", "self_consistency", "parallel_probe"])
@pytest.mark.parametrize("after", [0, 2, 5])
def test_solve_returns_the_best_answer_so_far(
    server: ScriptedServer,
    options: dict[str, Any],
    agent: str,
    after: int,
    left_threads: Callable[[], list[str]],
) -> None:
    """The server dies after some requests: the best answer, the error, and no leftover thread."""
    seen = 0

    def plan(asked: scripted_server.Asked) -> str | None:
        nonlocal seen
        seen += asked.kind != ""
        if seen > after:
            server.die_soon()
            return "drop"
        return None

    server.plan = plan
    solution = solve("plain 2", agent, base_url=server.url, patience=0.5, **options)
    assert server.url.removesuffix("/v1") in solution.error
    assert solution.answer == max(solution.votes, key=solution.votes.__getitem__, default="")
    assert solution.correct is None
    assert "autotts-live" not in left_threads()


def test_a_stall_is_an_error(server: ScriptedServer, options: dict[str, Any]) -> None:
    server.plan = lambda asked: "stall" if asked.kind else None
    started = time.monotonic()
    solution = solve("plain 1", "cmc", base_url=server.url, patience=0.4, **options)
    assert solution.error
    assert time.monotonic() - started < 15


def test_a_permanent_fault_is_not_retried(server: ScriptedServer, options: dict[str, Any]) -> None:
    server.without = {"token_ids"}
    started = time.monotonic()
    solution = solve("plain 1", "cmc", base_url=server.url, patience=60, **options)
    assert "no token ids" in solution.error
    assert time.monotonic() - started < 20


def test_an_unreachable_server_is_an_error(options: dict[str, Any]) -> None:
    with pytest.raises(EngineError, match=r"127\.0\.0\.1:9"):
        solve("plain 1", "cmc", base_url="http://127.0.0.1:9/v1", patience=0.3, **options)


def test_pruning_and_answering_abort_generation(
    server: ScriptedServer, options: dict[str, Any]
) -> None:
    """The server sees that the connection is closed."""
    server.pace = 0.2
    env = AutoTTSLiveEnv(server.url, **options)
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
    assert info["tokens"] == 2 * 11 * 8  # billed as requested
    assert info["generated_tokens"] < info["tokens"]
    env.close()


@pytest.mark.parametrize("as_json", [False, True])
def test_solve_command_prints_the_best_answer_and_fails(
    autotts, server: ScriptedServer, options: dict[str, Any], as_json: bool
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
    ended = autotts(
        "solve", "plain 2", "--agent", "parallel_probe", "--base-url", server.url,
        "--protocol", options["protocol"], "--interval", 8, "--max-tokens", 120,
        "--temperature", 0, "--max-branches", WIDTH, "--patience", 0.5,
        *(["--json"] if as_json else []),
    )  # fmt: skip
    assert ended.code == 1
    if as_json:
        solution = json.loads(ended.out)
        assert "during an episode" in solution["error"]
        assert solution["answer"] == max(
            solution["votes"], key=solution["votes"].__getitem__, default=""
        )
    else:
        assert "during an episode" in ended.err
        assert "votes:" in ended.out
