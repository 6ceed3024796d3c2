"""Wrappers: vector rewards for multi-objective RL, and a recorder of rendered frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from numpy.typing import NDArray

if TYPE_CHECKING:
    _VectorWrapper: TypeAlias = gym.vector.VectorWrapper[Any, Any, Any]
else:
    _VectorWrapper = gym.vector.VectorWrapper  # takes no parameters before Gymnasium 1.4


class MultiObjective(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Accuracy and cost as a vector reward, in MO-Gymnasium's convention.

    ``step`` returns ``[accuracy, −cost]``, float64[2]. The accuracy is 1 in the step that ends the
    episode with the correct answer, otherwise 0. The cost is that of the environment's reward: the
    increase of total tokens in this step, divided by C, or with ``latency_weight`` its mixture with
    the increase of sequential tokens. Weighted with ``(β, 1 − β)``, their sum is the reward of the
    environment without penalties for illegal actions.

    With ``latency=True``, ``step`` returns ``[accuracy, −tokens, −latency]``, float64[3]: the
    increase of total tokens, divided by C, and the increase of sequential tokens, divided by L. The
    weights are then ``(β, (1 − β) · (1 − w), (1 − β) · w)``.

    ``reward_space`` has the bounds; it is also set on ``env.unwrapped``, where MO-Gymnasium's
    wrappers read it.

    Args:
        env: ``AutoTTS-v0``, wrapped or not.
        latency: return total and sequential tokens as two costs.
    """

    def __init__(self, env: gym.Env[Any, Any], *, latency: bool = False) -> None:
        RecordConstructorArgs.__init__(self, latency=latency)
        super().__init__(env)
        self._costs = ("token_cost", "latency_cost") if latency else ("cost",)
        self.reward_dim = 1 + len(self._costs)
        self.reward_space = _reward_space(len(self._costs))
        env.unwrapped.set_wrapper_attr("reward_space", self.reward_space)
        env.unwrapped.set_wrapper_attr("reward_dim", self.reward_dim)

    def step(self, action: Any) -> tuple[Any, NDArray[np.float64], bool, bool, dict[str, Any]]:
        """Play one action; the reward is ``[accuracy, −cost]``, or has two costs."""
        observation, _, terminated, truncated, info = self.env.step(action)
        # Not -info["cost"], which is -0.0 if the cost is 0.
        costs = (0.0 - info[key] for key in self._costs)
        reward = np.array([info["accuracy_reward"], *costs])
        return observation, reward, terminated, truncated, info


class MultiObjectiveVector(_VectorWrapper):
    """:class:`MultiObjective` of a vector environment: rewards are float64[E, 2] or float64[E, 3].

    Args:
        envs: the vector environment of ``AutoTTS-v0`` or ``AutoTTS-Decisions-v0``.
        latency: return total and sequential tokens as two costs.
    """

    def __init__(self, envs: gym.vector.VectorEnv[Any, Any, Any], *, latency: bool = False) -> None:
        super().__init__(envs)
        self._costs = ("token_cost", "latency_cost") if latency else ("cost",)
        self.reward_space = _reward_space(len(self._costs))
        self.reward_dim = 1 + len(self._costs)
        # MO-Gymnasium's wrappers read them there.
        base: Any = envs.unwrapped
        base.reward_space, base.reward_dim = self.reward_space, self.reward_dim

    def step(self, actions: Any) -> tuple[Any, NDArray[np.float64], Any, Any, dict[str, Any]]:
        """Play one action in every sub-environment; see :class:`MultiObjective`."""
        observations, _, terminated, truncated, infos = self.env.step(actions)
        keys = ("accuracy_reward", *self._costs)
        rewards = np.stack([infos[key] for key in keys], axis=-1)
        if "final_info" in infos:  # the infos of episodes that ended are those of the next ones
            ended = infos["_final_info"]
            final = np.stack([infos["final_info"][key] for key in keys], axis=-1)
            rewards[ended] = final[ended]
        rewards[:, 1:] = 0.0 - rewards[:, 1:]
        return observations, rewards, terminated, truncated, infos


def _reward_space(costs: int) -> spaces.Box:
    """The space of a reward of the accuracy and so many costs."""
    low, high = np.array([0.0] + [-np.inf] * costs), np.array([1.0] + [np.inf] * costs)
    return spaces.Box(low, high, dtype=np.float64)


class FrameRecorder(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Render every n-th step and keep the frames of the current episode in memory.

    Args:
        env: an environment with a render mode.
        every: n, number of steps between two frames; 0 records no frames.

    Attributes:
        frames: return values of ``render`` since the latest reset.
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
