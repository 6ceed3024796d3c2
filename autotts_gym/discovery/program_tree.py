"""Programs as typed trees: what the genetic proposer breeds, and the source that it becomes.

A program fills the slots of one skeleton (``skeleton.py.txt``): how many branches run side by
side, what a finished branch's vote weighs, which branches are left, when to stop. A slot holds a
tree over the figures that can be seen there. Every constant is a straight line in β, so that one
knob moves all of them.

Trees are kept as postfix code. Compiled code evaluates it with the constants as arguments
(:mod:`autotts_gym.discovery.tree_rollout`), so that nothing is compiled in a search, and
:func:`source` writes the same program as a readable controller that plays the same episodes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from importlib import resources
from typing import Any, Final, Literal

import numpy as np

Slot = Literal["weight", "drop", "stop", "width"]
SLOTS: Final[tuple[Slot, ...]] = ("weight", "drop", "stop", "width")

#: Figures, by number. Depths are intervals, and ``effort`` is ln(1 + tokens spent in intervals).
FIGURES: Final = (
    "depth",  # of a branch
    "steady",  # intervals since its answer changed
    "agrees",  # whether its answer leads
    "share",  # of the leader in all weight
    "margin",  # of the leader over the second, as a share of all weight
    "votes",  # for the leader
    "stable",  # rounds for which it has led
    "answers",  # different ones
    "finished",  # branches
    "nulls",
    "given_up",
    "effort",
)
_OF_BRANCH: Final = ("depth", "steady", "agrees")
_OF_EPISODE: Final = tuple(name for name in FIGURES if name not in _OF_BRANCH)
#: What each slot can see.
VISIBLE: Final[dict[Slot, tuple[str, ...]]] = {
    "weight": ("depth", "steady"),
    "drop": (*_OF_BRANCH, "share", "finished", "given_up", "effort"),
    "stop": _OF_EPISODE,
    "width": _OF_EPISODE,
}
#: Scale of each figure: constants beside it begin about as large.
SCALE: Final = {
    "depth": 30.0, "steady": 10.0, "agrees": 1.0, "share": 1.0, "margin": 1.0, "votes": 4.0,
    "stable": 4.0, "answers": 3.0, "finished": 8.0, "nulls": 2.0, "given_up": 2.0, "effort": 5.0,
}  # fmt: skip

# --- postfix code --------------------------------------------------------------------------------
CONSTANT: Final = 0  # 0 + index
FIGURE: Final = 1_000  # 1000 + index
ADD, SUB, MUL, MIN, MAX, FADE, LN, OVER = range(2_000, 2_008)
END: Final = -1

#: Digits that constants are written with; what is scored is what is written.
_DIGITS: Final = 4

#: Arguments of an operation, and how it is written.
ARITY: Final = {ADD: 2, SUB: 2, MUL: 2, MIN: 2, MAX: 2, FADE: 1, LN: 1, OVER: 2}
#: How they are written, and how tightly that binds: left operands at least so tightly, right ones
#: more, so that what is written is worked out in the order of the tree.
FORM: Final = {
    ADD: ("{} + {}", 1),
    SUB: ("{} - {}", 1),
    MUL: ("{} * {}", 2),
    MIN: ("min({}, {})", 3),
    MAX: ("max({}, {})", 3),
    FADE: ("math.exp(-max({}, 0.0))", 3),
    LN: ("math.log1p(max({}, 0.0))", 3),
    OVER: ("{} / (1.0 + abs({}))", 2),
}
#: Longest code of a tree, and the most constants of a program.
LONGEST: Final = 40
MOST_CONSTANTS: Final = 40


@dataclass(frozen=True)
class Constant:
    """``base + slope · β``."""

    base: float
    slope: float = 0.0

    def at(self, beta: float) -> float:
        return self.base + self.slope * beta


def rounded(value: float) -> float:
    """To as many significant digits as are written."""
    return float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True)
class Node:
    """A tree: an operation over trees, a figure's name, or a constant."""

    kind: int | str | Constant
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """All nodes, children first, as postfix code has them."""
        for child in self.children:
            yield from child.walk()
        yield self

    @property
    def size(self) -> int:
        return sum(1 for _ in self.walk())


