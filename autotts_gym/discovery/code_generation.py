"""Code generation: a typed tree as the source of a self-contained controller."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources
from typing import Final

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.program_tree import Constant, Node, Program, Slot

#: Template and precedence of each operation. A left operand needs at least this precedence, a right
#: operand a higher one; otherwise it is put in parentheses. So the source evaluates in the order of
#: the tree.
OPERATION_TEMPLATES: Final = {
    pt.ADD: ("{} + {}", 1),
    pt.SUB: ("{} - {}", 1),
    pt.MUL: ("{} * {}", 2),
    pt.MIN: ("min({}, {})", 3),
    pt.MAX: ("max({}, {})", 3),
    pt.FADE: ("math.exp(-max({}, 0.0))", 3),
    pt.LN: ("math.log1p(max({}, 0.0))", 3),
    pt.OVER: ("{} / (1.0 + abs({}))", 2),
}
#: Precedence of names and calls, which never need parentheses.
_ATOM: Final = 3

_SKELETON: Final = (
    resources.files(__package__).joinpath("program_skeleton.py.txt").read_text("utf-8")
)
#: In a line of the skeleton, separates the code from the features that need the line.
_FEATURE_MARK: Final = "  #? "


def skeleton(features: Collection[str]) -> str:
    """The skeleton, a format string, without lines that only other features need."""
    lines = (line.partition(_FEATURE_MARK)[::2] for line in _SKELETON.splitlines())
    return "".join(
        f"{text}\n" for text, names in lines if not names or set(names.split()) & set(features)
    )


def generate_source(program: Program, title: str, lineage: str = "") -> str:
    """Source text of a controller that plays the same episodes as the tree.

    Args:
        program: the tree.
        title: first line of the module docstring.
        lineage: further lines of the module docstring.
    """
    names: list[str] = []
    slots = {
        "weight": _expression(program.weight, "weight", names)[0],
        "drop": _condition(program.drop, "drop", names),
        "stop": _condition(program.stop, "stop", names),
        "width": _expression(program.width, "width", names)[0],
    }
    constants = program.constants[:-1]
    lines = [f"{name} = {_constant(c)}" for name, c in zip(names, constants, strict=True)]
    stride = program.stride
    text = str(max(1, int(stride.base))) if stride.is_fixed else _constant(stride)
    lines.append(f"stride = {text}")
    if program.uses_latency:
        lines.insert(0, "latency = episode.latency_weight")
    features = {
        node.kind
        for slot in pt.SLOTS
        for node in program.tree(slot).walk()
        if isinstance(node.kind, str)
    }
    body = skeleton(features).format(
        parameters="beta",
        constants="".join(f"    {line}\n" for line in lines).rstrip("\n"),
        stride="stride" if stride.is_fixed else "max(1, int(stride))",
        **slots,
    )
    doc = f'"""{title}\n' + (f"\n{lineage.strip()}\n" if lineage else "") + '"""\n'
    imports = [f"import {name}\n" for name in ("math",) if f"{name}." in body]
    return "\n".join([doc, *imports, f"import numpy as np\n\n\n{body}"])


def _expression(node: Node, slot: Slot, names: list[str]) -> tuple[str, int]:
    """A tree as an expression, and its precedence.

    The names of its constants are appended to ``names``.
    """
    if isinstance(node.kind, Constant):
        names.append(f"{slot}_{sum(name.startswith(slot) for name in names) + 1}")
        return names[-1], _ATOM
    if isinstance(node.kind, str):
        return node.kind, _ATOM
    template, precedence = OPERATION_TEMPLATES[node.kind]
    operands = []
    for place, child in enumerate(node.children):
        text, child_precedence = _expression(child, slot, names)
        # The second operand of OVER is the argument of a call.
        enclosed = precedence == _ATOM or (node.kind == pt.OVER and place == 1)
        weaker = child_precedence < precedence + place
        operands.append(f"({text})" if weaker and not enclosed else text)
    return template.format(*operands), precedence


def _condition(node: Node, slot: Slot, names: list[str]) -> str:
    """The condition that a tree is above 0."""
    if node.kind == pt.SUB:
        left, right = (_expression(child, slot, names)[0] for child in node.children)
        return f"{left} > {right}"
    return f"{_expression(node, slot, names)[0]} > 0.0"


def _constant(constant: Constant) -> str:
    text = f"{constant.base!r}" if constant.base or constant.is_fixed else ""
    for slope, name in ((constant.slope, "beta"), (constant.tilt, "latency")):
        if slope:
            sign = "-" if slope < 0 else "+"
            text = f"{text} {sign} {abs(slope)!r} * {name}" if text else f"{slope!r} * {name}"
    return text
