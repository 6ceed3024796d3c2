r"""Parsing of numbers: ``1.5e3``, ``3\frac{1}{2}``, ``0.\overline{3}``, ``1010_2``, ``0x1F``."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import Final

from autotts_gym.answers.nodes import Node, NotAnExpressionError, based_number, significant
from autotts_gym.answers.tokens import Token

#: Longest number and largest exponent of scientific notation that are read.
MAX_DIGITS: Final = 20_000
_MAX_EXPONENT: Final = 20_000
_ORDER: Final = {"two": 2, "three": 3, "eight": 8, "ten": 10, "sixteen": 16}


class NumberParser(ABC):
    """Reads tokens one after the other, and parses numbers.

    Args:
        tokens: the tokens.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = tokens
        self._at = 0

    @abstractmethod
    def _argument(self) -> Node:
        """Parse the argument of a command."""

    # --- reading tokens --------------------------------------------------------------------------

    def _peek(self, ahead: int = 0) -> str:
        at = self._at + ahead
        return self._tokens[at].text if at < len(self._tokens) else ""

    def _next(self) -> Token:
        if self._at >= len(self._tokens):
            raise NotAnExpressionError("it ends early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, text: str) -> None:
        if self._next().text != text:
            raise NotAnExpressionError(f"{text!r} is missing")

    def _spaced(self) -> bool:
        return self._at < len(self._tokens) and self._tokens[self._at].spaced

    # --- numbers ---------------------------------------------------------------------------------

    def _number(self, token: Token) -> Node:
        text = token.text
        if len(text) > MAX_DIGITS:
            raise NotAnExpressionError("too many digits")
        if text[1:2] in ("x", "X", "b"):  # 0x1F or 0b101
            return Node("number", value=Fraction(int(text, 0)))
        if self._peek() == "_" and "." not in text:
            return self._based_number(text)
        decimal = "." in text
        node = Node("number", value=Fraction(text), digits=significant(text) if decimal else 0)
        if decimal and self._peek() == r"\overline" and not self._spaced():
            self._at += 1
            return self._repeating(text, self._braced_digits())
        if self._peek() == "." and self._peek(1) == r"\overline":
            self._at += 2
            return self._repeating(text + ".", self._braced_digits())
        if decimal and (self._peek(), self._peek(1), self._peek(2)) == (".", ".", "."):
            self._at += 3
            return self._continued(text)
        if decimal and self._peek() == r"\ldots":
            self._at += 1
            return self._continued(text)
        return self._mixed(self._scientific(node))

    def _scientific(self, node: Node) -> Node:
        letter = self._peek()
        if letter not in ("e", "E") or self._spaced():
            return node
        sign = self._peek(1) if self._peek(1) in ("+", "-") else ""
        token = self._tokens[self._at + 1 + len(sign) :][:1]
        if not token or token[0].kind != "number" or not token[0].text.isdigit():
            return node
        exponent = int(sign + token[0].text) if len(token[0].text) < 6 else _MAX_EXPONENT + 1
        if abs(exponent) > _MAX_EXPONENT or token[0].spaced:
            raise NotAnExpressionError("an exponent beyond the limit")
        self._at += 2 + len(sign)
        return Node("number", value=node.value * Fraction(10) ** exponent, digits=node.digits)

    def _mixed(self, node: Node) -> Node:
        r"""Add the fraction of ``3\frac{1}{2}`` or ``3 1/2``."""
        if node.value.denominator != 1 or node.digits:
            return node
        start = self._at
        if self._peek() == r"\frac":
            self._at += 1
            try:
                parts = self._argument(), self._argument()
            except NotAnExpressionError:
                parts = None
        elif self._spaced() and self._peek().isdigit() and self._peek(1) == "/":
            token = self._tokens[self._at + 2 : self._at + 3]
            follows = self._peek(3)
            parts = None
            if token and token[0].text.isdigit() and follows not in ("^", "_", "!"):
                values = (Fraction(self._peek()), Fraction(self._peek(2)))
                parts = Node("number", value=values[0]), Node("number", value=values[1])
                self._at += 3
            else:
                raise NotAnExpressionError("two numbers side by side")
        else:
            return node
        if parts and all(p.kind == "number" and p.value.denominator == 1 for p in parts):
            numerator, denominator = parts[0].value, parts[1].value
            if 0 < numerator < denominator and self._peek() != "^":
                return Node("number", value=node.value + numerator / denominator)
        self._at = start
        return node

    def _based_number(self, digits: str) -> Node:
        self._at += 1
        braced = self._peek() == "{"
        self._at += braced
        token = self._next()
        base = _ORDER.get(token.text) or (
            int(token.text) if re.fullmatch("[0-9]{1,2}", token.text) else 0
        )
        if braced:
            self._expect("}")
        if not 2 <= base <= 36:
            raise NotAnExpressionError("a number with a subscript")
        return based_number(digits, base)

    def _braced_digits(self) -> str:
        token = self._next()
        if token.text == "{":
            token = self._next()
            self._expect("}")
        if not re.fullmatch("[0-9]{1,30}", token.text):
            raise NotAnExpressionError("the repeating digits are missing")
        return token.text

    def _repeating(self, text: str, period: str) -> Node:
        whole, _, fraction = text.partition(".")
        value = Fraction(int(whole + fraction + period) - int(whole + fraction or "0"))
        scale = 10 ** len(fraction) * (10 ** len(period) - 1)
        return Node("number", value=value / scale)

    def _continued(self, text: str) -> Node:
        """``0.333...``: repeats its last digits if they stand there three times or twice."""
        _, _, fraction = text.partition(".")
        for length in range(1, len(fraction) // 2 + 1):
            period = fraction[-length:]
            times = 3 if length == 1 else 2
            if fraction.endswith(period * times):
                return self._repeating(text[: len(text) - length], period)
        # Digits of which the rest is unknown.
        return Node("number", value=Fraction(text), digits=significant(text))
