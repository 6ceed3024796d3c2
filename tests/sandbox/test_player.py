"""A sandbox plays the same episodes as a rollout, for any program and configuration."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import numpy as np
import pytest
import stores
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.controllers.function_agent import agent_from_source
from autotts_gym.controllers.loader import load, names
from autotts_gym.mdp.actions import decode
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import untrusted_from_source
from autotts_gym.traces import registry
from autotts_gym.traces.registry import bundled
from autotts_gym.traces.store import TraceStore

sys.path.insert(0, str(Path(__file__).parent))
from process_tree import descendants, end, episodes
from programs import HONEST, ORDERS, QUESTIONS, STORE, WIDTH, program, same


@pytest.fixture(scope="module")
def chain() -> TraceStore:
    (store,) = registry.open_stores("tinylm/small/chain").values()
    return store


@pytest.mark.slow
@pytest.mark.parametrize("name", names())
def test_the_same_episodes(name: str, chain: TraceStore) -> None:
    if "deepconf" in name:  # they need generation confidences
        chain = stores.with_generation(chain)
    questions = np.arange(12)
    orders = branch_orders("random", np.full(12, 3), questions, chain, 64)
    trusted = Rollout(load(name), chain, EpisodeConfig(), interpret=True, settle=True)
    path = bundled("agents") / f"{name}.py"
    with Sandbox(str(path), chain, EpisodeConfig(), settle=True) as box:
        assert box.agent.digest == load(name).digest
        for beta in (0.0, 0.5) if box.agent.takes_beta else (0.0,):
            expected = trusted.play(questions, orders, beta)
            played = box.play(questions, orders, beta)
            same(played, expected)
            assert [len(log) for log in box.logs] == expected.actions.tolist()
        assert (box.path, box.killed) == ("sandbox", 0)


# Acts at random, with β as the seed; observes everything, and reports a digest of it in the end.
CURIOUS = """
def solve(episode, beta):
    state = int(beta * 1_000_000)
    seen = [episode.interval, episode.depth_limit, episode.remaining, episode.max_branches, beta]
    seen += [episode.mean_tokens, episode.latency_weight, episode.has_generation_confidence]
    facts = episode.facts
    for _ in range(60):
        state = (state * 1103515245 + 12345) % 2147483648
        i = state // 65536 % episode.max_branches
        op = state // 1024 % 20
        if op < 4 and episode.can_branch():
            if op:
                episode.branch()
            else:
                with facts.billed_by_tokens():
                    episode.branch()
        elif op < 8 and episode.can_extend(i):
            episode.extend(i)
        elif op < 10:
            seen.append(episode.extend_all())
        elif op < 14 and episode.can_probe(i):
            seen += episode.probe(i)
        elif op < 16:
            seen.append(episode.probe_all())
        elif op == 16 and episode.can_prune(i):
            episode.prune(i)
        elif op == 17:
            episode.note("state", state)
        elif op == 18 and state % 8 == 0:
            episode.extend(i)  # legal or not
        elif op == 19 and i == 0 and episode.can_answer(i):
            return episode.answer(i)
        seen += [episode.spent, episode.clock, episode.remaining, episode.opened]
        seen += [episode.can_branch(), len(episode.log)]
        for b in range(episode.max_branches):
            seen += [episode.active(b), episode.depth(b), episode.revealed(b), episode.latest(b)]
            seen += [episode.finished(b), episode.confidence(b), episode.can_extend(b)]
            seen += [episode.can_probe(b), episode.can_prune(b), episode.can_answer(b)]
            seen += [episode.generation_confidence(b), episode.lowest_confidence(b, window=None)]
            for window in range(4):
                seen.append(episode.generation_confidence(b, window))
                seen.append(episode.lowest_confidence(b, window))
            if episode.latest(b) >= 0:
                seen += [episode.is_null(episode.latest(b)), facts.answer_text(episode.latest(b))]
    if state % 3 == 0:
        return episode.answer()
    digest = 0
    for one in seen:
        for c in str(float(one) if not isinstance(one, str) else one):
            digest = (digest * 31 + ord(c)) % 1_000_000_007
    raise ValueError(f"{len(seen)} {digest}")
