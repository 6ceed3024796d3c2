"""Optimal stopping by regression: payoffs, fits and rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.objective import price_at
from autotts_gym.discovery.program_tree import Constant, Node
from autotts_gym.discovery.replays import FEATURES, Replays
from autotts_gym.discovery.stop_regression import LOG_RANGE, TERMS, GainModel, StopRegression


def made_replays(
    seed: int,
    episodes: int,
    betas: tuple[float, ...] = (0.5,),
    latency: tuple[float, ...] = (0.0,),
) -> Replays:
    """Episodes of 1 to 9 rows with rising votes, and random correctness, margins and costs."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, 10, episodes)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    rows = int(starts[-1])
    features = np.zeros((rows, len(FEATURES)))
    steps = np.concatenate([np.arange(n) for n in lengths])
    features[:, FEATURES.index("votes")] = 1 + steps
    features[:, FEATURES.index("margin")] = rng.random(rows)
    features[:, FEATURES.index("work")] = 1 + 2 * steps
    return Replays(
        features=features,
        correct=rng.integers(0, 2, rows).astype(float),
        tokens=0.05 * (1 + steps),
        sequential=0.1 * (1 + steps),
        starts=starts,
        environments=np.zeros(episodes, np.int64),
        questions=np.arange(episodes) % 3,
        betas=np.repeat(betas, math.ceil(episodes / len(betas)))[:episodes],
        latency=np.resize(latency, episodes),
    )


def everything(replays: Replays) -> np.ndarray:
    return np.ones(len(replays.betas), bool)


@given(
    seed=st.integers(0, 50),
    theta=st.tuples(st.floats(-3, 3), *[st.floats(0, 2)] * 3),
    latency=st.sampled_from([0.0, 0.5]),
)
def test_payoff_is_the_mean_over_prices(
    seed: int, theta: tuple[float, ...], latency: float
) -> None:
    """It equals the mean payoff of stopping where the gain rate is below each of many prices."""
    replays = made_replays(seed, 6, latency=(latency,))
    regression = StopRegression(replays)
    payoffs = regression.payoffs(GainModel(np.array(theta)), everything(replays))
    columns = np.column_stack(
        [
            np.log1p(replays.features[:, FEATURES.index("votes")]),
            np.log1p(replays.features[:, FEATURES.index("work")]),
            replays.features[:, FEATURES.index("margin")],
        ]
    )
    rates = theta[0] - columns @ np.array(theta[1:])
    costs = (1 - latency) * replays.tokens + latency * replays.sequential
    logs = np.log(price_at(0.5)) + LOG_RANGE * (np.arange(4000) / 4000 + 1 / 8000 - 0.5)
    expected = np.zeros(3)
    for e in range(6):
        first, end = replays.starts[e : e + 2]
        stops = rates[first:end, None] < logs
        stops[-1] = True
        at = first + stops.argmax(axis=0)
        gained = replays.correct[at] - replays.correct[first]
        payoff = gained - np.exp(logs) * (costs[at] - costs[first])
        expected[replays.questions[e]] += payoff.mean() / 2  # two episodes of each question
    assert payoffs == pytest.approx(expected, abs=2e-3)


def test_gradient() -> None:
    """Fits end where the numerical gradient is 0, inside the bounds."""
    replays = made_replays(1, 3000)
    # Continuing gains a correct answer with a chance that falls with the votes.
    rng = np.random.default_rng(0)
    votes = replays.features[:, FEATURES.index("votes")]
    starts = np.isin(np.arange(len(votes)), replays.starts[:-1])
    hits = rng.random(len(votes)) < np.where(starts, 0.2, 0.05 / votes**2)
    replays.correct[:] = np.concatenate(
        [np.maximum.accumulate(part) for part in np.split(hits, replays.starts[1:-1])]
    )
    regression = StopRegression(replays)
    model = regression.fit(2, 0.001)
    assert (model.coefficients[1:] > -1e-12).all()
    assert model.coefficients[1] > 0.1

    def objective(theta: np.ndarray) -> float:
        distance = theta[1:] - theta[1:].mean()
        payoffs = regression.payoffs(GainModel(theta), everything(replays))
        return float(payoffs.mean()) - 0.001 * float(distance @ distance)

    for k in range(3):
        step = np.zeros(3)
        step[k] = 1e-4
        slope = (objective(model.coefficients + step) - objective(model.coefficients - step)) / 2e-4
        assert slope == pytest.approx(0, abs=2e-3) or (k > 0 and model.coefficients[k] == 0)


def test_ridge_makes_terms_count_equally() -> None:
    replays = made_replays(2, 300, (0.0, 0.5, 1.0))
    regression = StopRegression(replays)
    model = regression.fit(3, 1e4)
    assert np.ptp(model.coefficients[1:]) < 1e-2
    warm = regression.fit(3, 1e4, start=model)
    assert warm.coefficients == pytest.approx(model.coefficients, abs=1e-2)


def test_fits_ignore_episodes_that_are_left_out() -> None:
    replays = made_replays(3, 200)
    kept = replays.questions != 1
    before = StopRegression(replays).fit(2, 0.01, kept)
    for e in np.flatnonzero(~kept):
        first, end = replays.starts[e : e + 2]
        replays.correct[first:end] = 1 - replays.correct[first:end]
    after = StopRegression(replays).fit(2, 0.01, kept)
    assert np.array_equal(before.coefficients, after.coefficients)


def test_intercept_depends_on_the_weight_of_latency() -> None:
    """Where sequential tokens cost ten times as much, the threshold is lower by about ln 10."""
    replays = made_replays(4, 4000, (0.0, 0.5, 1.0), (0.0, 1.0))
    replays.sequential[:] = 10 * replays.tokens
    votes = replays.features[:, FEATURES.index("votes")]
    replays.correct[:] = np.random.default_rng(0).random(len(votes)) < 1 - 0.5 * np.exp(-votes / 2)
    regression = StopRegression(replays)
    model = regression.fit(1, 0.01)
    assert model.tilt == pytest.approx(-math.log(10), abs=0.3)
    alike = GainModel(model.coefficients)
    all_episodes = everything(replays)
    better, worse = (regression.payoffs(m, all_episodes).mean() for m in (model, alike))
    assert better > worse
    threshold = model.stop_tree().children[1].kind
    assert isinstance(threshold, Constant)
    assert threshold.tilt == pytest.approx(model.tilt, rel=0.05)
    assert StopRegression(made_replays(4, 50)).fit(1, 0.01).tilt == 0


def test_rule() -> None:
    """It compares the sum of the terms with the logarithm of the price."""
    tree = GainModel(np.array([1.0, 1.234, 0.001, 0.5])).stop_tree()
    assert tree.kind == pt.SUB
    total, threshold = tree.children
    assert total == Node(
        pt.ADD,
        (
            Node(pt.MUL, (Node(Constant(1.2)), TERMS[0])),
            Node(pt.MUL, (Node(Constant(0.5)), TERMS[2])),
        ),
    )
    assert threshold.kind == Constant(1.7, 4.6)  # 1 - ln 0.5, and ln 100
