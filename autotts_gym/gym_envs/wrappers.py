"""Wrappers: vector rewards for multi-objective RL, and recorded frames."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray


class MultiObjective(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Accuracy and cost as a vector reward, in MO-Gymnasium's convention.

    ``step`` returns a reward of float64[2]: 1 at the end of an episode that is answered correctly
    (else 0), and minus the change of cost in units of C. Weighted with ``(β, 1 − β)``, it is the
    environment's own reward without penalties for illegal actions. ``reward_space`` has its bounds;
    it is also set on the innermost environment, where MO-Gymnasium's wrappers read it.

    Args:
        env: ``AutoTTS-v0``, wrapped or not.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        low, high = np.array([0.0, -np.inf]), np.array([1.0, np.inf])
        self.reward_space = spaces.Box(low, high, dtype=np.float64)
        self.reward_dim = 2
        env.unwrapped.set_wrapper_attr("reward_space", self.reward_space)
        env.unwrapped.set_wrapper_attr("reward_dim", self.reward_dim)

    def step(self, action: Any) -> tuple[Any, NDArray[np.float64], bool, bool, dict[str, Any]]:
        """Play one action; the reward is ``[accuracy, −cost]``."""
        observation, _, terminated, truncated, info = self.env.step(action)
        reward = np.array([info.get("accuracy_reward", 0.0), 0.0 - info["cost"]])  # no -0.0
        return observation, reward, terminated, truncated, info


class FrameRecorder(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Keep the rendered frame of every ``every``-th step; episodes are long and frames are large.

    Args:
        env: an environment with a render mode.
        every: number of steps between frames; 0 keeps none.

    Attributes:
        frames: return values of ``render`` since the last reset.
    """

    def __init__(self, env: gym.Env[Any, Any], every: int = 1) -> None:
        RecordConstructorArgs.__init__(self, every=every)
        super().__init__(env)
        self._every = every
        self._steps = 0
        self.frames: list[Any] = []

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode, and discard the frames of the previous one."""
        self.frames = []
        self._steps = 0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Play one action."""
        result = self.env.step(action)
        self._steps += 1
        if self._every and self._steps % self._every == 0:
            self.frames.append(self.env.render())
        return result
