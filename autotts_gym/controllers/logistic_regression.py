"""Logistic regression with a ridge penalty, and Platt scaling, for controllers.

The functions are plain Python on small arrays, and are compiled along with a controller that calls
them. Newton steps solve the normal equations directly, so they suit some thousands of rows and
about ten columns::

    model = fit_calibrated(features, labels, 0.01)
    chance = probability(model, features[0])

Sums run in the order of the rows, so compiled code and plain Python give equal results.
"""

from __future__ import annotations

from math import exp, log, log1p, sqrt
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

#: Largest absolute gradient at which a fit has converged.
TOLERANCE: Final = 1e-11

#: Maximum number of Newton steps of a fit.
NEWTON_STEPS: Final = 100

#: Smallest probability before Platt scaling; the largest is 1 minus this.
CLIP: Final = 1e-7

#: Value of :attr:`CalibratedModel.constant` if a model was fitted.
FITTED: Final = -1.0


class CalibratedModel(NamedTuple):
    """A logistic regression on standardised features, followed by Platt scaling.

    Attributes:
        means, scales: float64[d], subtracted from the features, and divided by.
        coefficients: float64[d + 1], of the standardised features; the last is the intercept.
        slope, offset: a and b of Platt scaling, p → σ(a · logit p + b).
        constant: the probability of every row, if all labels were equal; else ``FITTED``.
    """

    means: NDArray[np.float64]
    scales: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    slope: float
    offset: float
    constant: float


def sigmoid(z: float) -> float:
    """1 / (1 + exp(−z)), without overflow."""
    if z >= 0:
        return 1 / (1 + exp(-z))
    odds = exp(z)
    return odds / (1 + odds)


def linear_value(row: NDArray[np.float64], coefficients: NDArray[np.float64]) -> float:
    """Intercept, the last coefficient, plus the row times the others."""
    z = coefficients[len(row)]
    for k in range(len(row)):
        z += row[k] * coefficients[k]
    return z  # type: ignore[no-any-return]


def penalised_likelihood(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    penalty: float,
    coefficients: NDArray[np.float64],
) -> float:
    """Sum of log-likelihoods, minus ``penalty`` times the squared coefficients.

    The intercept is not penalised.
    """
    total = 0.0
    for k in range(len(coefficients) - 1):
        total -= penalty * coefficients[k] ** 2
    for i in range(len(labels)):
        z = linear_value(features[i], coefficients)
        # log σ(z) = −log(1 + exp(−z)), and log(1 − σ(z)) = log σ(−z)
        agreeing = z if labels[i] > 0.5 else -z
        total -= log1p(exp(-agreeing)) if agreeing > 0 else log1p(exp(agreeing)) - agreeing
    return total


def newton_step(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    penalty: float,
    coefficients: NDArray[np.float64],
) -> tuple[NDArray[np.float64], float]:
    """The step to the maximum of the quadratic approximation of the likelihood.

    Returns:
        Step (zeros if the Hessian is singular), and largest absolute entry of the gradient.
    """
    size = len(coefficients)
    gradient = np.zeros(size)
    hessian = np.zeros((size, size))  # of minus the likelihood; lower triangle
    row = np.ones(size)  # the last entry belongs to the intercept
    for i in range(len(labels)):
        row[: size - 1] = features[i]
        p = sigmoid(linear_value(features[i], coefficients))
        for k in range(size):
            gradient[k] += (labels[i] - p) * row[k]
            for m in range(k + 1):
                hessian[k, m] += p * (1 - p) * row[k] * row[m]
    for k in range(size - 1):
        gradient[k] -= 2 * penalty * coefficients[k]
        hessian[k, k] += 2 * penalty
    largest = 0.0
    for k in range(size):
        largest = max(largest, abs(gradient[k]))
    if not factorise(hessian):
        return np.zeros(size), largest
    return substitute(hessian, gradient), largest


def factorise(matrix: NDArray[np.float64]) -> bool:
    """Cholesky decomposition of the lower triangle, in place; False if it is singular."""
    for k in range(len(matrix)):
        for m in range(k + 1):
            rest = matrix[k, m]
            for j in range(m):
                rest -= matrix[k, j] * matrix[m, j]
            if k > m:
                matrix[k, m] = rest / matrix[m, m]
            elif rest > 0:
                matrix[k, k] = sqrt(rest)
            else:
                return False
    return True


