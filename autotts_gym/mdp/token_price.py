"""Token prices: the range that a policy is trained on, and how a price follows from β.

The price λ = (1 − β) / β is the cost of C tokens (reading all branches to their ends) in units of a
correct answer; β is that of the reward. The β of a trained policy, also in [0, 1], is another one:
it selects a price in the range of the training, the highest at 0 (few tokens), the lowest at 1
(many tokens), log-linear in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TokenPrices:
    """The prices of a policy.

    Attributes:
        high: price at β = 0 of the policy.
        low: price at β = 1 of the policy.

    Raises:
        ValueError: not 0 < low <= high < ∞.
    """

    high: float = 3.0
    low: float = 0.005

    def __post_init__(self) -> None:
        if not 0 < self.low <= self.high < np.inf:
            raise ValueError(f"prices must be 0 < low <= high, got {self.low} and {self.high}")

    def reward_beta(self, policy_beta: float) -> float:
        """The β of the reward that corresponds to a β of the policy, both in [0, 1]."""
        price = self.high * (self.low / self.high) ** policy_beta
        return float(1 / (1 + price))

    def draw(self, rng: np.random.Generator) -> float:
        """Draw the β of the reward for a training episode; the price is log-uniform."""
        return self.reward_beta(float(rng.random()))
