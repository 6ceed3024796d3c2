"""Optimal stopping by regression: a rule that stops where another wave is not worth its price.

As in Longstaff and Schwartz (2001) and Tsitsiklis and Van Roy (2001), the value of continuing is
regressed on features of what was observed, over replayed episodes. Here it is the *gain rate*: the
correct answers that continuing gains per unit of cost, modelled as

    exp(intercept − Σ coefficient · feature),

a function of the votes only, with coefficients ≥ 0. The rule stops at the first row where the gain
rate is below the price, so one model holds for all prices, and the logarithm of the price is
linear in β. With several weights of latency, the intercept is linear in the weight.

The mean payoff of the rule over log-uniform prices has a closed form. With m the lowest logarithm
of the gain rate up to a row, continuing there is worth Δcorrect · m − Δcost · exp(m), up to
constants: the likelihood of a log-linear (Poisson) regression of Δcorrect with the exposure Δcost,
on those rows at which a new lowest gain rate is reached. Backward induction over waves is contained
in it: such a row is credited with all that follows until the gain rate falls below its own, which
is what is gained by continuing at the price at which the rule is indifferent there.

A ridge pulls the coefficients toward their mean. At its limit, all features count equally, and only
the intercept and the scale are fitted.
"""

from __future__ import annotations

import hashlib
import inspect
import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.objective import PRICES, price_at
from autotts_gym.discovery.program_tree import Constant, Node
from autotts_gym.discovery.replays import FEATURES, Replays
from autotts_gym.mdp.jit import entry_point

#: Terms of the rule, the most important ones first: features of votes and tokens. Counts enter by
#: their logarithm, so that all are in relative units.
TERMS: Final = (
    Node(pt.LN, (Node("votes"),)),
    Node(pt.LN, (Node("work"),)),
    Node("margin"),
    Node("live"),
    Node("share"),
    Node(pt.LN, (Node("answers"),)),
    Node(pt.LN, (Node("stable"),)),
)
#: Scales at which fits start, of which the best result is kept.
_SCALES: Final = (0.5, 1.0, 2.0)
#: Terms with a smaller coefficient are left out of a rule.
_SMALLEST: Final = 0.01
#: Range of the logarithm of the price from β = 0 to β = 1.
LOG_RANGE: Final = math.log(PRICES.high / PRICES.low)


def _payoffs(terms, gains, costs, starts, weights, low, high, theta, values, gradient):  # type: ignore[no-untyped-def] # compiled
    """Payoffs of a rule by episode, and their gradient; both are written to the last arguments.

    Prices of an episode have logarithms from ``low`` to ``high``. The payoff is that of continuing,
    integrated over them.
    """
    count = terms.shape[1]
    for e in range(len(weights)):
        values[e] = 0.0
        if weights[e] == 0.0:
            continue
        lowest, at = high[e], -1
        for row in range(starts[e], starts[e + 1]):
            rate = theta[0]
            for k in range(count):
                rate -= theta[k + 1] * terms[row, k]
            if rate < lowest:
                lowest, at = rate, row
            if lowest <= low[e]:
                break
            value = math.exp(lowest)
            values[e] += gains[row] * (lowest - low[e]) - costs[row] * (value - math.exp(low[e]))
            if at >= 0:
                slope = weights[e] * (gains[row] - costs[row] * value)
                gradient[0] += slope
                for k in range(count):
                    gradient[k + 1] -= slope * terms[at, k]


_compiled_payoffs: Any = entry_point(
    hashlib.sha256(inspect.getsource(_payoffs).encode()).hexdigest()
)(_payoffs)


@dataclass(frozen=True)
class GainModel:
    """A fitted gain rate.

    Attributes:
        coefficients: float64[1 + terms], intercept and coefficients.
        tilt: slope of the intercept in the weight of latency.
    """

    coefficients: NDArray[np.float64]
    tilt: float = 0.0

    def stop_tree(self) -> Node:
        """The rule as the tree of the slot ``stop``: above 0 where the rule stops."""
        tree: Node | None = None
        for coefficient, term in zip(self.coefficients[1:].tolist(), TERMS, strict=False):
            if coefficient < _SMALLEST:
                continue
            product = Node(pt.MUL, (Node(Constant(_rounded(coefficient))), term))
            tree = product if tree is None else Node(pt.ADD, (tree, product))
        # The gain rate is below the price where the sum is above this threshold.
        base = float(self.coefficients[0]) - math.log(price_at(0.0))
        threshold = Constant(_rounded(base), _rounded(LOG_RANGE), _rounded(self.tilt))
        return Node(pt.SUB, (tree or Node(Constant(0.0)), Node(threshold)))


