"""Oracle bounds of stores and of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, permutations
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from stores import random_store

from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.oracle_bounds import (
    best_beta_per_question,
    ceiling,
    oracle_cost,
    pass_at,
)
from autotts_gym.evaluation.runs import Run
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import Branch, Question, TraceStore


def make_store(*finals: Sequence[str], gold: str = "7", probes: Sequence[str] = ()) -> TraceStore:
    """A store with one question for each of ``finals``, the final answers of its branches."""
    return TraceStore.from_branches(
        [
            Question(f"question {row}", gold, [Branch(probes, 1000, final) for final in answers])
            for row, answers in enumerate(finals)
        ],
        interval=500,
    )


def make_run(
    outcomes: Any, tokens: Any = 100, beta: float | None = 0.5, settled: Any = None, **facts: Any
) -> Run:
    """A run from ``correct[seed, question]``; costs are broadcast to its shape."""
    correct = np.asarray(outcomes, bool)
    seeds, questions = correct.shape
    episodes: dict[str, Any] = {
        "seed": np.repeat(np.arange(seeds), questions),
        "question": np.tile(np.arange(questions), seeds),
        "correct": correct.ravel(),
        "tokens": np.broadcast_to(tokens, correct.shape).ravel(),
    }
    if settled is not None:
        episodes["settled_tokens"] = np.broadcast_to(settled, correct.shape).ravel()
    facts = {"agent": "cmc", "env": "e"} | facts
    return Run(beta=beta, synthetic=False, episodes=episodes, failures={}, **facts)


# --- pass@k --------------------------------------------------------------------------------------


@given(st.randoms(use_true_random=False))
def test_pass_at_k_is_the_mean_over_all_subsets(random: Random) -> None:
    store = random_store(random, costs=False)
    questions = [store.question(row) for row in range(store.card.questions)]
    most = min(len(question.branches) for question in questions)
    found = pass_at(store, range(1, most + 1))
    for k, share in found.items():
        exact = [
            np.mean(
                [
                    any(branch.final == question.gold for branch in subset)
                    for subset in combinations(question.branches, k)
                ]
            )
            for question in questions
        ]
        assert share == pytest.approx(np.mean(exact))
    shares = list(found.values())
    assert shares == sorted(shares)
    accuracy = [np.mean([b.final == q.gold for b in q.branches]) for q in questions]
    assert shares[0] == pytest.approx(np.mean(accuracy))


def test_pass_at_k_of_many_branches() -> None:
    """One correct branch of 4,000, half of them drawn: binomials with a thousand digits."""
    store = make_store(["7"] + ["8"] * 3999)
    found = pass_at(store, [4000, 2000, 1])
    assert list(found) == [4000, 2000, 1]
    assert found == pytest.approx({4000: 1, 2000: 0.5, 1: 1 / 4000})


@pytest.mark.parametrize("k", [0, -1, 4])
def test_pass_at_k_needs_k_branches(k: int) -> None:
    store = make_store(["7"] * 5, ["7", "8", "7"])
    with pytest.raises(ValueError, match=f"^pass@{k} needs k .* question 1 has 3$"):
        pass_at(store, [1, k])


# --- the ceiling ---------------------------------------------------------------------------------


def test_plurality_equals_self_consistency_over_all_orders() -> None:
    """Every order of the branches is played once by the environment's rules."""
    agent = load("self_consistency")
    random = Random(4)
    ties = 0
    for _ in range(25):
        finals = [random.choices(["7", "8", "9", "No"], k=4) for _ in range(3)]
        store = make_store(*finals)
        orders = list(permutations(range(4)))
        rows = np.repeat(np.arange(3), len(orders))
        rollout = Rollout(agent, store, EpisodeConfig(max_branches=4), interpret=True)
        played = rollout.play(rows, np.array(orders * 3), 0.0)
        assert not played.failures
        found = ceiling(store).plurality
        assert found == pytest.approx(played.correct.mean())
        ties += any(0 < part.mean() < 1 for part in np.split(played.correct, 3))
    assert ties > 3


def test_never_final_and_never_revealed() -> None:
    finals = ["8", "7"], ["8", "8"], ["7", "7"]
    found = ceiling(make_store(*finals))
    assert found.plurality == pytest.approx(0.5)
    assert (found.never_final, found.never_revealed) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    shown = ceiling(make_store(*finals, probes=["No", "7"]))
    assert shown.plurality == found.plurality
    assert (shown.never_final, shown.never_revealed) == (pytest.approx(1 / 3), 0)
    absent = ceiling(make_store(*finals, gold="70", probes=["7"]))
    assert (absent.plurality, absent.never_final, absent.never_revealed) == (0, 1, 1)


