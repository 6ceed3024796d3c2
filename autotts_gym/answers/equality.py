"""Equality of two answers in their normal forms.

It is symmetric and reflexive, and in doubt False. A unit or a name that one of the two lacks
matches any; see :func:`specificity` for what that means for the classes of a question.
"""

from __future__ import annotations

from collections.abc import Sequence as List
from fractions import Fraction
from typing import Final

from autotts_gym.answers.evaluation import Evaluation, point_value
from autotts_gym.answers.exact_math import NoValueError
from autotts_gym.answers.identity import (
    ROUNDING_DIGITS,
    TRIALS,
    decimal_digits,
    equal_expressions,
    equal_values,
    exact_value,
    symbols,
)
from autotts_gym.answers.intervals import as_intervals, equal_intervals
from autotts_gym.answers.nodes import Node
from autotts_gym.answers.units import UNITS, Unit
from autotts_gym.answers.values import (
    Answer,
    Choice,
    Intervals,
    Matrix,
    Named,
    Quantity,
    Ratio,
    Relation,
    Sequence,
    Text,
    Time,
)

#: Longest lists that are compared without order.
_MAX_UNORDERED: Final = 200


def equal_answers(a: Answer, b: Answer) -> bool:
    """Whether two answers are equal."""
    if a == b:
        return True
    if isinstance(a, Named) or isinstance(b, Named):
        return _equal_named(a, b)
    if isinstance(a, Choice):
        return _equal_choices(a, b)
    if isinstance(b, Choice):
        return _equal_choices(b, a)
    if isinstance(a, Intervals) or isinstance(b, Intervals):
        one, two = as_intervals(a), as_intervals(b)
        return one is not None and two is not None and equal_intervals(one, two)
    if isinstance(a, Sequence) and isinstance(b, Sequence):
        return _equal_sequences(a, b)
    if isinstance(a, Quantity) and isinstance(b, Quantity):
        return _equal_quantities(a, b)
    if isinstance(a, Text) or isinstance(b, Text):
        return _equal_texts(a, b)
    if isinstance(a, Time) and isinstance(b, Time):
        return _equal_times(a, b)
    if isinstance(a, Ratio) and isinstance(b, Ratio):
        return _equal_ratios(a, b)
    if isinstance(a, Matrix) and isinstance(b, Matrix):
        return _equal_rows(a, b)
    if isinstance(a, Relation) and isinstance(b, Relation):
        return a.sign == b.sign and _same_up_to_factor(a.node, b.node, a.sign)
    return False


def _equal_named(a: Answer, b: Answer) -> bool:
    if isinstance(a, Named) and isinstance(b, Named):
        if _plain_name(a.name) == _plain_name(b.name):
            return equal_answers(a.value, b.value)
        return _equal_equations(a, b)
    named, other = (a, b) if isinstance(a, Named) else (b, a)
    assert isinstance(named, Named)
    if isinstance(other, Relation):
        return _equal_equations(a, b)
    return equal_answers(named.value, other)


def _plain_name(name: str) -> str:
    return name.replace("{", "").replace("}", "").replace(" ", "").lstrip("\\")


def _equal_equations(a: Answer, b: Answer) -> bool:
    """Equations of which one or both are solved for a symbol, as ``y=2x+1``."""
    nodes = [_equation(answer) for answer in (a, b)]
    if nodes[0] is None or nodes[1] is None:
        return False
    # x=5 and y=5 differ, and so do f(x)=x and g(x)=x, whose names are no symbols.
    if symbols(nodes[0]) != symbols(nodes[1]) or len(symbols(nodes[0])) < 2:
        return False
    return _same_up_to_factor(nodes[0], nodes[1], "=")


def _equation(answer: Answer) -> Node | None:
    if isinstance(answer, Relation):
        return answer.node if answer.sign == "=" else None
    if isinstance(answer, Named) and isinstance(answer.value, Quantity):
        quantity = answer.value
        if quantity.unit is None and quantity.node == quantity.tight and len(answer.name) < 9:
            name = Node("symbol", name=answer.name)
            return Node("add", (name, Node("negate", (quantity.node,))))
    return None


def _same_up_to_factor(a: Node, b: Node, sign: str) -> bool:
    """Whether two expressions differ by a constant factor (positive for an inequality)."""
    if symbols(a) != symbols(b):
        return False
    ratio = _value_at(a, b)
    if ratio is None or ratio == 0 or (sign in ("<", r"\le") and ratio < 0):
        return False
    return equal_values(a, Node("multiply", (Node("number", value=ratio), b)))


