"""Functions of rationals with exact values."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Final


class NoValueError(ValueError):
    """The expression has no value here, or one beyond the limits."""


def gcd(*values: Fraction) -> Fraction:
    """The greatest common divisor of integers."""
    if any(value.denominator != 1 for value in values):
        raise NoValueError("a divisor of fractions")
    return Fraction(math.gcd(*(value.numerator for value in values)))


def lcm(*values: Fraction) -> Fraction:
    """The least common multiple of integers."""
    if any(value.denominator != 1 for value in values):
        raise NoValueError("a multiple of fractions")
    return Fraction(math.lcm(*(value.numerator for value in values)))


#: The functions by name.
EXACT: Final[dict[str, Callable[..., Fraction]]] = {
    "floor": lambda value: Fraction(math.floor(value)),
    "ceil": lambda value: Fraction(math.ceil(value)),
    "max": lambda *values: max(values),
    "min": lambda *values: min(values),
    "sgn": lambda value: Fraction((value > 0) - (value < 0)),
    "gcd": gcd,
    "lcm": lcm,
}


def exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The exact real root of a rational; None if it is irrational, complex, or too large."""
    if degree == 1 or value in (0, 1):
        return value
    if value < 0:
        if degree % 2 == 0:
            return None
        root = exact_root(-value, degree)
        return None if root is None else -root
    if degree > 64 or value.numerator.bit_length() + value.denominator.bit_length() > 4096:
        return None
    parts = [_integer_root(part, degree) for part in (value.numerator, value.denominator)]
    return None if None in parts else Fraction(parts[0] or 0, parts[1] or 1)


def _integer_root(value: int, degree: int) -> int | None:
    if degree == 2:
        root = math.isqrt(value)
    else:
        low, high = 0, 1 << (value.bit_length() // degree + 1)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**degree <= value else (low, middle - 1)
        root = low
    return root if root**degree == value else None
