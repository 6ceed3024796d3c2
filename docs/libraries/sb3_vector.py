"""stable-baselines3 and sb3-contrib on the compiled vector environment, masks included."""

import time

import gymnasium as gym
import sb3_contrib
import stable_baselines3
import torch
from sb3_contrib import MaskablePPO

import autotts_gym  # noqa: F401 - registers the environments
from autotts_gym.learning.sb3 import Sb3VecEnv

if __name__ == "__main__":
    torch.set_num_threads(1)  # the networks are small
    envs = gym.make_vec("AutoTTS-Decisions-v0", 64, env="tinylm/medium/chain", observation="flat")
    model = MaskablePPO(
        "MlpPolicy",
        Sb3VecEnv(envs),
        n_steps=64,
        batch_size=1024,
        n_epochs=4,
        gamma=1.0,
        seed=0,
        device="cpu",
    )
    started = time.perf_counter()
    model.learn(20_480)
    rate = model.num_timesteps / (time.perf_counter() - started)
    versions = (
        f"stable-baselines3 {stable_baselines3.__version__}, sb3-contrib {sb3_contrib.__version__}"
    )
    print(f"{versions}: {rate:,.0f} steps/s with updates")
    print(
        f"mean return {sum(e['r'] for e in model.ep_info_buffer) / len(model.ep_info_buffer):.2f}"
    )
