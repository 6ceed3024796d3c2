"""Hyperparameters of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from autotts_gym.controllers.policy_network import Shape
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig

#: Field names in checkpoints and cards of version 0.1, with the current ones.
FORMER_FIELDS: Final = {
    "decisions": "total_timesteps",
    "horizon": "num_steps",
    "stretch": "checkpoint_interval",
    "entropy": "ent_coef",
    "gae": "gae_lambda",
    "clip": "clip_coef",
    "epochs": "update_epochs",
    "minibatches": "num_minibatches",
    "value": "vf_coef",
    "gradient": "max_grad_norm",
    "early": "keep_best",
}

#: Step limit of episodes of single actions during training, for each of their branches.
_STEPS_PER_BRANCH: Final = 12


@dataclass(frozen=True)
class TrainingConfig:
    """Hyperparameters, named as in CleanRL and stable-baselines3.

    A timestep is one step of one environment: a macro-action, or a single action where
    ``shape.atomic`` is set.

    Attributes:
        total_timesteps: timesteps of all environments together, rounded up to whole segments of
            equal length.
        seed: seed of weights, episodes and sampled actions.
        shape: sizes of the networks.
        prices: range of token prices that episodes draw from.
        latency_weight: range of w, the weight of sequential tokens in the cost, that episodes draw
            from uniformly. Unless it is (0, 0), ``shape.latency`` is set: the policy reads w.
        num_envs: environments stepped side by side.
        num_steps: timesteps of each environment between two updates.
        checkpoint_interval: largest number of updates between two checkpoints, a segment of the
            training.
        learning_rate: initial learning rate of Adam; annealed linearly to a tenth.
        ent_coef: initial weight of the entropy bonus; annealed linearly to zero.
        gae_lambda: λ of generalised advantage estimation.
        clip_coef: largest deviation of a probability ratio from 1.
        update_epochs: passes over a rollout in each update.
        num_minibatches: minibatches of each pass.
        vf_coef: weight of the value loss.
        max_grad_norm: largest norm of a gradient.

    Raises:
        ValueError: ``latency_weight`` is no range in [0, 1].
    """

    total_timesteps: int = 4_000_000
    seed: int = 0
    shape: Shape = field(default_factory=Shape)
    prices: TokenPrices = field(default_factory=TokenPrices)
    latency_weight: tuple[float, float] = (0.0, 0.0)
    num_envs: int = 512
    num_steps: int = 64
    checkpoint_interval: int = 10
    learning_rate: float = 1e-3
    ent_coef: float = 0.01
    gae_lambda: float = 0.95
    clip_coef: float = 0.2
    update_epochs: int = 3
    num_minibatches: int = 8
    vf_coef: float = 0.5
    max_grad_norm: float = 0.5

    def __post_init__(self) -> None:
        low, high = self.latency_weight
        if not 0 <= low <= high <= 1:
            raise ValueError(
                f"latency_weight must be a range 0 <= low <= high <= 1, got {low:g} and {high:g}"
            )
        object.__setattr__(self, "shape", replace(self.shape, latency=high > 0))

    @property
    def batch_size(self) -> int:
        """Timesteps of a rollout: of all environments between two updates."""
        return self.num_envs * self.num_steps

    @property
    def num_segments(self) -> int:
        """Segments of the training, at least 1; a checkpoint is written after each."""
        return math.ceil(self._min_updates / self.checkpoint_interval)

    @property
    def segment_updates(self) -> int:
        """Updates of a segment, at most ``checkpoint_interval``."""
        return math.ceil(self._min_updates / self.num_segments)

    @property
    def num_updates(self) -> int:
        """Updates of the whole training."""
        return self.num_segments * self.segment_updates

    @property
    def _min_updates(self) -> int:
        return max(1, math.ceil(self.total_timesteps / self.batch_size))


def current_fields(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Stored fields of a config under their current names."""
    return {FORMER_FIELDS.get(name, name): value for name, value in stored.items()}


def episode_config_of(shape: Shape) -> EpisodeConfig:
    """The config of training episodes.

    Episodes of single actions have a step limit, since many actions are free of charge and an
    untrained policy takes thousands of them.
    """
    n = shape.max_branches
    return EpisodeConfig(n, step_limit=_STEPS_PER_BRANCH * n if shape.atomic else None)
