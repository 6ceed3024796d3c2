"""Variation of programs: seed programs, random trees, mutation, crossover and rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.program_tree import Constant, Node, Program, Slot, round_constant

#: Maximum number of nodes of a tree; larger trees are not readable.
MAX_TREE_SIZE: Final = 24


def _constant(base: float, slope: float = 0.0) -> Node:
    return Node(Constant(base, slope))


def _operation(kind: int, *children: Node) -> Node:
    return Node(kind, children)


def seed_programs() -> dict[str, Program]:
    """The programs from which evolution starts, by name.

    The first three stop in a similar way as adaptive self-consistency, early-stopping
    self-consistency and Parallel-Probe: by the margin of the leading answer, by the number of
    rounds for which it has led, and by the answers of running branches. The other two weigh votes
    down with the depth of the branch, drop deep branches, and require less agreement as more tokens
    are spent; the last one also uses the share of the leading answer, and drops branches that agree
    with it later.

    The last one, ``widening``, measures lengths and costs in mean branches of the environment, so
    that its constants mean the same for every model. It starts with several branches and adds one
    for each that finishes. It stops when margin, votes and spent tokens together exceed a
    threshold, and drops branches that are much longer than the mean.
    """
    c, op, f = _constant, _operation, Node
    even = c(1.0)
    return {
        "adaptive": Program(
            weight=even,
            drop=op(pt.SUB, f("depth"), c(60.0)),
            stop=op(pt.MIN, op(pt.SUB, f("votes"), c(1.5, 3.0)),
                    op(pt.SUB, f("margin"), c(0.3, 0.5))),
            width=c(1.0),
        ),
        "early": Program(
            weight=even,
            drop=op(pt.SUB, f("depth"), c(60.0)),
            stop=op(pt.SUB, f("stable"), c(1.0, 6.0)),
            width=c(4.0),
        ),
        "probing": Program(
            weight=even,
            drop=op(pt.SUB, op(pt.SUB, f("depth"), c(20.0, 20.0)),
                    op(pt.MUL, c(20.0), f("agrees"))),
            stop=op(pt.SUB, f("votes"), c(1.0, 8.0)),
            width=c(8.0),
            stride=Constant(2.0),
        ),
        "fading": Program(
            weight=op(pt.FADE, op(pt.MUL, c(0.08), f("depth"))),
            drop=op(pt.SUB, f("depth"), c(40.0, 5.0)),
            stop=op(pt.SUB, op(pt.ADD, f("margin"), op(pt.MUL, c(0.1), f("votes"))),
                    op(pt.SUB, c(1.0, 0.8), op(pt.MUL, c(0.1), f("effort")))),
            width=c(1.0),
        ),
        "sharing": Program(
            weight=op(pt.FADE, op(pt.MUL, c(0.1), f("depth"))),
            drop=op(pt.SUB, op(pt.SUB, f("depth"), c(38.0, 3.0)),
                    op(pt.MUL, c(4.0), f("agrees"))),
            stop=op(pt.SUB,
                    op(pt.ADD, f("margin"),
                       op(pt.ADD, op(pt.MUL, c(0.15), f("votes")),
                          op(pt.MUL, c(0.2), f("share")))),
                    op(pt.SUB, c(1.2, 1.0), op(pt.MUL, c(0.15), f("effort")))),
            width=c(1.0),
            stride=Constant(3.0),
        ),
        "widening": Program(
            weight=op(pt.FADE, op(pt.MUL, c(0.5), f("length"))),
            drop=op(pt.SUB, f("length"),
                    op(pt.SUB, c(1.4), op(pt.MUL, c(0.1), op(pt.LN, f("votes"))))),
            stop=op(pt.SUB,
                    op(pt.ADD, op(pt.ADD, f("margin"), op(pt.LN, f("votes"))),
                       op(pt.MUL, c(0.6), op(pt.LN, f("work")))),
                    c(1.0, 4.5)),
            width=op(pt.ADD, c(3.0, 7.0), f("finished")),
            stride=Constant(1.0),
        ),
    }  # fmt: skip


def random_tree(slot: Slot, rng: np.random.Generator, depth: int) -> Node:
    """A random tree of at most the given depth for a slot.

    The magnitude of a constant is that of a random feature of the slot.
    """
    if depth <= 0 or rng.random() < 0.2:
        name = str(rng.choice(pt.DRAWN[slot]))
        if rng.random() < 0.6:
            return Node(name)
        return _random_constant(pt.SCALE[name], rng)
    kind = int(rng.choice(list(pt.ARITY)))
    return Node(kind, tuple(random_tree(slot, rng, depth - 1) for _ in range(pt.ARITY[kind])))


def _random_constant(scale: float, rng: np.random.Generator) -> Node:
    base = scale * rng.normal()
    slope = base * rng.normal() / 2 if rng.random() < 0.5 else 0.0
    return Node(Constant(round_constant(base), round_constant(slope)))


def mutate(program: Program, rng: np.random.Generator) -> Program:
    """Change the stride, or one node of one tree."""
    slot = pt.SLOTS[rng.integers(len(pt.SLOTS))]
    tree = program.tree(slot)
    at = int(rng.integers(tree.size))
    mutations: list[Callable[[Node], Node]] = [
        lambda node: random_tree(slot, rng, 2),
        lambda node: _wrap(node, slot, rng),
        lambda node: _hoist(node, rng),
        lambda node: _change_kind(node, slot, rng),
    ]
    if rng.random() < 0.1:
        base = round_constant(float(rng.choice([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])))
        return replace(program, stride=Constant(base))
    mutation = mutations[rng.integers(len(mutations))]
    return _with_tree(program, slot, _replace_node(tree, at, mutation))


def _wrap(node: Node, slot: Slot, rng: np.random.Generator) -> Node:
    """Make a node the argument of a random operation."""
    kind = int(rng.choice(list(pt.ARITY)))
    if pt.ARITY[kind] == 1:
        return Node(kind, (node,))
    pair = [node, random_tree(slot, rng, 1)]
    if rng.random() < 0.5:
        pair.reverse()
    return Node(kind, tuple(pair))


def _hoist(node: Node, rng: np.random.Generator) -> Node:
    """Replace a node by one of its children."""
    return node if not node.children else node.children[rng.integers(len(node.children))]


def _change_kind(node: Node, slot: Slot, rng: np.random.Generator) -> Node:
    """Replace an operation, feature or constant by another one, and keep the children."""
    if isinstance(node.kind, Constant):
        factor = float(np.exp(rng.normal() / 2))
        slope = node.kind.base * rng.normal() / 2 if rng.random() < 0.5 else 0.0
        return Node(Constant(round_constant(node.kind.base * factor), round_constant(slope)))
    if isinstance(node.kind, str):
        return Node(str(rng.choice(pt.DRAWN[slot])))
    same_arity = [kind for kind, arity in pt.ARITY.items() if arity == pt.ARITY[node.kind]]
    return Node(int(rng.choice(same_arity)), node.children)


def crossover(program: Program, other: Program, rng: np.random.Generator) -> Program:
    """Replace one tree of a program, or one node of it, by a part of the other's same tree."""
    slot = pt.SLOTS[rng.integers(len(pt.SLOTS))]
    donor = other.tree(slot)
    if rng.random() < 0.5:
        return _with_tree(program, slot, donor)
    parts = list(donor.walk())
    part = parts[rng.integers(len(parts))]
    tree = program.tree(slot)
    at = int(rng.integers(tree.size))
    return _with_tree(program, slot, _replace_node(tree, at, lambda _: part))


