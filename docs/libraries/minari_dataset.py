"""Minari: record episodes of CMC and of random actions with their infos, and read them back."""

import os
import tempfile

import gymnasium as gym
import minari

import autotts_gym

if __name__ == "__main__":
    os.environ["MINARI_DATASETS_PATH"] = tempfile.mkdtemp()
    env = minari.DataCollector(
        gym.make("AutoTTS-v0", env="tinylm/medium/chain", observation="compact"), record_infos=True
    )
    cmc = autotts_gym.load_controller("cmc")
    tokens = [cmc.play(env, seed=seed)["tokens"] for seed in range(3)]
    env.action_space.seed(0)
    for seed in range(3):
        _, info = env.reset(seed=seed)
        over = False
        while not over:
            action = env.action_space.sample(mask=info["action_mask"])
            *_, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        tokens.append(info["tokens"])
    env.create_dataset("autotts/example-v0", algorithm_name="CMC and random actions")
    dataset = minari.load_dataset("autotts/example-v0")
    episodes = list(dataset.iterate_episodes())
    assert [episode.infos["tokens"][-1] for episode in episodes] == tokens
    assert dataset.recover_environment().observation_space == env.observation_space
    print(f"minari {minari.__version__}: {dataset.total_episodes} episodes")
    print(f"{dataset.total_steps:,} steps")
