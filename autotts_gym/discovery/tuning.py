"""The constants of a program, by CMA-ES (Hansen, arXiv 1604.00772; the ``cma`` package)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cma
import numpy as np
from numpy.typing import NDArray

from autotts_gym.discovery.grammar import Constant, Program

#: Standard deviation of the first step, in units of each constant.
_STEP: Final = 0.3
#: Digits that constants are written with; what is scored is what is written.
_DIGITS: Final = 4


def rounded(value: float) -> float:
    """To as many significant digits as are written."""
    return float(f"{value:.{_DIGITS}g}")


def tuned(
    program: Program, score: Callable[[Program], float], evaluations: int, seed: int
) -> tuple[Program, float]:
    """The program with the best constants that were found, and its score.

    Args:
        score: what is maximised.
        evaluations: of ``score``, about.
        seed: of the search, 1 or more.
    """
    constants = program.constants
    start = np.array([x for c in constants for x in (c.base, c.slope)])
    units = np.array([u for c in constants for u in [max(abs(c.base), abs(c.slope), 0.1)] * 2])

    def made(x: NDArray[np.float64]) -> Program:
        values = [rounded(v) for v in x * units]
        pairs = zip(values[::2], values[1::2], strict=True)
        return program.refilled([Constant(*pair) for pair in pairs])

    best, best_score = program, score(program)
    left = evaluations - 1
    if left <= 0:
        return best, best_score
    search = cma.CMAEvolutionStrategy(
        start / units, _STEP, {"seed": seed, "verbose": -9, "maxfevals": left}
    )
    while left > 0 and not search.stop():
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
    return best, best_score
