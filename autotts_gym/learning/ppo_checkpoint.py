"""Checkpoints of PPO: one file, replaced atomically after each segment of the training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

from autotts_gym.learning.training_config import current_fields
from autotts_gym.utils.files import write_atomically

if TYPE_CHECKING:
    from autotts_gym.learning.ppo import PPOTrainer

FILE_NAME: Final = "checkpoint.pt"


def path_in(folder: Path) -> Path:
    """The checkpoint of a training in ``folder``."""
    return folder / FILE_NAME


def save(trainer: PPOTrainer) -> None:
    """Write the checkpoint of a training, between two segments."""
    trainer.folder.mkdir(parents=True, exist_ok=True)
    state = {
        "made": _identity(trainer),
        "policy": trainer.policy.state_dict(),
        "critic": trainer.critic.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "done": trainer.segments_done,
        "seconds": trainer.seconds,
        "history": trainer.history,
        "best": trainer.best,
    }
    write_atomically(path_in(trainer.folder), lambda path: torch.save(state, path))


def restore(trainer: PPOTrainer) -> None:
    """Resume a training from its checkpoint, if there is one.

    Checkpoints of version 0.1, with former names of fields and weights, can be resumed as well.

    Raises:
        ValueError: the checkpoint belongs to a training with another config or other data; the
            message names what differs.
    """
    path = path_in(trainer.folder)
    if not path.exists():
        return
    state = torch.load(path, weights_only=True)
    stored, expected = current_fields(state["made"]), _identity(trainer)
    differing = [name for name, value in stored.items() if expected.get(name) != value]
    if differing:
        raise ValueError(
            f"{path} belongs to another training: its {', '.join(differing)} differ; give another "
            "--out, or remove it"
        )
    trainer.policy.load_state_dict(state["policy"])
    trainer.critic.load_state_dict(state["critic"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.segments_done, trainer.seconds = state["done"], state["seconds"]
    trainer.history, trainer.best = state["history"], state["best"]


def _identity(trainer: PPOTrainer) -> dict[str, Any]:
    """Everything that must be equal for a training to resume from a checkpoint."""
    return {
        **asdict(trainer.config),
        "shape": trainer.config.shape.as_dict(),
        "data": [store.card.fingerprint for store in trainer.stores.values()],
        "questions": trainer.questions,
        "keep_best": trainer.keep_best,
    }
