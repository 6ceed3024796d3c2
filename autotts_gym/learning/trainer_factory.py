"""``create_trainer``: the trainer of an algorithm, with its validation."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from autotts_gym.controllers.policy_network import WEIGHTS
from autotts_gym.learning.algorithms import Algorithm, find_algorithm
from autotts_gym.learning.base_trainer import Trainer
from autotts_gym.learning.training_config import TrainingConfig, episode_config_of
from autotts_gym.learning.validation import Validation
from autotts_gym.traces.store import TraceStore


def create_trainer(
    algorithm: str,
    stores: Mapping[str, TraceStore],
    rows: Sequence[int] | None,
    config: TrainingConfig,
    folder: str | os.PathLike[str],
    *,
    validate: bool = True,
    validation_rows: Sequence[int] | None = None,
    keep_best: bool = False,
) -> Trainer:
    """Create a trainer; it resumes if ``folder`` holds a checkpoint.

    Args:
        algorithm: name of an :class:`~autotts_gym.learning.algorithms.Algorithm`.
        stores: environments that episodes draw from, by name.
        rows: rows of the training questions; all if None.
        config: hyperparameters.
        folder: folder of the checkpoint.
        validate: validate the policy at each checkpoint.
        validation_rows: rows of the questions to validate on; all if None.
        keep_best: export the policy with the best validation.

    Raises:
        ValueError: there is no such algorithm, ``keep_best`` is not possible, or ``folder`` holds
            the policy of a finished training.
    """
    found = find_algorithm(algorithm)
    if keep_best and (found is not Algorithm.autotts_ppo or not validate):
        raise ValueError("keeping the best policy needs autotts-ppo, and a validation")
    validation = None
    if validate:
        # Episodes of single actions are long: play fewer.
        seeds = 1 if config.shape.atomic else 4
        validation = Validation(
            stores,
            validation_rows,
            episode_config_of(config.shape),
            seeds,
            latency_weights=sorted(set(config.latency_weight)),
        )
    trainer: Trainer
    if found is Algorithm.autotts_ppo:
        from autotts_gym.learning.ppo import PPOTrainer

        trainer = PPOTrainer(stores, rows, config, folder, validation, keep_best=keep_best)
    else:
        from autotts_gym.learning.sb3_trainer import Sb3Trainer

        trainer = Sb3Trainer(found.value, stores, rows, config, folder, validation)
    if (Path(folder) / WEIGHTS).exists() and not trainer.num_timesteps:
        raise ValueError(f"{folder} already holds a policy: choose another folder, or remove it")
    return trainer
