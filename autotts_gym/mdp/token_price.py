"""From the knob to the price of tokens.

A policy sees what tokens cost in terms of right answers: λ = (1 − β) / β, the price of C (reading
all branches whole) where a right answer is worth 1. What matters lies within a few steps of λ, so
a trained policy's own knob, from 0 (spend least) to 1 (spend most), goes through them evenly on a
logarithmic scale.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenPrices:
    """The range of prices of a policy: ``high`` at knob 0, ``low`` at knob 1."""

    high: float = 3.0
    low: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < np.inf:
            raise ValueError(f"prices must be 0 < low <= high, got {self.low} and {self.high}")

    def beta(self, knob: float) -> float:
        """β of the reward at a knob within [0, 1]."""
        price = self.high * (self.low / self.high) ** knob
        return float(1 / (1 + price))

    def draw(self, rng: np.random.Generator) -> float:
        """β of an episode to train on: the knob is uniform."""
        return self.beta(float(rng.random()))
