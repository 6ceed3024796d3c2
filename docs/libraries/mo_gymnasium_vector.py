"""MO-Gymnasium: accuracy and cost as a vector reward, in single and vector environments."""

import time

import gymnasium as gym
import mo_gymnasium
import mo_gymnasium.wrappers as mo
import numpy as np
from mo_gymnasium.wrappers.vector import MOSyncVectorEnv

import autotts_gym  # noqa: F401 - registers the environments
from autotts_gym.gym_envs.wrappers import MultiObjective


def make() -> gym.Env:
    return MultiObjective(gym.make("AutoTTS-Decisions-v0", env="tinylm/medium/chain"))


if __name__ == "__main__":
    env = mo.MORecordEpisodeStatistics(make())
    observation, info = env.reset(seed=0)
    env.action_space.seed(0)
    over = False
    while not over:
        action = env.action_space.sample(mask=observation["action_mask"])
        observation, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    expected = [info["accuracy_reward"], info["cost_reward"]]
    assert np.allclose(info["episode"]["r"], expected, atol=1e-6)
    envs = MOSyncVectorEnv([make] * 8)
    observations, _ = envs.reset(seed=0)
    generator, started = np.random.default_rng(0), time.perf_counter()
    for _ in range(200):
        noise = generator.random(observations["action_mask"].shape)
        actions = np.argmax(noise * observations["action_mask"], axis=1)
        observations, rewards, *_ = envs.step(actions)
        assert rewards.shape == (8, 2)
    rate = 8 * 200 / (time.perf_counter() - started)
    print(f"mo-gymnasium {mo_gymnasium.__version__}: {rate:,.0f} steps/s in 8 environments")
