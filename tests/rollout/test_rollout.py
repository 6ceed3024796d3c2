"""Bulk rollouts: results and their order, checks of arguments, failures, and logs."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
import reference
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from stores import with_generation

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load, names, trained
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import Branch, Question, TraceError, TraceStore

# Two questions with four and three branches; "" is a normal class; the second has no gold answer.
STORE = TraceStore.from_branches(
    [
        Question(
            "?",
            "",
            [
                Branch(["7"], 600, ""),
                Branch([], 300, "7"),
                Branch(["No", "7", "8"], 1400, "8"),
                Branch(["7"] * 2, 1900, ""),
            ],
        ),
        Question("?", "1", [Branch(["x"], 700, "y"), Branch([], 1, "y"), Branch(["x"], 501, "x")]),
    ],
    500,
)
ORDERS = np.array([[0, 1, 2], [3, 2, 1], [2, 0, 1], [0, 1, 2], [2, 1, 0]])
QUESTIONS = np.array([0, 0, 1, 0, 1])

BOTH = pytest.mark.parametrize("interpret", [False, True], ids=["compiled", "python"])


@BOTH
def test_results_are_in_the_requested_order(interpret: bool) -> None:
    rollout = Rollout(load("self_consistency"), STORE, EpisodeConfig(3), interpret=interpret)
    played = rollout.play(QUESTIONS, ORDERS, 0.0)
    assert played.answers == ["", "", "y", "", "y"]  # ties go to the first in the order
    assert played.correct.tolist() == [True, True, False, True, False]
    assert played.tokens.tolist() == [2300, 3600, 1202, 2300, 1202]
    assert played.sequential_tokens.tolist() == [1400, 1900, 700, 1400, 700]
    assert played.actions.tolist() == [3 * (4 + 1) + 1] * 5
    assert played.probes.tolist() == [3] * 5
    assert played.failures == {}
    alone = [rollout.play(QUESTIONS[k : k + 1], ORDERS[k : k + 1], 0.0) for k in range(5)]
    assert [one.tokens[0] for one in alone] == played.tokens.tolist()


#: Controllers that read generation confidences.
CONFIDENT = {
    *("deepconf_online", "deepconf_offline", "deepconf_bottom10", "mars", "mars_deepconf"),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    sorted(
        {
            *names(),
            *trained(),
            "evolved/brevity",
            "evolved/widening",
            "evolved/balance",
            "evolved/thrift",
        }
        - CONFIDENT
    ),
)
def test_generation_confidences_change_nothing_for_others(name: str) -> None:
    """Controllers and policies that do not read them play the same episodes."""
    (store,) = registry.open_stores("tinylm/small/chain").values()
    questions = np.arange(4)
    orders = np.tile(np.arange(64), (4, 1))
    results = []
    for one in (store, with_generation(store)):
        rollout = Rollout(load(name), one, EpisodeConfig())
        for beta in (0.0, 0.5):
            played = rollout.play(questions, orders, beta)
            assert not played.failures
            columns = played.correct, played.tokens, played.sequential_tokens, played.actions
            results.append([column.tolist() for column in columns])
    assert results[:2] == results[2:]


@BOTH
def test_no_episodes(interpret: bool) -> None:
    rollout = Rollout(load("cmc"), STORE, EpisodeConfig(3), interpret=interpret)
    played = rollout.play(np.empty(0, np.int64), np.empty((0, 3), np.int64), 0.5)
    assert (len(played.correct), played.answers, played.failures) == (0, [], {})


@BOTH
@pytest.mark.parametrize(
    ("questions", "orders", "beta", "message"),
    [
        ([2], [[0, 1, 2]], 0.5, r"questions must stay within 0\.\.1"),
        ([-1], [[0, 1, 2]], 0.5, r"questions must stay within 0\.\.1"),
        ([1], [[0, 1, 3]], 0.5, "branches that their questions have"),
        ([0], [[0, -1, 2]], 0.5, "branches that their questions have"),
        ([0], [[0, 1]], 0.5, r"orders must have the shape \(1, 3\), got \(1, 2\)"),
        ([0, 1], [[0, 1, 2]], 0.5, r"orders must have the shape \(2, 3\), got \(1, 3\)"),
        ([0], [[0, 1, 2]], 1.5, r"beta must be within \[0, 1\], got 1\.5"),
        ([0], [[0, 1, 2]], float("nan"), r"beta must be within \[0, 1\], got nan"),
    ],
)
def test_invalid_arguments(
    questions: list[int], orders: list[list[int]], beta: float, message: str, interpret: bool
) -> None:
    """Compiled code does not check bounds, and would read beyond the traces."""
    rollout = Rollout(load("cmc"), STORE, EpisodeConfig(3), interpret=interpret)
    with pytest.raises(ValueError, match=message):
        rollout.play(np.array(questions), np.array(orders), beta)


@BOTH
def test_unsuitable_configurations(interpret: bool, tmp_path: Any) -> None:
    saved = STORE.save(tmp_path / "small")
    with pytest.raises(ValueError, match=r"question 1 of '.*small' has 3 branches; pass"):
        Rollout(load("cmc"), saved, EpisodeConfig(4), interpret=interpret)
    with pytest.raises(ValueError, match=r'probe_tokens="recorded", but .* records none'):
        Rollout(load("cmc"), STORE, EpisodeConfig(3, probe_tokens="recorded"), interpret=interpret)


def test_a_rollout_can_be_reused() -> None:
    """Episodes are independent, also of failed ones."""
    rollout = Rollout(load("cmc"), STORE, EpisodeConfig(3))
    first = rollout.play(QUESTIONS, ORDERS, 0.5)
    for beta in (0.0, 1.0):
        rollout.play(QUESTIONS[::-1], ORDERS[::-1], beta)
    again = rollout.play(QUESTIONS, ORDERS, 0.5)
    assert_array_equal(first.tokens, again.tokens)
    assert first.answers == again.answers


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("ValueError('so\\nand so')", "ValueError: so"),
        ("ValueError", "ValueError"),
        ("SystemExit(3)", "SystemExit: 3"),
        ("GeneratorExit", "GeneratorExit"),
        ("Silent", "Silent"),
        ("ValueError('\\udc80')", "ValueError: ?"),
        ("ValueError('x' * 9999)", f"ValueError: {'x' * 488}"),
    ],
)
def test_exceptions_end_their_episode(
    raised: str, message: str, controller: Callable[..., Agent]
) -> None:
    agent = controller(
        "class Silent(Exception):\n"
        "    def __str__(self): raise self\n"
        f"def solve(episode): raise {raised}\n"
    )
    played = Rollout(agent, STORE, EpisodeConfig(3), interpret=True).play(
        QUESTIONS[:2], ORDERS[:2], 0.0
    )
    assert played.failures == {0: message, 1: message}


def test_beta_reaches_the_controller(controller: Callable[..., Agent]) -> None:
    agent = controller("def solve(episode, beta):\n    raise ValueError(int(1000 * beta))\n")
    rollout = Rollout(agent, STORE, EpisodeConfig(3))
    assert rollout.path == "compiled"
    for beta in (0, 0.25, np.float32(0.5), 1):
        played = rollout.play(QUESTIONS[:1], ORDERS[:1], float(beta))
        assert played.failures == {0: f"ValueError: {int(1000 * beta)}"}


# A random legal controller that runs compiled and in plain Python; β is its seed.
PLAYER = """
def solve(episode, beta):
    state = int(beta * 1_000_000)
    for _ in range(40):
        state = (state * 1103515245 + 12345) % 2147483648
        i = state // 65536 % episode.max_branches
        op = state // 1024 % 16
        if op < 4:
            if episode.can_branch():
                episode.branch()
        elif op < 9:
            if episode.can_extend(i):
                episode.extend(i)
        elif op < 14:
            if episode.can_probe(i):
                episode.probe(i)
        elif op == 14:
            if episode.can_prune(i):
                episode.prune(i)
        elif i == 0 and episode.can_answer(i):
            return episode.answer(i)
    episode.answer()
