"""Training by the algorithms of stable-baselines3 and sb3-contrib."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Final

import gymnasium as gym
import numpy as np
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from autotts_gym.controllers.policy_network import Policy, Shape, Trunk
from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.learning.algorithms import Algorithm, find_algorithm
from autotts_gym.learning.base_trainer import OnProgress, Trainer, ignore_progress
from autotts_gym.learning.progress import Progress
from autotts_gym.learning.sb3 import Sb3VecEnv
from autotts_gym.learning.training_config import TrainingConfig
from autotts_gym.learning.validation import Validation
from autotts_gym.traces.store import TraceStore
from autotts_gym.utils.files import write_atomically

CHECKPOINT: Final = "checkpoint.zip"

#: Step limit of episodes for algorithms without masks, which may repeat an illegal action forever.
_UNMASKED_STEP_LIMIT: Final = 4000
#: DQN updates every few steps, which many environments side by side would delay.
_DQN_ENVS: Final = 32

#: Classes of the algorithms by name.
MODEL_CLASSES: Final[dict[str, type[BaseAlgorithm]]] = {
    Algorithm.sb3_ppo: PPO,
    Algorithm.sb3_maskable_ppo: MaskablePPO,
    Algorithm.sb3_a2c: A2C,
    Algorithm.sb3_dqn: DQN,
}

#: Prefixes of parameters in stable-baselines3's policies, and in ours. The logits of DQN are its
#: action values.
_PARAMETER_PREFIXES: Final = (
    ("pi_features_extractor.trunk.", "actor."),
    ("action_net.", "logits."),
    ("q_net.features_extractor.trunk.", "actor."),
    ("q_net.q_net.0.", "logits."),
)


class Extractor(BaseFeaturesExtractor):
    """Feature extractor: the trunk of a policy network of this package."""

    def __init__(self, observation_space: gym.Space[Any], shape: Shape) -> None:
        super().__init__(observation_space, shape.hidden)
        self.trunk = Trunk(shape)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        features: Tensor = self.trunk(observations["branches"], observations["globals"])
        return features


class Sb3Trainer(Trainer):
    """An algorithm of stable-baselines3 or sb3-contrib.

    ``sb3-maskable-ppo`` samples legal actions only. The others also play illegal ones, which cost
    the penalty of the environment.

    Args:
        algorithm: name of an algorithm of ``MODEL_CLASSES``; deprecated names raise a warning.
        stores: environments that episodes draw from, by name.
        questions: rows of the training questions; all by default.
        config: hyperparameters.
        folder: folder of the checkpoint; a training whose checkpoint is there resumes.
        validation: episodes to validate the policy on at each checkpoint.

    Attributes:
        model: stable-baselines3's model.

    Raises:
        ValueError: single actions with an equivariant network, or an unknown algorithm.
    """

    packages: ClassVar[tuple[str, ...]] = (
        *Trainer.packages,
        "stable-baselines3",
        "sb3-contrib",
    )

    def __init__(
        self,
        algorithm: str,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        config: TrainingConfig,
        folder: str | os.PathLike[str],
        validation: Validation | None = None,
    ) -> None:
        name = find_algorithm(algorithm)
        if config.shape.atomic and config.shape.network != "mlp":
            raise ValueError(
                "policies of stable-baselines3 cannot point at branches: train single actions with "
                'network="mlp", or with autotts-ppo'
            )
        if name is Algorithm.sb3_dqn:
            config = replace(config, num_envs=min(config.num_envs, _DQN_ENVS))
        super().__init__(name, stores, questions, config, folder, validation)
        masked = name is Algorithm.sb3_maskable_ppo
        self._env = Sb3VecEnv(
            MacroVectorEnv(
                config.num_envs,
                list(self.stores.values()),
                beta=config.prices.draw,
                latency_weight=config.latency_weight if config.shape.latency else 0.0,
                questions=self.questions,
                max_branches=config.shape.max_branches,
                atomic=config.shape.atomic,
                step_limit=None if masked else _UNMASKED_STEP_LIMIT,
            ),
            divide_by_beta=True,
        )
        model_class = MODEL_CLASSES[name]
        self.model = model_class(**self._model_arguments())
        checkpoint = self.folder / CHECKPOINT
        if checkpoint.exists():
            # The keyword arguments of the policy are not unpickled: in version 0.1, the class of
            # the feature extractor was in another module, and observations had fewer keys.
            self.model = model_class.load(
                checkpoint,
                env=self._env,
                device="cpu",
                custom_objects={
                    "policy_kwargs": self.model.policy_kwargs,
                    "observation_space": self.model.observation_space,
                },
            )

    def _policy_arguments(self) -> dict[str, Any]:
        """Keyword arguments of stable-baselines3's policy."""
        arguments: dict[str, Any] = {
            "features_extractor_class": Extractor,
            "net_arch": [],
            "features_extractor_kwargs": {"shape": self.config.shape},
        }
        if self.algorithm is not Algorithm.sb3_dqn:
            arguments["share_features_extractor"] = False
        return arguments

    def _model_arguments(self) -> dict[str, Any]:
        """Keyword arguments of the algorithm's class."""
        config = self.config
        arguments: dict[str, Any] = {
            "policy": "MultiInputPolicy",
            "env": self._env,
            "learning_rate": config.learning_rate,
            "gamma": 1.0,
            "seed": config.seed,
            "device": "cpu",
            "policy_kwargs": self._policy_arguments(),
        }
        if self.algorithm is Algorithm.sb3_dqn:
            return arguments | {
                "buffer_size": 50_000,
                "learning_starts": 5_000,
                "batch_size": 256,
                "train_freq": 4,
                "target_update_interval": 2_000,
                "exploration_fraction": 0.3,
                "exploration_final_eps": 0.03,
            }
        arguments |= {
            "n_steps": config.num_steps,
            "gae_lambda": config.gae_lambda,
            "ent_coef": config.ent_coef,
            "vf_coef": config.vf_coef,
            "max_grad_norm": config.max_grad_norm,
        }
        if self.algorithm is Algorithm.sb3_a2c:
            return arguments | {"n_steps": 8}
        return arguments | {
            "batch_size": config.batch_size // config.num_minibatches,
            "n_epochs": config.update_epochs,
            "clip_range": config.clip_coef,
        }

    @property
    def num_timesteps(self) -> int:
        """Timesteps trained so far."""
        return int(self.model.num_timesteps)

    @property
    def planned_timesteps(self) -> int:
        # DQN collects a few steps at a time.
        steps: int | None = getattr(self.model, "n_steps", None)
        if steps is None:
            return self.config.total_timesteps
        update = steps * self.config.num_envs
        return math.ceil(self.config.total_timesteps / update) * update

    def trained_policy(self) -> Policy:
        """The current policy as a network of this package, which has no value function."""
        policy = Policy(self.config.shape)
        state = policy.state_dict()
        for name, value in self.model.policy.state_dict().items():
            for prefix, our_prefix in _PARAMETER_PREFIXES:
                our_name = our_prefix + name.removeprefix(prefix)
                if name.startswith(prefix) and our_name in state:
                    state[our_name] = value
        policy.load_state_dict(state)
        return policy.eval()

    def run(self, on_progress: OnProgress = ignore_progress) -> None:
        """Train to the end; ``on_progress`` is called every ``config.batch_size`` timesteps."""
        remaining = self.config.total_timesteps - self.num_timesteps
        if remaining > 0:
            started = time.perf_counter()
            callback = _ProgressCallback(self, on_progress)
            self.model.learn(remaining, callback=callback, reset_num_timesteps=False)
            self.seconds += time.perf_counter() - started
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write the checkpoint."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / CHECKPOINT, self.model.save)

    def delete_checkpoint(self) -> None:
        """Delete the checkpoint, after the export."""
        (self.folder / CHECKPOINT).unlink(missing_ok=True)


