"""Base class of the training algorithms: what they share are data, metrics, card and export."""

from __future__ import annotations

import os
import platform
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import torch

import autotts_gym
from autotts_gym.controllers.policy_network import Policy, save
from autotts_gym.learning.algorithms import Algorithm
from autotts_gym.learning.progress import Progress
from autotts_gym.learning.training_config import TrainingConfig
from autotts_gym.learning.validation import Validation
from autotts_gym.traces.store import TraceStore

OnProgress = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Do nothing with the metrics of an update."""


class Trainer(ABC):
    """A training that resumes from its last checkpoint.

    Args:
        algorithm: which algorithm.
        stores: environments that episodes draw from, by name.
        questions: rows of the training questions; all by default.
        config: hyperparameters.
        folder: folder of the checkpoint; a training whose checkpoint is there resumes.
        validation: episodes to validate the policy on at each checkpoint.

    Attributes:
        seconds: wall time of the training, without segments that were lost.
        history: metrics at each checkpoint, as the card holds them.
    """

    #: Packages whose versions the card records.
    packages: ClassVar[tuple[str, ...]] = ("torch", "numpy", "gymnasium")

    def __init__(
        self,
        algorithm: Algorithm,
        stores: Mapping[str, TraceStore],
        questions: Sequence[int] | None,
        config: TrainingConfig,
        folder: str | os.PathLike[str],
        validation: Validation | None,
    ) -> None:
        self.algorithm = algorithm
        self.config = config
        self.folder = Path(folder)
        self.validation = validation
        self.stores = dict(stores)
        self.questions = None if questions is None else list(questions)
        self.seconds = 0.0
        self.history: list[dict[str, Any]] = []

    @abstractmethod
    def run(self, on_progress: OnProgress = ignore_progress) -> None:
        """Train to the end, writing checkpoints; ``on_progress`` is called after updates."""

    @property
    @abstractmethod
    def num_timesteps(self) -> int:
        """Timesteps trained so far."""

    @property
    @abstractmethod
    def planned_timesteps(self) -> int:
        """Timesteps of the whole training: ``total_timesteps``, rounded up to whole updates."""

    @abstractmethod
    def delete_checkpoint(self) -> None:
        """Delete the checkpoint, after the export."""

    @abstractmethod
    def trained_policy(self) -> Policy:
        """The policy to export."""

    def card(self) -> dict[str, Any]:
        """Description of the training, plain values."""
        config = asdict(self.config)
        del config["shape"]
        prices = config.pop("prices")
        config["latency_weight"] = list(self.config.latency_weight)
        policy = self.trained_policy()
        return {
            "algorithm": self.algorithm.value,
            "prices": prices,
            "config": config,
            "data": {name: store.card.fingerprint for name, store in self.stores.items()},
            "questions": self.questions,
            "parameters": sum(p.numel() for p in policy.parameters()),
            "threads": torch.get_num_threads(),
            "versions": {
                "autotts_gym": autotts_gym.__version__,
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in self.packages},
            },
            "decisions": self.num_timesteps,
            "wall_seconds": round(self.seconds, 1),
            "history": self.history,
        }

    def export(
        self, folder: str | os.PathLike[str], details: Mapping[str, Any] | None = None
    ) -> None:
        """Write the policy and its card.

        Args:
            folder: where.
            details: further entries of the card.
        """
        save(self.trained_policy(), folder, {**(details or {}), **self.card()})

    def finish(self, command: str) -> None:
        """Export the policy to the training's folder, and delete the checkpoint.

        Args:
            command: the command that trained it, for the card.
        """
        self.export(self.folder, {"command": command})
        # The checkpoint goes last: until then, the same command can write the policy again.
        self.delete_checkpoint()
