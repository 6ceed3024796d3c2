"""A loop as in CleanRL: PPO with masks in one file, on the compiled vector environment."""

import time

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions import Categorical

import autotts_gym  # noqa: F401 - registers the environments

NUM_ENVS, NUM_STEPS, NUM_UPDATES = 64, 64, 10
EPOCHS, MINIBATCHES, CLIP, GAE_LAMBDA, ENTROPY = 4, 4, 0.2, 0.95, 0.01


class Agent(nn.Module):
    """Actor and critic over the flat observation."""

    def __init__(self, size: int, actions: int) -> None:
        super().__init__()
        self.actor = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, actions))
        self.critic = nn.Sequential(nn.Linear(size, 64), nn.Tanh(), nn.Linear(64, 1))

    def act(self, observations: torch.Tensor, masks: torch.Tensor) -> Categorical:
        return Categorical(logits=self.actor(observations).masked_fill(~masks, -1e9))


def collect(envs, agent, observations, masks):
    """Step NUM_STEPS times; returns the rollout, the next observations and masks, and outcomes."""
    rollout, outcomes = [], []
    for _ in range(NUM_STEPS):
        with torch.no_grad():
            chosen = agent.act(observations, masks)
            actions, values = chosen.sample(), agent.critic(observations)[:, 0]
        following, rewards, terminated, truncated, infos = envs.step(actions.numpy())
        assert not infos["invalid_action"].any()
        ends = torch.as_tensor(terminated | truncated)
        log_probs, rewards = chosen.log_prob(actions), torch.as_tensor(rewards).float()
        rollout.append((observations, masks, actions, log_probs, values, rewards, ends))
        if "final_info" in infos:  # SAME_STEP: the results of the episodes that ended
            final = infos["final_info"]
            ended = final["_tokens"]
            outcomes += zip(final["correct"][ended], final["tokens"][ended], strict=True)
        observations = torch.as_tensor(following)
        masks = torch.as_tensor(infos["action_mask"]) == 1
    return [torch.stack(part) for part in zip(*rollout, strict=True)], observations, masks, outcomes


def advantages_of(rewards, values, ends, next_values):
    """Generalised advantage estimates; returns are not discounted."""
    advantages, last = torch.zeros_like(rewards), torch.zeros(NUM_ENVS)
    for t in reversed(range(NUM_STEPS)):
        delta = rewards[t] + next_values * ~ends[t] - values[t]
        last = delta + GAE_LAMBDA * ~ends[t] * last
        advantages[t], next_values = last, values[t]
    return advantages


def update(agent, optimizer, rollout, next_values):
    observations, masks, actions, old_log_probs, values, rewards, ends = rollout
    advantages = advantages_of(rewards, values, ends, next_values)
    returns = advantages + values
    flat = [
        x.flatten(0, 1) for x in (observations, masks, actions, old_log_probs, advantages, returns)
    ]
    for _ in range(EPOCHS):
        for rows in torch.randperm(NUM_ENVS * NUM_STEPS).chunk(MINIBATCHES):
            seen, legal, chosen, old, advantage, wanted = (x[rows] for x in flat)
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
            policy = agent.act(seen, legal)
            ratio = (policy.log_prob(chosen) - old).exp()
            clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
            gain = torch.min(ratio * advantage, clipped * advantage).mean()
            error = (agent.critic(seen)[:, 0] - wanted).square().mean()
            loss = 0.5 * error - gain - ENTROPY * policy.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()


if __name__ == "__main__":
    torch.set_num_threads(1)  # the networks are small
    torch.manual_seed(0)
    envs = gym.make_vec(
        "AutoTTS-Decisions-v0", NUM_ENVS, env="tinylm/medium/chain", beta=0.5, observation="flat"
    )
    agent = Agent(envs.single_observation_space.shape[0], int(envs.single_action_space.n))
    optimizer = torch.optim.Adam(agent.parameters(), lr=1e-3)
    observations, infos = envs.reset(seed=0)
    observations, masks = torch.as_tensor(observations), torch.as_tensor(infos["action_mask"]) == 1
    started = time.perf_counter()
    for _ in range(NUM_UPDATES):
        rollout, observations, masks, outcomes = collect(envs, agent, observations, masks)
        with torch.no_grad():
            next_values = agent.critic(observations)[:, 0]
        update(agent, optimizer, rollout, next_values)
    rate = NUM_UPDATES * NUM_STEPS * NUM_ENVS / (time.perf_counter() - started)
    accuracy, tokens = np.mean(outcomes, axis=0)
    print(f"torch {torch.__version__}: {rate:,.0f} steps/s with updates")
    print(f"accuracy {accuracy:.2f}, {tokens:,.0f} tokens")
