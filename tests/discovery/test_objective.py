"""The objective: β sweeps, scores and rejections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotts_gym.discovery import objective
from autotts_gym.discovery.objective import BETAS, Curve, SearchSet
from autotts_gym.discovery.program_tree import Constant, Node
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.discovery.variation import seed_programs
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def stores() -> dict[str, TraceStore]:
    return {f"made-{k}": generate(questions=10, branches=64, seed=k) for k in range(2)}


@pytest.fixture(scope="module")
def rollout(stores: dict[str, TraceStore]) -> TreeRollout:
    return TreeRollout(SearchSet(stores, seeds=2))


def test_sweep(rollout: TreeRollout) -> None:
    curve = rollout.sweep(seed_programs()["fading"])
    assert curve.correct.shape == curve.tokens.shape == (len(BETAS), 2, 10)
    part = rollout.sweep(seed_programs()["fading"], [2, 7])
    assert np.array_equal(part.tokens, curve.tokens[..., [2, 7]])
    assert curve.score == pytest.approx(curve.by_question.mean())
    price = [objective.price_at(beta) for beta in BETAS]
    assert price[0] == pytest.approx(0.5)
    assert price[-1] == pytest.approx(0.005)
    expected = [(curve.correct[b] - price[b] * curve.tokens[b]).mean() for b in range(len(BETAS))]
    assert curve.score == pytest.approx(np.mean(expected))


def test_latency(rollout: TreeRollout, stores: dict[str, TraceStore]) -> None:
    """The score is a mean over the weights, and constants may depend on them."""
    fading = seed_programs()["fading"]
    both = TreeRollout(SearchSet(stores, seeds=2, latency=(0.0, 0.5)))
    plain, curve = rollout.sweep(fading), both.sweep(fading)
    assert curve.points == [(beta, weight) for weight in (0.0, 0.5) for beta in BETAS]
    for k in range(2):  # the program does not use the weight
        part = slice(k * len(BETAS), (k + 1) * len(BETAS))
        assert np.array_equal(curve.tokens[part], plain.tokens)
        assert np.array_equal(curve.sequential[part], plain.sequential)
    prices = np.array([objective.price_at(beta) for beta in BETAS])[:, None, None]
    costs = (plain.tokens + plain.sequential) / 2
    half = (plain.correct - prices * costs).mean()
    assert curve.score == pytest.approx((plain.score + half) / 2)
    values = curve.to_dict()
    assert values["latency"] == [0.0] * 5 + [0.5] * 5
    assert len(values["sequential"]) == 10
    assert curve.rejection() == plain.rejection()

    # All branches at once take as long as the longest of them, at a weight of 0.5 only.
    wide = replace(fading, width=Node(Constant(1.0, 0.0, 126.0)), drop=Node(Constant(-1.0)),
                   stop=Node(Constant(-1.0)))  # fmt: skip
    wide_curve = both.sweep(wide)
    assert wide_curve.sequential[-1].mean() == pytest.approx(1.0, rel=0.15)
    assert wide_curve.sequential[0].mean() > 5
    assert wide_curve.tokens.mean() == pytest.approx(1.0, rel=0.15)
    assert wide_curve.rejection().startswith("latency 0: tokens hardly rise")
    part = both.sweep(wide, [1, 3], [1])
    assert np.array_equal(part.sequential, wide_curve.sequential[:, 1:, [1, 3]])


@pytest.mark.parametrize("latency", [(), (0.5, 0.5), (1.5,)])
def test_invalid_weights_of_latency(
    stores: dict[str, TraceStore], latency: tuple[float, ...]
) -> None:
    with pytest.raises(ValueError, match="latency"):
        SearchSet(stores, seeds=1, latency=latency)


def curve_with(tokens: list[float]) -> Curve:
    shape = (len(BETAS), 1, 4)
    spread = np.array([0.9, 1.0, 1.1, 1.0])
    spent = np.array(tokens)[:, None, None] * spread
    return Curve(np.zeros(shape), np.broadcast_to(spent, shape), np.zeros(shape))


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], ""),
        ([0.1, 0.1, 0.3, 0.4, 0.5], "tokens hardly rise from β = 0 to 0.25"),
        ([0.1, 0.1, 0.1, 0.1, 0.5], "tokens hardly rise from β = 0 to 0.25"),
        ([0.1, 0.2, 0.3, 0.5, 0.501], "tokens hardly rise from β = 0.75 to 1"),
        ([0.1, 0.2, 0.3, 0.2, 0.5], "tokens fall from β = 0.5 to 0.75"),
        ([0.3, 0.32, 0.34, 0.36, 0.38], "tokens at β = 1 are 1.3 times the tokens at β = 0"),
    ],
)
def test_rejection_of_sweeps(tokens: list[float], reason: str) -> None:
    assert curve_with(tokens).rejection().startswith(reason)
    assert bool(curve_with(tokens).rejection()) is bool(reason)


def test_every_environment_has_its_own_number_of_branches() -> None:
    """An environment is played in the same way with others that are narrower as alone."""
    stores = {str(n): generate(questions=3, branches=n, seed=n) for n in (8, 64)}
    both = TreeRollout(SearchSet(stores, seeds=2))
    assert [config.max_branches for config in both.search.configs] == [8, 64]
    program = seed_programs()["early"]
    curve = both.sweep(program)
    for e, (name, store) in enumerate(stores.items()):
        alone = TreeRollout(SearchSet({name: store}, seeds=2)).sweep(program)
        np.testing.assert_array_equal(curve.scores[e], alone.scores[0])
        np.testing.assert_array_equal(curve.tokens[:, e], alone.tokens[:, 0])
        np.testing.assert_array_equal(curve.sequential[:, e], alone.sequential[:, 0])


def test_environments_of_different_sizes_need_questions() -> None:
    stores = {str(n): generate(questions=n, branches=64, seed=0) for n in (3, 5)}
    with pytest.raises(ValueError, match=r"have \[3, 5\] questions: give the rows to search on"):
        SearchSet(stores)
    part = TreeRollout(SearchSet(stores, [0, 2], seeds=1))
    assert part.sweep(seed_programs()["early"]).tokens.shape[2] == 2