def substitute(factor: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Solve ``L Lᵀ x = right`` for a lower triangle L."""
    x = right.copy()
    size = len(right)
    for k in range(size):
        for m in range(k):
            x[k] -= factor[k, m] * x[m]
        x[k] /= factor[k, k]
    for k in range(size - 1, -1, -1):
        for m in range(k + 1, size):
            x[k] -= factor[m, k] * x[m]
        x[k] /= factor[k, k]
    return x


def fit_logistic(
    features: NDArray[np.float64],
    labels: NDArray[np.float64],
    penalty: float,
    start: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Fit a logistic regression by Newton steps.

    A step is halved while it lowers the likelihood. The fit ends when the gradient is below
    ``TOLERANCE``, after ``NEWTON_STEPS`` steps, or when the Hessian is singular. Without a penalty,
    data that a plane separates have no maximum; the fit then ends where the gradient is negligible.

    Args:
        features: float64[n, d].
        labels: float64[n], 0 or 1.
        penalty: of the squared coefficients, on the summed log-likelihood; at least 0.
        start: float64[d + 1], the coefficients to start from.

    Returns:
        float64[d + 1], the coefficients; the last is the intercept, which is not penalised.
    """
    coefficients = start.copy()
    value = penalised_likelihood(features, labels, penalty, coefficients)
    for _ in range(NEWTON_STEPS):
        step, gradient = newton_step(features, labels, penalty, coefficients)
        if gradient < TOLERANCE:
            break
        share = 1.0
        new = penalised_likelihood(features, labels, penalty, coefficients + step)
        # Near the maximum, rounding can lower the likelihood by a few units in the last place.
        while new < value - 1e-12 * max(1.0, abs(value)) and share > 1e-6:
            share /= 2
            new = penalised_likelihood(features, labels, penalty, coefficients + share * step)
        coefficients = coefficients + share * step
        value = new
    return coefficients


def log_odds(p: float) -> float:
    """log(p / (1 − p)), after clipping p to ``CLIP`` from 0 and 1."""
    p = min(max(p, CLIP), 1 - CLIP)
    return log(p / (1 - p))


def fit_calibrated(
    features: NDArray[np.float64], labels: NDArray[np.float64], penalty: float
) -> CalibratedModel:
    """Fit a ridge logistic regression on standardised features, then Platt scaling on its results.

    Features that do not vary are left out. If all labels are equal, that label is the probability
    of every row; without rows, the probability is 1.

    Args:
        features: float64[n, d].
        labels: float64[n], 0 or 1.
        penalty: of the squared coefficients of the standardised features, on the summed
            log-likelihood.
    """
    rows, columns = features.shape
    means, scales = np.zeros(columns), np.ones(columns)
    no_coefficients = np.zeros(columns + 1)
    ones = 0.0
    for i in range(rows):
        ones += labels[i]
    if ones == rows:  # without rows, too
        return CalibratedModel(means, scales, no_coefficients, 1.0, 0.0, 1.0)
    if ones == 0:
        return CalibratedModel(means, scales, no_coefficients, 1.0, 0.0, 0.0)
    standardised = np.empty((rows, columns))
    for k in range(columns):
        total, squares = 0.0, 0.0
        for i in range(rows):
            total += features[i, k]
        means[k] = total / rows
        for i in range(rows):
            squares += (features[i, k] - means[k]) ** 2
        deviation = sqrt(squares / rows)
        if deviation > 1e-10 * max(1.0, abs(means[k])):
            scales[k] = deviation
            for i in range(rows):
                standardised[i, k] = (features[i, k] - means[k]) / deviation
        else:
            standardised[:, k] = 0.0  # the penalty then keeps its coefficient at 0
    coefficients = fit_logistic(standardised, labels, penalty, no_coefficients)
    odds = np.empty((rows, 1))
    for i in range(rows):
        odds[i, 0] = log_odds(sigmoid(linear_value(standardised[i], coefficients)))
    scaling = fit_logistic(odds, labels, 0.0, np.array([1.0, 0.0]))
    return CalibratedModel(means, scales, coefficients, scaling[0], scaling[1], FITTED)


def probability(model: CalibratedModel, row: NDArray[np.float64]) -> float:
    """Calibrated probability of label 1.

    Args:
        model: from :func:`fit_calibrated`.
        row: float64[d], features as they were given to it.
    """
    if model.constant != FITTED:
        return model.constant
    z = linear_value((row - model.means) / model.scales, model.coefficients)
    return sigmoid(model.slope * log_odds(sigmoid(z)) + model.offset)
