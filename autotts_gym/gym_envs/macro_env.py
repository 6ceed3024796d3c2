"""``AutoTTS-Decisions-v0``: the process of ``AutoTTS-v0`` by decisions, tens to an episode."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, SupportsIndex

import gymnasium as gym
import numpy as np
from gymnasium import error, spaces
from gymnasium.utils import RecordConstructorArgs

from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.env_config import EnvConfig, Environment
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
from autotts_gym.mdp import actions
from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp.macro_batch import MacroBatch, MacroTracker
from autotts_gym.traces import registry

_HIGHEST: Final = 100.0  # no feature is larger; Box bounds must be finite


def action_space(max_branches: int, *, atomic: bool) -> spaces.Discrete:
    """Decisions, or the actions of ``AutoTTS-v0``."""
    return spaces.Discrete(actions.count(max_branches) if atomic else d.COUNT)


def observation_space(max_branches: int, *, atomic: bool) -> spaces.Dict:
    """What a decision is made from; the same for every environment."""
    low, high = np.float32(-_HIGHEST), np.float32(_HIGHEST)
    choices = int(action_space(max_branches, atomic=atomic).n)
    return spaces.Dict(
        {
            "action_mask": spaces.Box(0, 1, (choices,), np.int8),
            "branches": spaces.Box(low, high, (max_branches, d.BRANCH_SIZE), np.float32),
            "globals": spaces.Box(low, high, (d.SIZE,), np.float32),
        }
    )


class MacroActions(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Plays ``AutoTTS-v0``, or ``AutoTTS-Live-v0``, by decisions instead of single actions.

    A decision is a bundle of actions, each of which is played by the wrapped environment's
    ``step``: rewards and costs are the sums of theirs, and the result is that of the last one.

    | id | decision | bundle |
    | --- | --- | --- |
    | 0 | ``ANSWER`` | answer by the plurality of active branches |
    | 1 | ``ANSWER_FINISHED`` | answer by the plurality of finished ones |
    | 2 | ``ANSWER_WEIGHTED`` | answer by their weighted vote, from which null answers abstain |
    | 3 to 6 | ``WIDEN_1``, ``_2``, ``_4``, ``_8`` | open so many branches, and probe each |
    | 7, 8 | ``DEEPEN_1``, ``DEEPEN_4`` | continue all that run by so many intervals, probe each |
    | 9 | ``READ`` | the same up to a depth of 1.4 mean lengths |
    | 10 | ``DEEPEN_LEADERS_4`` | four intervals of those whose latest answer is the leading one |
    | 11 | ``DEEPEN_OLDEST_4`` | four intervals of the two deepest ones that run |
    | 12 | ``DEEPEN_YOUNGEST_4`` | four intervals of the shallowest one |
    | 13 | ``PRUNE_DISSENTERS`` | prune those that run and differed from the leader at three looks |
    | 14 | ``PRUNE_OLDEST`` | prune the deepest one that runs |

    The *leading* answer is that of the weighted vote, and the plurality until something has
    finished. A finished branch's vote weighs exp(−depth / (0.35 · mean length)). ``ANSWER_*`` fall
    back to ``ANSWER`` where nothing has finished. Looks come after all requests of a bundle, so
    that it takes the latency of its longest request. Under a token budget, what is no longer
    affordable within a bundle is left out.

    The observation is a dictionary, and its shapes depend on N alone:

    | key | | |
    | --- | --- | --- |
    | ``action_mask`` | int8[15] | which decisions can be made |
    | ``branches`` | float32[N, 14] | a row a branch, zeros for those that are not open; columns: \
:data:`autotts_gym.mdp.macro_actions.BRANCH_FEATURES` |
    | ``globals`` | float32[28] | :data:`autotts_gym.mdp.macro_actions.FEATURES` |

    A decision that cannot be made costs what an illegal action costs, and changes nothing.

    With ``atomic=True``, the actions are those of ``AutoTTS-v0``, one by one, and only what is seen
    is that of decisions; ``action_mask`` is then int8[2 + 4N].

    Args:
        env: the environment; where decisions are bundles, with ``auto_probe=False``.
        atomic: play single actions.

    Raises:
        ValueError: it probes by itself.
    """

    def __init__(self, env: gym.Env[Any, Any], *, atomic: bool = False) -> None:
        RecordConstructorArgs.__init__(self, atomic=atomic)
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, AutoTTSEnv):
            raise TypeError(f"decisions are for AutoTTS-v0 and AutoTTS-Live-v0, not {base}")
        if base.auto_probe and not atomic:
            raise ValueError("decisions probe for themselves: make it with auto_probe=False")
        self._base = base
        self._deliberation = MacroTracker(base.max_branches, atomic=atomic)
        self.action_space = action_space(base.max_branches, atomic=atomic)
        self.observation_space = observation_space(base.max_branches, atomic=atomic)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; options as for the wrapped environment."""
        self.env.reset(seed=seed, options=options)
        base = self._base
        self._deliberation.begin(base.view, base.mean_length, base.depth_limit)
        found = self._observe()
        return found, {"action_mask": found["action_mask"]}

    def step(
        self, action: SupportsIndex
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Make a decision.

        The ``info`` is that of the last action, but for ``cost``, the sum of all,
        ``invalid_action``, whether the decision could not be made, and ``action_mask``.
        """
        number = int(action)
        if not self.action_space.contains(number):
            raise error.InvalidAction(f"decision {number} is outside {self.action_space}")
        reward, cost, invalid = 0.0, 0.0, False
        terminated = truncated = False
        possible = bool(self._deliberation.mask(self._base.view)[number])
        for atomic in self._deliberation.bundle(self._base.view, number):
            if possible and not self._base.view.mask[0, atomic]:
                continue
            _, gain, terminated, truncated, info = self.env.step(atomic)
            reward += float(gain)
            cost += info["cost"]
            invalid = invalid or info["invalid_action"]
            if terminated or truncated:
                break
        self._deliberation.follow(self._base.view)
        found = self._observe()
        info |= {"cost": cost, "invalid_action": invalid, "action_mask": found["action_mask"]}
        return found, reward, terminated, truncated, info

    def action_masks(self) -> Any:
        """Which decisions can be made, bool[15], as sb3-contrib asks for it."""
        return self._deliberation.mask(self._base.view).astype(np.bool_)

    def _observe(self) -> dict[str, Any]:
        made = self._deliberation
        return {
            "action_mask": made.mask(self._base.view).copy(),
            "branches": made.branch_features.copy(),
            "globals": made.features.copy(),
        }