def _value_at(a: Node, b: Node) -> Fraction | None:
    """The ratio of two expressions at one point, if both are rational there."""
    point = {name: point_value(name, TRIALS + 1) for name in symbols(a)}
    try:
        values = [Evaluation(point).value(node) for node in (a, b)]
    except NoValueError:
        return None
    if not all(isinstance(value, Fraction) for value in values) or values[1] == 0:
        # Irrational equations are equal only as they stand, or with the sides exchanged.
        for factor in (1, -1):
            scaled = Node("multiply", (Node("number", value=Fraction(factor)), b))
            if equal_values(a, scaled):
                return Fraction(factor)
        return None
    ratio: Fraction = values[0] / values[1]
    return ratio


# --- single answers ------------------------------------------------------------------------------


def _equal_choices(choice: Choice, other: Answer) -> bool:
    if isinstance(other, Choice):
        if choice.letter != other.letter:
            return False
        if choice.content is None or other.content is None:
            return True
        return equal_answers(choice.content, other.content)
    if isinstance(other, Quantity) and other.unit is None and other.node.kind == "symbol":
        name = other.node.name
        same = name.upper() == choice.letter and name not in ("e", "i")
    else:
        same = False
    return same or (choice.content is not None and equal_answers(choice.content, other))


def _equal_quantities(a: Quantity, b: Quantity) -> bool:
    if a.unit is not None and b.unit is not None:
        a, b = _in_degrees(a, b), _in_degrees(b, a)
        assert a.unit is not None
        assert b.unit is not None
        if a.unit.dimension != b.unit.dimension:
            return False
        a, b = _scaled(a), _scaled(b)
    elif (a.unit or b.unit) and any(_is_percent(q.node) for q in (a, b)):
        return False
    if not _equal_nodes(a.node, b.node):
        return False
    return (a.node, b.node) == (a.tight, b.tight) or _equal_nodes(a.tight, b.tight)


def _in_degrees(quantity: Quantity, other: Quantity) -> Quantity:
    """An angle in radians as degrees, if the other is in degrees."""
    if quantity.unit != UNITS["rad"] or other.unit != UNITS["deg"]:
        return quantity
    node, tight = (
        Node("divide", (_times(each, Fraction(180)), Node("symbol", name=r"\pi")))
        for each in (quantity.node, quantity.tight)
    )
    return Quantity(node, tight, UNITS["deg"])


def _scaled(quantity: Quantity) -> Quantity:
    """A quantity in base units."""
    assert quantity.unit is not None
    factor = quantity.unit.factor
    if factor == 1:
        return quantity
    unit = Unit(quantity.unit.dimension)
    return Quantity(_times(quantity.node, factor), _times(quantity.tight, factor), unit)


def _times(node: Node, factor: Fraction) -> Node:
    return Node("multiply", (node, Node("number", value=factor)))


def _is_percent(node: Node) -> bool:
    return node.kind == "call" and node.name == "percent"


def _equal_nodes(a: Node, b: Node) -> bool:
    """Whether two expressions are equal; ``50%`` equals 50, whose sign is missing, and 1/2."""
    if _is_infinite(a) or _is_infinite(b):
        return a == b
    if equal_expressions(a, b):
        return True
    if _is_percent(a) != _is_percent(b):
        bare = [node.children[0] if _is_percent(node) else node for node in (a, b)]
        return equal_expressions(*bare)
    return False


def equal_as_share(a: Answer, b: Answer) -> bool:
    """Whether one is a percentage and the other its value: ``50%`` and ``1/2``."""
    one, two = (answer.value if isinstance(answer, Named) else answer for answer in (a, b))
    if not isinstance(one, Quantity) or not isinstance(two, Quantity):
        return False
    return _is_percent(one.node) != _is_percent(two.node) and equal_values(one.node, two.node)


def _is_infinite(node: Node) -> bool:
    while node.kind == "negate":
        node = node.children[0]
    return node.kind == "symbol" and node.name == r"\infty"


def _equal_texts(a: Answer, b: Answer) -> bool:
    if isinstance(a, Text) and isinstance(b, Text):
        if a.prose and b.prose:
            return a.form == b.form
        return a.form.replace(" ", "") == b.form.replace(" ", "") and not (a.prose or b.prose)
    return False