@dataclass(frozen=True)
class Program:
    """A tree for each slot, and how many intervals a round reads."""

    weight: Node
    drop: Node
    stop: Node
    width: Node
    stride: Constant = Constant(4.0)

    def tree(self, slot: Slot) -> Node:
        found: Node = getattr(self, slot)
        return found

    @property
    def constants(self) -> list[Constant]:
        """All of them, in the order of the code; the stride is the last."""
        nodes = (node for slot in SLOTS for node in self.tree(slot).walk())
        return [*(node.kind for node in nodes if isinstance(node.kind, Constant)), self.stride]

    def refilled(self, constants: list[Constant]) -> Program:
        """The same program with other constants."""
        left = iter(constants)

        def fill(node: Node) -> Node:
            if isinstance(node.kind, Constant):
                return Node(next(left))
            return Node(node.kind, tuple(fill(child) for child in node.children))

        trees = {slot: fill(self.tree(slot)) for slot in SLOTS}
        return Program(**trees, stride=next(left))

    @property
    def size(self) -> int:
        """Nodes, and a slope for each constant that has one."""
        slopes = sum(constant.slope != 0 for constant in self.constants)
        return sum(self.tree(slot).size for slot in SLOTS) + slopes

    def code(self) -> np.ndarray:
        """Postfix code, int64[slots, LONGEST + 1]."""
        code = np.full((len(SLOTS), LONGEST + 1), END, np.int64)
        index = 0
        for row, slot in enumerate(SLOTS):
            for at, node in enumerate(self.tree(slot).walk()):
                if isinstance(node.kind, Constant):
                    code[row, at] = CONSTANT + index
                    index += 1
                elif isinstance(node.kind, str):
                    code[row, at] = FIGURE + FIGURES.index(node.kind)
                else:
                    code[row, at] = node.kind
        return code

    def values(self, beta: float) -> np.ndarray:
        """The constants at β, float64[MOST_CONSTANTS]."""
        values = np.zeros(MOST_CONSTANTS)
        at = [constant.at(beta) for constant in self.constants]
        values[: len(at) - 1] = at[:-1]
        values[-1] = at[-1]
        return values

    @property
    def fits(self) -> bool:
        """Whether the compiled evaluator has room for it."""
        sizes = (self.tree(slot).size for slot in SLOTS)
        return max(sizes) <= LONGEST and len(self.constants) <= MOST_CONSTANTS


# --- simplifying --------------------------------------------------------------------------------


def simplified(program: Program) -> Program:
    """The same program, where β is at least 0 and at most 1, with what is constant worked out."""
    trees = {slot: _folded(program.tree(slot)) for slot in SLOTS}
    low, high = (max(1, int(program.stride.at(beta))) for beta in (0.0, 1.0))
    stride = Constant(float(low)) if low == high else program.stride
    return Program(**trees, stride=stride)


def bare(program: Program) -> Program:
    """The same program without constants that decide nothing: 1 stands for all of them."""
    weight, width = program.weight.kind, program.width.kind
    if isinstance(weight, Constant) and min(weight.at(0.0), weight.at(1.0)) > 0:
        program = replace(program, weight=Node(Constant(1.0)))  # only ratios of weights matter
    if isinstance(width, Constant) and max(width.at(0.0), width.at(1.0)) <= 1:
        program = replace(program, width=Node(Constant(1.0)))  # one branch is always read
    return program


def _folded(node: Node) -> Node:
    children = tuple(_folded(child) for child in node.children)
    lines = [child.kind for child in children if isinstance(child.kind, Constant)]
    if children and len(lines) == len(children) and isinstance(node.kind, int):
        found = _worked_out(node.kind, lines)
        if found is not None:
            return Node(found)
    return Node(node.kind, children)


def _worked_out(kind: int, lines: list[Constant]) -> Constant | None:
    """The straight line that an operation on straight lines is, if it is one."""
    a, b = lines[0], lines[-1]
    if kind == ADD:
        return Constant(rounded(a.base + b.base), rounded(a.slope + b.slope))
    if kind == SUB:
        return Constant(rounded(a.base - b.base), rounded(a.slope - b.slope))
    if kind == MUL and not (a.slope and b.slope):
        slope = a.slope * b.base + a.base * b.slope
        return Constant(rounded(a.base * b.base), rounded(slope))
    if kind in (MIN, MAX):
        best = min if kind == MIN else max
        for one in (a, b):
            if all(one.at(beta) == best(a.at(beta), b.at(beta)) for beta in (0.0, 1.0)):
                return one
    return None


# --- keeping -------------------------------------------------------------------------------------


def to_json(program: Program) -> dict[str, Any]:
    """A program as plain values, for a journal."""

    def plain(node: Node) -> Any:
        if isinstance(node.kind, Constant):
            return [node.kind.base, node.kind.slope]
        if isinstance(node.kind, str):
            return node.kind
        return {_NAMES[node.kind]: [plain(child) for child in node.children]}

    trees: dict[str, Any] = {slot: plain(program.tree(slot)) for slot in SLOTS}
    return {**trees, "stride": [program.stride.base, program.stride.slope]}