class StopRegression:
    """Fits gain rates to replays.

    Args:
        replays: rows of a reading policy, at one or several values of β and weights of latency.
    """

    def __init__(self, replays: Replays) -> None:
        self.replays = replays
        self._terms = np.column_stack([_column(replays, term) for term in TERMS])
        latency = np.repeat(replays.latency, np.diff(replays.starts))
        costs = (1 - latency) * replays.tokens + latency * replays.sequential
        # With several weights, the weight is one more column of every fit.
        has_tilt = len(np.unique(replays.latency)) > 1
        self._tilting = -latency[:, None] if has_tilt else np.empty((len(latency), 0))
        self._gains, self._costs = _steps(replays.correct, replays), _steps(costs, replays)
        # Prices of an episode are those around its β, because the reading policy depends on it.
        betas = np.unique(replays.betas)
        cell = LOG_RANGE / max(len(betas) - 1, 1) / 2
        middle = math.log(price_at(0.0)) - LOG_RANGE * replays.betas
        self._low, self._high = middle - cell, middle + cell
        self._cell = 2 * cell

    def fit(
        self,
        terms: int,
        ridge: float,
        selected: NDArray[np.bool_] | None = None,
        start: GainModel | None = None,
    ) -> GainModel:
        """Fit the gain rate.

        Args:
            terms: number of terms, the first ones of ``TERMS``.
            ridge: penalty of the squared distance of the coefficients from their mean.
            selected: bool[E], the episodes to fit to; all by default.
            start: where the fit starts; by default it starts several times.
        """
        weights = self._weights(selected)
        columns = self._columns(terms)
        tilts = columns.shape[1] - terms
        starts = self._starts(terms) if start is None else [start]
        ridged = slice(1, terms + 1)

        def objective(theta: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            values, gradient = self._evaluate(columns, theta, weights)
            distance = theta[ridged] - theta[ridged].mean()
            gradient[ridged] -= 2 * ridge * distance
            return ridge * float(distance @ distance) - float(weights @ values), -gradient

        bounds = [(None, None)] + [(0.0, None)] * terms + [(None, None)] * tilts
        results = [
            minimize(objective, theta, jac=True, method="L-BFGS-B", bounds=bounds)
            for theta in (self._theta(model, terms) for model in starts)
        ]
        best = min(results, key=lambda result: float(result.fun)).x
        return GainModel(best[: terms + 1], float(best[terms + 1 :].sum()))

    def payoffs(self, model: GainModel, selected: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Contributions of some episodes to the payoff of each question; float64[Q].

        The payoff is the score relative to stopping at the first vote, a mean over prices and
        episodes. Questions are in ascending order.

        Args:
            model: the rule.
            selected: bool[E], the episodes.
        """
        terms = len(model.coefficients) - 1
        columns, theta = self._columns(terms), self._theta(model, terms)
        values = self._evaluate(columns, theta, selected.astype(float))[0] / self._cell
        at = np.unique(self.replays.questions, return_inverse=True)[1]
        sums: NDArray[np.float64] = np.bincount(at, values) / np.bincount(at)
        return sums

    def _columns(self, terms: int) -> NDArray[np.float64]:
        """The first terms, and the negative weight of latency if there are several."""
        return np.ascontiguousarray(np.hstack([self._terms[:, :terms], self._tilting]))

    def _theta(self, model: GainModel, terms: int) -> NDArray[np.float64]:
        """Intercept, coefficients of the first terms, and the tilt if there is one."""
        tilt = [model.tilt] * self._tilting.shape[1]
        theta: NDArray[np.float64] = np.append(model.coefficients[: terms + 1], tilt)
        return theta

    def _weights(self, selected: NDArray[np.bool_] | None) -> NDArray[np.float64]:
        chosen = np.ones(len(self.replays.betas)) if selected is None else selected.astype(float)
        weights: NDArray[np.float64] = chosen / max(chosen.sum(), 1.0) / self._cell
        return weights

    def _evaluate(
        self,
        columns: NDArray[np.float64],
        theta: NDArray[np.float64],
        weights: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        values, gradient = np.zeros(len(weights)), np.zeros(len(theta))
        _compiled_payoffs(
            *(columns, self._gains, self._costs, self.replays.starts, weights),
            *(self._low, self._high, np.ascontiguousarray(theta), values, gradient),
        )
        return values, gradient

    def _starts(self, terms: int) -> list[GainModel]:
        """Equal coefficients at several scales, with the price of β = 0.5 at the mean row."""
        level = math.log(price_at(0.5))
        mean = float(self._terms[:, :terms].sum(axis=1).mean())
        return [GainModel(np.array([level + scale * mean, *[scale] * terms])) for scale in _SCALES]


def _column(replays: Replays, term: Node) -> NDArray[np.float64]:
    """A term in every row."""
    if term.kind == pt.LN:
        inner: NDArray[np.float64] = np.log1p(_column(replays, term.children[0]))
        return inner
    column: NDArray[np.float64] = replays.features[:, FEATURES.index(str(term.kind))]
    return column


def _steps(values: NDArray[np.float64], replays: Replays) -> NDArray[np.float64]:
    """Change from each row to the next one of its episode; 0 at the last."""
    steps = np.append(np.diff(values), 0.0)
    steps[replays.starts[1:] - 1] = 0.0
    return steps


def _rounded(value: float) -> float:
    """Two significant digits: more would only fit the questions."""
    return float(f"{value:.2g}")
