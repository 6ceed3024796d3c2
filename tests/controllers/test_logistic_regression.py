"""Logistic regression and Platt scaling: against scipy, at the limits, and compiled."""

from __future__ import annotations

import math
import sys
from typing import Any

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy.optimize import minimize, root
from scipy.special import expit, logit

from autotts_gym.controllers import logistic_regression
from autotts_gym.controllers.compiler import compile_controller
from autotts_gym.controllers.logistic_regression import (
    CLIP,
    FITTED,
    fit_calibrated,
    fit_logistic,
    probability,
    sigmoid,
)

Array = NDArray[np.float64]


def data(seed: int, rows: int = 200, columns: int = 5) -> tuple[Array, Array]:
    """Features of different scales, and labels that no plane separates."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(rows, columns)) * 10.0 ** rng.integers(-3, 4, columns) + 5
    standard = (features - features.mean(axis=0)) / features.std(axis=0)
    chance = expit(standard @ rng.normal(size=columns) + rng.normal())
    labels = (rng.random(rows) < chance).astype(float)
    labels[:2] = 1 - labels[2:4]
    features[:2] = features[2:4]  # the same features with both labels
    return features, labels


def with_scipy(features: Array, labels: Array, penalty: float) -> Array:
    """The maximum by scipy: trust-region Newton steps on the same objective."""
    design = np.hstack([features, np.ones((len(labels), 1))])
    ridge = np.full(design.shape[1], penalty)
    ridge[-1] = 0

    def objective(w: Array) -> float:
        z = design @ w
        return float((np.logaddexp(0, z) - labels * z).sum() + (ridge * w**2).sum())

    def gradient(w: Array) -> Array:
        return np.asarray(design.T @ (expit(design @ w) - labels) + 2 * ridge * w)

    def hessian(w: Array) -> Array:
        p = expit(design @ w)
        return np.asarray(design.T @ ((p * (1 - p))[:, None] * design) + 2 * np.diag(ridge))

    start = np.zeros(design.shape[1])
    options = {"gtol": 1e-12}
    found = minimize(
        objective, start, jac=gradient, hess=hessian, method="trust-exact", options=options
    )
    # The objective is flat to rounding errors around its minimum; the gradient's root is sharper.
    polished = root(gradient, found.x, jac=hessian, tol=1e-15)
    assert abs(gradient(polished.x)).max() < 1e-11
    return np.asarray(polished.x)


def standardised(features: Array) -> Array:
    return np.asarray((features - features.mean(axis=0)) / features.std(axis=0))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("penalty", [0.0, 0.01, 3.0])
def test_coefficients_equal_those_of_scipy(seed: int, penalty: float) -> None:
    features, labels = data(seed)
    x = standardised(features)
    found = fit_logistic(x, labels, penalty, np.zeros(x.shape[1] + 1))
    assert_allclose(found, with_scipy(x, labels, penalty), rtol=0, atol=1e-8)


@pytest.mark.parametrize("seed", range(20))
def test_probabilities_equal_those_of_scipy(seed: int) -> None:
    """Regression, clipping and Platt scaling together."""
    features, labels = data(seed)
    model = fit_calibrated(features, labels, 0.01)
    x = standardised(features)
    weights = with_scipy(x, labels, 0.01)
    odds = logit(np.clip(expit(x @ weights[:-1] + weights[-1]), CLIP, 1 - CLIP))
    slope, offset = with_scipy(odds[:, None], labels, 0.0)
    assert_allclose((model.slope, model.offset), (slope, offset), rtol=0, atol=1e-8)
    found = [probability(model, row) for row in features]
    assert_allclose(found, expit(slope * odds + offset), rtol=0, atol=1e-8)
    assert model.constant == FITTED


def test_features_that_do_not_vary_are_left_out() -> None:
    features, labels = data(3)
    constant = np.hstack([features, np.full((len(labels), 1), 0.1), np.full((len(labels), 1), -1)])
    model, fewer = fit_calibrated(constant, labels, 0.01), fit_calibrated(features, labels, 0.01)
    assert_array_equal(model.coefficients[5:7], 0)
    for row, extended in zip(features, constant, strict=True):
        assert probability(model, extended) == pytest.approx(probability(fewer, row), abs=1e-12)
        extended[5:] = 1e6
        assert probability(model, extended) == pytest.approx(probability(fewer, row), abs=1e-12)


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_equal_labels(label: float) -> None:
    model = fit_calibrated(np.arange(12.0).reshape(4, 3), np.full(4, label), 0.01)
    assert probability(model, np.full(3, 100.0)) == label


def test_no_rows() -> None:
    model = fit_calibrated(np.empty((0, 5)), np.empty(0), 0.01)
    assert probability(model, np.zeros(5)) == 1


@pytest.mark.parametrize("penalty", [0.0, 0.01])
def test_separable_data(penalty: float) -> None:
    """The fit ends, and its probabilities are finite and on the right side."""
    features = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    labels = np.array([0.0, 0.0, 1.0, 1.0])
    model = fit_calibrated(features, labels, penalty)
    found = np.array([probability(model, row) for row in features])
    assert np.isfinite(found).all()
    assert (found[:2] < 1e-3).all()
    assert (found[2:] > 1 - 1e-3).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 5))
def test_the_gradient_vanishes(seed: int, rows: int, columns: int) -> None:
    """On any data with both labels, few rows and separable ones included."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns)).round(1)
    labels = rng.integers(0, 2, rows).astype(float)
    if labels.min() == labels.max():
        return
    w = fit_logistic(x, labels, 0.01, np.zeros(columns + 1))
    gradient = x.T @ (labels - expit(x @ w[:-1] + w[-1])) - 0.02 * w[:-1]
    assert abs(gradient).max() < 1e-8
    assert abs((labels - expit(x @ w[:-1] + w[-1])).sum()) < 1e-8


@given(st.floats(-1e6, 1e6))
def test_sigmoid(z: float) -> None:
    assert sigmoid(z) == pytest.approx(expit(z), rel=1e-14, abs=1e-300)
    assert sigmoid(z) + sigmoid(-z) == pytest.approx(1)


def both(features: Any, labels: Any) -> tuple[float, float]:
    """Largest and sum of the probabilities, in plain Python and compiled."""
    model = fit_calibrated(features, labels, 0.01)
    largest, total = 0.0, 0.0
    for row in features:
        largest = max(largest, probability(model, row))
        total += probability(model, row)
    return largest, total


@pytest.mark.slow
def test_compiled_code_gives_the_same_bits() -> None:
    assert sys.modules[fit_calibrated.__module__] is logistic_regression
    compiled = compile_controller(both, takes_beta=True)
    assert isinstance(compiled, numba.core.registry.CPUDispatcher)
    for seed in range(10):
        features, labels = data(seed)
        assert compiled(features, labels) == both(features, labels)
    assert not math.isnan(compiled(features, labels)[0])
