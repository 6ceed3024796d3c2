"""Values of expressions: exact rationals where possible, else numbers of many digits.

Everything is bounded: a power, factorial or number beyond the limits has no value
(:class:`NoValueError`), so that ``9**9**9`` takes no time.
"""

from __future__ import annotations

import hashlib
import math
import threading
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, Final

import mpmath

from autotts_gym.answers.exact_math import EXACT, NoValueError, exact_root
from autotts_gym.answers.nodes import Node
from autotts_gym.answers.word_sets import word_list

#: Largest size of an exact number, in bits, and of a magnitude of an inexact one.
_MAX_BITS: Final = 1 << 17
_MAX_MAGNITUDE: Final = 20_000
_MAX_FACTORIAL: Final = 3000
_MAX_NODES: Final = 3000
#: Decimal digits of the first evaluation, and the most of any.
BASE_DIGITS: Final = 50
MAX_DIGITS: Final = 5000

#: A rational, or a real or complex number of mpmath.
Value = Any


_contexts = threading.local()


def _context(digits: int) -> Any:
    """An mpmath context of this thread with a precision in decimal digits."""
    if not hasattr(_contexts, "context"):
        _contexts.context = mpmath.mp.clone()
    _contexts.context.dps = digits
    return _contexts.context


class Evaluation:
    """Evaluates expressions at one point.

    Args:
        point: value of each symbol; a symbol without a value has none.
        digits: decimal digits of inexact values.

    Attributes:
        bits: size of the largest or smallest number so far, in bits.
        rounding: relative difference that rounding may cause.
        imaginary: whether the imaginary unit occurred.
    """

    def __init__(self, point: Mapping[str, Fraction], digits: int = BASE_DIGITS) -> None:
        self._point = point
        self._m = _context(digits)
        self._nodes = 0
        self.bits = 0
        self.rounding = self._m.mpf(10) ** (15 - digits)
        self.imaginary = False

    def value(self, node: Node) -> Value:
        """The value of an expression.

        Raises:
            NoValueError: it has none, or one beyond the limits.
        """
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise NoValueError("too many terms")
        try:
            return self._checked(_RULES[node.kind](self, node))
        except (ZeroDivisionError, OverflowError, MemoryError, TypeError, ValueError) as error:
            if isinstance(error, NoValueError):
                raise
            raise NoValueError(str(error)) from None
        except mpmath.libmp.NoConvergence as error:
            raise NoValueError(str(error)) from None

    def _checked(self, value: Value) -> Value:
        if isinstance(value, Fraction):
            bits = max(value.numerator.bit_length(), value.denominator.bit_length())
            if bits > _MAX_BITS:
                raise NoValueError("the number is too large")
            self.bits = max(self.bits, bits)
            return value
        if not self._m.isfinite(value):
            raise NoValueError("not finite")
        if value != 0:
            magnitude = abs(int(self._m.mag(value)))
            if magnitude > _MAX_MAGNITUDE:
                raise NoValueError("the number is too large")
            self.bits = max(self.bits, magnitude)
        return value

    def inexact(self, value: Value) -> Value:
        """A value as a number of mpmath."""
        if isinstance(value, Fraction):
            return self._m.mpf(value.numerator) / value.denominator
        return value

    # --- rules by kind of node -------------------------------------------------------------------

    def _number(self, node: Node) -> Value:
        return node.value

    def _symbol(self, node: Node) -> Value:
        if node.name in self._point:
            return self._point[node.name]
        if node.name == r"\pi":
            return +self._m.pi
        if node.name == "e":
            return +self._m.e
        if node.name == "i":
            self.imaginary = True
            return self._m.mpc(0, 1)
        raise NoValueError(f"{node.name} has no value")

    def _add(self, node: Node) -> Value:
        total: Value = Fraction(0)
        for child in node.children:
            value = self.value(child)
            if isinstance(total, Fraction) and isinstance(value, Fraction):
                total += value
                continue
            total, value = self.inexact(total), self.inexact(value)
            scale = max(abs(total), abs(value))
            total += value
            if abs(total) <= self.rounding * scale:
                total = Fraction(0)  # but for rounding
        return total

    def _multiply(self, node: Node) -> Value:
        a, b = (self.value(child) for child in node.children)
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return a * b
        if 0 in (a, b):
            return Fraction(0)
        return self.inexact(a) * self.inexact(b)

    def _divide(self, node: Node) -> Value:
        a, b = (self.value(child) for child in node.children)
        if isinstance(a, Fraction) and isinstance(b, Fraction):
            return a / b
        return self.inexact(a) / self.inexact(b)

    def is_real(self, value: Value) -> bool:
        """Whether a value is real but for rounding."""
        return bool(abs(getattr(value, "imag", 0)) <= self.rounding * abs(value))

    def _negate(self, node: Node) -> Value:
        return -self.value(node.children[0])

    def _power(self, node: Node) -> Value:
        base, exponent = (self.value(child) for child in node.children)
        if node.children[0] == _EULER:
            return self._exp(exponent)
        return self.power(base, exponent)

    def power(self, base: Value, exponent: Value) -> Value:
        """``base ** exponent`` with the principal value."""
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            count = exponent.numerator
            if isinstance(base, Fraction):
                if base == 0:
                    if count <= 0:
                        raise NoValueError("a power of zero")
                    return base
                bits = max(base.numerator.bit_length(), base.denominator.bit_length())
                if base in (1, -1):
                    return base ** (count % 2)
                if (bits - 1) * abs(count) > _MAX_BITS:
                    raise NoValueError("the power is too large")
                return base**count
            if abs(count) > _MAX_MAGNITUDE:
                raise NoValueError("the power is too large")
            return base**count
        if isinstance(base, Fraction) and isinstance(exponent, Fraction):
            exact = exact_root(base, exponent.denominator)
            if exact is not None and base >= 0:
                return self.power(exact, Fraction(exponent.numerator))
        if base == 0:
            raise NoValueError("a power of zero")
        base, exponent = self.inexact(base), self.inexact(exponent)
        if abs(exponent) * (1 + abs(self._m.mag(base))) > _MAX_MAGNITUDE:
            raise NoValueError("the power is too large")
        return base**exponent

    def _exp(self, exponent: Value) -> Value:
        exponent = self.inexact(exponent)
        if abs(exponent) > _MAX_MAGNITUDE // 2:
            raise NoValueError("the power is too large")
        return self._m.exp(exponent)

    def _call(self, node: Node) -> Value:
        name, children = node.name, node.children
        if name in ("base", "percent", "unclear") or name.startswith("function "):
            values = [self.value(child) for child in children]
            if name == "base":
                return values[0]
            if name == "percent":
                return values[0] / 100
            if name == "unclear":
                raise NoValueError("unclear")
            return self._opaque(name, values)
        values = [self.value(child) for child in children]
        if name in EXACT:
            if not all(isinstance(value, Fraction) for value in values):
                values = [self._rounded(value) for value in values]
            return EXACT[name](*values)
        if name in ("sqrt", "root"):
            return self._root(values[0], values[1] if len(values) > 1 else Fraction(2))
        if name == "abs" and isinstance(values[0], Fraction):
            return abs(values[0])
        if name == "exp":
            return self._exp(values[0])
        if name == "degrees":
            return self.inexact(values[0]) * self._m.pi / 180
        if name == "factorial":
            return self._factorial(values[0])
        if name == "binom":
            return self._binomial(*values)
        if name in ("log", "lg", "ln"):
            return self._logarithm(name, values)
        return self._inexact_call(name, values)

    def _inexact_call(self, name: str, values: list[Value]) -> Value:
        if name not in _FUNCTIONS or len(values) != 1:
            raise NoValueError(f"no function {name} of {len(values)}")
        value = self.inexact(values[0])
        if abs(value) > 10**9:
            raise NoValueError("the argument is too large")
        result = getattr(self._m, _FUNCTIONS[name])(value)
        # sin(pi) and cos(pi/2) are zero but for rounding.
        periodic = name in ("sin", "cos", "tan", "cot")
        return Fraction(0) if periodic and abs(result) <= self.rounding else result

    def _rounded(self, value: Value) -> Fraction:
        """An inexact value that is an integer but for rounding, or any other as it stands."""
        value = self.inexact(value)
        if self._m.im(value) != 0:
            raise NoValueError("a complex argument")
        value = self._m.re(value)
        nearest = self._m.nint(value)
        if abs(value - nearest) <= self.rounding * max(1, abs(value)):
            return Fraction(int(nearest))
        sign, mantissa, exponent, _ = self._m.mpf(value)._mpf_
        exact: Fraction = Fraction(-mantissa if sign else mantissa) * Fraction(2) ** int(exponent)
        return exact

    def _root(self, radicand: Value, degree: Value) -> Value:
        if not isinstance(degree, Fraction):
            return self.power(radicand, 1 / degree)
        if degree == 0:
            raise NoValueError("a root of degree zero")
        if isinstance(radicand, Fraction):
            if degree.denominator == 1 and 0 < degree < 1000:
                exact = exact_root(radicand, degree.numerator)
                if exact is not None:
                    return exact
            if radicand < 0 and degree.denominator == 1 and degree.numerator % 2:
                return -self.power(-radicand, 1 / degree)
        if radicand == 0:
            return Fraction(0)
        return self.power(radicand, 1 / degree)

    def _factorial(self, value: Value) -> Value:
        if isinstance(value, Fraction) and value.denominator == 1:
            if not 0 <= value <= _MAX_FACTORIAL:
                raise NoValueError("a factorial beyond the limit")
            return Fraction(math.factorial(value.numerator))
        number = self.inexact(value)
        if abs(number) > 1000:
            raise NoValueError("a factorial beyond the limit")
        return self._m.gamma(number + 1)

    def _binomial(self, n: Value, k: Value) -> Value:
        if all(isinstance(v, Fraction) and v.denominator == 1 for v in (n, k)):
            if not 0 <= n <= 10 * _MAX_FACTORIAL or k < 0:
                raise NoValueError("a binomial beyond the limit")
            return Fraction(math.comb(n.numerator, k.numerator))
        if max(abs(n), abs(k)) > 1000:
            raise NoValueError("a binomial beyond the limit")
        return self._m.binomial(self.inexact(n), self.inexact(k))

    def _logarithm(self, name: str, values: list[Value]) -> Value:
        logs = [self._m.log(self.inexact(value)) for value in values]
        if len(logs) == 2:
            return logs[0] / logs[1]
        if name == "ln":
            return logs[0]
        # The base of \log is not known: ln and this are never equal.
        return logs[0] * self.inexact(_fraction_of(f"base of {name}"))

    def _opaque(self, name: str, values: list[Value]) -> Value:
        """A value of an unknown function, which depends on its name and arguments alone."""
        shown = [self._m.nstr(self.inexact(value), 25) for value in values]
        return _fraction_of(f"{name}({','.join(shown)})")


