"""Names of the training algorithms; imports neither torch nor stable-baselines3."""

from __future__ import annotations

import warnings
from enum import StrEnum
from typing import Final


class Algorithm(StrEnum):
    """The training algorithms.

    ``autotts-ppo`` is :class:`autotts_gym.learning.ppo.PPOTrainer`, the others are those of
    stable-baselines3 and sb3-contrib in :class:`autotts_gym.learning.sb3_trainer.Sb3Trainer`.
    """

    autotts_ppo = "autotts-ppo"
    sb3_ppo = "sb3-ppo"
    sb3_maskable_ppo = "sb3-maskable-ppo"
    sb3_a2c = "sb3-a2c"
    sb3_dqn = "sb3-dqn"


#: Algorithms by deprecated name.
DEPRECATED_NAMES: Final = {
    "cleanrl-ppo": Algorithm.autotts_ppo,
    "ppo": Algorithm.sb3_ppo,
    "maskable-ppo": Algorithm.sb3_maskable_ppo,
    "a2c": Algorithm.sb3_a2c,
    "dqn": Algorithm.sb3_dqn,
}


def find_algorithm(name: str) -> Algorithm:
    """The algorithm with a name.

    Args:
        name: a current name, or a deprecated one, which raises a ``DeprecationWarning``.

    Raises:
        ValueError: there is no such algorithm.
    """
    if name in DEPRECATED_NAMES:
        algorithm = DEPRECATED_NAMES[name]
        warnings.warn(
            f"the algorithm {name!r} is now called {algorithm.value!r}",
            DeprecationWarning,
            stacklevel=3,
        )
        return algorithm
    try:
        return Algorithm(name)
    except ValueError:
        names = ", ".join(algorithm.value for algorithm in Algorithm)
        raise ValueError(f"unknown algorithm {name!r}; choose one of {names}") from None
