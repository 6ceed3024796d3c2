"""stable-baselines3 on the compiled vector environment, and its algorithms as trainings.

stable-baselines3 has an interface of its own for many environments, and refuses Gymnasium's.
:class:`Sb3VecEnv` offers it over ``AutoTTSVectorEnv`` or ``MacroVectorEnv``, masks included,
for any of its algorithms and sb3-contrib's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from autotts_gym.controllers.policy_network import Policy, Shape, Trunk, save
from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv
from autotts_gym.learning.ppo import Config, Progress, facts_of
from autotts_gym.learning.validation import Validation
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.files import write_atomically

ALGORITHMS: Final[dict[str, type[BaseAlgorithm]]] = {
    "ppo": PPO,
    "maskable-ppo": MaskablePPO,
    "a2c": A2C,
    "dqn": DQN,
}
MODEL: Final = "checkpoint.zip"


class Sb3VecEnv(VecEnv):
    """A vector environment of this package as stable-baselines3 wants it.

    Args:
        envs: with ``autoreset_mode="SameStep"``, its default.
        per_right: divide rewards by β, so that a right answer is worth 1 at every β.

    Raises:
        ValueError: the environment restarts episodes in another way.
    """

    def __init__(self, envs: AutoTTSVectorEnv, *, per_right: bool = False) -> None:
        if envs.autoreset_mode is not AutoresetMode.SAME_STEP:
            raise ValueError("stable-baselines3 restarts episodes in the same step: use SameStep")
        self.envs = envs
        self._per_right = per_right
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
        # Without a seed, generators go on from where they are.
        seeds = None if self._seeds[0] is None else list(self._seeds)
        options = self._options[0] or None
        observation, _ = self.envs.reset(seed=seeds, options=options)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return observation

    def step_async(self, actions: NDArray[Any]) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        worth = self.envs.betas if self._per_right else 1.0
        found, rewards, terminated, truncated, info = self.envs.step(self._actions)
        rewards = rewards / worth
        self._returns += rewards
        self._lengths += 1
        dones = terminated | truncated
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if "final_info" in info:
            last = info["final_info"]
            for e in np.flatnonzero(dones).tolist():
                infos[e] = {
                    "terminal_observation": info["final_obs"][e],
                    "TimeLimit.truncated": bool(truncated[e]),
                    "episode": {"r": float(self._returns[e]), "l": int(self._lengths[e]), "t": 0.0},
                    "is_success": bool(last["correct"][e]),
                    "cost": -float(last["cost_reward"][e]),
                }
            self._returns[dones], self._lengths[dones] = 0, 0
        return found, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        self.envs.close()

    def has_attr(self, attr_name: str) -> bool:
        return hasattr(self.envs, attr_name)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self.envs, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise AttributeError(f"{attr_name} is the same for all: set it when they are made")

    def env_method(
        self, method_name: str, *method_args: Any, indices: Any = None, **method_kwargs: Any
    ) -> list[Any]:
        """``action_masks``; there are no single environments that would have others."""
        if method_name != "action_masks":
            raise AttributeError(f"environments that are compiled together have no {method_name!r}")
        masks = self.envs.action_masks()
        return [masks[e] for e in self._get_indices(indices)]

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


class Extractor(BaseFeaturesExtractor):
    """The trunk of a :class:`~autotts_gym.controllers.policy_network.Policy`, for decisions."""

    def __init__(self, observation_space: gym.Space[Any], shape: Shape) -> None:
        super().__init__(observation_space, shape.hidden)
        self.trunk = Trunk(shape)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        found: Tensor = self.trunk(observations["branches"], observations["globals"])
        return found


class Sb3Training:
    """A training by stable-baselines3, like :class:`autotts_gym.learning.ppo.Training`.

    Args: as there, and ``algorithm``, a key of ``ALGORITHMS``. Those that know no masks play what
    cannot be done, and are fined for it.
    """

    def __init__(
        self,
        algorithm: str,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        config: Config,
        folder: Path,
        trial: Validation | None = None,
    ) -> None:
        if config.shape.atomic and config.shape.network != "mlp":
            raise ValueError(
                "stable-baselines3's policies have no heads that point at branches: single actions "
                'need network="mlp" there, or cleanrl-ppo'
            )
        self.trial = trial
        self.algorithm, self.config, self.folder = algorithm, config, folder
        self._stores, self._questions = dict(stores), questions
        if algorithm == "dqn":  # learns from single decisions, which many episodes would only delay
            self.config = config = replace(config, num_envs=min(config.num_envs, 32))
        self._env = Sb3VecEnv(
            MacroVectorEnv(
                config.num_envs,
                list(stores.values()),
                beta=config.prices.draw,
                questions=questions,
                max_branches=config.shape.max_branches,
                atomic=config.shape.atomic,
                step_limit=None if algorithm == "maskable-ppo" else 4000,
            ),
            per_right=True,
        )
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []
        kind = ALGORITHMS[algorithm]
        if (folder / MODEL).exists():
            self.model = kind.load(folder / MODEL, env=self._env, device="cpu")
        else:
            self.model = kind(**self._arguments())
        self.done = self.model.num_timesteps > 0

    def _arguments(self) -> dict[str, Any]:
        c = self.config
        trunk = {"features_extractor_class": Extractor, "net_arch": []}
        trunk["features_extractor_kwargs"] = {"shape": c.shape}
        found: dict[str, Any] = {
            "policy": "MultiInputPolicy",
            "env": self._env,
            "learning_rate": c.learning_rate,
            "gamma": 1.0,
            "seed": c.seed,
            "device": "cpu",
            "policy_kwargs": trunk,
        }
        if self.algorithm == "dqn":
            return found | {
                "buffer_size": 50_000,
                "learning_starts": 5_000,
                "batch_size": 256,
                "train_freq": 4,
                "target_update_interval": 2_000,
                "exploration_fraction": 0.3,
                "exploration_final_eps": 0.03,
            }
        trunk["share_features_extractor"] = False
        found |= {"n_steps": c.horizon, "gae_lambda": c.gae, "ent_coef": c.entropy}
        found |= {"vf_coef": c.value, "max_grad_norm": c.gradient}
        if self.algorithm == "a2c":
            return found | {"n_steps": 8}
        return found | {
            "batch_size": c.batch // c.minibatches,
            "n_epochs": c.epochs,
            "clip_range": c.clip,
        }

    @property
    def decisions(self) -> int:
        """Decisions up to now."""
        return int(self.model.num_timesteps)

    @property
    def policy(self) -> Policy:
        """What was learned until now, as this package plays it."""
        policy = Policy(self.config.shape)
        state = policy.state_dict()
        learned = self.model.policy.state_dict()
        for key, value in learned.items():
            for theirs, ours in _NAMES:
                if key.startswith(theirs) and ours + key.removeprefix(theirs) in state:
                    state[ours + key.removeprefix(theirs)] = value
        policy.load_state_dict(state)
        return policy.eval()

    def run(self, report: Callable[[Progress], None] = lambda _: None) -> None:
        """Train to the end; ``report`` is called from time to time."""
        left = self.config.decisions - self.decisions
        if left > 0:
            started = time.perf_counter()
            callback = _Reports(self, report)
            self.model.learn(left, callback=callback, reset_num_timesteps=False)
            self.seconds += time.perf_counter() - started
            self.keep()

    def keep(self) -> None:
        """Write a checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / MODEL, self.model.save)

    def forget(self) -> None:
        """Remove the checkpoint: the training is over."""
        (self.folder / MODEL).unlink(missing_ok=True)

    def card(self) -> dict[str, Any]:
        """What there is to know about the training, as plain values."""
        found = facts_of(self.config, self._stores, self._questions, self.policy)
        versions = {name: metadata.version(name) for name in ("stable-baselines3", "sb3-contrib")}
        found["versions"] |= versions
        return found | {
            "algorithm": self.algorithm,
            "decisions": self.decisions,
            "wall_seconds": round(self.seconds, 1),
            "history": self.history,
        }

    def export(self, folder: Path, details: dict[str, Any] | None = None) -> None:
        """Write the policy as it is now, with its card."""
        save(self.policy, folder, {**(details or {}), **self.card()})


