"""What a program is worth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotts_gym.discovery import objective, variation
from autotts_gym.discovery import program_tree as g
from autotts_gym.discovery.constant_tuning import pared, tuned
from autotts_gym.discovery.objective import BETAS, Curve, SearchSet
from autotts_gym.discovery.program_tree import Constant, Node, rounded
from autotts_gym.discovery.tree_rollout import Engine
from autotts_gym.discovery.variation import seeds
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def stores() -> dict[str, TraceStore]:
    return {f"made-{k}": generate(questions=10, branches=64, seed=k) for k in range(2)}


@pytest.fixture(scope="module")
def engine(stores: dict[str, TraceStore]) -> Engine:
    return Engine(SearchSet(stores, seeds=2))


def test_sweep(engine: Engine) -> None:
    curve = engine.sweep(seeds()["fading"])
    assert curve.correct.shape == curve.tokens.shape == (len(BETAS), 2, 10)
    part = engine.sweep(seeds()["fading"], [2, 7])
    assert np.array_equal(part.tokens, curve.tokens[..., [2, 7]])
    assert curve.score == pytest.approx(curve.by_question.mean())
    price = [1 / objective.PRICES.beta(beta) - 1 for beta in BETAS]
    assert price[0] == pytest.approx(0.5)
    assert price[-1] == pytest.approx(0.005)
    by_hand = [(curve.correct[b] - price[b] * curve.tokens[b]).mean() for b in range(len(BETAS))]
    assert curve.score == pytest.approx(np.mean(by_hand))


def made(tokens: list[float]) -> Curve:
    shape = (len(BETAS), 1, 4)
    spread = np.array([0.9, 1.0, 1.1, 1.0])
    spent = np.array(tokens)[:, None, None] * spread
    return Curve(np.zeros(shape), np.broadcast_to(spent, shape), np.zeros(shape))


@pytest.mark.parametrize(
    ("tokens", "fault"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], ""),
        ([0.1, 0.1, 0.3, 0.4, 0.5], ""),
        ([0.1, 0.2, 0.3, 0.2, 0.5], "tokens fall from β = 0.5 to 0.75"),
        ([0.3, 0.32, 0.34, 0.36, 0.38], "β spans 1.3 times its cheapest tokens"),
    ],
)
def test_one_knob_spends_more_as_it_rises(tokens: list[float], fault: str) -> None:
    assert made(tokens).fault().startswith(fault)
    assert bool(made(tokens).fault()) is bool(fault)


def test_environments_of_other_sizes_need_questions() -> None:
    stores = {str(n): generate(questions=n, branches=64, seed=0) for n in (3, 5)}
    with pytest.raises(ValueError, match=r"have \[3, 5\] questions: name those to score by"):
        SearchSet(stores)
    part = Engine(SearchSet(stores, [0, 2], seeds=1))
    assert part.sweep(seeds()["early"]).tokens.shape[2] == 2


def test_tuning_finds_what_is_best() -> None:
    """A score that knows two constants; and what is scored is what is written."""
    program = seeds()["adaptive"]

    def score(candidate: g.Program) -> float:
        first, *_, last = candidate.constants
        for constant in candidate.constants:
            assert constant.base == rounded(constant.base)
        return -abs(first.base - 1.3) - abs(last.slope - 0.7)

    found = tuned(program, score, 800, 1)
    assert score(found) > -0.05
    assert tuned(program, score, 60, 1) == tuned(program, score, 60, 1)
    assert tuned(program, score, 1, 1) == program
    without = tuned(program, score, 60, 1, knob=False)
    assert [c.slope for c in without.constants] == [0.0] * len(program.constants)


def test_paring_keeps_what_counts() -> None:
    """What the score does not see goes; what it sees stays; constants get rounder."""
    adaptive = seeds()["adaptive"]
    wrapped = Node(g.ADD, (Node(g.FADE, (Node("effort"),)), Node("share")))
    program = replace(
        adaptive, stop=Node(g.MIN, (wrapped, adaptive.stop)), stride=Constant(3.217, 1.5)
    )

    def score(candidate: g.Program) -> float:
        return sum(node.kind == "votes" for node in candidate.stop.walk()) - 1e-9 * candidate.size

    found = pared(program, score)
    assert found.stop == Node("votes")
    assert found.size < program.size
    assert score(found) >= score(program)
    assert all(c.base == float(f"{c.base:.2g}") and c.slope == 0 for c in found.constants)


def test_breeding_stays_within_bounds() -> None:
    rng = np.random.default_rng(0)
    sizes = set()
    program = seeds()["fading"]
    for _ in range(300):
        child = variation.mutated(program, rng)
        if variation.fits(child):
            program = child
        sizes.add(program.size)
        for slot in g.SLOTS:
            for node in program.tree(slot).walk():
                assert not isinstance(node.kind, str) or node.kind in g.VISIBLE[slot]
                if isinstance(node.kind, int):
                    assert len(node.children) == g.ARITY[node.kind]
    assert len(sizes) > 20


def test_too_large_does_not_fit() -> None:
    program = seeds()["adaptive"]
    tree = Node(Constant(1.0))
    for _ in range(variation.LARGEST // 2):
        tree = Node(g.ADD, (tree, Node("share")))
    assert not variation.fits(replace(program, stop=tree))
