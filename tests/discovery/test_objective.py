"""The objective, constant tuning, reduction and variation of programs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotts_gym.discovery import objective, variation
from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.constant_tuning import reduce_program, tune_constants
from autotts_gym.discovery.objective import BETAS, Curve, SearchSet
from autotts_gym.discovery.program_tree import Constant, Node, round_constant
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


def curve_with(tokens: list[float]) -> Curve:
    shape = (len(BETAS), 1, 4)
    spread = np.array([0.9, 1.0, 1.1, 1.0])
    spent = np.array(tokens)[:, None, None] * spread
    return Curve(np.zeros(shape), np.broadcast_to(spent, shape), np.zeros(shape))


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        ([0.1, 0.2, 0.3, 0.4, 0.5], ""),
        ([0.1, 0.1, 0.3, 0.4, 0.5], ""),
        ([0.1, 0.2, 0.3, 0.2, 0.5], "tokens fall from β = 0.5 to 0.75"),
        ([0.3, 0.32, 0.34, 0.36, 0.38], "tokens at β = 1 are 1.3 times the tokens at β = 0"),
    ],
)
def test_rejection_of_sweeps(tokens: list[float], reason: str) -> None:
    assert curve_with(tokens).rejection().startswith(reason)
    assert bool(curve_with(tokens).rejection()) is bool(reason)


def test_environments_of_different_sizes_need_questions() -> None:
    stores = {str(n): generate(questions=n, branches=64, seed=0) for n in (3, 5)}
    with pytest.raises(ValueError, match=r"have \[3, 5\] questions: give the rows to search on"):
        SearchSet(stores)
    part = TreeRollout(SearchSet(stores, [0, 2], seeds=1))
    assert part.sweep(seed_programs()["early"]).tokens.shape[2] == 2


def test_tuning_finds_the_best_constants() -> None:
    """Constants are found for a score with a known maximum, and are rounded before scoring."""
    program = seed_programs()["adaptive"]

    def score(candidate: pt.Program) -> float:
        first, *_, last = candidate.constants
        for constant in candidate.constants:
            assert constant.base == round_constant(constant.base)
        return -abs(first.base - 1.3) - abs(last.slope - 0.7)

    tuned = tune_constants(program, score, 800, 1)
    assert score(tuned) > -0.05
    assert tune_constants(program, score, 60, 1) == tune_constants(program, score, 60, 1)
    assert tune_constants(program, score, 1, 1) == program
    fixed = tune_constants(program, score, 60, 1, knob=False)
    assert [c.slope for c in fixed.constants] == [0.0] * len(program.constants)


def test_reduction_keeps_what_the_score_needs() -> None:
    """Parts without effect on the score are removed, and constants are rounded."""
    adaptive = seed_programs()["adaptive"]
    wrapped = Node(pt.ADD, (Node(pt.FADE, (Node("effort"),)), Node("share")))
    program = replace(
        adaptive, stop=Node(pt.MIN, (wrapped, adaptive.stop)), stride=Constant(3.217, 1.5)
    )

    def score(candidate: pt.Program) -> float:
        return sum(node.kind == "votes" for node in candidate.stop.walk()) - 1e-9 * candidate.size

    reduced = reduce_program(program, score)
    assert reduced.stop == Node("votes")
    assert reduced.size < program.size
    assert score(reduced) >= score(program)
    assert all(c.base == float(f"{c.base:.2g}") and c.slope == 0 for c in reduced.constants)


def test_mutation_stays_within_limits() -> None:
    rng = np.random.default_rng(0)
    sizes = set()
    program = seed_programs()["fading"]
    for _ in range(300):
        child = variation.mutate(program, rng)
        if variation.within_limits(child):
            program = child
        sizes.add(program.size)
        for slot in pt.SLOTS:
            for node in program.tree(slot).walk():
                assert not isinstance(node.kind, str) or node.kind in pt.AVAILABLE[slot]
                if isinstance(node.kind, int):
                    assert len(node.children) == pt.ARITY[node.kind]
    assert len(sizes) > 20


def test_large_trees_exceed_the_limits() -> None:
    program = seed_programs()["adaptive"]
    tree = Node(Constant(1.0))
    for _ in range(variation.MAX_TREE_SIZE // 2):
        tree = Node(pt.ADD, (tree, Node("share")))
    assert not variation.within_limits(replace(program, stop=tree))
