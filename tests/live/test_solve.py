"""``solve``: deadlines, interruption, reasons of failures, threads, and probes that are paid."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer, at

from autotts_gym.deployment.solver import SolveInterrupted, solve, solve_async
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv, DeadlineError
from autotts_gym.live.connection import connect
from autotts_gym.mdp import actions

WIDTH = 6


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("429", "status 429"), ("500", "status 500"), ("not-json", "answered no JSON object")],
)
def test_the_reason_of_a_failure_is_named(
    server: ScriptedServer, options: dict[str, Any], fault: str, reason: str
) -> None:
    """A server that answers at once, but never what was asked for, is not merely stalled."""
    server.plan = lambda asked: fault if asked.kind == "trace" else None
    solution = solve("plain 1", "cmc", base_url=server.url, patience=0.4, **options)
    assert reason in solution.error


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed must be an integer of at least 0, got -1"),
        ({"seed": 1.5}, "seed must be an integer of at least 0, got 1.5"),
        ({"question": "a\ud800"}, "question is not valid Unicode: lone surrogate .* character 1"),
        ({"gold": "\udc80"}, "gold is not valid Unicode"),
        ({"max_tokens": 0}, "max_tokens must be an integer of at least 1, got 0"),
        ({"deadline": 0}, "deadline must be above 0 seconds, got 0"),
    ],
)
def test_invalid_arguments(
    server: ScriptedServer, options: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    arguments = {"question": "plain 1", "base_url": server.url, **options, **changes}
    with pytest.raises(ValueError, match=message):
        solve(**arguments)


# --- deadlines and interruption ------------------------------------------------------------------


@pytest.mark.slow
def test_a_deadline_ends_the_episode(server: ScriptedServer, options: dict[str, Any]) -> None:
    """Branches without an end, each part of which takes 0.2 s."""
    server.pace = 0.2
    started = time.monotonic()
    solution = solve("never 1", "self_consistency", base_url=server.url, deadline=1.0, **options)
    assert time.monotonic() - started < 10
    assert solution.timed_out
    assert solution.error == ""
    assert solution.wall_seconds >= 1.0
    server.pace = 0.0
    solution = solve("plain 1", "cmc", base_url=server.url, deadline=300, **options)
    assert not solution.timed_out
    assert solution.answer


def test_answers_are_possible_after_the_deadline(
    server: ScriptedServer, options: dict[str, Any]
) -> None:
    env = AutoTTSLiveEnv(server.url, deadline=0.5, **options)
    env.reset(options={"question": "plain 1"})
    env.step(actions.BRANCH)
    env.step(actions.encode(actions.PROBE, 0, WIDTH))
    time.sleep(0.6)
    *_, info = env.step(actions.ANSWER)
    assert env.answer_text(info["answer_class"])
    env.reset(options={"question": "plain 1"})
    env.step(actions.BRANCH)
    env.step(actions.encode(actions.PROBE, 0, WIDTH))
    time.sleep(0.6)
    with pytest.raises(DeadlineError, match=r"the deadline of 0\.5 s") as reached:
        env.step(actions.BRANCH)
    assert reached.value.info["answer"]
    env.close()


def test_an_interrupted_episode_has_a_solution(
    server: ScriptedServer, options: dict[str, Any], left_threads: Callable[[], list[str]]
) -> None:
    def interrupt(env: AutoTTSLiveEnv) -> None:
        if len(env.votes) >= 1:
            raise KeyboardInterrupt

    with pytest.raises(SolveInterrupted) as interrupted:
        solve("plain 1", "cmc", base_url=server.url, watch=interrupt, **options)
    solution = interrupted.value.solution
    assert solution.answer in solution.votes
    assert solution.error == "interrupted"
    assert "autotts-live" not in left_threads()


@pytest.mark.slow
def test_ctrl_c_prints_the_best_answer(server: ScriptedServer, options: dict[str, Any]) -> None:
    server.pace = 0.3
    arguments = [
        *("--agent", "self_consistency", "--base-url", server.url, "--json"),
        *("--protocol", options["protocol"], "--interval", "8", "--max-tokens", "5000"),
        *("--temperature", "0", "--max-branches", "6"),
    ]
    process = subprocess.Popen(
        [sys.executable, "-m", "autotts_gym", "solve", "never 1", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # SIGINT may be ignored if the tests run in the background.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    until = time.monotonic() + 120
    while server.under_way < 6 and time.monotonic() < until:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    solution = json.loads(out)
    assert solution["error"] == "interrupted"
    assert solution["branches"] == 6
    assert "Traceback" not in err


# --- threads -------------------------------------------------------------------------------------


def test_many_solves_do_not_queue(server: ScriptedServer, options: dict[str, Any]) -> None:
    """More calls than asyncio's pool has threads wait for the model at the same time."""
    count = 60
    present: set[int] = set()
    everybody = threading.Event()

    def meet(env: AutoTTSLiveEnv) -> None:
        present.add(threading.get_ident())
        if len(present) == count:
            everybody.set()
        assert everybody.wait(120)

    async def main() -> list[Any]:
        with connect(
            server.url, **{k: v for k, v in options.items() if k != "max_branches"}
        ) as live:
            calls = [
                solve_async(f"plain {k}", "self_consistency", live=live, max_branches=1, watch=meet)
                for k in range(count)
            ]
            return await asyncio.gather(*calls)

    solutions = asyncio.run(main())
    assert len(solutions) == count == len(present)
    assert all(solution.answer for solution in solutions)


