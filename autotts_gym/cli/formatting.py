"""Formats of numbers in the tables."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autotts_gym.evaluation.bootstrap import Estimate


def format_interval(estimate: Estimate, scale: float, form: str) -> str:
    """Format an estimate and its interval; without the interval if there is none."""
    if math.isnan(estimate.value):
        return ""
    value = format(scale * estimate.value, form)
    if math.isnan(estimate.low):
        return value
    low, high = (format(scale * end, form) for end in (estimate.low, estimate.high))
    return f"{value} [{low}, {high}]"


def format_ratio(estimate: Estimate) -> str:
    """Format a ratio and its interval with at least two significant digits."""
    small = not math.isnan(estimate.value) and estimate.value < 0.095
    return format_interval(estimate, 1, ".3f" if small else ".2f")


def format_thousands(tokens: float) -> str:
    """Format a number of tokens in thousands, such as ``1.8k``."""
    return f"{tokens / 1000:,.1f}k"
