"""Tuning of constants, and reduction of programs."""

from __future__ import annotations

from dataclasses import replace

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.constant_tuning import reduce_program, tune_constants
from autotts_gym.discovery.program_tree import Constant, Node, round_constant
from autotts_gym.discovery.variation import seed_programs


def test_tuning_finds_the_best_constants() -> None:
    """Constants are found for a score with a known maximum, and are rounded before scoring."""
    program = seed_programs()["adaptive"]

    def score(candidate: pt.Program) -> float:
        first, *_, last = candidate.constants
        for constant in candidate.constants:
            assert constant.base == round_constant(constant.base)
        return -abs(first.base - 1.3) - abs(last.slope - 0.7)

    tuned = tune_constants(program, score, 800, 1)
    assert score(tuned) > -0.05
    assert tune_constants(program, score, 60, 1) == tune_constants(program, score, 60, 1)
    assert tune_constants(program, score, 1, 1) == program
    fixed = tune_constants(program, score, 60, 1, knob=False)
    assert [c.slope for c in fixed.constants] == [0.0] * len(program.constants)


def test_shrinkage_keeps_constants_near_their_start() -> None:
    """Constants that the score does not need stay where they are; with a tilt, three are tuned."""
    program = seed_programs()["adaptive"]

    def score(candidate: pt.Program) -> float:
        first = candidate.constants[0]
        return -((first.base - 1.3) ** 2) - (first.tilt - 0.2) ** 2

    def distance(tuned: pt.Program) -> float:
        pairs = zip(tuned.constants[1:], program.constants[1:], strict=True)
        return max(abs(a.base - b.base) / abs(b.base) for a, b in pairs)

    shrunk, free = (
        tune_constants(program, score, 1000, 1, latency=True, shrinkage=shrinkage)
        for shrinkage in (0.001, 0.0)
    )
    assert distance(shrunk) < distance(free) / 2
    assert shrunk.constants[0].base > 1.25
    assert shrunk.constants[0].tilt > 0.15
    assert shrunk.uses_latency
    flat = tune_constants(program, lambda _: 1.0, 60, 1, shrinkage=0.01)
    assert flat == program


def test_reduction_keeps_what_the_score_needs() -> None:
    """Parts without effect on the score are removed, and constants are rounded."""
    adaptive = seed_programs()["adaptive"]
    wrapped = Node(pt.ADD, (Node(pt.FADE, (Node("effort"),)), Node("share")))
    program = replace(
        adaptive, stop=Node(pt.MIN, (wrapped, adaptive.stop)), stride=Constant(3.217, 1.5)
    )

    def score(candidate: pt.Program) -> float:
        return sum(node.kind == "votes" for node in candidate.stop.walk()) - 1e-9 * candidate.size

    reduced = reduce_program(program, score)
    assert reduced.stop == Node("votes")
    assert reduced.size < program.size
    assert score(reduced) >= score(program)
    assert all(c.base == float(f"{c.base:.2g}") and c.slope == 0 for c in reduced.constants)
