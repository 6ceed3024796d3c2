"""What proposers may spend, and what tokens cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Budget:
    """Limits of everything that a proposer is paid for in a run; None for none.

    Attributes:
        tokens: prompt and completion tokens together.
        usd: dollars.
        prompt_usd, completion_usd: what a million tokens cost.

    Raises:
        ValueError: one is negative, or dollars are limited and tokens cost nothing.
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
    def priced(self) -> bool:
        """Whether tokens have a price."""
        return self.prompt_usd > 0 or self.completion_usd > 0

    def cost(self, prompt: int, completion: int) -> dict[str, float]:
        """What so many tokens cost, by unit."""
        cost = {"prompt_tokens": float(prompt), "completion_tokens": float(completion)}
        if self.priced:
            usd = (prompt * self.prompt_usd + completion * self.completion_usd) / 1e6
            cost["usd"] = round(usd, 9)
        return cost

    def over(self, spent: Mapping[str, float]) -> str:
        """Why nothing more may be spent, or nothing."""
        used = spent.get("prompt_tokens", 0.0) + spent.get("completion_tokens", 0.0)
        if self.tokens is not None and used >= self.tokens:
            return f"the budget is spent: {used:,.0f} of {self.tokens:,} tokens"
        usd = spent.get("usd", 0.0)
        if self.usd is not None and usd >= self.usd:
            return f"the budget is spent: {usd:.4f} of {self.usd:g} dollars"
        return ""

    def most(self, spent: Mapping[str, float], prompt: int, wanted: int) -> int:
        """Completion tokens that can be paid for after a prompt, at most ``wanted``; 0 for none."""
        most = float(wanted)
        if self.tokens is not None:
            used = spent.get("prompt_tokens", 0.0) + spent.get("completion_tokens", 0.0)
            most = min(most, self.tokens - used - prompt)
        if self.usd is not None and self.priced:
            left = self.usd - spent.get("usd", 0.0) - prompt * self.prompt_usd / 1e6
            if left <= 0:
                return 0
            if self.completion_usd > 0:
                most = min(most, left / self.completion_usd * 1e6)
        return max(int(most), 0)
