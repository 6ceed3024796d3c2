"""TorchRL: random legal macro-actions, single and vector, with `info` in the tensordict."""

import time

import gymnasium as gym
import torch
import torchrl
from torchrl.envs import ActionMask, Compose, DTypeCastTransform, GymWrapper, TransformedEnv
from torchrl.envs.utils import check_env_specs

import autotts_gym  # noqa: F401 - registers the environments


def with_boolean_mask(env: GymWrapper) -> TransformedEnv:
    """TorchRL's masks are booleans; the environment's are int8, as Gymnasium's `sample` wants."""
    cast = DTypeCastTransform(torch.int8, torch.bool, in_keys=["action_mask"])
    return TransformedEnv(env, Compose(cast, ActionMask()))


def play(env: TransformedEnv, steps: int) -> float:
    """Timesteps per second; fails on an illegal action."""
    env.rollout(10, break_when_any_done=False)  # compiles
    started = time.perf_counter()
    played = env.rollout(steps, break_when_any_done=False)
    seconds = time.perf_counter() - started
    illegal = played.get(("next", "invalid_action"), None)
    assert illegal is None or not illegal.any()
    return played.numel() / seconds


if __name__ == "__main__":
    options = {"env": "tinylm/medium/chain"}
    single = GymWrapper(
        gym.make("AutoTTS-Decisions-v0", **options), categorical_action_encoding=True
    ).auto_register_info_dict()
    check_env_specs(single)
    print(f"torchrl {torchrl.__version__}: {play(with_boolean_mask(single), 1000):,.0f} steps/s")
    # TorchRL supports Disabled and SameStep, and prefers Disabled.
    envs = gym.make_vec("AutoTTS-Decisions-v0", 16, autoreset_mode="Disabled", **options)
    vector = GymWrapper(envs, categorical_action_encoding=True)
    print(f"16 environments: {play(with_boolean_mask(vector), 100):,.0f} steps/s")
