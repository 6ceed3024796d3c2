"""Typed trees: the representation of programs that the genetic proposer evolves.

A program fills four slots of a fixed skeleton (``program_skeleton.py.txt``): how many branches run
in parallel (``width``), the weight of a finished branch's vote (``weight``), which branches to drop
(``drop``), and when to stop (``stop``). Each slot holds an expression tree over the features that
are available there. Every constant is a linear function of β, so that one knob moves all of them,
and, in a search with several weights of latency, also of that weight.

:mod:`autotts_gym.discovery.tree_rollout` evaluates trees as postfix code in compiled code.
:mod:`autotts_gym.discovery.code_generation` writes a tree as the source of a controller that plays
the same episodes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np

Slot = Literal["weight", "drop", "stop", "width"]
SLOTS: Final[tuple[Slot, ...]] = ("weight", "drop", "stop", "width")

#: Names of the features, in the order of their numbers in postfix code. They are part of the
#: journal format.
FEATURES: Final = (
    "depth",  # depth of the branch, intervals
    "steady",  # intervals since the branch's answer changed
    "agrees",  # 1 if the branch's answer is the leading answer, otherwise 0
    "share",  # weight of the leading answer, as a share of all weight
    "margin",  # margin over the second answer, as a share of all weight
    "votes",  # number of votes for the leading answer
    "stable",  # number of rounds for which it has led
    "answers",  # number of different answers
    "finished",  # number of finished branches
    "nulls",  # number of finished branches with a null answer
    "given_up",  # number of dropped branches
    "effort",  # ln(1 + tokens spent / Δ)
    "length",  # depth of the branch, in mean branches of the environment
    "work",  # tokens spent, in mean branches of the environment
    "live",  # (a - b) / (a + b + 2) for a running branches with the leading answer, b with others
)
_BRANCH_FEATURES: Final = ("depth", "steady", "agrees", "length")
#: Known at the end of a round only, when all running branches are probed.
_LATE_FEATURES: Final = ("live",)
_EPISODE_FEATURES: Final = tuple(
    name for name in FEATURES if name not in (*_BRANCH_FEATURES, *_LATE_FEATURES)
)
#: Features that are available in each slot.
AVAILABLE: Final[dict[Slot, tuple[str, ...]]] = {
    "weight": ("depth", "steady", "length"),
    "drop": (*_BRANCH_FEATURES, "share", "votes", "finished", "given_up", "effort", "work"),
    "stop": (*_EPISODE_FEATURES, *_LATE_FEATURES),
    "width": _EPISODE_FEATURES,
}
#: Features that random trees draw from in each slot. Live votes did not help genetic programs.
DRAWN: Final[dict[Slot, tuple[str, ...]]] = AVAILABLE | {"stop": _EPISODE_FEATURES}
#: Typical magnitude of each feature, which scales random constants.
SCALE: Final = {
    "depth": 30.0, "steady": 10.0, "agrees": 1.0, "share": 1.0, "margin": 1.0, "votes": 4.0,
    "stable": 4.0, "answers": 3.0, "finished": 8.0, "nulls": 2.0, "given_up": 2.0, "effort": 5.0,
    "length": 1.0, "work": 8.0,
}  # fmt: skip

# --- postfix code --------------------------------------------------------------------------------
#: Code of the constant with index 0; index i has code ``CONSTANT + i``.
CONSTANT: Final = 0
#: Code of the feature with index 0; index i has code ``FEATURE + i``.
FEATURE: Final = 1_000
#: Codes of operations. FADE is ``exp(-max(x, 0))``, LN is ``ln(1 + max(x, 0))``, OVER
#: is ``x / (1 + |y|)``.
ADD, SUB, MUL, MIN, MAX, FADE, LN, OVER = range(2_000, 2_008)
#: Code that ends a tree.
END: Final = -1

#: Number of arguments of each operation.
ARITY: Final = {ADD: 2, SUB: 2, MUL: 2, MIN: 2, MAX: 2, FADE: 1, LN: 1, OVER: 2}
#: Maximum number of nodes of a tree in compiled code.
MAX_CODE: Final = 40
#: Maximum number of constants of a program in compiled code.
MAX_CONSTANTS: Final = 40
#: Significant digits of constants. Constants are rounded before they are scored, so that generated
#: sources play exactly as scored.
_DIGITS: Final = 4


@dataclass(frozen=True)
class Constant:
    """A linear function of β and of the weight w of latency: ``base + slope · β + tilt · w``."""

    base: float
    slope: float = 0.0
    tilt: float = 0.0

    def at(self, beta: float, latency: float = 0.0) -> float:
        """Value at β and at a weight of latency."""
        return self.base + self.slope * beta + self.tilt * latency

    @property
    def coefficients(self) -> tuple[float, float, float]:
        """Base, slope and tilt."""
        return self.base, self.slope, self.tilt

    @property
    def is_fixed(self) -> bool:
        """Whether the value is the same everywhere."""
        return self.slope == 0 and self.tilt == 0


#: Corners of the square of β and weight of latency, between which constants are linear.
CORNERS: Final = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0))


def round_constant(value: float) -> float:
    """Round a value to the number of significant digits that constants have."""
    return float(f"{value:.{_DIGITS}g}")


@dataclass(frozen=True)
class Node:
    """A node of an expression tree.

    Attributes:
        kind: code of an operation, name of a feature, or a constant.
        children: arguments of the operation.
    """

    kind: int | str | Constant
    children: tuple[Node, ...] = ()

    def walk(self) -> Iterator[Node]:
        """All nodes in postfix order: children before their parent."""
        for child in self.children:
            yield from child.walk()
        yield self

    @property
    def size(self) -> int:
        """Number of nodes."""
        return sum(1 for _ in self.walk())


@dataclass(frozen=True)
class Program:
    """A tree for each slot, and the number of intervals that a round reads.

    Attributes:
        weight: weight of a finished branch's vote.
        drop: a branch is dropped if this is above 0.
        stop: the episode ends if this is above 0.
        width: number of branches that run in parallel.
        stride: intervals by which each running branch is extended in a round.
    """

    weight: Node
    drop: Node
    stop: Node
    width: Node
    stride: Constant = Constant(4.0)

    def tree(self, slot: Slot) -> Node:
        """The tree of a slot."""
        tree: Node = getattr(self, slot)
        return tree

    @property
    def constants(self) -> list[Constant]:
        """All constants in the order of the code, the stride last."""
        nodes = (node for slot in SLOTS for node in self.tree(slot).walk())
        return [*(node.kind for node in nodes if isinstance(node.kind, Constant)), self.stride]

    def with_constants(self, constants: list[Constant]) -> Program:
        """The same program with other constants, in the order of :attr:`constants`."""
        remaining = iter(constants)

        def fill(node: Node) -> Node:
            if isinstance(node.kind, Constant):
                return Node(next(remaining))
            return Node(node.kind, tuple(fill(child) for child in node.children))

        trees = {slot: fill(self.tree(slot)) for slot in SLOTS}
        return Program(**trees, stride=next(remaining))

    @property
    def size(self) -> int:
        """Number of nodes, slopes and tilts."""
        slopes = sum((constant.slope != 0) + (constant.tilt != 0) for constant in self.constants)
        return sum(self.tree(slot).size for slot in SLOTS) + slopes

    def code(self) -> np.ndarray:
        """Postfix code, int64[slots, MAX_CODE + 1]."""
        code = np.full((len(SLOTS), MAX_CODE + 1), END, np.int64)
        index = 0
        for row, slot in enumerate(SLOTS):
            for at, node in enumerate(self.tree(slot).walk()):
                if isinstance(node.kind, Constant):
                    code[row, at] = CONSTANT + index
                    index += 1
                elif isinstance(node.kind, str):
                    code[row, at] = FEATURE + FEATURES.index(node.kind)
                else:
                    code[row, at] = node.kind
        return code

    def values(self, beta: float, latency: float = 0.0) -> np.ndarray:
        """Values of the constants, float64[MAX_CONSTANTS]; the stride is the last element."""
        values = np.zeros(MAX_CONSTANTS)
        given = [constant.at(beta, latency) for constant in self.constants]
        values[: len(given) - 1] = given[:-1]
        values[-1] = given[-1]
        return values

    @property
    def uses_latency(self) -> bool:
        """Whether a constant depends on the weight of latency."""
        return any(constant.tilt != 0 for constant in self.constants)

    @property
    def fits_compiled(self) -> bool:
        """Whether the arrays of the compiled evaluator are large enough."""
        sizes = (self.tree(slot).size for slot in SLOTS)
        return max(sizes) <= MAX_CODE and len(self.constants) <= MAX_CONSTANTS


# --- simplification ------------------------------------------------------------------------------


def simplify(program: Program) -> Program:
    """Fold constant expressions; the result is equivalent for β and weights in [0, 1]."""
    trees = {slot: _fold(program.tree(slot)) for slot in SLOTS}
    strides = {max(1, int(program.stride.at(*corner))) for corner in CORNERS}
    stride = Constant(float(min(strides))) if len(strides) == 1 else program.stride
    return Program(**trees, stride=stride)


def normalize_constants(program: Program) -> Program:
    """Replace constant weights and widths that do not affect the program by 1."""
    weight, width = program.weight.kind, program.width.kind
    if isinstance(weight, Constant) and min(weight.at(*corner) for corner in CORNERS) > 0:
        program = replace(program, weight=Node(Constant(1.0)))  # only ratios of weights matter
    if isinstance(width, Constant) and max(width.at(*corner) for corner in CORNERS) <= 1:
        program = replace(program, width=Node(Constant(1.0)))  # at least one branch always runs
    return program


def _fold(node: Node) -> Node:
    children = tuple(_fold(child) for child in node.children)
    constants = [child.kind for child in children if isinstance(child.kind, Constant)]
    if children and len(constants) == len(children) and isinstance(node.kind, int):
        folded = _apply(node.kind, constants)
        if folded is not None:
            return Node(folded)
    return Node(node.kind, children)


def _apply(operation: int, constants: list[Constant]) -> Constant | None:
    """The result of an operation on constants, if it is linear in β and in the weight."""
    a, b = constants[0], constants[-1]
    pairs = list(zip(a.coefficients, b.coefficients, strict=True))
    if operation == ADD:
        return Constant(*(round_constant(x + y) for x, y in pairs))
    if operation == SUB:
        return Constant(*(round_constant(x - y) for x, y in pairs))
    if operation == MUL and (a.is_fixed or b.is_fixed):
        factor, other = (a, b) if a.is_fixed else (b, a)
        return Constant(*(round_constant(factor.base * x) for x in other.coefficients))
    if operation in (MIN, MAX):
        best = min if operation == MIN else max
        for constant in (a, b):
            if all(constant.at(*at) == best(a.at(*at), b.at(*at)) for at in CORNERS):
                return constant
    return None


# --- serialization -------------------------------------------------------------------------------

#: Names of the operations in journals.
_OPERATION_NAMES: Final = {
    ADD: "add", SUB: "sub", MUL: "mul", MIN: "min", MAX: "max", FADE: "fade", LN: "ln",
    OVER: "over",
}  # fmt: skip
_OPERATIONS: Final = {name: code for code, name in _OPERATION_NAMES.items()}


def to_json(program: Program) -> dict[str, Any]:
    """A program as plain values, for a journal."""

    def plain(node: Node) -> Any:
        if isinstance(node.kind, Constant):
            return _coefficients(node.kind)
        if isinstance(node.kind, str):
            return node.kind
        return {_OPERATION_NAMES[node.kind]: [plain(child) for child in node.children]}

    trees: dict[str, Any] = {slot: plain(program.tree(slot)) for slot in SLOTS}
    return {**trees, "stride": _coefficients(program.stride)}


def _coefficients(constant: Constant) -> list[float]:
    """Base and slope, and the tilt if there is one: older journals have two numbers."""
    return list(constant.coefficients if constant.tilt else constant.coefficients[:2])


def from_json(values: dict[str, Any]) -> Program:
    """The program that :func:`to_json` converted.

    Raises:
        ValueError: the values do not describe a program.
    """

    def node(value: Any, slot: Slot) -> Node:
        if isinstance(value, list) and len(value) in (2, 3):
            return Node(Constant(*map(float, value)))
        if isinstance(value, str) and value in AVAILABLE[slot]:
            return Node(value)
        if isinstance(value, dict) and len(value) == 1:
            ((name, children),) = value.items()
            if name in _OPERATIONS and len(children) == ARITY[_OPERATIONS[name]]:
                return Node(_OPERATIONS[name], tuple(node(child, slot) for child in children))
        raise ValueError(f"{slot} has {value!r}, which is not a valid tree")

    try:
        trees = {slot: node(values[slot], slot) for slot in SLOTS}
        return Program(**trees, stride=Constant(*map(float, values["stride"])))
    except (KeyError, TypeError) as error:
        raise ValueError(f"{values!r} is not a valid program: {error}") from error
