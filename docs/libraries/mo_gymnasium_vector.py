"""MO-Gymnasium: accuracy and cost as a vector reward, in single and vector environments."""

import time

import gymnasium as gym
import mo_gymnasium
import mo_gymnasium.wrappers as mo
import numpy as np
from mo_gymnasium.wrappers.vector import MORecordEpisodeStatistics, MOSyncVectorEnv

import autotts_gym  # noqa: F401 - registers the environments
from autotts_gym.gym_envs.wrappers import MultiObjective, MultiObjectiveVector

OPTIONS = {"env": "tinylm/medium/chain"}


def make() -> gym.Env:
    return MultiObjective(gym.make("AutoTTS-Decisions-v0", **OPTIONS))


def play(envs: gym.vector.VectorEnv, steps: int) -> float:
    """Random legal macro-actions; returns steps per second."""
    observations, _ = envs.reset(seed=0)
    generator, started = np.random.default_rng(0), time.perf_counter()
    for _ in range(steps):
        noise = generator.random(observations["action_mask"].shape)
        actions = np.argmax(noise * observations["action_mask"], axis=1)
        observations, rewards, terminated, _, infos = envs.step(actions)
        assert rewards.shape == (envs.num_envs, 2)
        if "episode" in infos:  # the returns are the two parts of the environment's return
            parts = np.stack([infos["accuracy_reward"], infos["cost_reward"]], axis=-1)
            assert np.allclose(infos["episode"]["r"][terminated], parts[terminated], atol=1e-5)
    return steps * envs.num_envs / (time.perf_counter() - started)


if __name__ == "__main__":
    env = mo.MORecordEpisodeStatistics(make())
    observation, info = env.reset(seed=0)
    env.action_space.seed(0)
    over = False
    while not over:
        action = env.action_space.sample(mask=observation["action_mask"])
        observation, reward, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    assert np.allclose(info["episode"]["r"], [info["accuracy_reward"], info["cost_reward"]])
    print(f"mo-gymnasium {mo_gymnasium.__version__}")
    print(f"8 single environments: {play(MOSyncVectorEnv([make] * 8), 200):,.0f} steps/s")
    # MO-Gymnasium's vector statistics are those of NEXT_STEP.
    envs = gym.make_vec("AutoTTS-Decisions-v0", 64, autoreset_mode="NextStep", **OPTIONS)
    envs = MORecordEpisodeStatistics(MultiObjectiveVector(envs))
    print(f"64 compiled environments: {play(envs, 200):,.0f} steps/s")
