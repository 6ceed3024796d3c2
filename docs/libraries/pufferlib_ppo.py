"""PufferLib: its PPO with masks on macro-actions; the vector environment is a native one there."""

import tempfile
import time

import gymnasium as gym
import numpy as np
import pufferlib
import pufferlib.models
import pufferlib.vector
import torch
from pufferlib import pufferl

import autotts_gym  # noqa: F401 - registers the environments

ENVIRONMENTS, HORIZON, UPDATES = 64, 64, 4


class PufferDecisions(pufferlib.PufferEnv):
    """The compiled vector environment with flat observations; their last numbers are the mask."""

    def __init__(self, count: int = ENVIRONMENTS, buf=None, seed: int = 0) -> None:
        self.envs = gym.make_vec(
            "AutoTTS-Decisions-v0", num_envs=count, env="tinylm/medium/chain", observation="flat"
        )
        self.num_agents = count
        self.single_observation_space = self.envs.single_observation_space
        self.single_action_space = self.envs.single_action_space
        super().__init__(buf)

    def reset(self, seed=None):
        self.observations[:], _ = self.envs.reset(seed=seed)
        return self.observations, []

    def step(self, actions):
        observations, rewards, terminated, truncated, info = self.envs.step(actions)
        self.observations[:], self.rewards[:] = observations, rewards
        self.terminals[:], self.truncations[:] = terminated, truncated
        ended = info.get("_final_info", np.zeros(self.num_agents, bool))
        infos = [{"tokens": info["final_info"]["tokens"][ended].mean()}] if ended.any() else []
        return self.observations, self.rewards, self.terminals, self.truncations, infos

    def close(self):
        self.envs.close()


class MaskedPolicy(pufferlib.models.Default):
    """Gives illegal actions the logit of the smallest number."""

    def forward_eval(self, observations, state=None):
        logits, values = super().forward_eval(observations, state)
        legal = observations[:, -logits.shape[1] :] > 0
        return logits.masked_fill(~legal, torch.finfo(logits.dtype).min), values

    forward = forward_eval


if __name__ == "__main__":
    envs = pufferlib.vector.make(PufferDecisions, backend=pufferlib.PufferEnv)
    policy = MaskedPolicy(envs.driver_env, hidden_size=64)
    steps = ENVIRONMENTS * HORIZON
    config = pufferl.load_config("default")["train"] | {
        "env": "autotts",
        "device": "cpu",
        "optimizer": "adam",
        "learning_rate": 1e-3,
        "bptt_horizon": HORIZON,
        "batch_size": steps,
        "minibatch_size": 1024,
        "total_timesteps": UPDATES * steps,
        "use_rnn": False,
        "data_dir": tempfile.mkdtemp(),
    }
    learner = pufferl.PuffeRL(config, envs, policy)
    started = time.perf_counter()
    for _ in range(UPDATES):
        stats = learner.evaluate()
        learner.train()
    rate = learner.global_step / (time.perf_counter() - started)
    assert learner.global_step == UPDATES * steps
    assert np.isfinite(stats["tokens"]).all(), stats
    learner.utilization.stop()
    print(f"pufferlib {pufferlib.__version__}: {rate:,.0f} steps/s with updates")
