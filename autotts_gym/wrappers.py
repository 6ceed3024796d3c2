"""Wrappers for users with needs of their own."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray


class MultiObjective(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Accuracy and cost as two rewards, in MO-Gymnasium's convention.

    ``step`` returns a vector reward, float64[2]: 1 at the end of an episode that is answered
    rightly (else 0), and minus the change of cost in units of C. Weighted with ``(β, 1 − β)`` it
    is the environment's own reward, penalties for illegal actions apart. ``reward_space`` has its
    bounds.

    Args:
        env: ``AutoTTS-v0``, wrapped or not.
    """

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        low, high = np.array([0.0, -np.inf]), np.array([1.0, np.inf])
        self.reward_space = spaces.Box(low, high, dtype=np.float64)
        self.reward_dim = 2

    def step(self, action: Any) -> tuple[Any, NDArray[np.float64], bool, bool, dict[str, Any]]:
        """Play one action; the reward is ``[accuracy, −cost]``."""
        observation, _, terminated, truncated, info = self.env.step(action)
        reward = np.array([info.get("accuracy_reward", 0.0), -info["cost"]])
        return observation, reward, terminated, truncated, info
