"""Adapter of the compiled vector environments to stable-baselines3's ``VecEnv`` interface."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv

from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv


class Sb3VecEnv(VecEnv):
    """A vector environment of this package for stable-baselines3 and sb3-contrib.

    stable-baselines3 does not accept Gymnasium's vector environments. This class wraps
    ``AutoTTSVectorEnv`` or ``MacroVectorEnv``, action masks included.

    Args:
        envs: vector environment with ``autoreset_mode="SameStep"``, its default.
        divide_by_beta: divide rewards by β, so that a correct answer is worth 1 at every β.

    Raises:
        ValueError: the environment has another autoreset mode.
    """

    def __init__(self, envs: AutoTTSVectorEnv, *, divide_by_beta: bool = False) -> None:
        if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError(
                "stable-baselines3 resets in the step that ends an episode: use SameStep, not "
                f"{envs.autoreset_mode.value}"
            )
        self.envs = envs
        self._divide_by_beta = divide_by_beta
        self._actions = np.zeros(envs.num_envs, np.int64)
        self._returns = np.zeros(envs.num_envs)
        self._lengths = np.zeros(envs.num_envs, np.int64)
        self.render_mode = None
        super().__init__(
            envs.num_envs,
            envs.single_observation_space,
            envs.single_action_space,
        )

    def reset(self) -> Any:
        # Without a seed, the random generators continue.
        seeds = None if self._seeds[0] is None else list(self._seeds)
        options = self._options[0] or None
        observation, _ = self.envs.reset(seed=seeds, options=options)
        _own_all(observation)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        # β of the next episode replaces that of an episode that ends with the step.
        scale = self.envs.betas if self._divide_by_beta else 1.0
        observation, rewards, terminated, truncated, info = self.envs.step(self._actions)
        _own_all(observation)
        rewards = rewards / scale
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if "final_info" in info:
            final = info["final_info"]
            for e in np.flatnonzero(dones).tolist():
                infos[e] = {
                    "terminal_observation": info["final_obs"][e],
                    "TimeLimit.truncated": bool(truncated[e]),
                    "episode": {"r": float(self._returns[e]), "l": int(self._lengths[e]), "t": 0.0},
                    "is_success": bool(final["correct"][e]),
                    "cost": -float(final["cost_reward"][e]),
                }
            self._returns[dones], self._lengths[dones] = 0, 0
        return observation, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        self.envs.close()

    def has_attr(self, attr_name: str) -> bool:
        return hasattr(self.envs, attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(
            f"{attr_name} is shared by all environments: set it when the vector environment is "
            "constructed"
        )

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """``action_masks``, for algorithms with masks; no other method is available."""
        if method_name != "action_masks":
            raise AttributeError(
                f"compiled environments have no method {method_name!r}; only 'action_masks'"
            )
        masks = self.envs.action_masks()
        return [masks[e] for e in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


def _own_all(observation: Any) -> None:
    """Copy the arrays that observations share: PyTorch warns of arrays that are read-only."""
    if not isinstance(observation, dict):
        return  # a flat observation is a copy
    for key, array in observation.items():
        if not array.flags.writeable:
            observation[key] = array.copy()