def rounder_variants(program: Program) -> Iterator[Program]:
    """All programs with one constant rounded to half of its digits."""
    yield from _changed_constants(
        program, lambda c: Constant(*(float(f"{x:.2g}") for x in (c.base, c.slope)))
    )


def _changed_constants(
    program: Program, change: Callable[[Constant], Constant]
) -> Iterator[Program]:
    """All programs with one constant changed."""
    constants = program.constants
    for at, constant in enumerate(constants):
        other = change(constant)
        if other != constant:
            yield program.with_constants([*constants[:at], other, *constants[at + 1 :]])


def within_limits(program: Program) -> bool:
    """Whether a program is small enough to be readable and to be evaluated."""
    readable = all(program.tree(slot).size <= MAX_TREE_SIZE for slot in pt.SLOTS)
    return program.fits_compiled and readable


def _with_tree(program: Program, slot: Slot, tree: Node) -> Program:
    trees = {name: program.tree(name) for name in pt.SLOTS} | {slot: tree}
    return Program(**trees, stride=program.stride)


def _replace_node(tree: Node, at: int, change: Callable[[Node], Node]) -> Node:
    """The tree with the node at a position of :meth:`Node.walk` changed."""
    count = -1

    def visit(node: Node) -> Node:
        nonlocal count
        children = tuple(visit(child) for child in node.children)
        count += 1
        if count == at:
            return change(node)
        return Node(node.kind, children)

    return visit(tree)
