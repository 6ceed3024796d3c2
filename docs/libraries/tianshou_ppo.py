"""Tianshou: PPO with masks on macro-actions; its masked policies take {"obs", "mask"}."""

import time

import gymnasium as gym
import numpy as np
import tianshou
import torch
from tianshou.algorithm import PPO
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, CollectStats, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteActor, DiscreteCritic
from tianshou.utils.torch_utils import policy_within_training_step

import autotts_gym  # noqa: F401 - registers the environments


class ObservationAndMask(gym.ObservationWrapper):
    """The observation {"obs": flat observation, "mask": bool}."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        mask = gym.spaces.MultiBinary(int(env.action_space.n))
        self.observation_space = gym.spaces.Dict({"obs": env.observation_space, "mask": mask})

    def observation(self, observation):
        return {"obs": observation, "mask": self.env.get_wrapper_attr("action_masks")()}


class MaskedActor(DiscreteActor):
    """Gives illegal actions the logit of the smallest number."""

    def forward(self, obs, state=None, info=None):
        logits, state = super().forward(obs["obs"], state)
        legal = torch.as_tensor(np.asarray(obs["mask"]), dtype=torch.bool)
        return logits.masked_fill(~legal, torch.finfo(logits.dtype).min), state


class Critic(DiscreteCritic):
    """Reads the observation without the mask."""

    def forward(self, obs, **kwargs):
        return super().forward(obs["obs"], **kwargs)


def make() -> gym.Env:
    env = gym.make("AutoTTS-Decisions-v0", env="tinylm/medium/chain", observation="flat")
    return ObservationAndMask(env)


if __name__ == "__main__":
    env, envs = make(), DummyVectorEnv([make for _ in range(8)])
    shape = env.observation_space["obs"].shape
    actor, critic = (
        kind(preprocess_net=Net(state_shape=shape, hidden_sizes=[64]), **more)
        for kind, more in (
            (MaskedActor, {"action_shape": env.action_space.n, "softmax_output": False}),
            (Critic, {}),
        )
    )
    policy = DiscreteActorPolicy(
        actor=actor,
        dist_fn=lambda logits: torch.distributions.Categorical(logits=logits),
        action_space=env.action_space,
    )
    algorithm = PPO(policy=policy, critic=critic, optim=AdamOptimizerFactory(lr=1e-3))
    buffer = VectorReplayBuffer(4096, len(envs))
    collector = Collector[CollectStats](algorithm, envs, buffer)
    collector.reset()
    started = time.perf_counter()
    for _ in range(2):
        buffer.reset()
        stats = collector.collect(n_step=1024)
        with policy_within_training_step(policy):
            algorithm.update(buffer=buffer, batch_size=256, repeat=2)
        assert not buffer.info["invalid_action"][: len(buffer)].any()
        assert np.isfinite(buffer.info["tokens"][: len(buffer)]).all()
    rate = 2048 / (time.perf_counter() - started)
    print(f"tianshou {tianshou.__version__}: {rate:,.0f} steps/s with updates")
    print(f"mean return {stats.returns_stat.mean:.2f}")
