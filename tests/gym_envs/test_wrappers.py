"""Tests of the wrappers ``MultiObjective`` and ``FrameRecorder``."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import gymnasium as gym
import mo_gymnasium.wrappers as mo
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeLimit
from mo_gymnasium.wrappers.vector import MOSyncVectorEnv
from stores import random_action

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.wrappers import FrameRecorder, MultiObjective, MultiObjectiveVector

CONFIG: dict[str, Any] = {"max_branches": 4, "beta": (0, 1), "invalid_penalty": 0.125}


def play(env: gym.Env[Any, Any], seed: int) -> list[Any]:
    """Play an episode of random actions, most of them legal; returns the results of all steps."""
    random, steps = Random(seed), []
    env.reset(seed=seed)
    legal = env.get_wrapper_attr("action_masks")
    while not steps or not (steps[-1][2] or steps[-1][3]):
        steps.append(env.step(random_action(random, legal().tolist())))
    return steps


# --- MultiObjective ------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [None, 15])
@pytest.mark.parametrize("make", [AutoTTSEnv, partial(gym.make, "AutoTTS-v0")])
def test_weighted_rewards_equal_the_scalar_reward(
    make: Callable[..., Any], limit: int | None
) -> None:
    env = MultiObjective(make(**CONFIG, step_limit=limit))
    scalar = AutoTTSEnv(**CONFIG, step_limit=limit)
    correct = 0
    for seed in range(20):
        steps = play(env, seed)
        beta = steps[-1][4]["beta"]
        for step, scalar_step in zip(steps, play(scalar, seed), strict=True):
            reward = step[1]
            assert (reward.shape, reward.dtype) == ((2,), np.float64)
            assert reward in env.reward_space
            penalty = 0.125 * step[4]["invalid_action"]
            assert reward @ (beta, 1 - beta) - penalty == pytest.approx(scalar_step[1], abs=1e-12)
        correct += steps[-1][4]["correct"]
        # The final info contains the sums of both rewards.
        info = steps[-1][4]
        total = sum(step[1] for step in steps)
        expected = [info["accuracy_reward"], info["cost_reward"]]
        np.testing.assert_allclose(total, expected, atol=1e-12)
    assert correct > 0 or limit


def test_episode_cut_by_a_time_limit_is_incorrect() -> None:
    env = MultiObjective(TimeLimit(AutoTTSEnv(**CONFIG), 1))
    env.reset()
    _, reward, terminated, truncated, info = env.step(1)
    assert (terminated, truncated) == (False, True)
    assert reward.tolist() == [0, -info["cost"]]


def test_mo_gymnasium_wrappers() -> None:
    env = MultiObjective(gym.make("AutoTTS-v0", **CONFIG))
    assert (env.reward_dim, env.unwrapped.reward_dim) == (2, 2)
    recorded = mo.MORecordEpisodeStatistics(env)
    steps = play(recorded, seed=3)
    info = steps[-1][4]
    np.testing.assert_allclose(
        info["episode"]["r"], [info["accuracy_reward"], info["cost_reward"]], rtol=1e-5
    )
    beta = info["beta"]
    linear = mo.LinearReward(mo.MOClipReward(env, 1, -10, 10), weight=np.array([beta, 1 - beta]))
    for weighted, step in zip(play(linear, seed=3), steps, strict=True):
        assert weighted[1] == pytest.approx(step[1] @ (beta, 1 - beta))
        assert np.array_equal(weighted[4]["vector_reward"], step[1])
    mo.MONormalizeReward(env, idx=1).reset()


def test_mo_gymnasium_vector_env() -> None:
    env = MOSyncVectorEnv([lambda: MultiObjective(AutoTTSEnv(**CONFIG))] * 2)
    env.reset(seed=0)
    _, rewards, terminated, _, infos = env.step(np.array([0, 1]))
    assert rewards.shape == (2, 2)
    assert terminated.tolist() == [True, False]
    np.testing.assert_allclose(rewards, [[0, 0], [0, -infos["cost"][1]]], rtol=1e-6)


@pytest.mark.parametrize("latency", [True, False])
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_vector_rewards_are_those_of_single_environments(
    latency: bool, mode: AutoresetMode
) -> None:
    config = {**CONFIG, "latency_weight": 0.25}
    envs: Any = gym.make_vec("AutoTTS-v0", 3, autoreset_mode=mode, **config)
    envs = MultiObjectiveVector(envs, latency=latency)
    assert envs.reward_space.shape == (envs.reward_dim,) == (3 if latency else 2,)
    singles = [MultiObjective(AutoTTSEnv(**config), latency=latency) for _ in range(3)]
    envs.reset(seed=5)
    for e, single in enumerate(singles):
        single.reset(seed=5 + e)
    random, idle, correct = Random(1), np.zeros(3, bool), 0.0
    for _ in range(150):
        masks = [single.get_wrapper_attr("action_masks")().tolist() for single in singles]
        actions = [random_action(random, mask) for mask in masks]
        _, rewards, terminated, truncated, _ = envs.step(np.array(actions))
        assert rewards.dtype == np.float64
        for e, single in enumerate(singles):
            if idle[e] and mode is AutoresetMode.NEXT_STEP:
                single.reset()
                assert not rewards[e].any()
                continue
            result: Any = single.step(actions[e])
            assert np.array_equal(rewards[e], result[1])
            assert rewards[e] in envs.reward_space
            correct += rewards[e][0]
            if result[2] and mode is not AutoresetMode.NEXT_STEP:
                single.reset()
        idle = terminated | truncated
        if mode is AutoresetMode.DISABLED and idle.any():
            envs.reset(options={"reset_mask": idle})
    assert correct > 0


# --- FrameRecorder -------------------------------------------------------------------------------


@pytest.mark.parametrize(("every", "expected"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4]), (0, [])])
def test_frame_recorder_keeps_every_nth_frame(every: int, expected: list[int]) -> None:
    env = FrameRecorder(AutoTTSEnv(max_branches=4, render_mode="ansi"), every)
    for _ in range(2):  # the second episode starts a new recording
        env.reset(seed=0)
        texts = []
        for _ in range(5):
            env.step(1)
            texts.append(env.render())
        assert env.frames == [texts[number - 1] for number in expected]


# --- specs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrapper", [MultiObjective, partial(FrameRecorder, every=3)])
def test_spec_recreates_the_wrapper(wrapper: Callable[[Any], Any]) -> None:
    env = wrapper(gym.make("AutoTTS-v0", max_branches=3, render_mode="ansi"))
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert str(again) == str(env)
