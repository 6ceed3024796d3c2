"""Token prices and spending limits of proposers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Spending limits of a proposer over a whole run, and the prices of tokens.

    Attributes:
        tokens: limit of prompt and completion tokens together; None for no limit.
        usd: limit of the cost, US dollars; None for no limit.
        prompt_usd: price of a million prompt tokens, US dollars.
        completion_usd: price of a million completion tokens, US dollars.

    Raises:
        ValueError: a value is negative or not finite.
    """

    tokens: int | None = None
    usd: float | None = None
    prompt_usd: float = 0.0
    completion_usd: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tokens", "usd", "prompt_usd", "completion_usd"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be at least 0, got {value!r}")

    @property
    def has_prices(self) -> bool:
        """Whether tokens have a price."""
        return self.prompt_usd > 0 or self.completion_usd > 0

    def cost(self, prompt_tokens: int, completion_tokens: int) -> dict[str, float]:
        """Cost of a request by unit: tokens and, if they have a price, US dollars."""
        cost = {
            "prompt_tokens": float(prompt_tokens),
            "completion_tokens": float(completion_tokens),
        }
        if self.has_prices:
            usd = prompt_tokens * self.prompt_usd + completion_tokens * self.completion_usd
            cost["usd"] = round(usd / 1e6, 9)
        return cost

    def exhausted(self, spent: Mapping[str, float]) -> str:
        """Which limit is reached, as a sentence; empty if none is.

        Args:
            spent: total cost so far by unit.
        """
        used = _tokens(spent)
        if self.tokens is not None and used >= self.tokens:
            return f"the budget is exhausted: {used:,.0f} of {self.tokens:,} tokens"
        usd = spent.get("usd", 0.0)
        if self.usd is not None and usd >= self.usd:
            return f"the budget is exhausted: {usd:.4f} of {self.usd:g} dollars"
        return ""

    def affordable_tokens(
        self, spent: Mapping[str, float], prompt_tokens: int, max_tokens: int
    ) -> int:
        """Number of completion tokens that the budget allows after a prompt.

        Args:
            spent: total cost so far by unit.
            prompt_tokens: number of tokens of the prompt.
            max_tokens: upper limit of the result.
        """
        affordable = float(max_tokens)
        if self.tokens is not None:
            affordable = min(affordable, self.tokens - _tokens(spent) - prompt_tokens)
        if self.usd is not None and self.has_prices:
            remaining = self.usd - spent.get("usd", 0.0) - prompt_tokens * self.prompt_usd / 1e6
            if remaining <= 0:
                return 0
            if self.completion_usd > 0:
                affordable = min(affordable, remaining / self.completion_usd * 1e6)
        return max(int(affordable), 0)


def _tokens(spent: Mapping[str, float]) -> float:
    return spent.get("prompt_tokens", 0.0) + spent.get("completion_tokens", 0.0)