def _equal_times(a: Time, b: Time) -> bool:
    """Whether two times are equal; 3:00, without am or pm, equals 3 am and 3 pm."""
    if bool(a.half) == bool(b.half):
        return a == b
    marked, plain = (a, b) if a.half else (b, a)
    hour = 3600
    # 12:30 without a mark may be 0:30, that is 12:30 am.
    ambiguous = plain.seconds < 13 * hour
    return plain.seconds == marked.seconds or (
        ambiguous and plain.seconds % (12 * hour) == marked.seconds % (12 * hour)
    )


def _equal_ratios(a: Ratio, b: Ratio) -> bool:
    if len(a.parts) != len(b.parts):
        return False
    values = [exact_value(part) for part in (a.parts[0], b.parts[0])]
    if 0 in values:
        return all(equal_values(p, q) for p, q in zip(a.parts, b.parts, strict=True))
    return all(
        equal_values(Node("multiply", (p, b.parts[0])), Node("multiply", (q, a.parts[0])))
        for p, q in zip(a.parts[1:], b.parts[1:], strict=True)
    )


# --- several answers -----------------------------------------------------------------------------


def _equal_sequences(a: Sequence, b: Sequence) -> bool:
    kinds = {a.kind, b.kind}
    if a.kind == b.kind == "assignments":
        return _equal_unordered(a.items, b.items)
    if "assignments" in kinds:
        named, other = (a, b) if a.kind == "assignments" else (b, a)
        if other.kind not in ("tuple", "list"):
            return False
        values = [item.value for item in named.items if isinstance(item, Named)]
        return _equal_ordered(values, other.items)
    if a.kind == b.kind:
        if a.kind in ("tuple", "square"):
            return _equal_ordered(a.items, b.items)
        if a.kind == "set":
            return _equal_unordered(_distinct(a.items), _distinct(b.items))
        return _equal_unordered(a.items, b.items)
    if kinds == {"list", "set"}:
        return _equal_unordered(a.items, b.items)
    return False


def _equal_ordered(a: List[Answer], b: List[Answer]) -> bool:
    return len(a) == len(b) and all(equal_answers(x, y) for x, y in zip(a, b, strict=True))


def _distinct(items: List[Answer]) -> list[Answer]:
    kept: list[Answer] = []
    for item in items[:_MAX_UNORDERED]:
        if not any(equal_answers(item, other) for other in kept):
            kept.append(item)
    return kept


def _equal_unordered(a: List[Answer], b: List[Answer]) -> bool:
    """Whether the elements can be paired: each has exactly one partner, by augmenting paths."""
    if len(a) != len(b) or len(a) > _MAX_UNORDERED:
        return False
    edges = [[j for j, y in enumerate(b) if equal_answers(x, y)] for x in a]
    partner: dict[int, int] = {}

    def place(i: int, seen: set[int]) -> bool:
        for j in edges[i]:
            if j not in seen:
                seen.add(j)
                if j not in partner or place(partner[j], seen):
                    partner[j] = i
                    return True
        return False

    return all(place(i, set()) for i in range(len(a)))


def _equal_rows(a: Matrix, b: Matrix) -> bool:
    return len(a.rows) == len(b.rows) and all(
        _equal_ordered(x, y) for x, y in zip(a.rows, b.rows, strict=True)
    )


# --- classes -------------------------------------------------------------------------------------


def specificity(answer: Answer) -> int:
    """How much an answer states beyond its value: a name, units, that it is exact, a choice's text.

    Of two equal answers the one with the lower number lacks something that the other has.
    """
    if isinstance(answer, Named):
        return 1 + specificity(answer.value)
    if isinstance(answer, Quantity):
        exact = 0 if decimal_digits(answer.node) >= ROUNDING_DIGITS else 1
        return exact + (answer.unit is not None) + _is_percent(answer.node)
    if isinstance(answer, Choice):
        return 1 + (0 if answer.content is None else 1 + specificity(answer.content))
    if isinstance(answer, Time):
        return int(bool(answer.half))
    if isinstance(answer, Sequence):
        return sum(map(specificity, answer.items)) + (answer.kind != "list")
    if isinstance(answer, Matrix):
        return sum(specificity(item) for row in answer.rows for item in row)
    return 0
