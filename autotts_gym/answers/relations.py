r"""Reading of equations and inequalities: ``x=5``, ``0\le x<1``, ``x\in\{1,2\}``, ``2+3=5``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from autotts_gym.answers import intervals
from autotts_gym.answers.expressions import parse_expression
from autotts_gym.answers.identity import equal_values, symbols
from autotts_gym.answers.nodes import Node, NotAnExpressionError, infinity_sign
from autotts_gym.answers.token_lists import Tokens, split
from autotts_gym.answers.tokens import join
from autotts_gym.answers.values import Answer, Interval, Intervals, Named, Quantity, Relation
from autotts_gym.answers.values import Sequence as SequenceValue

_SIGNS: Final = frozenset(("=", "<", ">", r"\le", r"\ge", r"\ne", r"\in", r"\approx", r"\equiv"))
_MIRRORED: Final = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_GREEK: Final = r"\\[A-Za-z]+"
_SUBSCRIPT: Final = r"(?:_(?:[A-Za-z0-9]+|\{[^{}]*\}|\\[a-z]+))?"
_SYMBOL: Final = rf"(?:[A-Za-z]|{_GREEK}){_SUBSCRIPT}'*{_SUBSCRIPT}"
_NAME: Final = re.compile(
    rf"{_SYMBOL}"
    rf"|[A-Za-z]{_SUBSCRIPT}'*\((?:[-+A-Za-z0-9,|' ]|\\[a-z]+)*\)"
    r"|m?\s?\\(?:angle|triangle|overline|vec)\s?\{?[A-Z]+\}?"
    r"|[A-Z]{2,4}|\|?[A-Z]{2}\|?"
    r"|\\frac\{?d\}?\{?[a-z]\}?|\\frac\{d[a-z]\}\{d[a-z]\}|d[a-z]/d[a-z]"
)
_TUPLE_NAME: Final = re.compile(rf"\({_SYMBOL}(?:,{_SYMBOL})+\)")
_FUNCTION_COMMANDS: Final = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc|log|ln|exp|sqrt|frac|pi)\b")


class SideReaders(NamedTuple):
    """Functions that read an answer, and an element of a list, from tokens at a depth."""

    read: Callable[[Tokens, int], Answer]
    read_item: Callable[[Tokens, int], Answer]


def name_of(tokens: Tokens) -> str | None:
    """The name that tokens are (``x_1``, ``P(A)``, ``Total``, ``(x,y)``); None if they are none."""
    if not tokens:
        return None
    joined = re.sub(r"_\{([A-Za-z0-9])\}", r"_\1", join(list(tokens)))
    if all(t.kind == "word" for t in tokens) and (
        any(len(t.text) > 3 or t.prose for t in tokens) and len(tokens) < 9
    ):
        return joined.casefold()
    if _FUNCTION_COMMANDS.match(joined) and not joined.startswith(r"\frac"):
        return None
    if len(joined) < 60 and (_NAME.fullmatch(joined) or _TUPLE_NAME.fullmatch(joined)):
        return None if joined in ("e", "i") else joined
    return None


def read(tokens: Tokens, depth: int, sides: SideReaders) -> Answer | None:
    """Read a relation; None if there is no sign of a relation.

    Args:
        tokens: the tokens.
        depth: number of forms around it.
        sides: how to read its sides, which can be answers of every form.

    Raises:
        NotAnExpressionError: there is one, and no form reads it.
    """
    parts, found = split(tokens, lambda t: t.text in _SIGNS)
    signs = [token.text for token in found]
    if not signs:
        return None
    if not parts[0] and len(signs) == 1 and signs[0] in _MIRRORED:
        return _half_line(signs[0], parts[1], depth, sides)
    if any(not part for part in parts):
        raise NotAnExpressionError("a side is missing")
    if set(signs) <= {"=", r"\approx"}:
        return _read_equal(parts, depth, sides)
    if signs == [r"\in"]:
        name = name_of(parts[0])
        if name is None:
            raise NotAnExpressionError("not a name")
        return Named(name, sides.read(parts[1], depth + 1))
    if signs == [r"\ne"]:
        return _read_unequal(parts, depth, sides)
    if r"\in" in signs or r"\ne" in signs or r"\equiv" in signs:
        raise NotAnExpressionError("several relations")
    if signs[0] == "=" and len(signs) == 1:
        return _read_equal(parts, depth, sides)
    if len(parts) == 2:
        return _read_inequality(parts, signs[0], depth, sides)
    if len(parts) == 3 and "=" not in signs:
        return _read_chain(parts, signs, depth, sides)
    raise NotAnExpressionError("several relations")


def _node(tokens: Tokens) -> Node:
    loose, tight = parse_expression(tokens)
    if loose != tight:
        raise NotAnExpressionError("an ambiguous side")
    return loose


def _read_equal(parts: list[Tokens], depth: int, sides: SideReaders) -> Answer:
    name = name_of(parts[0])
    names = [name_of(part) for part in parts[:-1]]
    if name is not None and len(parts) == 2:
        value = _read_value(parts[1], depth, sides)
        if value is not None:
            return Named(name, value)
    elif name is not None or len(parts) > 2:
        rest = parts[next((at for at, n in enumerate(names) if n is None), len(parts) - 1) :]
        value = sides.read(rest[-1], depth + 1)
        if isinstance(value, Quantity) and all(
            equal_values(_node(part), value.node) for part in rest[:-1]
        ):
            return value if name is None else Named(name, value)
        raise NotAnExpressionError("several equations")
    left, right = _node(parts[0]), None
    try:
        right = _node(parts[1])
    except NotAnExpressionError:
        quantity = sides.read(parts[1], depth + 1)
        if not isinstance(quantity, Quantity) or symbols(left):
            raise
        right = quantity.node
        if equal_values(left, right):
            return quantity
        raise
    if not symbols(left) and not symbols(right):
        if equal_values(left, right):
            return Quantity(right, right)
        raise NotAnExpressionError("an equation that is false")
    mirrored = name_of(parts[1])
    if mirrored is not None and not symbols(left):  # 5 = x
        return Named(mirrored, Quantity(left, left))
    return Relation("=", Node("add", (left, Node("negate", (right,)))))


def _read_value(tokens: Tokens, depth: int, sides: SideReaders) -> Answer | None:
    value = sides.read_item(tokens, depth)
    if isinstance(value, Relation):
        raise NotAnExpressionError("several relations")
    return value


def _half_line(sign: str, tokens: Tokens, depth: int, sides: SideReaders) -> Intervals:
    node = _end(tokens, depth, sides)
    if node is None:
        raise NotAnExpressionError("infinite")
    closed = sign in (r"\le", r"\ge")
    if sign in ("<", r"\le"):
        return Intervals((Interval(None, node, False, closed),))
    return Intervals((Interval(node, None, closed, False),))


def _end(tokens: Tokens, depth: int, sides: SideReaders) -> Node | None:
    value = sides.read(tokens, depth + 1)
    if not isinstance(value, Quantity) or value.node != value.tight:
        raise NotAnExpressionError("an end of an interval")
    return None if infinity_sign(value.node) else value.node


def _read_inequality(parts: list[Tokens], sign: str, depth: int, sides: SideReaders) -> Answer:
    for side, other, direction in (
        (parts[0], parts[1], sign),
        (parts[1], parts[0], _MIRRORED[sign]),
    ):
        name = name_of(side)
        if name is not None:
            try:
                line = _half_line(direction, other, depth, sides)
            except NotAnExpressionError:
                continue
            if name not in symbols(line.pieces[0].low or line.pieces[0].high or Node("number")):
                return Named(name, line)
    left, right = _node(parts[0]), _node(parts[1])
    if sign in (">", r"\ge"):
        left, right, sign = right, left, _MIRRORED[sign]
    return Relation(sign, Node("add", (left, Node("negate", (right,)))))


def _read_chain(parts: list[Tokens], signs: list[str], depth: int, sides: SideReaders) -> Answer:
    r"""``0 \le x < 1``, in either direction."""
    if all(sign in (">", r"\ge") for sign in signs):
        parts, signs = parts[::-1], [_MIRRORED[sign] for sign in signs[::-1]]
    name = name_of(parts[1])
    if name is None or not all(sign in ("<", r"\le") for sign in signs):
        raise NotAnExpressionError("a chain of relations")
    low, high = _end(parts[0], depth, sides), _end(parts[2], depth, sides)
    closed = [sign == r"\le" for sign in signs]
    piece = Interval(low, high, closed[0] and low is not None, closed[1] and high is not None)
    return Named(name, Intervals((piece,)))


def _read_unequal(parts: list[Tokens], depth: int, sides: SideReaders) -> Answer:
    name = name_of(parts[0])
    value = sides.read(parts[1], depth + 1)
    if name is None:
        node = Node("add", (_node(parts[0]), Node("negate", (_node(parts[1]),))))
        return Relation(r"\ne", node)
    points = intervals.as_intervals(
        value if isinstance(value, SequenceValue) else SequenceValue("set", (value,))
    )
    if points is None:
        raise NotAnExpressionError("a relation")
    return Named(name, intervals.without(intervals.REALS, points))