@given(st.randoms(use_true_random=False))
def test_ceiling_equals_a_direct_computation(random: Random) -> None:
    """Probes are assigned to the right question for any branch lengths."""
    store = random_store(random, costs=False)
    questions = [store.question(row) for row in range(store.card.questions)]
    final = [any(b.final == q.gold for b in q.branches) for q in questions]
    shown = [any(q.gold in [b.final, *b.probes] for b in q.branches) for q in questions]
    found = ceiling(store)
    assert found.never_final == 1 - np.mean(final)
    assert found.never_revealed == 1 - np.mean(shown)
    assert 0 <= found.plurality <= 1 - found.never_final


# --- oracle cost ---------------------------------------------------------------------------------


def test_oracle_cost_is_the_settled_tokens_of_correct_episodes() -> None:
    run = make_run([[1, 0], [1, 1]], tokens=[[100, 500], [300, 300]], settled=[[40, 450], [60, 0]])
    found = oracle_cost(run)
    assert found is not None
    assert found.tokens == 25
    assert found.ratio == pytest.approx(100 / 1200)


def test_oracle_cost_without_settled_tokens_or_cost() -> None:
    assert oracle_cost(make_run([[1, 0]])) is None
    free = oracle_cost(make_run([[1, 0]], tokens=0, settled=0))
    assert free is not None
    assert free.tokens == 0
    assert np.isnan(free.ratio)


# --- the best β ----------------------------------------------------------------------------------


def test_best_beta_is_chosen_per_question() -> None:
    """Question 0 is correct only at β = 1, question 1 at both, question 2 at neither."""
    low = make_run(np.tile([0, 1, 0], (4, 1)), tokens=[10, 10, 10], beta=0.0)
    high = make_run(np.tile([1, 1, 0], (4, 1)), tokens=[90, 90, 5], beta=1.0)
    found = best_beta_per_question([high, low], "search")
    np.testing.assert_array_equal(found.betas, np.tile([1, 0, 1], (2, 1)))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.tokens == pytest.approx((90 + 10 + 5) / 3)
    same = best_beta_per_question([low, make_run(np.tile([0, 1, 0], (4, 1)), 10, beta=1.0)], "")
    np.testing.assert_array_equal(same.betas, 0)  # ties go to the lowest β


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(1, 4), st.integers(2, 4))
def test_best_beta_is_scored_on_the_other_seeds(
    seed: int, seeds: int, questions: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    correct = rng.random((count, seeds, questions)) < 0.5
    tokens = rng.integers(0, 3, correct.shape)
    runs = [make_run(correct[b], tokens[b], beta=b / 4) for b in range(count)]
    found = best_beta_per_question(runs, "")
    outcomes, costs = [], []
    even, odd = slice(0, None, 2), slice(1, None, 2)
    for half, other in ((even, odd), (odd, even)):
        for question in range(questions):
            best = max(
                range(count),
                key=lambda b: (
                    correct[b, half, question].sum(),
                    -tokens[b, half, question].sum(),
                    -b,
                ),
            )
            outcomes += correct[best, other, question].tolist()
            costs += tokens[best, other, question].tolist()
    assert len(outcomes) == seeds * questions
    assert found.accuracy == pytest.approx(np.mean(outcomes))
    assert found.tokens == pytest.approx(np.mean(costs))


def test_best_beta_is_not_optimistic() -> None:
    """If β has no effect, choosing it gains nothing, although the best of five seems better."""
    rng = np.random.default_rng(5)
    correct = rng.random((5, 8, 4000)) < 0.5
    found = best_beta_per_question([make_run(correct[b], beta=b / 4) for b in range(5)], "")
    assert found.accuracy == pytest.approx(0.5, abs=0.015)
    assert correct.mean(axis=1).max(axis=0).mean() > 0.65


def all_correct(seeds: int = 2, questions: int = 2) -> NDArray[np.bool_]:
    return np.ones((seeds, questions), bool)


def test_held_out_environments_are_rejected() -> None:
    runs = [make_run(all_correct(), beta=beta) for beta in (0.0, 1.0)]
    assert best_beta_per_question(runs, "search").accuracy == 1
    with pytest.raises(ValueError, match="cmc on e: β must not be chosen on a held-out"):
        best_beta_per_question(runs, "held-out")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "one agent on one environment"),
        (
            [make_run(all_correct()), make_run(all_correct(), agent="asc")],
            "one agent on one environment",
        ),
        (
            [make_run(all_correct()), make_run(all_correct(), env="f")],
            "one agent on one environment",
        ),
        ([make_run(all_correct())], "needs runs with at least two different β, got \\[0.5\\]"),
        ([make_run(all_correct())] * 2, "at least two different β"),
        ([make_run(all_correct(), beta=None)] * 2, "at least two different β"),
        (
            [make_run(all_correct(1)), make_run(all_correct(1), beta=1.0)],
            "needs at least two seeds",
        ),
        (
            [make_run(all_correct()), make_run(all_correct(3), beta=1.0)],
            "cmc on e at β=0.5 and cmc on e at β=1 played different seeds",
        ),
    ],
)
def test_best_beta_needs_a_sweep(runs: list[Run], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best_beta_per_question(runs, "")