"""


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_observations_are_equal(random: Random) -> None:
    store = stores.random_store(random, costs=random.random() < 0.5)
    setting = stores.random_config(random, [store])
    names = ("max_branches", "billing", "budget", "probe_tokens", "step_limit", "latency_weight")
    config = EpisodeConfig(**{name: setting[name] for name in names})
    count = 8
    questions = np.array([random.randrange(store.card.questions) for _ in range(count)])
    orders = np.array(
        [
            random.sample(range(int(store.tables.branch_counts[q])), config.max_branches)
            for q in questions
        ]
    )
    settled = random.random() < 0.5
    trusted = Rollout(
        trusted_agent(CURIOUS), store, config, interpret=True, settle=settled, logs=True
    )
    parallel_episodes = random.randint(1, 5)
    with Sandbox(
        program(CURIOUS), store, config, settle=settled, parallel_episodes=parallel_episodes
    ) as box:
        for beta in (random.random(), random.random()):
            expected = trusted.play(questions, orders, beta)
            found = box.play(questions, orders, beta)
            same(found, expected)
            assert box.killed == 0
            # The messages contain a digest of all observations.
            assert found.failures == expected.failures
            assert [log.tolist() for log in found.logs] == [log.tolist() for log in expected.logs]


def trusted_agent(text: str) -> Agent:
    """The agent of a program, trusted."""
    return agent_from_source(Path("program.py"), text.encode())


PUBLISHED = """
class Reader:
    def __init__(self, config):
        self.most = 1 + round(3 * config["beta"])

    def solve(self, question):
        answers = []
        try:
            for _ in range(self.most):
                answer, index, finished = question.probe_new()
                while not finished:
                    answer, finished = question.probe_more(index)
                answers.append(answer)
            answers.append(question.get_new_branch_final_answer())
        except IndexError:
            pass
        question.get_seq_and_total_tokens()
        return max(answers, key=answers.count)
"""


@pytest.mark.parametrize("billing", ["tokens", "interval"])
def test_published_programs(
    billing: str, chain: TraceStore, controller: Callable[..., Agent]
) -> None:
    agent = controller(PUBLISHED)
    config = EpisodeConfig(8, billing=billing)  # type: ignore[arg-type]
    questions = np.arange(10)
    orders = branch_orders("random", np.zeros(10, np.int64), questions, chain, 8)
    expected = Rollout(agent, chain, config, settle=True).play(questions, orders, 0.5)
    assert not expected.failures
    with Sandbox(str(agent.path), chain, config, settle=True) as box:
        assert (box.agent.digest, box.agent.takes_beta) == (agent.digest, True)
        same(box.play(questions, orders, 0.5), expected)


def test_failures_equal_those_of_a_rollout(controller: Callable[..., Agent]) -> None:
    text = """
def solve(episode):
    i = episode.branch()
    probes = 1
    while not episode.probe(i)[1]:
        episode.extend(i)
        probes += 1
    if probes == 2:
        episode.prune(7)
    if probes == 3:
        raise ValueError("so\\nand so")
    if probes == 4:
        return
    episode.answer(i)
    if probes == 5:
        raise SystemExit(3)
    if probes == 6:
        episode.answer(i)
