r"""Whether two expressions are equal: exactly, or as functions at several points.

Two expressions with symbols are equal if their values agree at six points, positive and negative,
to more than 30 digits. At a point where both are not real, only that counts (unless the imaginary
unit occurs): ``\sqrt{x^3}`` and ``x\sqrt{x}`` are equal, ``\sqrt{x^2}`` and ``x`` are not.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final

from autotts_gym.answers.evaluation import (
    BASE_DIGITS,
    MAX_DIGITS,
    Evaluation,
    point_value,
)
from autotts_gym.answers.exact_math import NoValueError
from autotts_gym.answers.nodes import Node

TRIALS: Final = 6
_MINIMUM: Final = 3
_CONSTANTS: Final = frozenset((r"\pi", "e", "i", r"\infty"))
#: Relative error of an estimate, generously.
ESTIMATE_ERROR: Final = Fraction(1, 10**9)
#: Decimals that are the rounding of an exact value have at least this many significant digits.
ROUNDING_DIGITS: Final = 6


def symbols(node: Node) -> set[str]:
    """Names of the symbols of an expression, without constants."""
    found: set[str] = set()
    stack = [node]
    while stack:
        node = stack.pop()
        if node.kind == "symbol" and node.name not in _CONSTANTS:
            found.add(node.name)
        stack += node.children
    return found


def nodes(node: Node) -> Iterator[Node]:
    """All nodes of an expression."""
    stack = [node]
    while stack:
        node = stack.pop()
        yield node
        stack += node.children


@lru_cache(maxsize=20_000)
def exact_value(node: Node) -> Fraction | None:
    """The exact rational value of an expression; None if it is not known to be rational."""
    try:
        value = Evaluation({}).value(node)
    except NoValueError:
        return None
    return value if isinstance(value, Fraction) else None


def decimal_digits(node: Node) -> int:
    """Significant digits of a decimal such as 1.50, -0.5 or 6.63*10^{-34}; 0 if it is none."""
    if node.kind == "number":
        return node.digits
    if node.kind == "negate" or (node.kind == "call" and node.name == "percent"):
        return decimal_digits(node.children[0])
    if node.kind == "multiply" and node.children[1].kind == "power":
        base = node.children[1].children[0]
        if base.kind == "number" and base.value == 10:
            return decimal_digits(node.children[0])
    return 0


def equal_expressions(a: Node, b: Node) -> bool:
    """Whether two expressions are equal; False if that cannot be decided."""
    if a == b:
        return True
    digits = decimal_digits(a), decimal_digits(b)
    if any(digits) and not all(digits):
        decimal, other = (a, b) if digits[0] else (b, a)
        return equal_values(a, b) or _is_rounding(decimal, other, max(digits))
    return equal_values(a, b)


def equal_values(a: Node, b: Node) -> bool:
    """Whether two expressions have the same values, decimals taken exactly."""
    if _surely_differ(a, b, ESTIMATE_ERROR):
        return False
    names = sorted(symbols(a) | symbols(b))
    matched = 0
    for trial in range(TRIALS if names else 1):
        point = {name: point_value(name, trial) for name in names}
        verdict = _equal_at(a, b, point)
        if verdict is False:
            return False
        matched += verdict is True
    return matched >= (_MINIMUM if names else 1)


@lru_cache(maxsize=20_000)
def estimate(node: Node) -> Fraction | None:
    """The value at the first point, within ``ESTIMATE_ERROR``; None if that is not certain."""
    evaluation = Evaluation({name: point_value(name, 0) for name in symbols(node)})
    try:
        value = evaluation.value(node)
    except NoValueError:
        return None
    if isinstance(value, Fraction):
        return value
    # 60 bits: even a difference of the largest and the smallest number keeps 14 of 50 digits.
    if evaluation.bits > 60 or evaluation.imaginary or not evaluation.is_real(value):
        return None
    real: Any = getattr(value, "real", value)
    return Fraction(float(real))


def _surely_differ(a: Node, b: Node, tolerance: Fraction) -> bool:
    """Whether estimates show that two values differ by more than a share of the larger."""
    one, two = estimate(a), estimate(b)
    if one is None or two is None:
        return False
    return abs(one - two) > tolerance * max(abs(one), abs(two))


def _equal_at(a: Node, b: Node, point: dict[str, Fraction]) -> bool | None:
    """Whether both values are equal at a point; None if neither exists there or is real."""
    pair = _values(a, b, point)
    if isinstance(pair, bool) or pair is None:
        return pair
    one, two, evaluation = pair
    if isinstance(one, Fraction) and isinstance(two, Fraction):
        return one == two
    one, two = evaluation.inexact(one), evaluation.inexact(two)
    if not evaluation.imaginary and point:
        real = [evaluation.is_real(value) for value in (one, two)]
        if real[0] != real[1]:
            return False
        if not any(real):
            return None
    return bool(abs(one - two) <= evaluation.rounding * max(abs(one), abs(two)))


def _values(
    a: Node, b: Node, point: dict[str, Fraction]
) -> tuple[Any, Any, Evaluation] | bool | None:
    """Both values at a sufficient precision; False if one does not exist, None if neither does."""
    digits = BASE_DIGITS
    while True:
        evaluation = Evaluation(point, digits)
        values = []
        for node in (a, b):
            try:
                values.append(evaluation.value(node))
            except NoValueError:
                values.append(None)
        if values == [None, None]:
            return None
        if None in values:
            return False
        # Enough digits that the smallest number that occurs is not lost beside the largest.
        needed = BASE_DIGITS + 2 * evaluation.bits * 31 // 100
        if all(isinstance(v, Fraction) for v in values) or digits >= needed:
            return values[0], values[1], evaluation
        if needed > MAX_DIGITS:
            return False
        digits = needed


def _is_rounding(decimal: Node, exact: Node, digits: int) -> bool:
    """Whether a decimal is the correct rounding of an exact value."""
    if digits < ROUNDING_DIGITS or symbols(exact):
        return False
    if _surely_differ(decimal, exact, Fraction(1, 10 ** (ROUNDING_DIGITS - 1))):
        return False
    value = exact_value(decimal)
    if value is None or value == 0:
        return False
    evaluation = Evaluation({}, BASE_DIGITS + digits)
    try:
        other = evaluation.value(exact)
    except NoValueError:
        return False
    if not isinstance(other, Fraction):
        if getattr(other, "imag", 0) != 0:
            return False
        sign, mantissa, exponent, _ = evaluation.inexact(getattr(other, "real", other))._mpf_
        other = Fraction(-mantissa if sign else mantissa) * Fraction(2) ** exponent
    # The unit of the last digit that is written.
    unit = _last_unit(abs(value), digits)
    return bool(abs(value - other) * 2 <= unit)


def _last_unit(value: Fraction, digits: int) -> Fraction:
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    while Fraction(10) ** exponent > value:
        exponent -= 1
    while Fraction(10) ** (exponent + 1) <= value:
        exponent += 1
    return Fraction(10) ** (exponent - digits + 1)
