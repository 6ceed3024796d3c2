"""Tuning and rounding of constants."""

from __future__ import annotations

from dataclasses import replace

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.constant_tuning import round_program, tune_constants
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


def test_rounding_keeps_what_the_score_needs() -> None:
    """Constants are rounded unless the score needs their digits; the nodes stay."""
    adaptive = seed_programs()["adaptive"]
    program = replace(adaptive, width=Node(Constant(3.217)), stride=Constant(2.3456, 1.5432))

    def score(candidate: pt.Program) -> float:
        return -abs(candidate.stride.base - 2.3456)

    rounded = round_program(program, score)
    assert rounded.stop == adaptive.stop
    assert rounded.width == Node(Constant(3.2))
    assert rounded.stride == program.stride
