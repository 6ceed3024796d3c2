"""Generation confidence: how sure a model was of the tokens that it sampled.

The *token confidence* at a position is minus the mean log-probability of the likeliest tokens there
(DeepConf, arXiv 2508.15260, with 20 tokens): high where one token has almost all the probability,
low where many are likely. Log-probabilities are those of the model, before temperature. Engines
reduce them to one number per token on arrival; :class:`ConfidenceSums` adds these up by interval.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final, NamedTuple

from autotts_gym.inference.engine import Generated

#: Number of likeliest tokens, if the engine gives as many.
TOP_TOKENS: Final = 20

#: What servers report instead of the logarithm of 0.
_LOWEST: Final = -9999.0


def token_confidence(logprobs: Iterable[float], top_tokens: int) -> float:
    """Minus the mean of the largest log-probabilities.

    Args:
        logprobs: log-probabilities of different tokens at one position, in any order.
        top_tokens: how many of them to use; there are at least as many.

    Returns:
        A number of at least 0.
    """
    largest = sorted(logprobs, reverse=True)[:top_tokens]
    if largest[-1] < _LOWEST:
        largest = [max(value, _LOWEST) for value in largest]
    mean = math.fsum(largest) / top_tokens
    # Rounding can leave the logarithm of a probability slightly above 0.
    return max(0.0, -mean)


class TraceConfidence(NamedTuple):
    """Generation confidence of a trace.

    Attributes:
        top_tokens: number of likeliest tokens at each position.
        sums: sum of the token confidences of each interval; the last may be shorter.
    """

    top_tokens: int
    sums: list[float]


class ConfidenceSums:
    """Adds up the token confidences of a growing branch by interval.

    Args:
        interval: Δ, tokens.
    """

    def __init__(self, interval: int) -> None:
        self._interval = interval
        self._tokens = 0
        self._top_tokens = 0
        self._sums: list[float] = []
        self._known = True

    def add(self, part: Generated) -> None:
        """Add the next part of the branch."""
        if not part.tokens or not self._known:
            return
        if not self._tokens:
            self._top_tokens = part.top_tokens
        # Confidences over different numbers of tokens cannot be compared.
        self._known = part.top_tokens == self._top_tokens > 0
        if self._known:
            self._extend(part.confidences)

    def _extend(self, confidences: list[float]) -> None:
        start = 0
        while start < len(confidences):
            row, filled = divmod(self._tokens, self._interval)
            taken = confidences[start : start + self._interval - filled]
            if not filled:
                self._sums.append(0.0)
            self._sums[row] += math.fsum(taken)
            self._tokens += len(taken)
            start += len(taken)

    @property
    def result(self) -> TraceConfidence | None:
        """The confidence so far; None if it is not known for every token."""
        if not self._known or not self._tokens:
            return None
        return TraceConfidence(self._top_tokens, list(self._sums))


def interval_counts(length: int, interval: int) -> list[int]:
    """Number of tokens in each interval of a trace, the last included; at least one interval.

    Args:
        length: tokens of the trace.
        interval: Δ, tokens.
    """
    whole = max(length - 1, 0) // interval
    return [interval] * whole + [length - whole * interval]