"""


def play_reference(
    game: reference.Config, row: int, order: list[int], beta: float
) -> tuple[Any, ...]:
    """The same controller on the reference implementation of the rules."""
    one = reference.Episode(game, 0, row, order, beta)
    n = game.max_branches
    state = int(beta * 1_000_000)
    info: dict[str, Any] = {}
    for _ in range(40):
        state = (state * 1103515245 + 12345) % 2147483648
        i, op = state // 65536 % n, state // 1024 % 16
        action = 1 if op < 4 else 2 + i + n * (0 if op < 9 else 1 if op < 14 else op - 12)
        if (op < 15 or i == 0) and one.legal(action):
            _, *over, info = one.step(action)
            if any(over):
                break
    if not one.done:
        *_, info = one.step(0)
    right, answer, *costs = (info[k] for k in ("correct", "answer", "tokens", "sequential_tokens"))
    return right, answer, *costs, info["steps"], info["probes"]


@settings(max_examples=60, deadline=None)
@given(random=st.randoms(use_true_random=False), beta=st.floats(0, 1))
def test_rollouts_follow_the_rules(random: Random, beta: float, agent: Agent) -> None:
    width = random.randint(1, 3)
    budget = random.choice([None, None, random.randint(0, 4000)])
    setting: dict[str, Any] = {
        "max_branches": width,
        "billing": random.choice(["tokens", "interval"]),
        "budget": budget,
        "probe_tokens": random.choice([0, 0, 7, 600]),
        "step_limit": random.choice([None, random.randint(1, 30)]),
    }
    game = reference.Config([STORE], **setting)
    orders = [random.sample(range(3), width) for _ in range(4)]
    rows = [0, 1, 0, 1]
    for interpret in (False, True):
        rollout = Rollout(agent, STORE, EpisodeConfig(**setting), interpret=interpret)
        played = rollout.play(np.array(rows), np.array(orders), beta)
        for message in played.failures.values():
            assert message.startswith("StepLimitError")
        for k, (row, order) in enumerate(zip(rows, orders, strict=True)):
            found = (
                bool(played.correct[k]),
                played.answers[k],
                played.tokens[k],
                played.sequential_tokens[k],
                played.actions[k],
                played.probes[k],
            )
            assert found == play_reference(game, row, order, beta)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    path = tmp_path_factory.mktemp("agent") / "player.py"
    path.write_text(PLAYER, "utf-8")
    return load(str(path))


# Fails in the middle of one question's episodes; the actions up to then are logged.
FAILING = (
    "def solve(episode, beta):\n"
    "    episode.branch()\n"
    "    episode.extend(0)\n"
    "    answer, finished = episode.probe(0)\n"
    "    if finished:\n"
    "        raise ValueError('it has ended')\n"
    "    episode.prune(0)\n"
    "    episode.answer(0)\n"
)


def test_logs_are_equal_on_every_path(agent: Agent, controller: Callable[..., Agent]) -> None:
    for one, limit in ((agent, None), (agent, 9), (controller(FAILING), None)):
        config = EpisodeConfig(3, step_limit=limit)
        fast, slow = (Rollout(one, STORE, config, interpret=i, logs=True) for i in (False, True))
        plain = Rollout(one, STORE, config)
        assert (fast.path, slow.path) == ("compiled", "python")
        for beta in (0.1, 0.9):
            compiled, python, unlogged = (
                rollout.play(QUESTIONS, ORDERS, beta) for rollout in (fast, slow, plain)
            )
            assert len(compiled.logs) == len(QUESTIONS)
            for log, same, count in zip(
                compiled.logs, python.logs, compiled.actions.tolist(), strict=True
            ):
                assert log.dtype == same.dtype == np.int32
                assert_array_equal(log, same)
                assert len(log) == count
            assert unlogged.logs == []
            assert_array_equal(compiled.tokens, unlogged.tokens)
            assert compiled.failures.keys() == unlogged.failures.keys()


def test_the_log_of_a_failed_episode(controller: Callable[..., Agent]) -> None:
    played = Rollout(controller(FAILING), STORE, EpisodeConfig(3), logs=True).play(
        QUESTIONS, ORDERS, 0.0
    )
    # BRANCH, CONTINUE(0), PROBE(0), then PRUNE(0) and ANSWER(0) with three branches.
    assert [log.tolist() for log in played.logs[:2]] == [[1, 2, 5], [1, 2, 5, 8, 11]]
    assert played.failures == dict.fromkeys((0, 2, 3, 4), "ValueError: it has ended")


def test_names_and_paths_are_accepted() -> None:
    name = "tinylm/medium/chain"
    store = registry.open_store(name)
    config, episodes = EpisodeConfig(8), (np.zeros(2, np.int64), np.tile(np.arange(8), (2, 1)), 0.5)
    expected = Rollout(load("cmc"), store, config).play(*episodes)
    for env in (name, store.path):
        assert env is not None
        found = Rollout("cmc", env, config).play(*episodes)
        assert_array_equal(found.tokens, expected.tokens)
    correct = int(expected.correct.sum())
    assert repr(expected) == f"<EpisodeResults: 2 episodes, {correct} correct, 0 failed>"
    with pytest.raises(TraceError, match="'tinylm/medium' names 2 environments"):
        Rollout("cmc", "tinylm/medium", config)


def test_questions_and_branches_print_as_one_line() -> None:
    assert repr(STORE.question(1)) == "<Question '?': gold '1', 3 branches>"
    assert repr(STORE.question(1).branches[0]) == "<Branch: 700 tokens, 1 probes, final 'y'>"
