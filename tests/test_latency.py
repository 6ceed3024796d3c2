"""Latency as a cost: returns add up to the formula wherever episodes are played.

For an episode without illegal actions, with C and L of its environment::

    return = β · correct − (1 − β) · ((1 − w) · tokens / C + w · sequential tokens / L)
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from statistics import fmean
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import reference
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import random_config, random_store

from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.macro_env import MacroActions, MacroEnv, MacroVectorEnv
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
from autotts_gym.gym_envs.wrappers import MultiObjective
from autotts_gym.mdp import fields
from autotts_gym.mdp.macro_features import NUM_ALL_GLOBAL_FEATURES, NUM_GLOBAL_FEATURES
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore

TOLERANCE = 1e-11
SINGLE: dict[str, Callable[..., Any]] = {
    "single": AutoTTSEnv,
    "decisions": MacroEnv,
    "wrapped decisions": lambda **options: MacroActions(AutoTTSEnv(**options)),
}
VECTOR: dict[str, Callable[..., Any]] = {
    "vector": AutoTTSVectorEnv,
    "vector decisions": MacroVectorEnv,
}


def expected_return(store: TraceStore, width: int, info: dict[str, Any]) -> float:
    """The formula, with C and L recomputed from the branches."""
    lengths = [[b.tokens for b in question.branches] for question in store]
    c = width * fmean(fmean(tokens) for tokens in lengths)
    longest = fmean(reference.expected_longest(tokens, width) for tokens in lengths)
    beta, w = info["beta"], info["latency_weight"]
    cost = (1 - w) * info["tokens"] / c + w * info["sequential_tokens"] / longest
    return float(beta * bool(info["correct"]) - (1 - beta) * cost)


def random_legal(random: Random, mask: np.ndarray) -> int:
    """A random legal action, ANSWER rarely."""
    legal = np.flatnonzero(mask).tolist()
    return random.choice(legal if random.random() < 0.1 else legal[1:] or legal)


def check_parts(infos: list[dict[str, Any]], rewards: list[float]) -> None:
    """The costs of the steps add up to the parts of the return, which the last info has."""
    last = infos[-1]
    for part, total in (("cost", "cost_reward"), ("token_cost", "token_reward")):
        assert sum(info[part] for info in infos) == pytest.approx(-last[total], abs=TOLERANCE)
    latency = sum(info["latency_cost"] for info in infos)
    assert latency == pytest.approx(-last["latency_reward"], abs=TOLERANCE)
    beta = last["beta"]
    expected = beta * last["accuracy_reward"] + (1 - beta) * last["cost_reward"]
    assert sum(rewards) == pytest.approx(expected, abs=TOLERANCE)


@pytest.mark.parametrize("face", SINGLE)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=False))
def test_returns_of_single_environments(face: str, random: Random) -> None:
    store = random_store(random, costs=random.random() < 0.5)
    config = random_config(random, [store])
    config |= {"beta": (0.0, 1.0), "latency_weight": random.choice([0.0, 1.0, (0.0, 1.0)])}
    if face != "single":
        config["auto_probe"] = False
    env = SINGLE[face](env=store, **config)
    for seed in range(3):
        observation, _ = env.reset(seed=seed)
        infos, rewards, over = [], [], False
        while not over:
            action = random_legal(random, observation["action_mask"])
            observation, reward, terminated, truncated, info = env.step(action)
            infos.append(info)
            rewards.append(reward)
            over = terminated or truncated
        expected = expected_return(store, config["max_branches"], infos[-1])
        assert sum(rewards) == pytest.approx(expected, abs=TOLERANCE)
        check_parts(infos, rewards)


@pytest.mark.parametrize("face", VECTOR)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=False))
def test_returns_of_vector_environments(face: str, random: Random) -> None:
    store = random_store(random, costs=random.random() < 0.5)
    config = random_config(random, [store])
    config |= {"beta": (0.0, 1.0), "latency_weight": random.choice([0.3, (0.0, 1.0)])}
    if face == "vector decisions":
        config["auto_probe"] = False
    envs = VECTOR[face](3, store, autoreset_mode=AutoresetMode.DISABLED, **config)
    observation, _ = envs.reset(seed=random.randrange(1000))
    rewards: list[list[float]] = [[], [], []]
    steps: list[list[dict[str, Any]]] = [[], [], []]
    ended = 0
    for _ in range(60):
        actions = [random_legal(random, mask) for mask in observation["action_mask"]]
        observation, gains, terminated, truncated, infos = envs.step(np.array(actions))
        over = terminated | truncated
        for e in range(3):
            rewards[e].append(gains[e])
            keys = [key for key in infos if not key.startswith("_") and infos[f"_{key}"][e]]
            steps[e].append({key: infos[key][e] for key in keys})
            if over[e]:
                expected = expected_return(store, config["max_branches"], steps[e][-1])
                assert sum(rewards[e]) == pytest.approx(expected, abs=TOLERANCE)
                check_parts(steps[e], rewards[e])
                rewards[e], steps[e] = [], []
                ended += 1
        if over.any():
            observation, _ = envs.reset(options={"reset_mask": over})
    assert ended or config["step_limit"] is None


@settings(max_examples=40, deadline=None)
@given(random=st.randoms(use_true_random=False))
def test_three_objectives_weigh_up_to_the_reward(random: Random) -> None:
    store = random_store(random, costs=False)
    config = random_config(random, [store]) | {"beta": (0, 1), "latency_weight": (0, 1)}
    env = MultiObjective(AutoTTSEnv(store, **config), latency=True)
    plain = AutoTTSEnv(store, **config)
    assert (env.reward_dim, env.reward_space.shape) == (3, (3,))
    observation, _ = env.reset(seed=5)
    plain.reset(seed=5)
    over = False
    while not over:
        action = random_legal(random, observation["action_mask"])
        observation, reward, terminated, truncated, _ = env.step(action)
        expected = plain.step(action)[1]
        beta, w = plain.beta, plain.latency_weight
        assert reward in env.reward_space
        weights = beta, (1 - beta) * (1 - w), (1 - beta) * w
        assert reward @ weights == pytest.approx(expected, abs=TOLERANCE)
        over = terminated or truncated


# --- the observation -----------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0, (0.0, 0.5), 0.25, lambda rng: 0.5])
def test_observations_show_latency_where_it_can_count(weight: Any) -> None:
    shown = weight not in (0, 0.0)
    env = gym.make("AutoTTS-v0", max_branches=4, latency_weight=weight).unwrapped
    observation, _ = env.reset(seed=0)
    for action in (1, 2, 6):  # BRANCH, CONTINUE(0), PROBE(0)
        observation, *_ = env.step(action)
    values = observation["globals"]
    assert len(values) == len(fields.shown_globals(shown)) == (7 if shown else 5)
    assert env.observation_space["globals"].shape == values.shape
    if shown:
        full_latency = env._config.dataset.stores[0].longest_tokens(4)
        expected = np.float32([env.latency_weight, env.clock / full_latency])
        assert values[[fields.LATENCY_WEIGHT, fields.LATENCY]].tolist() == expected.tolist()
        assert expected[1] > 0
    length = NUM_ALL_GLOBAL_FEATURES if shown else NUM_GLOBAL_FEATURES
    for decisions in (MacroActions(env), MacroEnv(max_branches=4, latency_weight=weight)):
        assert decisions.reset(seed=0)[0]["globals"].shape == (length,)
        assert decisions.observation_space["globals"].shape == (length,)
    for cls, count in ((AutoTTSEnv, len(values)), (MacroEnv, length)):
        flat = cls(max_branches=4, latency_weight=weight, observation="flat")
        flat.reset(seed=0)
        observation, *_ = flat.step(np.flatnonzero(flat.action_masks())[-1])
        assert flat.flat_slices["globals"] == slice(0, count)
        assert flat.observation_space.contains(observation)
        assert observation[flat.flat_slices["action_mask"]].tolist() == flat.action_masks().tolist()
        if shown:
            assert np.float32(flat.latency_weight) in observation[count - 2 : count]


def test_a_weight_that_observations_do_not_show_is_refused() -> None:
    env = AutoTTSEnv(max_branches=2)
    env.reset(options={"latency_weight": 0})
    with pytest.raises(ValueError, match=r"do not show it: make the environment with latency_w"):
        env.reset(options={"latency_weight": 0.5})
    with pytest.raises(ValueError, match=r"latency_weight must be a number in \[0, 1\]"):
        env.reset(options={"latency_weight": 1.5})


def test_a_weight_changes_nothing_else() -> None:
    """The same seeds draw the same episodes, with the same observations otherwise."""
    plain = AutoTTSEnv(max_branches=4, beta=(0, 1))
    weighed = AutoTTSEnv(max_branches=4, beta=(0, 1), latency_weight=(0, 1))
    weights = set()
    for seed in range(5):
        first, _ = plain.reset(seed=seed)
        second, _ = weighed.reset(seed=seed)
        weights.add(weighed.latency_weight)
        for action in (1, 1, 2, 6, 7, 0):
            assert first.keys() == second.keys()
            second["globals"] = second["globals"][:5]
            assert all(np.array_equal(first[key], second[key]) for key in first)
            first, *_, info = plain.step(action)
            second, *_, weighed_info = weighed.step(action)
        same = ("tokens", "sequential_tokens", "token_reward", "latency_reward", "correct")
        assert [info[key] for key in same] == [weighed_info[key] for key in same]
    assert len(weights) == 5


def test_a_rendered_text_shows_a_weight() -> None:
    for weight, shown in ((0.0, False), (0.25, True)):
        env = AutoTTSEnv(max_branches=3, latency_weight=weight, render_mode="ansi")
        env.reset(seed=0)
        assert ("w 0.25" in env.render()) == shown


# --- controllers ---------------------------------------------------------------------------------

PROGRAM = """
def solve(episode, beta):
    while episode.opened < 1 + int(7 * episode.latency_weight):
        episode.branch()
    episode.probe_all()
    episode.answer()