"""
    agent = controller(text)
    expected = Rollout(agent, STORE, EpisodeConfig(WIDTH), interpret=True).play(
        QUESTIONS, ORDERS, 0.0
    )
    assert len(expected.failures) == 5
    with Sandbox(str(agent.path), STORE, EpisodeConfig(WIDTH)) as box:
        played = box.play(QUESTIONS, ORDERS, 0.0)
        same(played, expected)
        assert not box.killed


def test_logs_are_the_actions() -> None:
    with Sandbox(program(HONEST), STORE, EpisodeConfig(WIDTH), parallel_episodes=2) as box:
        box.play(QUESTIONS[1:3], ORDERS[:2], 0.0)
        logs = [[str(decode(action, WIDTH)) for action in log] for log in box.logs]
    one, two = ["PROBE(0)", "CONTINUE(0)"], ["PROBE(0)", "CONTINUE(0)"] * 2
    last = "PROBE(0)", "ANSWER(0)"
    assert logs == [["BRANCH", *one, *last], ["BRANCH", *two, *last]]


@pytest.mark.parametrize("parallel_episodes", [1, 3, 70])
def test_any_number_of_parallel_episodes(parallel_episodes: int) -> None:
    questions, orders = np.tile(QUESTIONS, 20), np.tile(ORDERS, (20, 1))
    with Sandbox(
        program(HONEST), STORE, EpisodeConfig(WIDTH), parallel_episodes=parallel_episodes
    ) as box:
        for _ in range(2):
            played = box.play(questions, orders, 0.0)
            assert played.correct.all()
            assert_array_equal(played.probes, questions + 1)
        assert len(box.play(questions[:0], orders[:0], 0.0).tokens) == 0


def test_invalid_arguments() -> None:
    with Sandbox(program(HONEST), STORE, EpisodeConfig(WIDTH)) as box:
        with pytest.raises(ValueError, match=r"questions must stay within 0\.\.5"):
            box.play(np.array([6]), ORDERS[:1], 0.0)
        with pytest.raises(ValueError, match=r"beta must be within \[0, 1\], got 2"):
            box.play(QUESTIONS, ORDERS, 2)
    with pytest.raises(ValueError, match="parallel_episodes must be at least 1"):
        Sandbox(program(HONEST), STORE, EpisodeConfig(WIDTH), parallel_episodes=0)
    with pytest.raises(ValueError, match="has 2 branches"):
        Sandbox(program(HONEST), STORE, EpisodeConfig(3))
    with pytest.raises(ValueError, match="untrusted: play it in a Sandbox"):
        Rollout(program(HONEST), STORE, EpisodeConfig(WIDTH))


def test_given_up_if_it_cannot_be_loaded() -> None:
    agent = program(f"{HONEST}\nraise RuntimeError('no')\n")
    with (
        Sandbox(agent, STORE, EpisodeConfig(WIDTH)) as box,
        pytest.raises(GivenUpError, match=r"cannot be loaded: RuntimeError: no \(question"),
    ):
        box.play(QUESTIONS, ORDERS, 0.0)


@pytest.mark.slow
def test_can_play_after_it_was_given_up() -> None:
    text = "def solve(episode, beta):\n    while beta: pass\n    return episode.answer()\n"
    with Sandbox(program(text), STORE, EpisodeConfig(WIDTH), time_limit=0.5) as box:
        with pytest.raises(GivenUpError, match=r"TimeLimitError: no end after 0\.5 s"):
            box.play(QUESTIONS, ORDERS, 1.0)
        assert not box.play(QUESTIONS, ORDERS, 0.0).failures


# --- processes end -------------------------------------------------------------------------------


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")


@needs_proc
def test_closing_ends_every_process() -> None:
    text = "def solve(episode):\n    episode.answer()\n"
    box = Sandbox(program(text), STORE, EpisodeConfig(WIDTH))
    box.play(QUESTIONS, ORDERS, 0.0)
    assert box._launcher is not None
    processes = descendants(box._launcher.pid)
    assert len(processes) > 1
    box.close()
    assert end(processes)


KILLED = """
import os, sys, threading, time
sys.path[:0] = [{tests!r}]
from programs import ORDERS, QUESTIONS, STORE, WIDTH, program
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.sandbox.player import Sandbox
box = Sandbox(program("def solve(episode):\\n    while True: pass\\n"), STORE, EpisodeConfig(WIDTH))
def report():
    while box._launcher is None: time.sleep(0.01)
    print(box._launcher.pid, flush=True)
threading.Thread(target=report).start()
box.play(QUESTIONS, ORDERS, 0.0)
"""


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_all_processes_end_with_the_player(how: signal.Signals) -> None:
    script = KILLED.format(tests=str(Path(__file__).parent))
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as player:
        assert player.stdout is not None
        forkserver = int(player.stdout.readline())
        while not episodes(forkserver):
            time.sleep(0.05)
        processes = descendants(forkserver)
        os.kill(player.pid, how)
    assert end(processes)


@needs_proc
def test_all_processes_end_with_the_fork_server() -> None:
    """A program cannot kill it, but the kernel may when memory runs out."""
    text = "def solve(episode):\n    while True: pass\n"
    with Sandbox(program(text), STORE, EpisodeConfig(WIDTH), time_limit=30) as box:
        box.play(QUESTIONS[:0], ORDERS[:0], 0.0)
        assert box._launcher is not None
        processes = descendants(box._launcher.pid)
        os.kill(box._launcher.pid, signal.SIGKILL)
        with pytest.raises((RuntimeError, OSError)):
            box.play(QUESTIONS, ORDERS, 0.0)
        assert end(processes)


def test_the_program_does_not_run_in_the_players_process(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    text = f"open({str(mark)!r}, 'w')\n{HONEST}"
    agent = untrusted_from_source(Path("program.py"), text.encode())
    with (
        Sandbox(agent, STORE, EpisodeConfig(WIDTH)) as box,
        pytest.raises(GivenUpError, match="cannot be loaded: PermissionError"),
    ):
        box.play(QUESTIONS, ORDERS, 0.0)
    assert not mark.exists()