_EULER: Final = Node("symbol", name="e")

_RULES: Final[dict[str, Callable[[Evaluation, Node], Value]]] = {
    "number": Evaluation._number,
    "symbol": Evaluation._symbol,
    "add": Evaluation._add,
    "multiply": Evaluation._multiply,
    "divide": Evaluation._divide,
    "negate": Evaluation._negate,
    "power": Evaluation._power,
    "call": Evaluation._call,
}
_FUNCTIONS: Final = {
    **{n: n for n in word_list("sin cos tan cot sec csc sinh cosh tanh coth sech csch")},
    **{f"arc{n}": f"a{n}" for n in word_list("sin cos tan cot sec csc sinh cosh tanh coth")},
    **{"abs": "fabs", "Re": "re", "Im": "im", "arg": "arg"},
}


def _fraction_of(name: str) -> Fraction:
    """A rational between 1 and 3 that is a function of a name."""
    digest = hashlib.sha256(name.encode()).digest()
    return 1 + Fraction(int.from_bytes(digest[:4], "big"), 1 << 31)


def point_value(name: str, trial: int) -> Fraction:
    """The value of a symbol in a trial: positive in the first, then of both signs and sizes."""
    digest = hashlib.sha256(f"{trial} {name}".encode()).digest()
    size = Fraction(int.from_bytes(digest[:2], "big") + 1, 1 << (13 + 3 * (trial % 2)))
    return -size if trial > 1 and digest[2] & 1 else size
