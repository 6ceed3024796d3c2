r"""Mathematical expressions: their tree, and the parser that makes it from tokens.

The parser reads LaTeX (``\frac{1}{2}``, ``\sqrt[3]{x}``, ``x^{10}``) and code-like notation
(``sqrt(2)``, ``2*pi``, ``x**2``). It reads all tokens or raises :class:`NotAnExpressionError`; a
part of an answer is never taken for the answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from autotts_gym.answers.nodes import (
    FUNCTIONS,
    GREEK,
    Node,
    NotAnExpressionError,
    based_number,
)
from autotts_gym.answers.tokens import Token
from autotts_gym.answers.word_parser import WordParser

_MAX_DEPTH: Final = 60
_CLOSING: Final = {"(": ")", "[": "]", "{": "}", r"\{": r"\}", r"\lfloor": r"\rfloor"} | {
    r"\lceil": r"\rceil"
}
_SIMPLE_CALLS: Final = {r"\lfloor": "floor", r"\lceil": "ceil"}
_LETTER_DIGITS: Final = re.compile(r"((?=[0-9]*[A-Fa-f])[0-9A-Fa-f]{2,})_(?:\{16\}|16)")


class Parser(WordParser):
    """Parser of one expression.

    Args:
        tokens: the tokens.
        tight: how ``1/2x`` is read: as ``1/(2x)`` if it is set, else as ``(1/2)x``.

    Attributes:
        ambiguous: whether ``tight`` makes a difference.
    """

    def __init__(self, tokens: Sequence[Token], tight: bool = False) -> None:
        super().__init__(tokens)
        self._tight = tight
        self._depth = 0
        self.ambiguous = False

    def parse(self) -> Node:
        """Parse all tokens.

        Raises:
            NotAnExpressionError: they are no expression.
        """
        node = self._letter_digits() or self._sum()
        if self._at < len(self._tokens):
            raise NotAnExpressionError(f"unexpected {self._peek()!r}")
        return node

    def _letter_digits(self) -> Node | None:
        """``1F_{16}``, whose digits and letters are separate tokens."""
        written = "".join(token.text for token in self._tokens)
        match = _LETTER_DIGITS.fullmatch(written)
        if match is None:
            return None
        self._at = len(self._tokens)
        return based_number(match[1], 16)

    # --- grammar ---------------------------------------------------------------------------------

    def _sum(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise NotAnExpressionError("nested too deeply")
        terms: list[Node] = []
        node: Node | None = None
        sign = self._peek()
        if sign in (r"\pm", r"\mp"):
            self._at += 1
            node = Node("plus_minus", (self._product(),), sign)
            terms.append(node)
        else:
            terms.append(self._product())
        while self._peek() in ("+", "-", r"\pm", r"\mp"):
            sign = self._next().text
            term = self._product()
            if sign == "-":
                term = Node("negate", (term,))
            elif sign != "+":
                term = Node("plus_minus", (term,), sign)
            terms.append(term)
        self._depth -= 1
        return terms[0] if len(terms) == 1 else Node("add", tuple(terms))

    def _product(self) -> Node:
        node = self._unary()
        while True:
            text = self._peek()
            if text == "*":
                self._at += 1
                node = Node("multiply", (node, self._unary()))
            elif text in ("/", r"\over"):
                self._at += 1
                node = self._division(node)
            elif text == r"\choose":
                self._at += 1
                node = Node("call", (node, self._unary()), "binom")
            elif self._starts_factor():
                node = Node("multiply", (node, self._power()))
            else:
                return node

    def _division(self, numerator: Node) -> Node:
        divisor = self._unary()
        # In 1/2 x the space says what the fraction is.
        plain = numerator.kind == divisor.kind == "number"
        if self._starts_factor() and not (plain and self._spaced()):
            self.ambiguous = True
            while self._tight and self._starts_factor():
                divisor = Node("multiply", (divisor, self._power()))
        return Node("divide", (numerator, divisor))

    def _unary(self) -> Node:
        negative = False
        count = 0
        while self._peek() in ("-", "+"):
            negative ^= self._next().text == "-"
            count += 1
            if count > 3:
                raise NotAnExpressionError("several signs")
        node = self._power()
        return Node("negate", (node,)) if negative else node

    def _starts_factor(self) -> bool:
        """Whether the next token starts a factor without a sign of multiplication."""
        if self._at >= len(self._tokens):
            return False
        token = self._tokens[self._at]
        if token.kind == "number":
            # 2 3 is no product; x 2, \pi 2 and 3\frac{1}{2} may be.
            return self._tokens[self._at - 1].kind != "number"
        if token.kind == "word":
            return True
        if token.kind == "command":
            return (
                token.text[1:] in FUNCTIONS
                or token.text[1:] in GREEK
                or token.text
                in (r"\frac", r"\sqrt", r"\binom", r"\pi", r"\infty", r"\lfloor", r"\lceil")
                or token.text in (r"\angle", r"\triangle", r"\mathbb", r"\overline", r"\vec")
            )
        return token.text in ("(", "{", "[")

    def _power(self) -> Node:
        node = self._postfix(self._atom())
        if self._peek() == "^":
            self._at += 1
            if self._is_degree():
                return Node("call", (node,), "degrees")
            node = Node("power", (node, self._exponent()))
            if self._peek() == "^":
                raise NotAnExpressionError("a double exponent")
            node = self._postfix(node)
        return node

    def _is_degree(self) -> bool:
        if self._peek() == r"\circ":
            self._at += 1
            return True
        if (self._peek(), self._peek(1), self._peek(2)) == ("{", r"\circ", "}"):
            self._at += 3
            return True
        return False

    def _postfix(self, node: Node) -> Node:
        while self._peek() in ("!", "%"):
            mark = self._next().text
            if mark == "!" and self._peek() == "!":
                raise NotAnExpressionError("a double factorial")
            node = Node("call", (node,), "factorial" if mark == "!" else "percent")
        return node

    def _exponent(self) -> Node:
        """An exponent: in braces or brackets, a number, or one letter."""
        if self._peek() in ("-", "+"):
            negative = self._next().text == "-"
            node = self._exponent()
            return Node("negate", (node,)) if negative else node
        node = self._atom(single=True)
        if self._peek() == "^":  # 9^9^9 associates to the right
            self._at += 1
            node = Node("power", (node, self._exponent()))
        return node

    def _atom(self, single: bool = False) -> Node:
        token = self._next()
        if token.kind == "number":
            return self._number(token)
        if token.kind == "word":
            return self._word(token, single)
        if token.text in ("(", "[", "{", r"\lfloor", r"\lceil"):
            node = self._group(token.text)
            if token.text in _SIMPLE_CALLS:
                return Node("call", (node,), _SIMPLE_CALLS[token.text])
            return self._subscripted_group(node)
        if token.text == "|":
            node = self._sum()
            self._expect("|")
            return Node("call", (node,), "abs")
        if token.kind == "command":
            return self._command(token.text)
        raise NotAnExpressionError(f"unexpected {token.text!r}")

    def _subscripted_group(self, node: Node) -> Node:
        if self._peek() != "_":
            return node
        raise NotAnExpressionError("a subscript after a bracket")

    def _group(self, opening: str) -> Node:
        node = self._sum()
        self._expect(_CLOSING[opening])
        return node

    def _arguments(self) -> tuple[Node, ...]:
        """Arguments in brackets, separated by commas; the opening bracket is read."""
        nodes = [self._sum()]
        while self._peek() == ",":
            self._at += 1
            nodes.append(self._sum())
        self._expect(")")
        return tuple(nodes)


def parse_expression(tokens: Sequence[Token]) -> tuple[Node, Node]:
    """Parse an expression in its two readings, which are the same object if it is unambiguous.

    Raises:
        NotAnExpressionError: the tokens are no expression.
    """
    parser = Parser(tokens)
    loose = parser.parse()
    if not parser.ambiguous:
        return loose, loose
    try:
        return loose, Parser(tokens, tight=True).parse()
    except NotAnExpressionError:
        return loose, Node("call", (loose,), "unclear")