def make(*, atomic: bool = False, **arguments: Any) -> gym.Env[Any, Any]:
    """``AutoTTS-Decisions-v0``: arguments as for ``AutoTTS-v0``, and ``atomic``."""
    return MacroActions(AutoTTSEnv(**{"observation": "compact", **arguments}), atomic=atomic)


class MacroEnvConfig(EnvConfig):
    """The arguments of ``AutoTTS-v0``, for episodes that are played by decisions."""

    def __init__(
        self, env: Environment | Iterable[Environment], *, atomic: bool = False, **arguments: Any
    ) -> None:
        self._atomic = atomic
        super().__init__(env, **arguments)

    def observation_space(self) -> spaces.Dict:
        return observation_space(self.config.max_branches, atomic=self._atomic)

    def action_space(self) -> spaces.Discrete:
        return action_space(self.config.max_branches, atomic=self._atomic)

    def batch(self, num_envs: int) -> MacroBatch:
        if self.config.auto_probe and not self._atomic:
            raise ValueError("decisions probe for themselves: make it with auto_probe=False")
        return MacroBatch(num_envs=num_envs, atomic=self._atomic, **self._batch_arguments())


class MacroVectorEnv(AutoTTSVectorEnv):
    """Many episodes of ``AutoTTS-Decisions-v0`` at once, each step one compiled call.

    Args: as for :class:`autotts_gym.gym_envs.vector_env.AutoTTSVectorEnv`, and ``atomic``, as for
    :class:`MacroActions`.
    """

    def __init__(
        self,
        num_envs: int = 1,
        env: Environment | Iterable[Environment] = registry.DEFAULT,
        **arguments: Any,
    ) -> None:
        super().__init__(num_envs, env, **{"observation": "compact", **arguments})

    def _make_config(self, env: Environment | Iterable[Environment], options: Any) -> EnvConfig:
        return MacroEnvConfig(env, **options)

    @property
    def batch(self) -> MacroBatch:
        assert isinstance(self._batch, MacroBatch)
        return self._batch
