"""Metrics of a training, logged after each update."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

from autotts_gym.learning.validation import ValidationScore

#: Names of metrics in cards and TensorBoard logs, where they differ from those of the attributes.
_STORED_NAMES: Final = {
    "timesteps": "decisions",
    "fraction": "share",
    "mean_return": "reward",
    "episode_length": "length",
    "explained_variance": "explained",
    "timesteps_per_second": "rate",
}


@dataclass(frozen=True)
class Progress:
    """Metrics logged after an update; NaN where an algorithm does not compute one.

    Attributes:
        timesteps: timesteps so far.
        fraction: the same as a fraction of all.
        mean_return: mean return of an episode, in units of a correct answer.
        accuracy: fraction of correct answers among the episodes that ended.
        cost: mean true cost of the episodes that ended, as a share of C.
        episode_length: mean timesteps of an episode.
        explained_variance: of the returns by the critic's values.
        entropy: mean entropy of the policy, nats.
        timesteps_per_second: speed.
        validation: score on the validation episodes, after updates that end with one.
    """

    timesteps: int
    fraction: float
    mean_return: float
    accuracy: float
    cost: float
    episode_length: float
    explained_variance: float
    entropy: float
    timesteps_per_second: float
    validation: ValidationScore | None = None

    def scalars(self) -> dict[str, float]:
        """The metrics that exist, by their names in TensorBoard; without ``timesteps``."""
        scalars = {
            _STORED_NAMES.get(name, name): value
            for name, value in vars(self).items()
            if name not in ("timesteps", "validation")
        }
        if self.validation is not None:
            scalars["trial/return"] = self.validation.mean_return
            scalars["trial/share of CMC"] = self.validation.mean_token_share
        return {name: value for name, value in scalars.items() if not math.isnan(value)}

    def card_entry(self) -> dict[str, Any]:
        """The entry of a card's history, plain values."""
        entry: dict[str, Any] = {
            _STORED_NAMES.get(name, name): round(value, 4)
            for name, value in vars(self).items()
            if name not in ("timesteps_per_second", "validation") and not math.isnan(value)
        }
        if self.validation is not None:
            entry["trial"] = self.validation.card_entry()
        return entry