@pytest.mark.slow
def test_a_cancelled_solve_ends(
    server: ScriptedServer, options: dict[str, Any], left_threads: Callable[[], list[str]]
) -> None:
    server.pace = 0.1

    async def main() -> None:
        call = solve_async("never 1", "self_consistency", base_url=server.url, **options)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(call, 0.5)

    asyncio.run(main())
    until = time.monotonic() + 30
    while {"autotts-solve", "autotts-live"} & set(left_threads()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not {"autotts-solve", "autotts-live"} & set(left_threads())


# --- probes --------------------------------------------------------------------------------------


def test_nothing_is_probed_before_the_controller_waits(
    server: ScriptedServer, options: dict[str, Any]
) -> None:
    """However slowly a controller requests its intervals, it pays for the probes that it takes."""
    env = AutoTTSLiveEnv(server.url, **options)
    env.reset(options={"question": "never 1"})
    for _ in range(2):
        env.step(actions.BRANCH)
    for _ in range(3):
        until = time.monotonic() + 20
        while server.under_way or not server.asked[-1].kind:
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.05)  # the model is faster than the controller
        for i in range(2):
            env.step(actions.encode(actions.CONTINUE, i, WIDTH))
    for i in range(2):
        env.step(actions.encode(actions.PROBE, i, WIDTH))
    *_, info = env.step(actions.ANSWER)
    assert info["probes"] == 2
    assert info["probe_tokens"] == 2 * scripted_server.PROTOCOL["probe"]["max_tokens"]
    assert sum(asked.kind == "probe" for asked in server.asked) == 2
    env.close()


@pytest.mark.slow
@pytest.mark.parametrize("eager", [True, False])
def test_other_branches_are_probed_while_the_controller_waits(
    server: ScriptedServer, options: dict[str, Any], eager: bool
) -> None:
    arguments: dict[str, Any] = {k: v for k, v in options.items() if k != "max_branches"}
    with connect(server.url, engine={"stall": 5.0}, **arguments) as live:
        live.eager = eager
        env = AutoTTSLiveEnv(live=live, max_branches=WIDTH)
        env.reset(options={"question": "never 1"})
        for _ in range(WIDTH):
            env.step(actions.BRANCH)
        server.plan = at([0], "stall", kind="probe")
        server.asked.clear()
        probing = threading.Thread(target=env.step, args=(actions.encode(actions.PROBE, 0, WIDTH),))
        probing.start()
        until = time.monotonic() + (20 if eager else 1)
        while sum(a.kind == "probe" for a in server.asked) < WIDTH and time.monotonic() < until:
            time.sleep(0.01)
        probes = sum(a.kind == "probe" for a in server.asked)
        assert probes >= WIDTH if eager else probes == 1
        probing.join(60)  # the probe that stalled is sent again
        assert not probing.is_alive()
        env.close()


# --- generation confidence -----------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [True, False])
def test_branches_have_generation_confidence(
    server: ScriptedServer, options: dict[str, Any], wanted: bool
) -> None:
    env = AutoTTSLiveEnv(server.url, generation_confidence=wanted, **options)
    env.reset(options={"question": "never 1"})
    env.step(actions.BRANCH)
    for _ in range(2):
        env.step(actions.encode(actions.CONTINUE, 0, WIDTH))
    observation, *_ = env.step(actions.encode(actions.PROBE, 0, WIDTH))
    observed = observation["branch_generation_confidence"][0]
    assert env._branches is not None
    confidence = env._branches.generation_confidence(0)
    env.close()
    if wanted:
        values = scripted_server.confidences("never 1", 24)
        sums = [sum(values[k : k + 8]) for k in (0, 8, 16)]
        assert confidence is not None
        assert confidence[0] == pytest.approx(sums)
        assert confidence[1] == [8, 8, 8]
        assert observed == pytest.approx(sums[-1] / 8)
    else:
        assert confidence is None
        assert observed == -1
    assert all(bool(a.body.get("logprobs")) is wanted for a in server.asked if a.kind == "trace")
