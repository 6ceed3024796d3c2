"""Generation confidence over windows of intervals: the same code in Python and compiled.

The confidence of a window is the mean over its tokens: the confidence sums of its intervals over
the number of their tokens. An interval that is empty, or whose confidences are unknown, has no
tokens here; windows pass over it.

This module imports neither numba nor numpy, so that a sandboxed process can load it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: Confidence where none is revealed or recorded.
UNKNOWN: Final = -1.0


def check_window(window: int | None) -> int:
    """The number of intervals of a window, 0 for all.

    Raises:
        ValueError: it is negative.
    """
    if window is None:
        return 0
    if window < 0:
        raise ValueError("window must be at least 0, in intervals")
    return window


def mean_confidence(
    sums: Sequence[float], tokens: Sequence[int], first: int, end: int, window: int
) -> float:
    """Mean confidence of the tokens of the last ``window`` intervals before ``end``.

    Args:
        sums, tokens: confidence sum and number of tokens of each interval; lists in plain Python,
            since arrays of float32 add up in float32 there.
        first, end: the intervals ``first`` to ``end - 1`` belong to the branch, and are revealed.
        window: number of intervals, at least 0; 0 for all, and fewer if there are not as many.

    Returns:
        ``UNKNOWN`` without tokens.
    """
    total, count, used = 0.0, 0, 0
    k = end
    while k > first and (window == 0 or used < window):
        k -= 1
        if tokens[k] > 0:
            total += sums[k]
            count += tokens[k]
            used += 1
    return total / count if count > 0 else UNKNOWN


def lowest_confidence(
    sums: Sequence[float], tokens: Sequence[int], first: int, end: int, window: int
) -> float:
    """Lowest mean confidence of ``window`` consecutive intervals.

    Args:
        sums, tokens, first, end, window: as for :func:`mean_confidence`, but ``end`` is that of
            the whole intervals: a last, partial one is in no full window.

    Returns:
        ``UNKNOWN`` without a full window.
    """
    lowest = UNKNOWN
    total, count, used = 0.0, 0, 0
    oldest = first  # interval of the window, or before it
    for k in range(first, end):
        if tokens[k] == 0:
            continue
        total += sums[k]
        count += tokens[k]
        used += 1
        if used > window > 0:
            while tokens[oldest] == 0:
                oldest += 1
            total -= sums[oldest]
            count -= tokens[oldest]
            used -= 1
            oldest += 1
        # Sums of float32 are exact in float64, unless one is 2**29 times as large as another.
        mean = max(total, 0.0) / count
        if used == window and (lowest < 0 or mean < lowest):
            lowest = mean
    return lowest