class _ProgressCallback(BaseCallback):
    """Reports metrics after every ``batch_size`` timesteps, and writes checkpoints."""

    def __init__(self, trainer: Sb3Trainer, on_progress: OnProgress) -> None:
        super().__init__()
        self._trainer, self._on_progress = trainer, on_progress
        self._episodes: list[tuple[float, float, float, float]] = []
        self._reported = self._saved = trainer.num_timesteps
        self._reported_at = time.perf_counter()

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                episode = info["episode"]
                self._episodes.append(
                    (episode["r"], info["is_success"], info["cost"], float(episode["l"]))
                )
        due = self.num_timesteps - self._reported >= self._trainer.config.batch_size
        if due and self._episodes:
            self._report()
        return True

    def _report(self) -> None:
        trainer = self._trainer
        config = trainer.config
        now = time.perf_counter()
        mean_return, accuracy, cost, length = np.mean(self._episodes, axis=0).tolist()
        progress = Progress(
            timesteps=self.num_timesteps,
            fraction=min(1.0, self.num_timesteps / config.total_timesteps),
            mean_return=mean_return,
            accuracy=accuracy,
            cost=cost,
            episode_length=length,
            explained_variance=float("nan"),
            entropy=float("nan"),
            timesteps_per_second=(self.num_timesteps - self._reported) / (now - self._reported_at),
        )
        interval = config.batch_size * config.checkpoint_interval
        checkpoint_due = self.num_timesteps - self._saved >= interval
        if checkpoint_due and trainer.validation is not None:
            score = trainer.validation.evaluate(trainer.trained_policy(), config.prices)
            progress = replace(progress, validation=score)
        self._on_progress(progress)
        if checkpoint_due:
            trainer.history.append(progress.card_entry())
            trainer.save_checkpoint()
            self._saved = self.num_timesteps
        self._episodes.clear()
        self._reported, self._reported_at = self.num_timesteps, now
