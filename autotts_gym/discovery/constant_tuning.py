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
from autotts_gym.discovery.variation import rounder_variants

#: Unit of the constants in CMA-ES, relative to the magnitude of each constant.
_UNIT: Final = 0.3
#: Initial standard deviation of CMA-ES, units.
_INITIAL_DEVIATION: Final = 0.5
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
    *,
    latency: bool = False,
    shrinkage: float = 0.0,
) -> Program:
    """Search for the constants with the highest score.

    The objective is the score minus ``shrinkage`` times the squared distance from the program's
    constants, summed over bases, slopes and tilts, in units of 0.3 of the magnitude of each
    constant. Without it, constants fit the questions that they are tuned on.

    Args:
        program: the program; the search starts from its constants.
        score: score to maximize.
        evaluations: approximate number of evaluations of the score.
        seed: random seed, at least 1 (``cma`` takes 0 as no seed).
        knob: tune base and slope of every constant; if False, the base only.
        floor: stop early if the best score is well below this one after a third of the evaluations.
        latency: with ``knob``, tune the tilt of every constant as well.
        shrinkage: penalty of the squared distance, in correct answers per question.

    Returns:
        The program with the mean of the final distribution as its constants, because the best
        sample is more of a chance hit. The program itself if its objective is higher.
    """
    constants = program.constants
    parameters = (3 if latency else 2) if knob else 1
    start = np.array([c.coefficients[:parameters] for c in constants])
    magnitudes = [max(*map(abs, c.coefficients), 0.1) for c in constants]
    units = _UNIT * np.array(magnitudes)[:, None]

    def with_values(x: NDArray[np.float64]) -> Program:
        values = start + units * x.reshape(-1, parameters)
        return program.with_constants([Constant(*map(round_constant, row)) for row in values])

    def objective(x: NDArray[np.float64]) -> tuple[float, float]:
        """The score of constants, and the score minus the penalty."""
        value = score(with_values(x))
        return value, value - shrinkage * float(x @ x)

    best_score = started = score(program)
    remaining = evaluations - 1
    if remaining <= 0:
        return program
    search = cma.CMAEvolutionStrategy(
        np.zeros(start.size),
        _INITIAL_DEVIATION,
        {"seed": seed, "verbose": -9, "maxfevals": remaining},
    )
    while remaining > 0 and not search.stop():
        may_stop_early = remaining < evaluations * (1 - _EARLY_STOP_AFTER)
        if may_stop_early and best_score < floor - _EARLY_STOP_MARGIN:
            break
        samples = search.ask()
        values = [objective(x) for x in samples]
        best_score = max(best_score, *(value for value, _ in values))
        search.tell(samples, [-penalized for _, penalized in values])
        remaining -= len(samples)
    mean = np.asarray(search.result.xfavorite)
    return with_values(mean) if objective(mean)[1] > started else program


def round_program(program: Program, score: Callable[[Program], float]) -> Program:
    """Round constants to half of their digits, one after the other.

    A constant is rounded if that lowers the score by at most ``PARSIMONY``.

    Args:
        program: the program.
        score: objective to maximize.
    """
    best_score, best = score(program), program
    improved = True
    while improved:
        improved = False
        for candidate in map(simplify, rounder_variants(best)):
            candidate_score = score(candidate)
            if candidate != best and candidate_score >= best_score - PARSIMONY:
                best_score, best, improved = candidate_score, candidate, True
                break
    return normalize_constants(best)
