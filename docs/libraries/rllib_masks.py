"""RLlib (pip install 'ray[rllib]'): PPO with masks on macro-actions, with its new API stack."""

import time

import gymnasium as gym
import numpy as np
import ray
from ray.rllib.algorithms.ppo import PPOConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.examples.rl_modules.classes.action_masking_rlm import ActionMaskingTorchRLModule
from ray.tune.registry import register_env

import autotts_gym  # noqa: F401 - registers the environments


class ObservationsAndMask(gym.ObservationWrapper):
    """The observation that RLlib's masking module takes; the mask is float32."""

    def __init__(self, env: gym.Env) -> None:
        super().__init__(env)
        mask = gym.spaces.Box(0.0, 1.0, (int(env.action_space.n),), np.float32)
        self.observation_space = gym.spaces.Dict(
            {"action_mask": mask, "observations": env.observation_space}
        )

    def observation(self, observation):
        mask = self.env.get_wrapper_attr("action_masks")().astype(np.float32)
        return {"action_mask": mask, "observations": observation}


def make(config):

    return ObservationsAndMask(
        gym.make("AutoTTS-Decisions-v0", env="tinylm/medium/chain", observation="flat", **config)
    )


if __name__ == "__main__":
    register_env("autotts", make)
    config = (
        PPOConfig()
        .environment("autotts", env_config={"invalid_action": "raise"})
        .env_runners(num_env_runners=0)
        .training(train_batch_size_per_learner=1000, minibatch_size=250, num_epochs=2)
        .rl_module(rl_module_spec=RLModuleSpec(module_class=ActionMaskingTorchRLModule))
    )
    algorithm = config.build_algo()
    started = time.perf_counter()
    for _ in range(2):
        result = algorithm.train()["env_runners"]
    rate = result["num_env_steps_sampled_lifetime"] / (time.perf_counter() - started)
    print(f"ray {ray.__version__}, gymnasium {gym.__version__}: {rate:,.0f} steps/s with updates")
    print(f"mean return {result['episode_return_mean']:.2f}")
    algorithm.stop()
