"""The tree of a mathematical expression, and the names of functions and letters."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from autotts_gym.answers.word_sets import word_set

#: Names of functions.
FUNCTIONS: Final = word_set(
    """sin cos tan cot sec csc arcsin arccos arctan arccot asin acos atan sinh cosh tanh coth
    sech csch arcsinh arccosh arctanh ln log lg exp sqrt cbrt abs floor ceil max min gcd
    lcm sgn sign binom factorial Re Im arg"""
)
#: Names of Greek letters.
GREEK: Final = word_set(
    """alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi rho sigma tau
    phi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi Psi Omega"""
)


class NotAnExpressionError(ValueError):
    """The tokens are not a mathematical expression that this parser reads."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node of an expression.

    Attributes:
        kind: ``number``, ``symbol``, ``add``, ``multiply``, ``divide``, ``power``, ``negate``,
            ``call`` (of the function ``name``), ``plus_minus`` (its sign in ``name``).
        children: operands.
        name: of a symbol or function.
        value: of a number.
        digits: significant digits of a decimal; 0 for exact numbers.
    """

    kind: str
    children: tuple[Node, ...] = ()
    name: str = ""
    value: Fraction = Fraction(0)
    digits: int = 0


def based_number(digits: str, base: int) -> Node:
    """A number in a base: a call of ``base``, whose second child is the base."""
    try:
        value = int(digits, base)
    except ValueError:
        raise NotAnExpressionError(f"{digits} is no number in base {base}") from None
    children = Node("number", value=Fraction(value)), Node("number", value=Fraction(base))
    return Node("call", children, "base")


def significant(text: str) -> int:
    """Significant digits of a decimal: all from the first that is not zero."""
    return len(text.replace(".", "").lstrip("0"))


def infinity_sign(node: Node) -> int:
    """1 for infinity, -1 for its negative, 0 for anything else."""
    if node.kind == "negate":
        return -infinity_sign(node.children[0])
    return int(node.kind == "symbol" and node.name == r"\infty")
