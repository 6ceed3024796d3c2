"""Tuning of a program's constants by CMA-ES (Hansen, arXiv 1604.00772; the ``cma`` package)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import cma
import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery.program_tree import (
    Constant,
    Program,
    normalize_constants,
    round_constant,
    simplify,
)
from autotts_gym.discovery.proposal import PARSIMONY
from autotts_gym.discovery.variation import rounder_variants, smaller_variants

#: Initial standard deviation, relative to the magnitude of each constant.
_INITIAL_STEP: Final = 0.3
#: Share of the evaluations after which a program may be given up.
_GIVE_UP_AFTER: Final = 1 / 3
#: A program is given up if its best score is this far below the floor: more than the remaining
#: evaluations usually gain.
_GIVE_UP_MARGIN: Final = 0.01


def tune_constants(
    program: Program,
    score: Callable[[Program], float],
    evaluations: int,
    seed: int,
    knob: bool = True,
    floor: float = -math.inf,
) -> Program:
    """Search for the constants with the highest score.

    Args:
        program: the program; its constants are the initial mean.
        score: objective to maximize.
        evaluations: approximate number of evaluations of the objective.
        seed: random seed, at least 1.
        knob: whether constants may depend on β.
        floor: give up a program that is well below this score after a third of the evaluations.

    Returns:
        The program with the best constants found.
    """
    constants = program.constants
    parameters = 2 if knob else 1
    start = np.array([x for c in constants for x in (c.base, c.slope)[:parameters]])
    units = np.repeat([max(abs(c.base), abs(c.slope), 0.1) for c in constants], parameters)

    def with_values(x: NDArray[np.float64]) -> Program:
        rows = (x * units).reshape(-1, parameters)
        return program.with_constants([Constant(*(round_constant(v) for v in r)) for r in rows])

    best, best_score = program, score(program)
    remaining = evaluations - 1
    if remaining <= 0:
        return best
    search = cma.CMAEvolutionStrategy(
        start / units, _INITIAL_STEP, {"seed": seed, "verbose": -9, "maxfevals": remaining}
    )
    while remaining > 0 and not search.stop():
        may_give_up = remaining < evaluations * (1 - _GIVE_UP_AFTER)
        if may_give_up and best_score < floor - _GIVE_UP_MARGIN:
            break
        samples = search.ask()
        losses = []
        for x in samples:
            candidate = with_values(x)
            candidate_score = score(candidate)
            losses.append(-candidate_score)
            if candidate_score > best_score:
                best, best_score = candidate, candidate_score
        search.tell(samples, losses)
        remaining -= len(samples)
    return best


def reduce_program(program: Program, score: Callable[[Program], float]) -> Program:
    """Remove parts of a program that its score does not need, and round its constants.

    A change is kept if the score falls by no more than ``PARSIMONY`` times the nodes and slopes
    that it removes; rounding a constant counts as one node.

    Args:
        program: the program.
        score: objective to maximize.
    """
    best_score, best = score(program), program
    for variants, bonus in ((smaller_variants, 0), (rounder_variants, 1)):
        improved = True
        while improved:
            improved = False
            for candidate in map(simplify, variants(best)):
                candidate_score = score(candidate)
                saved = best.size - candidate.size + bonus
                if candidate != best and candidate_score >= best_score - PARSIMONY * saved:
                    best_score, best, improved = candidate_score, candidate, True
                    break
    return normalize_constants(best)
