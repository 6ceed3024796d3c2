"""Variation of programs within their limits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery import variation
from autotts_gym.discovery.program_tree import Constant, Node
from autotts_gym.discovery.variation import seed_programs


def test_mutation_stays_within_limits() -> None:
    rng = np.random.default_rng(0)
    sizes = set()
    program = seed_programs()["fading"]
    for _ in range(300):
        child = variation.mutate(program, rng)
        if variation.within_limits(child):
            program = child
        sizes.add(program.size)
        for slot in pt.SLOTS:
            for node in program.tree(slot).walk():
                assert not isinstance(node.kind, str) or node.kind in pt.AVAILABLE[slot]
                if isinstance(node.kind, int):
                    assert len(node.children) == pt.ARITY[node.kind]
    assert len(sizes) > 20


def test_large_trees_exceed_the_limits() -> None:
    program = seed_programs()["adaptive"]
    tree = Node(Constant(1.0))
    for _ in range(variation.MAX_TREE_SIZE // 2):
        tree = Node(pt.ADD, (tree, Node("share")))
    assert not variation.within_limits(replace(program, stop=tree))
