r"""Both values of an expression with ``\pm``."""

from __future__ import annotations

from autotts_gym.answers.nodes import Node, NotAnExpressionError
from autotts_gym.answers.values import Answer, Quantity, Sequence


def read_plus_minus(quantity: Quantity) -> Answer:
    r"""Both values of ``1\pm\sqrt{2}`` as a list; other quantities as they are."""
    signs = _plus_minus_count(quantity.node)
    if not signs:
        return quantity
    if signs > 4:
        raise NotAnExpressionError("too many signs")
    return Sequence(
        "list",
        tuple(
            Quantity(_choose_sign(quantity.node, s), _choose_sign(quantity.tight, s), quantity.unit)
            for s in (1, -1)
        ),
    )


def _plus_minus_count(node: Node) -> int:
    return (node.kind == "plus_minus") + sum(map(_plus_minus_count, node.children))


def _choose_sign(node: Node, sign: int) -> Node:
    children = tuple(_choose_sign(child, sign) for child in node.children)
    if node.kind != "plus_minus":
        return Node(node.kind, children, node.name, node.value, node.digits)
    upper = (node.name == r"\pm") == (sign > 0)
    return children[0] if upper else Node("negate", children)
