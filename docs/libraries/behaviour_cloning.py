"""Offline: record CMC with Minari, and clone it with a network over the flat observation.

`autotts record cmc --name autotts/cmc-v0 --observation flat ...` writes the same data set.
"""

import os
import tempfile

import gymnasium as gym
import minari
import numpy as np
import torch
from torch import nn

import autotts_gym
from autotts_gym.learning.episode_dataset import record_episodes

ENV, WIDTH, BETA = "tinylm/medium/chain", 8, 0.5
TRAINING, UNSEEN = range(45), range(45, 60)
EPOCHS, BATCH = 12, 1024


def train(observations: torch.Tensor, masks: torch.Tensor, actions: torch.Tensor) -> nn.Module:
    """A network whose likeliest legal action is the recorded one."""
    count = masks.shape[1]
    policy = nn.Sequential(nn.Linear(observations.shape[1], 256), nn.ReLU(), nn.Linear(256, count))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(actions)).split(BATCH):
            logits = policy(observations[rows]).masked_fill(~masks[rows], -1e9)
            loss = nn.functional.cross_entropy(logits, actions[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return policy


def play(env: gym.Env, policy: nn.Module, question: int) -> dict:
    """Play an episode; returns its last info."""
    observation, info = env.reset(seed=question, options={"question": question})
    over = False
    while not over:
        with torch.no_grad():
            logits = policy(torch.as_tensor(observation))
        legal = torch.as_tensor(info["action_mask"]) == 1
        action = int(logits.masked_fill(~legal, -1e9).argmax())
        observation, _, terminated, truncated, info = env.step(action)
        over = terminated or truncated
    return info


if __name__ == "__main__":
    torch.set_num_threads(1)
    torch.manual_seed(0)
    os.environ["MINARI_DATASETS_PATH"] = tempfile.mkdtemp()
    cmc = autotts_gym.load_controller("cmc")
    written = record_episodes(
        [cmc],
        ENV,
        "autotts/cmc-v0",
        betas=[BETA],
        seeds=range(10),
        questions=TRAINING,
        observation="flat",
        max_branches=WIDTH,
    )
    episodes = list(minari.load_dataset("autotts/cmc-v0").iterate_episodes())
    observations = torch.as_tensor(np.concatenate([e.observations[:-1] for e in episodes]))
    actions = torch.as_tensor(np.concatenate([e.actions for e in episodes]))
    options = {"env": ENV, "max_branches": WIDTH, "beta": BETA}
    env = gym.make("AutoTTS-v0", observation="flat", **options)
    masks = observations[:, env.unwrapped.flat_slices["action_mask"]] == 1
    policy = train(observations, masks, actions)
    likeliest = policy(observations).masked_fill(~masks, -1e9).argmax(1)
    print(f"minari {minari.__version__}: {written.episodes} episodes, {written.steps:,} steps")
    print(f"the clone repeats {(likeliest == actions).float().mean():.1%} of CMC's actions")
    of_cmc = gym.make("AutoTTS-v0", observation="compact", **options)
    for name, infos in (
        ("clone", [play(env, policy, question) for question in UNSEEN]),
        ("CMC", [cmc.play(of_cmc, seed=q, question=q) for q in UNSEEN]),
    ):
        accuracy = np.mean([info["correct"] for info in infos])
        tokens = np.mean([info["tokens"] for info in infos])
        print(f"{name}: accuracy {accuracy:.2f}, {tokens:,.0f} tokens on unseen questions")
