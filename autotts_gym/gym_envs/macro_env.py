"""``AutoTTS-Decisions-v0``: ``AutoTTS-v0`` with macro-actions, tens of steps to an episode."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any, Final, Literal, SupportsIndex, Unpack

import gymnasium as gym
import numpy as np
from gymnasium import error, spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.env_config import EnvConfig, Environment, EnvOptions
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
from autotts_gym.mdp import actions, flat_observation, macro_actions, macro_features
from autotts_gym.mdp.fields import FLOAT_MAX
from autotts_gym.mdp.generation_confidence import UNKNOWN
from autotts_gym.mdp.macro_actions import NUM_MACRO_ACTIONS
from autotts_gym.mdp.macro_batch import MacroBatch, MacroTracker
from autotts_gym.mdp.macro_features import (
    NUM_ALL_GLOBAL_FEATURES,
    NUM_BRANCH_FEATURES,
    NUM_GLOBAL_FEATURES,
)
from autotts_gym.traces import registry

#: Bound of the features; Box bounds must be finite.
_FEATURE_MAX: Final = 100.0

_AUTO_PROBE_MESSAGE: Final = "macro-actions contain probes: use auto_probe=False"


def action_space(max_branches: int, *, atomic: bool) -> spaces.Discrete:
    """The macro-actions, or with ``atomic`` the actions of ``AutoTTS-v0``."""
    return spaces.Discrete(actions.count(max_branches) if atomic else NUM_MACRO_ACTIONS)


def _num_features(latency: bool) -> int:
    """Number of entries of ``globals``."""
    return NUM_ALL_GLOBAL_FEATURES if latency else NUM_GLOBAL_FEATURES


def observation_space(max_branches: int, *, atomic: bool, latency: bool = False) -> spaces.Dict:
    """The observation space; it is the same for every environment.

    Args:
        max_branches: N.
        atomic: play single actions.
        latency: whether ``globals`` has the entries about latency.
    """
    low, high = np.float32(-_FEATURE_MAX), np.float32(_FEATURE_MAX)
    num_actions = int(action_space(max_branches, atomic=atomic).n)
    return spaces.Dict(
        {
            "action_mask": spaces.Box(0, 1, (num_actions,), np.int8),
            "branches": spaces.Box(low, high, (max_branches, NUM_BRANCH_FEATURES), np.float32),
            "branch_generation_confidence": spaces.Box(
                np.float32(UNKNOWN), np.float32(FLOAT_MAX), (max_branches,), np.float32
            ),
            "globals": spaces.Box(low, high, (_num_features(latency),), np.float32),
        }
    )


class MacroEnvConfig(EnvConfig):
    """The validated options of ``AutoTTS-Decisions-v0``.

    Args:
        env: as for :class:`EnvConfig`.
        atomic: play single actions, see :class:`MacroEnv`.
        options: as for :class:`EnvConfig`.
    """

    def __init__(
        self,
        env: Environment | Iterable[Environment],
        *,
        atomic: bool = False,
        **options: Unpack[EnvOptions],
    ) -> None:
        self._atomic = atomic
        super().__init__(env, **options)

    def _arrays_space(self) -> spaces.Dict:
        return observation_space(
            self.config.max_branches, atomic=self._atomic, latency=self.observes_latency
        )

    def action_space(self) -> spaces.Discrete:
        return action_space(self.config.max_branches, atomic=self._atomic)

    def batch(self, num_envs: int, threads: int = 1) -> MacroBatch:
        if self.config.auto_probe and not self._atomic:
            raise ValueError(_AUTO_PROBE_MESSAGE)
        return MacroBatch(
            num_envs=num_envs, threads=threads, atomic=self._atomic, **self._batch_arguments()
        )

    def flat_slices(self) -> dict[str, slice]:
        n = self.config.max_branches
        return flat_observation.consecutive(
            {
                "globals": _num_features(self.observes_latency),
                "branches": n * NUM_BRANCH_FEATURES,
                "branch_generation_confidence": n,
                "action_mask": int(self.action_space().n),
            }
        )

    def describe(self, action: int) -> str:
        if self._atomic:
            return super().describe(action)
        if not 0 <= action < NUM_MACRO_ACTIONS:
            raise ValueError(f"macro-action {action} is outside 0..{NUM_MACRO_ACTIONS - 1}")
        return macro_actions.NAMES[action]


class MacroEnv(AutoTTSEnv):
    """Test-time scaling with macro-actions: an episode has tens of steps instead of hundreds.

    ## Description
    The process of :class:`autotts_gym.gym_envs.autotts_env.AutoTTSEnv`, played by macro-actions. A
    macro-action is a bundle of actions, and a step plays all of them: its reward and the costs in
    ``info`` are sums over the bundle.

    ## Action Space
    {macro_action_table}

    The *leading* answer is the leader of the weighted vote, and the plurality's until a branch has
    finished. The weight of a finished branch's vote is exp(−depth / (0.35 · mean length)); null
    answers do not vote. ``ANSWER_FINISHED`` and ``ANSWER_WEIGHTED`` equal ``ANSWER`` until a branch
    has finished. A bundle makes all its requests before its first probe, so that it takes
    the latency of its longest request. Under a token budget, actions of a bundle that have become
    illegal are skipped.

    An illegal macro-action has the penalty of an illegal action, and changes nothing.

    With ``atomic=True``, the actions are those of ``AutoTTS-v0``, one at a time, ``action_mask`` is
    int8[2 + 4N], and the rest of the observation is the same.

    ## Observation Space
    The observation is a dictionary; its shapes depend on N only:

    | key | array | content |
    | --- | --- | --- |
    | ``action_mask`` | int8[15] | legal macro-actions |
    | ``branches`` | float32[N, 14] | features of each branch; zeros if it is not open |
    | ``globals`` | float32[28] | features of the episode |
    | ``branch_generation_confidence`` | float32[N] | as in ``AutoTTS-v0`` |

    Columns of ``branches``:

    {branch_feature_table}

    Entries of ``globals``; a branch is *running* if it is active and its end was not revealed, and
    ln1p(x) is ln(1 + x):

    {global_feature_table}

    With ``latency_weight``, ``globals`` has two more entries, 28 and 29: w, the weight of
    sequential tokens in the cost, and the clock as a share of L, up to 2.

    ``observation="flat"`` gives one float32 array instead, which consists of ``globals``,
    ``branches`` (branch after branch), ``branch_generation_confidence`` over 20 (−1 stays −1) and
    ``action_mask``, clipped to ±2. ``env.unwrapped.flat_slices`` has the slices by name.

    ## Rewards, Starting State, Episode End
    As for ``AutoTTS-v0``. ``step_limit`` counts its actions, and ``max_episode_steps`` of
    ``gym.make`` and ``gym.make_vec`` macro-actions.

    ## Information
    As for ``AutoTTS-v0``; ``steps`` counts its actions. ``invalid_action`` says whether the
    macro-action was illegal.

    ## Arguments
    * ``env``, ``render_mode`` and options as for ``AutoTTS-v0``; ``auto_probe`` only with
      ``atomic``, since macro-actions contain probes.
    * ``atomic``: play single actions.
    * ``observation``: ``"flat"`` for one array; ``"compact"`` and ``"full"`` are the same here.

    ## Vectorized environment
    ``gym.make_vec("AutoTTS-Decisions-v0", num_envs=...)`` steps many episodes in one compiled call;
    see :class:`autotts_gym.gym_envs.macro_env.MacroVectorEnv`. The wrapper
    :class:`autotts_gym.gym_envs.macro_env.MacroActions` plays ``AutoTTS-Live-v0`` by macro-actions.

    ## Version History
    * v0: first version.
    """

    __doc__ = (
        (__doc__ or "")
        .replace("{macro_action_table}", macro_actions.table("    "))
        .replace(
            "{branch_feature_table}", macro_features.table(macro_features.BRANCH_FEATURES, "    ")
        )
        .replace(
            "{global_feature_table}", macro_features.table(macro_features.GLOBAL_FEATURES, "    ")
        )
    )

    def __init__(
        self,
        env: Environment | Iterable[Environment] = registry.DEFAULT,
        *,
        atomic: bool = False,
        render_mode: Literal["human", "rgb_array", "ansi"] | None = None,
        **options: Unpack[EnvOptions],
    ) -> None:
        options.setdefault("observation", "compact")
        self._set_up(MacroEnvConfig(env, atomic=atomic, **options), render_mode)


class MacroVectorEnv(AutoTTSVectorEnv):
    """Many episodes of ``AutoTTS-Decisions-v0``, stepped in one compiled call.

    Args:
        num_envs: number of episodes.
        env: what is played, see :class:`~autotts_gym.gym_envs.autotts_env.AutoTTSEnv`.
        atomic: play single actions, see :class:`MacroEnv`.
        autoreset_mode: as for :class:`~autotts_gym.gym_envs.vector_env.AutoTTSVectorEnv`.
        max_episode_steps: as for ``AutoTTSVectorEnv``.
        render_mode, threads: as for ``AutoTTSVectorEnv``.
        options: as for ``AutoTTSVectorEnv``; ``observation`` is ``"compact"`` by default.

    Raises:
        ValueError: an option is invalid, or ``auto_probe=True`` without ``atomic``.
    """

    def __init__(
        self,
        num_envs: int = 1,
        env: Environment | Iterable[Environment] = registry.DEFAULT,
        *,
        atomic: bool = False,
        autoreset_mode: AutoresetMode | str = AutoresetMode.SAME_STEP,
        max_episode_steps: int | None = None,
        render_mode: Literal["rgb_array", "ansi"] | None = None,
        threads: int = 1,
        **options: Unpack[EnvOptions],
    ) -> None:
        self._atomic = atomic
        options.setdefault("observation", "compact")
        super().__init__(
            num_envs,
            env,
            autoreset_mode=autoreset_mode,
            max_episode_steps=max_episode_steps,
            render_mode=render_mode,
            threads=threads,
            **options,
        )

    def _make_config(
        self, env: Environment | Iterable[Environment], options: EnvOptions
    ) -> EnvConfig:
        return MacroEnvConfig(env, atomic=self._atomic, **options)

    @property
    def batch(self) -> MacroBatch:
        """The batch of the episodes; ``autotts_gym.learning`` reads hidden state from it."""
        assert isinstance(self._batch, MacroBatch)
        return self._batch


class MacroActions(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Wraps ``AutoTTS-v0`` or ``AutoTTS-Live-v0`` with the macro-actions of :class:`MacroEnv`.

    The ``step`` of the wrapped environment plays each action of a bundle: rewards and costs are
    sums over the bundle, and the result is that of its last action. For recorded traces,
    ``AutoTTS-Decisions-v0`` does the same in one compiled call.

    Args:
        env: the environment; for macro-actions, with ``auto_probe=False``.
        atomic: play single actions.

    Raises:
        TypeError: the environment is of another type.
        ValueError: the environment has ``auto_probe=True``, and ``atomic`` is not set.
    """

    def __init__(self, env: gym.Env[Any, Any], *, atomic: bool = False) -> None:
        RecordConstructorArgs.__init__(self, atomic=atomic)
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, AutoTTSEnv) or isinstance(base, MacroEnv):
            raise TypeError(f"macro-actions need AutoTTS-v0 or AutoTTS-Live-v0, not {base}")
        if base.auto_probe and not atomic:
            raise ValueError(_AUTO_PROBE_MESSAGE)
        self._base = base
        self._tracker = MacroTracker(base.max_branches, atomic=atomic)
        self.action_space = action_space(base.max_branches, atomic=atomic)
        self.observation_space = observation_space(
            base.max_branches, atomic=atomic, latency=base.observes_latency
        )
        self._unknown = np.full(base.max_branches, UNKNOWN, np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode; arguments as for the wrapped environment."""
        _, info = self.env.reset(seed=seed, options=options)
        base = self._base
        self._tracker.begin(base.view, base.mean_length, base.depth_limit)
        observation = self._observation()
        return observation, info | {"action_mask": observation["action_mask"].copy()}

    def step(
        self, action: SupportsIndex
    ) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Play a macro-action.

        Returns:
            As of ``AutoTTS-v0``. The ``info`` is that of the last action, except ``cost``,
            ``token_cost`` and ``latency_cost`` (sums over the bundle), ``invalid_action`` (whether
            the macro-action was illegal) and ``action_mask``.

        Raises:
            gymnasium.error.InvalidAction: there is no such macro-action.
            TypeError: it is not an integer.
        """
        macro_action = operator.index(action)
        if not self.action_space.contains(macro_action):
            raise error.InvalidAction(f"action {macro_action} is outside {self.action_space}")
        total_reward, invalid = 0.0, np.int8(0)
        costs = dict.fromkeys(("cost", "token_cost", "latency_cost"), np.float64(0))
        terminated = truncated = False
        legal = bool(self._tracker.mask(self._base.view)[macro_action])
        for single_action in self._tracker.bundle(self._base.view, macro_action):
            if legal and not self._base.view.mask[0, single_action]:
                continue
            _, reward, terminated, truncated, info = self.env.step(single_action)
            total_reward += float(reward)
            for key in costs:
                costs[key] += info[key]
            invalid |= info["invalid_action"]
            if terminated or truncated:
                break
        self._tracker.follow(self._base.view)
        observation = self._observation()
        mask = observation["action_mask"].copy()
        info |= {**costs, "invalid_action": invalid, "action_mask": mask}
        return observation, total_reward, terminated, truncated, info

    def action_masks(self) -> NDArray[np.bool_]:
        """Legal macro-actions, bool[15], for sb3-contrib.

        Raises:
            gymnasium.error.ResetNeeded: there was no reset yet.
        """
        self._base.action_masks()  # raises the error
        return self._tracker.mask(self._base.view).astype(np.bool_)

    def _observation(self) -> dict[str, Any]:
        tracker, confidences = self._tracker, self._base.generation_view.confidences
        features = tracker.all_features if self._base.observes_latency else tracker.features
        return {
            "action_mask": tracker.mask(self._base.view).copy(),
            "branches": tracker.branch_features.copy(),
            "branch_generation_confidence": confidences[0].copy()
            if confidences.size
            else self._unknown.copy(),
            "globals": features.copy(),
        }
