"""Windows of generation confidence, against exact arithmetic, in Python and compiled."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.mdp.generation_confidence import (
    UNKNOWN,
    check_window,
    lowest_confidence,
    mean_confidence,
)

compiled_mean, compiled_lowest = numba.njit(mean_confidence), numba.njit(lowest_confidence)

Interval = tuple[float, int]


class Revealed(list[Any]):
    """A list that may be read from index ``first`` up to its end, and not from the end."""

    first = 0

    def __getitem__(self, k: Any) -> Any:
        assert self.first <= k < len(self)
        return super().__getitem__(k)


@st.composite
def intervals(draw: st.DrawFn) -> tuple[list[Interval], int]:
    """Sums and numbers of tokens of the intervals of some branches, and where one begins."""
    counts = draw(st.lists(st.integers(0, 600), max_size=12))
    sums = [draw(st.floats(0, 30 * count, width=32)) for count in counts]
    return list(zip(sums, counts, strict=True)), draw(st.integers(0, len(counts)))


def exact_mean(chosen: list[Interval]) -> Fraction | None:
    tokens = sum(count for _, count in chosen)
    return sum((Fraction(total) for total, _ in chosen), Fraction()) / tokens if tokens else None


def both(python: Any, compiled: Any, values: list[Interval], first: int, window: int) -> float:
    """The result in Python and compiled, which must be the same."""
    sums = Revealed(total for total, _ in values)
    tokens = Revealed(count for _, count in values)
    sums.first = tokens.first = first
    found = python(sums, tokens, first, len(values), window)
    arrays = np.array(list(sums), np.float32), np.array(list(tokens), np.int32)
    assert compiled(*arrays, first, len(values), window) == found
    return float(found)


@given(intervals(), st.integers(0, 14))
def test_mean_of_the_last_intervals(drawn: tuple[list[Interval], int], window: int) -> None:
    values, first = drawn
    known = [(total, count) for total, count in values[first:] if count]
    expected = exact_mean(known[-window:] if window else known)
    found = both(mean_confidence, compiled_mean, values, first, window)
    assert found == (UNKNOWN if expected is None else pytest.approx(float(expected), rel=1e-12))


@given(intervals(), st.integers(0, 14))
def test_lowest_mean_of_full_windows(drawn: tuple[list[Interval], int], window: int) -> None:
    values, first = drawn
    known = [(total, count) for total, count in values[first:] if count]
    starts = range(len(known) - window + 1) if window else range(0)
    means = [exact_mean(known[k : k + window]) for k in starts]
    found = both(lowest_confidence, compiled_lowest, values, first, window)
    lowest = min((mean for mean in means if mean is not None), default=None)
    if lowest is None:
        assert found == UNKNOWN
    else:
        # Less exact only where a sum is much larger than the others.
        assert found == pytest.approx(float(lowest), rel=1e-9, abs=1e-9)
        assert found >= 0


@given(intervals(), st.integers(1, 14))
def test_the_lowest_is_that_of_some_depth(drawn: tuple[list[Interval], int], window: int) -> None:
    """A controller that looks after every interval sees the lowest window when it is complete."""
    values, first = drawn
    known = [(total, count) for total, count in values[first:] if count]
    sums, tokens = [total for total, _ in known], [count for _, count in known]
    seen = [mean_confidence(sums, tokens, 0, end, window) for end in range(window, len(known) + 1)]
    lowest = lowest_confidence(sums, tokens, 0, len(known), window)
    assert lowest == pytest.approx(min(seen, default=UNKNOWN), rel=1e-9, abs=1e-9)


def test_sums_that_absorb_others_are_not_negative() -> None:
    sums, tokens = [1e16, 1.0, 0.0, 0.0], [1, 1, 1, 1]
    assert lowest_confidence(sums, tokens, 0, 4, 2) == 0


def test_windows() -> None:
    assert [check_window(window) for window in (None, 0, 3)] == [0, 0, 3]
    with pytest.raises(ValueError, match="window must be at least 0, in intervals"):
        check_window(-1)
