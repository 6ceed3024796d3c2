"""Reading branches whole in one compiled operation equals the single actions that it replaces."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from stores import random_config, random_store

from autotts_gym.controllers.agent import Agent
from autotts_gym.mdp import rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.jit import compiled
from autotts_gym.mdp.state import EpisodeArrays, state_of
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.rollout import Rollout

#: Plays random actions, among them the two operations, which the programs below define.
WALK = """
def solve(episode, beta):
    state = int(beta * 1_000_000)
    for _ in range(40):
        state = (state * 1103515245 + 12345) % 2147483648
        i = state // 65536 % (episode.max_branches + 2) - 1
        op = state // 1024 % 8
        if op < 2 and episode.can_branch():
            episode.branch()
        elif op == 2 and episode.can_extend(i):
            episode.extend(i)
        elif op == 3 and episode.can_probe(i):
            episode.probe(i)
        elif op == 4 and state % 5 == 0 and episode.can_prune(i):
            episode.prune(i)
        elif op < 6:
            check(extend_fully(episode, i) >= 0)
        elif 0 <= i < episode.max_branches:
            answer, finished = read(episode, i)
            check(answer == episode.latest(i) and finished == episode.finished(i))
    episode.answer()


def check(holds):
    if not holds:
        raise ValueError("it does not hold")
"""

OPERATIONS = """
def extend_fully(episode, i):
    return episode.extend_fully(i)


def read(episode, i):
    return episode.read(i)
"""

SINGLE_ACTIONS = """
def extend_fully(episode, i):
    count = 0
    while episode.can_extend(i):
        episode.extend(i)
        count += 1
    return count


def read(episode, i):
    while episode.can_extend(i):
        episode.extend(i)
    if episode.can_probe(i):
        episode.probe(i)
    return episode.latest(i), episode.finished(i)
"""


def end_of(rollout: Rollout, row: int, order: np.ndarray, beta: float) -> dict[str, Any]:
    """Play an episode; its whole state at the end, its actions and its results."""
    played = rollout.play(np.array([row]), order[None], beta)
    state = rollout._episode
    found = {name: state.ledger[0][name].item() for name in s.LEDGER.names}
    found |= {name: state.branches[0][name].tolist() for name in s.BRANCH.names}
    codes = state.codes[0, : s.VOTES, : state.ledger["classes"][0]]
    actions = rollout._log[: found["steps"]].tolist()
    results = [played.correct[0], played.tokens[0], played.sequential_tokens[0], played.actions[0]]
    return found | {
        "codes": codes.tolist(),
        "log": actions,
        "results": [int(x) for x in results],
        "failures": played.failures,
    }


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(random=st.randoms(use_true_random=False))
def test_operations_leave_the_state_of_single_actions(
    random: Random, controller: Callable[..., Agent]
) -> None:
    programs = [controller(WALK + OPERATIONS, "a"), controller(WALK + SINGLE_ACTIONS, "b")]
    store = random_store(random, costs=random.random() < 0.5)
    drawn = random_config(random, [store])
    config = EpisodeConfig(
        **{k: drawn[k] for k in ("max_branches", "billing", "budget", "probe_tokens")},
        step_limit=random.choice([None, random.randint(1, 60)]),
    )
    fast, slow = (Rollout(program, store, config) for program in programs)
    assert (fast.path, slow.path) == ("compiled", "compiled")
    for _ in range(5):
        row = random.randrange(store.card.questions)
        order = np.array(random.sample(range(config.max_branches), config.max_branches))
        beta = random.random()
        assert end_of(fast, row, order, beta) == end_of(slow, row, order, beta)


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_operations_equal_those_of_plain_python(random: Random) -> None:
    store = random_store(random, costs=False)
    drawn = random_config(random, [store])
    config = EpisodeConfig(
        **{k: drawn[k] for k in ("max_branches", "billing", "budget")},
        step_limit=random.choice([None, random.randint(1, 60)]),
    )
    namespace: dict[str, Any] = {}
    exec(WALK + OPERATIONS, namespace)
    fast, slow = (
        Rollout(namespace["solve"], store, config, interpret=interpret, logs=True)
        for interpret in (False, True)
    )
    rows = np.arange(store.card.questions)
    orders = np.array([random.sample(range(config.max_branches), config.max_branches)] * len(rows))
    a, b = (rollout.play(rows, orders, 0.37) for rollout in (fast, slow))
    for name in ("correct", "answers", "tokens", "sequential_tokens", "actions", "probes"):
        assert_array_equal(getattr(a, name), getattr(b, name), name)
    assert [log.tolist() for log in fast.logs] == [log.tolist() for log in slow.logs]


@compiled
def _continue(arrays, at_once):
    """CONTINUE branch 0 while the budget covers it, at once or interval by interval."""
    episode = state_of(arrays, 0)
    count = 0
    if at_once:
        limit = episode.ledger.depth_limit - episode.branches[0].requested
        if rules.can_extend(episode, 0):
            count = rules.affordable_intervals(episode, limit)
            rules.extend_by(episode, 0, count)
        return count
    while rules.can_extend(episode, 0):
        rules.extend(episode, 0)
        count += 1
    return count


@compiled
def _start(arrays, initial, questions, order, clock):
    episode = state_of(arrays, 0)
    rules.begin(episode, initial[0], questions[0], 0, order, 0.5)
    rules.branch(episode)
    episode.ledger.clock = clock
    episode.ledger.true_clock = clock


@settings(max_examples=200)
@given(random=st.randoms(use_true_random=False))
def test_requests_in_closed_form(random: Random) -> None:
    """Also with ``auto_probe``, where the budget must cover a probe after each interval."""
    store = random_store(random, costs=random.random() < 0.5)
    drawn = random_config(random, [store])
    fields = ("max_branches", "billing", "budget", "probe_tokens", "auto_probe")
    config = EpisodeConfig(**{key: drawn[key] for key in fields})
    dataset = TraceDataset({"store": store})
    clock = random.randint(0, 3 * store.card.interval)
    states = []
    for at_once in (True, False):
        arrays = EpisodeArrays.allocate(dataset.traces, dataset.classes, config.max_branches)
        order = np.arange(config.max_branches)
        _start(arrays, config.ledger(store)[None], dataset.questions, order, clock)
        count = _continue(arrays, at_once)
        states.append((count, arrays.ledger.tobytes(), arrays.branches.tobytes()))
    assert states[0] == states[1]