def from_json(plain: dict[str, Any]) -> Program:
    """The program that :func:`to_json` wrote.

    Raises:
        ValueError: it is none.
    """

    def node(given: Any, slot: Slot) -> Node:
        if isinstance(given, list) and len(given) == 2:
            return Node(Constant(float(given[0]), float(given[1])))
        if isinstance(given, str) and given in VISIBLE[slot]:
            return Node(given)
        if isinstance(given, dict) and len(given) == 1:
            ((name, children),) = given.items()
            if name in _KINDS and len(children) == ARITY[_KINDS[name]]:
                return Node(_KINDS[name], tuple(node(child, slot) for child in children))
        raise ValueError(f"{slot} holds {given!r}, which is no tree")

    try:
        trees = {slot: node(plain[slot], slot) for slot in SLOTS}
        return Program(**trees, stride=Constant(*map(float, plain["stride"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{plain!r} is no program: {error}") from error


_NAMES: Final = {
    ADD: "add", SUB: "sub", MUL: "mul", MIN: "min", MAX: "max", FADE: "fade", LN: "ln",
    OVER: "over",
}  # fmt: skip
_KINDS: Final = {name: kind for kind, name in _NAMES.items()}

# --- source --------------------------------------------------------------------------------------

_SKELETON: Final = resources.files(__package__).joinpath("skeleton.py.txt").read_text("utf-8")
#: Before the figures that a line of the skeleton is there for.
_FOR: Final = "  #? "


def skeleton(figures: Collection[str]) -> str:
    """The skeleton without what only other figures need."""
    lines = (line.partition(_FOR)[::2] for line in _SKELETON.splitlines())
    return "".join(
        f"{text}\n" for text, names in lines if not names or set(names.split()) & set(figures)
    )


def source(program: Program, title: str, lineage: str = "") -> str:
    """The program as a self-contained controller.

    Args:
        title: the first line of its docstring.
        lineage: where it comes from, further lines.
    """
    names: list[str] = []
    slots = {
        "weight": _written(program.weight, "weight", names)[0],
        "drop": _condition(program.drop, "drop", names),
        "stop": _condition(program.stop, "stop", names),
        "width": _written(program.width, "width", names)[0],
    }
    constants = program.constants[:-1]
    lines = [f"{name} = {_line(c)}" for name, c in zip(names, constants, strict=True)]
    stride = program.stride
    lines.append(f"stride = {_line(stride) if stride.slope else max(1, int(stride.base))}")
    seen = {
        node.kind
        for slot in SLOTS
        for node in program.tree(slot).walk()
        if isinstance(node.kind, str)
    }
    body = skeleton(seen).format(
        parameters="beta",
        constants="".join(f"    {line}\n" for line in lines).rstrip("\n"),
        stride="max(1, int(stride))" if stride.slope else "stride",
        **slots,
    )
    doc = f'"""{title}\n' + (f"\n{lineage.strip()}\n" if lineage else "") + '"""\n'
    modules = [f"import {name}\n" for name in ("math",) if f"{name}." in body]
    return "\n".join([doc, *modules, f"import numpy as np\n\n\n{body}"])


def _written(node: Node, slot: Slot, names: list[str]) -> tuple[str, int]:
    """A tree as an expression, and how tightly it binds; constants get names."""
    if isinstance(node.kind, Constant):
        names.append(f"{slot}_{sum(name.startswith(slot) for name in names) + 1}")
        return names[-1], 3
    if isinstance(node.kind, str):
        return node.kind, 3
    form, binds = FORM[node.kind]
    parts = []
    for place, child in enumerate(node.children):
        text, tightly = _written(child, slot, names)
        loose = binds < 3 and tightly < binds + place
        # The second operand of OVER stands in a call of its own.
        parts.append(f"({text})" if loose and not (node.kind == OVER and place) else text)
    return form.format(*parts), binds


def _condition(node: Node, slot: Slot, names: list[str]) -> str:
    """Whether a tree is above zero."""
    if node.kind == SUB:
        left, right = (_written(child, slot, names)[0] for child in node.children)
        return f"{left} > {right}"
    return f"{_written(node, slot, names)[0]} > 0.0"


def _line(constant: Constant) -> str:
    if constant.slope == 0:
        return f"{constant.base!r}"
    if constant.base == 0:
        return f"{constant.slope!r} * beta"
    sign = "-" if constant.slope < 0 else "+"
    return f"{constant.base!r} {sign} {abs(constant.slope)!r} * beta"
