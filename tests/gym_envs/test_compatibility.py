"""Compatibility tests: wrappers, vector environments, recorders and RL libraries."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import wrappers
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.wrappers import vector as vector_wrappers
from imageio_ffmpeg import count_frames_and_secs
from moviepy.video.io.ffmpeg_reader import ffmpeg_parse_infos
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv

ANSWER, BRANCH = 0, 1
SMALL: dict[str, Any] = {"max_branches": 4, "observation": "compact"}
# A partial of an importable function, because other processes unpickle it.
make = partial(gym.make, "autotts_gym:AutoTTS-v0", **SMALL)


def episode(env: gym.Env[Any, Any], seed: int, actions: int = 40) -> list[Any]:
    """Play random legal actions and then ANSWER; returns the results of all steps."""
    rng, steps = np.random.default_rng(seed), []
    _, info = env.reset(seed=seed)
    for _ in range(actions):
        legal = np.flatnonzero(info["action_mask"][:10])[1:]  # neither PRUNE nor ANSWER
        steps.append(env.step(rng.choice(legal) if len(legal) else ANSWER))
        if steps[-1][2] or steps[-1][3]:
            return steps
        info = steps[-1][4]
    return [*steps, env.step(ANSWER)]


# --- Gymnasium's wrappers ------------------------------------------------------------------------


def test_time_limit() -> None:
    # The wrapper truncates without settling costs, unlike the argument ``step_limit``.
    env = make(max_episode_steps=3)
    env.reset(seed=0)
    steps = [env.step(BRANCH) for _ in range(3)]
    assert [step[2:4] for step in steps] == [(False, False), (False, False), (False, True)]
    assert (steps[-1][4]["steps"], steps[-1][4]["tokens"]) == (0, 0)
    env.reset()
    assert env.step(ANSWER)[2]


def test_record_episode_statistics() -> None:
    env = wrappers.RecordEpisodeStatistics(make())
    lengths = []
    for seed in range(3):
        steps = episode(env, seed)
        lengths.append(len(steps))
        info = steps[-1][4]
        assert info["episode"]["l"] == info["steps"] == len(steps)
        assert info["episode"]["r"] == pytest.approx(sum(step[1] for step in steps), abs=1e-6)
    assert list(env.length_queue) == lengths


@pytest.mark.parametrize("kind", ["vector_entry_point", "sync"])
@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.NEXT_STEP])
def test_record_episode_statistics_of_vectors(mode: AutoresetMode, kind: str) -> None:
    arguments: dict[str, Any] = {"autoreset_mode": mode}
    if kind == "sync":
        arguments = {"vector_kwargs": arguments}
    env: Any = gym.make_vec("AutoTTS-v0", 3, vectorization_mode=kind, **arguments, **SMALL)
    env = vector_wrappers.RecordEpisodeStatistics(env)
    env.reset(seed=0)
    rng, ends = np.random.default_rng(0), 0
    returns = np.zeros(3)
    ended = np.zeros(3, bool)
    for _ in range(100):
        actions = rng.choice([ANSWER, BRANCH, 2, 3, 6, 7], 3, p=[0.1, 0.3, 0.15, 0.15, 0.15, 0.15])
        fresh = ended if mode is AutoresetMode.NEXT_STEP else False
        _, rewards, terminated, truncated, infos = env.step(actions)
        returns = np.where(fresh, 0, returns) + rewards
        ended = terminated | truncated
        assert ("episode" in infos) == ended.any()
        for e in np.flatnonzero(ended):
            ends += 1
            final = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
            assert infos["episode"]["l"][e] == final["steps"][e]
            assert infos["episode"]["r"][e] == pytest.approx(returns[e], abs=1e-6)
            returns[e] = 0
    assert ends > 10


@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_dict_info_to_list(mode: AutoresetMode) -> None:
    env = vector_wrappers.DictInfoToList(
        gym.make_vec("AutoTTS-v0", 2, autoreset_mode=mode, **SMALL)
    )
    single = AutoTTSEnv(**SMALL)
    expected = [single.reset(seed=4)[1]]
    expected += [single.step(action)[4] for action in (BRANCH, ANSWER)]
    infos: Any = [env.reset(seed=[3, 4])[1]]
    infos += [env.step(np.array([BRANCH, action]))[4] for action in (BRANCH, ANSWER)]
    actual = [both[1] for both in infos]
    if mode is AutoresetMode.SAME_STEP:
        final_obs = actual[-1].pop("final_obs")
        assert final_obs.keys() == single.observation_space.keys()
        actual[-1] = actual[-1].pop("final_info")
    for info, other in zip(actual, expected, strict=True):
        assert info.keys() == other.keys()
        assert all(np.array_equal(info[key], other[key]) for key in info)


@pytest.mark.slow
def test_record_video(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    env = wrappers.RecordVideo(make(render_mode="rgb_array"), str(folder), disable_logger=True)
    frames = 1 + len(episode(env, seed=0, actions=8))  # the first frame shows the reset
    shape = env.unwrapped.render().shape  # type: ignore[union-attr]
    env.close()
    (video,) = folder.iterdir()
    assert count_frames_and_secs(str(video))[0] == frames
    assert ffmpeg_parse_infos(str(video))["video_size"] == [shape[1], shape[0]]


def test_flatten_observation() -> None:
    env = wrappers.FlattenObservation(make())
    observation, _ = env.reset(seed=0)
    assert observation.dtype == np.float32
    assert observation in env.observation_space
    space = env.unwrapped.observation_space
    assert observation.shape == (sum(int(np.prod(box.shape)) for box in space.values()),)
    unflattened = gym.spaces.unflatten(space, observation)
    assert np.array_equal(unflattened["action_mask"], env.get_wrapper_attr("action_masks")())


def test_normalize_reward() -> None:
    env = wrappers.NormalizeReward(make())
    assert all(np.isfinite(step[1]) for step in episode(env, seed=0))


# --- vector environments -------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_vector_environments(kind: str, mode: AutoresetMode) -> None:
    # Forking is unsafe after RL libraries have started threads.
    env = (
        SyncVectorEnv([make] * 2, autoreset_mode=mode)
        if kind == "sync"
        else AsyncVectorEnv([make] * 2, autoreset_mode=mode, context="spawn")
    )
    vector_env = gym.make_vec("AutoTTS-v0", 2, autoreset_mode=mode, **SMALL)
    env.reset(seed=5)
    vector_env.reset(seed=5)
    for actions in ([BRANCH, BRANCH], [6, 2], [BRANCH, ANSWER]):
        observation, rewards, terminated, _, infos = env.step(np.array(actions))
        expected = vector_env.step(np.array(actions))
        assert observation in env.observation_space
        assert all(np.array_equal(observation[key], expected[0][key]) for key in observation)
        assert np.array_equal(rewards, expected[1])
        assert np.array_equal(terminated, expected[2])
        assert infos.keys() == expected[4].keys()
        masks = np.stack(env.call("action_masks"))
        assert np.array_equal(masks, vector_env.unwrapped.action_masks())
    env.close()


# --- stable-baselines3 ---------------------------------------------------------------------------


def test_sb3_dummy_vec_env() -> None:
    env = DummyVecEnv([make] * 2)
    env.seed(7)
    vector_env = gym.make_vec("AutoTTS-v0", 2, **SMALL)
    observation: Any = env.reset()
    expected, _ = vector_env.reset(seed=7)
    assert is_masking_supported(env)
    for actions in ([BRANCH, BRANCH], [6, 2], [BRANCH, ANSWER]):
        assert all(np.array_equal(observation[key], expected[key]) for key in expected)
        assert np.array_equal(get_action_masks(env), expected["action_mask"] == 1)
        observation, rewards, dones, infos = env.step(np.array(actions))
        expected, expected_rewards, terminated, _, expected_infos = vector_env.step(
            np.array(actions)
        )
        np.testing.assert_allclose(rewards, expected_rewards, rtol=1e-6)
        assert np.array_equal(dones, terminated)
    # stable-baselines3 resets in the same step.
    last = expected_infos["final_obs"][1]
    assert all(np.array_equal(infos[1]["terminal_observation"][key], last[key]) for key in last)


class AssertLegal(gym.Wrapper[Any, Any, Any, Any]):
    """Counts steps and fails on an illegal action."""

    steps = 0

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        assert not result[4]["invalid_action"], action
        self.steps += 1
        return result


def maskable_ppo(env: gym.Env[Any, Any]) -> MaskablePPO:
    return MaskablePPO(
        "MultiInputPolicy",
        env,
        n_steps=64,
        batch_size=64,
        n_epochs=1,
        policy_kwargs={"net_arch": [16]},
        seed=0,
        device="cpu",
    )


def test_untrained_masked_policy_takes_only_legal_actions() -> None:
    env = make(budget=640, step_limit=200)
    model = maskable_ppo(env)
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        done = False
        while not done:
            masks = get_action_masks(env)
            action, _ = model.predict(observation, action_masks=masks, deterministic=seed % 2 == 0)
            observation, _, terminated, truncated, info = env.step(action)
            assert not info["invalid_action"]
            done = terminated or truncated


@pytest.mark.parametrize("observation", ["compact", "full"])
def test_maskable_ppo_trains_without_an_adapter(observation: str) -> None:
    env = AssertLegal(Monitor(make(observation=observation, step_limit=60)))
    model = maskable_ppo(env)
    before = [weights.clone() for weights in model.policy.parameters()]
    model.learn(256)
    assert env.steps == 256
    after = list(model.policy.parameters())
    assert any((a != b).any() for a, b in zip(after, before, strict=True))
    assert all(weights.isfinite().all() for weights in after)
