r"""Parsing of letters, words and commands: ``xy``, ``\alpha_1``, ``\sin 2x``, ``sqrt(2)``."""

from __future__ import annotations

from abc import abstractmethod
from fractions import Fraction
from typing import Final

from autotts_gym.answers.nodes import FUNCTIONS, GREEK, Node, NotAnExpressionError
from autotts_gym.answers.number_parser import NumberParser
from autotts_gym.answers.tokens import Token

_ALIASES: Final = {"asin": "arcsin", "acos": "arccos", "atan": "arctan", "sign": "sgn"}
#: Letters that name functions: f(x) is not a product.
_FUNCTION_LETTERS: Final = frozenset("fgFG")


class WordParser(NumberParser):
    """Parses symbols and functions, with the grammar of a subclass around them.

    Attributes:
        ambiguous: whether ``tight`` makes a difference.
    """

    ambiguous: bool
    _tight: bool

    @abstractmethod
    def _group(self, opening: str) -> Node:
        """Parse the expression in a bracket that is open, and its end."""

    @abstractmethod
    def _arguments(self) -> tuple[Node, ...]:
        """Parse the arguments in a bracket that is open, and its end."""

    @abstractmethod
    def _power(self) -> Node:
        """Parse a factor with its exponent."""

    @abstractmethod
    def _exponent(self) -> Node:
        """Parse an exponent."""

    @abstractmethod
    def _postfix(self, node: Node) -> Node:
        """Parse the signs behind a factor."""

    @abstractmethod
    def _atom(self, single: bool = False) -> Node:
        """Parse a factor without its exponent."""

    @abstractmethod
    def _starts_factor(self) -> bool:
        """Whether the next token starts a factor without a sign of multiplication."""

    def _word(self, token: Token, single: bool) -> Node:
        text = token.text
        if text in FUNCTIONS:
            return self._function(text)
        if text in ("pi", "Pi"):
            return Node("symbol", name=r"\pi")
        if text in ("infinity", "Infinity", "inf", "oo", "infty"):
            return Node("symbol", name=r"\infty")
        if text in GREEK and len(text) > 2:
            return self._subscripted("\\" + text)
        if not text.isascii() or len(text) > 3 or token.prose:
            if token.prose and text in ("e", "i", "d", "mod"):
                return self._subscripted(text)
            raise NotAnExpressionError(f"the word {text!r}")
        for name in FUNCTIONS:  # xsin would be read as letters
            if len(name) > 2 and name in text:
                raise NotAnExpressionError(f"the word {text!r}")
        if single and len(text) > 1:
            raise NotAnExpressionError("an exponent of several letters without braces")
        nodes = [Node("symbol", name=letter) for letter in text[:-1]]
        nodes.append(self._letter(text[-1], bound=len(text) == 1))
        if len(nodes) == 1:
            return nodes[0]
        node = nodes[0]
        for factor in nodes[1:-1]:
            node = Node("multiply", (node, factor))
        last = self._postfix(nodes[-1])
        if self._peek() == "^" and not self._degree_ahead():  # ab^2: only b is squared
            self._at += 1
            last = Node("power", (last, self._exponent()))
        return Node("multiply", (node, last))

    def _degree_ahead(self) -> bool:
        return self._peek(1) == r"\circ" or (self._peek(1), self._peek(2)) == ("{", r"\circ")

    def _letter(self, letter: str, bound: bool = True) -> Node:
        node = self._subscripted(letter)
        if node.kind == "symbol" and letter in _FUNCTION_LETTERS and bound and self._peek() == "(":
            self._at += 1
            return Node("call", self._arguments(), f"function {node.name}")
        return node

    def _subscripted(self, name: str) -> Node:
        if self._peek() == "_":
            self._at += 1
            name += "_" + self._subscript()
        while self._peek() in ("'", "''"):
            name += self._next().text
        return Node("symbol", name=name)

    def _subscript(self) -> str:
        token = self._next()
        if token.text != "{":
            if token.kind in ("number", "word", "command"):
                return token.text
            raise NotAnExpressionError("an empty subscript")
        depth, pieces = 1, []
        while depth:
            text = self._next().text
            depth += {"{": 1, "}": -1}.get(text, 0)
            if depth:
                pieces.append(text)
        return "".join(pieces)

    def _command(self, text: str) -> Node:
        name = text[1:]
        if name == "frac":
            return Node("divide", (self._argument(), self._argument()))
        if name == "binom":
            return Node("call", (self._argument(), self._argument()), "binom")
        if name == "sqrt":
            return self._root()
        if name in FUNCTIONS:
            return self._function(name)
        if name in ("pi", "infty"):
            return Node("symbol", name=text)
        if name in GREEK:
            return self._subscripted(text)
        if name in ("overline", "vec", "hat", "tilde", "widehat", "overrightarrow"):
            return self._subscripted(f"{text}{{{self._subscript()}}}")
        if name in ("angle", "triangle"):
            return Node("symbol", name=text + self._next().text)
        if name == "exp":
            return self._function("exp")
        raise NotAnExpressionError(f"the command {text}")

    def _argument(self) -> Node:
        r"""The argument of a command: in braces, one digit (``\frac12``) or one token."""
        token = self._next()
        if token.text == "{":
            return self._group("{")
        if token.kind == "number" and len(token.text) > 1:
            if not token.text.isdigit():
                raise NotAnExpressionError("an argument without braces")
            rest = Token("number", token.text[1:])
            tokens = list(self._tokens)
            tokens[self._at - 1 : self._at] = [Token("number", token.text[0]), rest]
            self._tokens = tokens
            return Node("number", value=Fraction(token.text[0]))
        if token.kind == "number":
            return Node("number", value=Fraction(token.text))
        if token.kind == "word" and len(token.text) == 1:
            return Node("symbol", name=token.text)
        if token.kind == "word" and token.text.isascii() and not token.prose:
            tokens = list(self._tokens)
            tokens[self._at - 1 : self._at] = [
                Token("word", token.text[0]),
                Token("word", token.text[1:]),
            ]
            self._tokens = tokens
            return Node("symbol", name=token.text[0])
        if token.kind == "command":
            return self._command(token.text)
        raise NotAnExpressionError(f"unexpected {token.text!r}")

    def _root(self) -> Node:
        degree: Node | None = None
        if self._peek() == "[":
            self._at += 1
            degree = self._group("[")
        if self._peek() == "(":
            self._at += 1
            radicand = self._group("(")
        else:
            radicand = self._argument()
        if degree is None:
            return Node("call", (radicand,), "sqrt")
        return Node("call", (radicand, degree), "root")

    def _function(self, name: str) -> Node:
        name = _ALIASES.get(name, name)
        base: Node | None = None
        exponent: Node | None = None
        if name in ("log", "lg") and self._peek() == "_":
            self._at += 1
            base = self._exponent()
        if self._peek() == "^":
            self._at += 1
            exponent = self._exponent()
        arguments = self._function_arguments(name)
        if name == "log" and base is not None:
            node = Node("call", (*arguments, base), "log")
        elif name == "cbrt":
            node = Node("call", (*arguments, Node("number", value=Fraction(3))), "root")
        else:
            node = Node("call", arguments, name)
        if exponent is None:
            return node
        if exponent.kind == "negate" and name not in ("ln", "log", "lg"):
            if exponent.children[0].value != 1 or name.startswith("arc"):
                raise NotAnExpressionError("a negative power of a function")
            return Node("call", arguments, f"arc{name}")
        return Node("power", (node, exponent))

    def _function_arguments(self, name: str) -> tuple[Node, ...]:
        if self._peek() == "(":
            self._at += 1
            return self._arguments()
        if self._peek() in ("{", "["):
            opening = self._next().text
            return (self._group(opening),)
        if self._peek() == "|":
            return (self._atom(),)
        if name in ("sqrt", "max", "min", "gcd", "lcm", "binom", "factorial", "abs", "cbrt"):
            raise NotAnExpressionError(f"{name} without brackets")
        # sin 2x: the product up to the next sign, function or bracket
        node = self._power_or_degrees()
        while (
            self._starts_factor() and self._peek() not in ("(", "[") and not self._function_next()
        ):
            node = Node("multiply", (node, self._power()))
        if self._peek() == "/" or (self._peek() == "(" and node.kind != "number"):
            self.ambiguous = True
            if self._tight:
                raise NotAnExpressionError("an unclear argument of a function")
        return (node,)

    def _power_or_degrees(self) -> Node:
        if self._peek() == "-":
            self._at += 1
            return Node("negate", (self._power(),))
        return self._power()

    def _function_next(self) -> bool:
        return self._peek().lstrip("\\") in FUNCTIONS
