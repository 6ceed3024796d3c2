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

#: Initial standard deviation of CMA-ES, relative to the magnitude of each constant.
_INITIAL_STEP: Final = 0.3
#: Tuning can stop early after this share of the evaluations.
_EARLY_STOP_AFTER: Final = 1 / 3
#: Tuning stops early if the best score is lower than ``floor`` by more than this margin. The
#: remaining evaluations rarely gain as much.
_EARLY_STOP_MARGIN: Final = 0.01


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
        program: the program; the search starts from its constants.
        score: objective to maximize.
        evaluations: approximate number of evaluations of the objective.
        seed: random seed, at least 1 (``cma`` takes 0 as no seed).
        knob: tune base and slope of every constant (``base + slope · β``); if False, the base only.
        floor: stop early if the best score is well below this one after a third of the evaluations.

    Returns:
        The program with the best constants found.
    """
    constants = program.constants
    parameters = 2 if knob else 1
    start = np.array([x for c in constants for x in (c.base, c.slope)[:parameters]])
    scales = np.repeat([max(abs(c.base), abs(c.slope), 0.1) for c in constants], parameters)

    def with_values(x: NDArray[np.float64]) -> Program:
        rows = (x * scales).reshape(-1, parameters)
        return program.with_constants([Constant(*(round_constant(v) for v in r)) for r in rows])

    best, best_score = program, score(program)
    remaining = evaluations - 1
    if remaining <= 0:
        return best
    search = cma.CMAEvolutionStrategy(
        start / scales, _INITIAL_STEP, {"seed": seed, "verbose": -9, "maxfevals": remaining}
    )
    while remaining > 0 and not search.stop():
        may_stop_early = remaining < evaluations * (1 - _EARLY_STOP_AFTER)
        if may_stop_early and best_score < floor - _EARLY_STOP_MARGIN:
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
    """Simplify a program greedily: remove nodes and slopes, then round constants.

    A change is kept if it lowers the score by at most ``PARSIMONY`` per removed node or slope.
    Rounding a constant counts as one removed node.

    Args:
        program: the program.
        score: objective to maximize.
    """
    best_score, best = score(program), program
    for variants, rounded in ((smaller_variants, 0), (rounder_variants, 1)):
        improved = True
        while improved:
            improved = False
            for candidate in map(simplify, variants(best)):
                candidate_score = score(candidate)
                saved = best.size - candidate.size + rounded
                if candidate != best and candidate_score >= best_score - PARSIMONY * saved:
                    best_score, best, improved = candidate_score, candidate, True
                    break
    return normalize_constants(best)
