"""The constants of a program, by CMA-ES (Hansen, arXiv 1604.00772; the ``cma`` package)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import cma
import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery.program_tree import Constant, Program, bare, rounded, simplified
from autotts_gym.discovery.proposal import PARSIMONY
from autotts_gym.discovery.variation import rounder, smaller

#: Standard deviation of the first step, in units of each constant.
_STEP: Final = 0.3
#: Share of the evaluations after which hopeless programs are given up, and how far below they are:
#: what the rest of the tuning could gain.
_TRIED: Final = 1 / 3
_BELOW: Final = 0.01


def tuned(
    program: Program,
    score: Callable[[Program], float],
    evaluations: int,
    seed: int,
    knob: bool = True,
    floor: float = -math.inf,
) -> Program:
    """The program with the best constants that were found.

    Args:
        score: what is maximised.
        evaluations: of ``score``, about.
        seed: of the search, 1 or more.
        knob: whether constants may move with β.
        floor: a program that is well below it after a third of the evaluations is given up.
    """
    constants = program.constants
    moves = 2 if knob else 1
    start = np.array([x for c in constants for x in (c.base, c.slope)[:moves]])
    units = np.repeat([max(abs(c.base), abs(c.slope), 0.1) for c in constants], moves)

    def made(x: NDArray[np.float64]) -> Program:
        rows = (x * units).reshape(-1, moves)
        return program.refilled([Constant(*(rounded(v) for v in row)) for row in rows])

    best, best_score = program, score(program)
    left = evaluations - 1
    if left <= 0:
        return best
    search = cma.CMAEvolutionStrategy(
        start / units, _STEP, {"seed": seed, "verbose": -9, "maxfevals": left}
    )
    while left > 0 and not search.stop():
        if left < evaluations * (1 - _TRIED) and best_score < floor - _BELOW:
            break
        asked = search.ask()
        scores = []
        for x in asked:
            candidate = made(x)
            found = score(candidate)
            scores.append(-found)
            if found > best_score:
                best, best_score = candidate, found
        search.tell(asked, scores)
        left -= len(asked)
    return best


def pared(program: Program, score: Callable[[Program], float]) -> Program:
    """The program without what it does not need: smaller, and with rounder constants.

    A change is kept where the score falls by no more than the price of what it saves
    (``PARSIMONY``); a rounder constant saves as much as a node.

    Args:
        score: what is maximised.
    """
    best, found = score(program), program
    for ways, saved in ((smaller, 0), (rounder, 1)):
        again = True
        while again:
            again = False
            for candidate in map(simplified, ways(found)):
                value = score(candidate)
                less = found.size - candidate.size + saved
                if candidate != found and value >= best - PARSIMONY * less:
                    best, found, again = value, candidate, True
                    break
    return bare(found)