"""


@pytest.mark.parametrize("interpret", [False, True])
def test_controllers_read_the_weight(interpret: bool, tmp_path: Any) -> None:
    path = tmp_path / "wide.py"
    path.write_text(PROGRAM, "utf-8")
    store = AutoTTSEnv()._config.dataset.stores[0]
    for weight, actions in ((0.0, 3), (0.5, 9), (1.0, 17)):
        config = EpisodeConfig(16, latency_weight=weight)
        rollout = Rollout(load(str(path)), store, config, interpret=interpret)
        assert rollout.path == ("python" if interpret else "compiled")
        results = rollout.play(np.zeros(1, np.int64), np.arange(16)[None], 0.5)
        assert results.actions.tolist() == [actions]


@pytest.mark.parametrize("agent", ["ppo/aime24", "ppo/chain", "cmc"])
def test_agents_without_a_use_for_the_weight_play_as_before(agent: str) -> None:
    store = AutoTTSEnv()._config.dataset.stores[0]
    questions, orders = np.arange(6), np.tile(np.arange(16), (6, 1))
    logs = []
    for weight in (0.0, 0.8):
        config = EpisodeConfig(16, latency_weight=weight)
        rollout = Rollout(load(agent), store, config, logs=True)
        logs.append([log.tolist() for log in rollout.play(questions, orders, 0.5).logs])
    assert logs[0] == logs[1]
    env = AutoTTSEnv(store, max_branches=16, latency_weight=0.8)
    info = load(agent).play(env, question=0)  # the observation has more entries
    assert info["latency_weight"] == 0.8
