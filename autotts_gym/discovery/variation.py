"""Variation of programs: random trees, mutation, crossover, and the programs it begins with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np

from autotts_gym.discovery import program_tree as g
from autotts_gym.discovery.program_tree import Constant, Node, Program, Slot, rounded

#: Nodes of a tree at most: what is larger is not read.
LARGEST: Final = 24


def _c(base: float, slope: float = 0.0) -> Node:
    return Node(Constant(base, slope))


def _of(kind: int, *children: Node) -> Node:
    return Node(kind, children)


def _f(name: str) -> Node:
    return Node(name)


def seeds() -> dict[str, Program]:
    """The programs that a search begins with, by name.

    The first three stop as adaptive self-consistency, early-stopping self-consistency and
    Parallel-Probe do, in the terms of the skeleton: by the margin of the leader, by how long it has
    led, and by what running branches say. The others weigh votes down with the length of the
    branch, leave long branches, and ask for less as more is spent; the last sees the leader's share
    as well, and leaves branches that agree with it later.
    """
    even = _c(1.0)
    return {
        "adaptive": Program(
            weight=even,
            drop=_of(g.SUB, _f("depth"), _c(60.0)),
            stop=_of(g.MIN, _of(g.SUB, _f("votes"), _c(1.5, 3.0)),
                     _of(g.SUB, _f("margin"), _c(0.3, 0.5))),
            width=_c(1.0),
        ),
        "early": Program(
            weight=even,
            drop=_of(g.SUB, _f("depth"), _c(60.0)),
            stop=_of(g.SUB, _f("stable"), _c(1.0, 6.0)),
            width=_c(4.0),
        ),
        "probing": Program(
            weight=even,
            drop=_of(g.SUB, _of(g.SUB, _f("depth"), _c(20.0, 20.0)),
                     _of(g.MUL, _c(20.0), _f("agrees"))),
            stop=_of(g.SUB, _f("votes"), _c(1.0, 8.0)),
            width=_c(8.0),
            stride=Constant(2.0),
        ),
        "fading": Program(
            weight=_of(g.FADE, _of(g.MUL, _c(0.08), _f("depth"))),
            drop=_of(g.SUB, _f("depth"), _c(40.0, 5.0)),
            stop=_of(g.SUB, _of(g.ADD, _f("margin"), _of(g.MUL, _c(0.1), _f("votes"))),
                     _of(g.SUB, _c(1.0, 0.8), _of(g.MUL, _c(0.1), _f("effort")))),
            width=_c(1.0),
        ),
        "sharing": Program(
            weight=_of(g.FADE, _of(g.MUL, _c(0.1), _f("depth"))),
            drop=_of(g.SUB, _of(g.SUB, _f("depth"), _c(38.0, 3.0)),
                     _of(g.MUL, _c(4.0), _f("agrees"))),
            stop=_of(g.SUB,
                     _of(g.ADD, _f("margin"),
                         _of(g.ADD, _of(g.MUL, _c(0.15), _f("votes")),
                             _of(g.MUL, _c(0.2), _f("share")))),
                     _of(g.SUB, _c(1.2, 1.0), _of(g.MUL, _c(0.15), _f("effort")))),
            width=_c(1.0),
            stride=Constant(3.0),
        ),
    }  # fmt: skip


def random_tree(slot: Slot, rng: np.random.Generator, depth: int) -> Node:
    """A tree of at most a depth; constants are as large as what stands beside them."""
    if depth <= 0 or rng.random() < 0.2:
        name = str(rng.choice(g.VISIBLE[slot]))
        if rng.random() < 0.6:
            return Node(name)
        return _constant(g.SCALE[name], rng)
    kind = int(rng.choice(list(g.ARITY)))
    return Node(kind, tuple(random_tree(slot, rng, depth - 1) for _ in range(g.ARITY[kind])))


def _constant(scale: float, rng: np.random.Generator) -> Node:
    base = scale * rng.normal()
    slope = base * rng.normal() / 2 if rng.random() < 0.5 else 0.0
    return Node(Constant(rounded(base), rounded(slope)))


def mutated(program: Program, rng: np.random.Generator) -> Program:
    """A program with one thing changed."""
    slot = g.SLOTS[rng.integers(len(g.SLOTS))]
    tree = program.tree(slot)
    at = int(rng.integers(tree.size))
    ways: list[Callable[[Node], Node]] = [
        lambda old: random_tree(slot, rng, 2),
        # What stands there is kept, under an operation.
        lambda old: _over(old, slot, rng),
        lambda old: _simpler(old, rng),
        lambda old: _other(old, slot, rng),
    ]
    if rng.random() < 0.1:
        base = rounded(float(rng.choice([1.0, 2.0, 3.0, 4.0, 6.0, 8.0])))
        return replace(program, stride=Constant(base))
    way = ways[rng.integers(len(ways))]
    return _with(program, slot, _replaced(tree, at, way))


def _over(old: Node, slot: Slot, rng: np.random.Generator) -> Node:
    kind = int(rng.choice(list(g.ARITY)))
    if g.ARITY[kind] == 1:
        return Node(kind, (old,))
    pair = [old, random_tree(slot, rng, 1)]
    if rng.random() < 0.5:
        pair.reverse()
    return Node(kind, tuple(pair))


def _simpler(old: Node, rng: np.random.Generator) -> Node:
    """One of its branches alone."""
    return old if not old.children else old.children[rng.integers(len(old.children))]


def _other(old: Node, slot: Slot, rng: np.random.Generator) -> Node:
    """The same place, another operation, figure or constant."""
    if isinstance(old.kind, Constant):
        factor = float(np.exp(rng.normal() / 2))
        slope = old.kind.base * rng.normal() / 2 if rng.random() < 0.5 else 0.0
        return Node(Constant(rounded(old.kind.base * factor), rounded(slope)))
    if isinstance(old.kind, str):
        return Node(str(rng.choice(g.VISIBLE[slot])))
    alike = [kind for kind, arity in g.ARITY.items() if arity == g.ARITY[old.kind]]
    return Node(int(rng.choice(alike)), old.children)


def crossed(one: Program, other: Program, rng: np.random.Generator) -> Program:
    """A program with a slot, or a part of one, of another."""
    slot = g.SLOTS[rng.integers(len(g.SLOTS))]
    theirs = other.tree(slot)
    if rng.random() < 0.5:
        return _with(one, slot, theirs)
    parts = list(theirs.walk())
    part = parts[rng.integers(len(parts))]
    tree = one.tree(slot)
    return _with(one, slot, _replaced(tree, int(rng.integers(tree.size)), lambda _: part))


def smaller(program: Program) -> Iterator[Program]:
    """Every program with a node replaced by one of its children, or a constant without its slope.

    One that has nothing of the kind yields nothing.
    """
    for slot in g.SLOTS:
        tree = program.tree(slot)
        for at, node in enumerate(tree.walk()):
            for child in node.children:
                yield _with(program, slot, _replaced(tree, at, functools.partial(_first, child)))
    yield from _changed(program, lambda c: Constant(rounded(c.at(0.5))))


def _first(one: Node, _: Node) -> Node:
    return one


def rounder(program: Program) -> Iterator[Program]:
    """Every program with a constant to half of its digits."""
    yield from _changed(
        program, lambda c: Constant(*(float(f"{x:.2g}") for x in (c.base, c.slope)))
    )


def _changed(program: Program, way: Callable[[Constant], Constant]) -> Iterator[Program]:
    constants = program.constants
    for at, constant in enumerate(constants):
        other = way(constant)
        if other != constant:
            yield program.refilled([*constants[:at], other, *constants[at + 1 :]])


def fits(program: Program) -> bool:
    """Whether a program is small enough to be read, and to be evaluated."""
    return program.fits and all(program.tree(slot).size <= LARGEST for slot in g.SLOTS)


def _with(program: Program, slot: Slot, tree: Node) -> Program:
    trees = {name: program.tree(name) for name in g.SLOTS} | {slot: tree}
    return Program(**trees, stride=program.stride)


def _replaced(tree: Node, at: int, way: Callable[[Node], Node]) -> Node:
    """The tree with another node at a place, counted as :meth:`Node.walk` goes."""
    count = -1

    def go(node: Node) -> Node:
        nonlocal count
        children = tuple(go(child) for child in node.children)
        count += 1
        if count == at:
            return way(node)
        return Node(node.kind, children)

    return go(tree)