#: Where the parts of stable-baselines3's policies go in ours, which needs no values to play. DQN's
#: logits are the values of decisions.
_NAMES: Final = (
    ("pi_features_extractor.trunk.", "actor."),
    ("action_net.", "logits."),
    ("q_net.features_extractor.trunk.", "actor."),
    ("q_net.q_net.0.", "logits."),
)


class _Reports(BaseCallback):
    """Tells of the progress, and keeps a checkpoint now and then."""

    def __init__(self, training: Sb3Training, report: Callable[[Progress], None]) -> None:
        super().__init__()
        self._training, self._report = training, report
        self._ended: list[tuple[float, float, float, float]] = []
        self._told = self._kept = self._start = training.decisions
        self._since = time.perf_counter()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                episode = info["episode"]
                self._ended.append(
                    (episode["r"], info["is_success"], info["cost"], float(episode["l"]))
                )
        c = self._training.config
        if self.num_timesteps - self._told >= c.batch and self._ended:
            now = time.perf_counter()
            reward, accuracy, cost, length = np.mean(self._ended, axis=0).tolist()
            at = Progress(
                decisions=self.num_timesteps,
                share=min(1.0, self.num_timesteps / c.decisions),
                reward=reward,
                accuracy=accuracy,
                cost=cost,
                length=length,
                explained=float("nan"),
                entropy=float("nan"),
                rate=(self.num_timesteps - self._told) / (now - self._since),
            )
            keeps = self.num_timesteps - self._kept >= c.batch * c.stretch
            trial = self._training.trial
            if keeps and trial is not None:
                at = replace(at, standing=trial.play(self._training.policy, c.prices))
            self._report(at)
            if keeps:
                self._training.history.append(at.facts())
                self._training.keep()
                self._kept = self.num_timesteps
            self._ended.clear()
            self._told, self._since = self.num_timesteps, now
        return True
