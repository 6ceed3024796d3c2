"""Bounds: what the branches hold, and what better decisions could still save."""

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


def store_of(*finals: Sequence[str], gold: str = "7", probes: Sequence[str] = ()) -> TraceStore:
    """A store of a question for each of ``finals``, the final answers of its branches."""
    return TraceStore.from_branches(
        [
            Question(f"question {row}", gold, [Branch(probes, 1000, final) for final in of])
            for row, of in enumerate(finals)
        ],
        interval=500,
    )


def run_of(
    right: Any, tokens: Any = 100, beta: float | None = 0.5, settled: Any = None, **facts: Any
) -> Run:
    """A row of the table from ``right[seed, question]``; costs are broadcast to it."""
    correct = np.asarray(right, bool)
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
    """One right of 4,000, half of them drawn: binomials of a thousand digits."""
    store = store_of(["7"] + ["8"] * 3999)
    found = pass_at(store, [4000, 2000, 1])
    assert list(found) == [4000, 2000, 1]
    assert found == pytest.approx({4000: 1, 2000: 0.5, 1: 1 / 4000})


@pytest.mark.parametrize("k", [0, -1, 4])
def test_pass_at_k_needs_k_branches(k: int) -> None:
    store = store_of(["7"] * 5, ["7", "8", "7"])
    with pytest.raises(ValueError, match=f"^pass@{k} needs k .* question 1 has 3$"):
        pass_at(store, [1, k])


# --- the ceiling ---------------------------------------------------------------------------------


def test_plurality_is_what_self_consistency_gets_over_all_orders() -> None:
    """JobResult by the environment's own rules, every order of the branches once."""
    agent = load("self_consistency")
    random = Random(4)
    ties = 0
    for _ in range(25):
        finals = [random.choices(["7", "8", "9", "No"], k=4) for _ in range(3)]
        store = store_of(*finals)
        orders = list(permutations(range(4)))
        rows = np.repeat(np.arange(3), len(orders))
        rollout = Rollout(agent, store, EpisodeConfig(max_branches=4), interpret=True)
        played = rollout.play(rows, np.array(orders * 3), 0.0)
        assert not played.failures
        found = ceiling(store).plurality
        assert found == pytest.approx(played.correct.mean())
        ties += any(0 < of.mean() < 1 for of in np.split(played.correct, 3))
    assert ties > 3


def test_what_no_vote_and_no_controller_can_get() -> None:
    finals = ["8", "7"], ["8", "8"], ["7", "7"]
    found = ceiling(store_of(*finals))
    assert found.plurality == pytest.approx(0.5)
    assert (found.never_final, found.never_shown) == (pytest.approx(1 / 3), pytest.approx(1 / 3))
    shown = ceiling(store_of(*finals, probes=["No", "7"]))
    assert shown.plurality == found.plurality
    assert (shown.never_final, shown.never_shown) == (pytest.approx(1 / 3), 0)
    absent = ceiling(store_of(*finals, gold="70", probes=["7"]))
    assert (absent.plurality, absent.never_final, absent.never_shown) == (0, 1, 1)


@given(st.randoms(use_true_random=False))
def test_ceiling_from_the_branches_themselves(random: Random) -> None:
    """Probes of one question are not taken for another's, whatever their lengths."""
    store = random_store(random, costs=False)
    questions = [store.question(row) for row in range(store.card.questions)]
    final = [any(b.final == q.gold for b in q.branches) for q in questions]
    shown = [any(q.gold in [b.final, *b.probes] for b in q.branches) for q in questions]
    found = ceiling(store)
    assert found.never_final == 1 - np.mean(final)
    assert found.never_shown == 1 - np.mean(shown)
    assert 0 <= found.plurality <= 1 - found.never_final


# --- one who knows -------------------------------------------------------------------------------


def test_one_who_knows_pays_for_what_comes_out_right() -> None:
    run = run_of([[1, 0], [1, 1]], tokens=[[100, 500], [300, 300]], settled=[[40, 450], [60, 0]])
    found = oracle_cost(run)
    assert found is not None
    assert found.tokens == 25
    assert found.ratio == pytest.approx(100 / 1200)


def test_one_who_knows_where_nothing_is_known() -> None:
    assert oracle_cost(run_of([[1, 0]])) is None
    free = oracle_cost(run_of([[1, 0]], tokens=0, settled=0))
    assert free is not None
    assert free.tokens == 0
    assert np.isnan(free.ratio)


# --- the best β ----------------------------------------------------------------------------------


def test_best_beta_is_chosen_for_every_question() -> None:
    """Question 0 is right at β = 1 alone, question 1 everywhere, question 2 nowhere."""
    low = run_of(np.tile([0, 1, 0], (4, 1)), tokens=[10, 10, 10], beta=0.0)
    high = run_of(np.tile([1, 1, 0], (4, 1)), tokens=[90, 90, 5], beta=1.0)
    found = best_beta_per_question([high, low], "search")
    np.testing.assert_array_equal(found.betas, np.tile([1, 0, 1], (2, 1)))
    assert found.accuracy == pytest.approx(2 / 3)
    assert found.tokens == pytest.approx((90 + 10 + 5) / 3)
    same = best_beta_per_question([low, run_of(np.tile([0, 1, 0], (4, 1)), 10, beta=1.0)], "")
    np.testing.assert_array_equal(same.betas, 0)  # the lowest among equals


@given(st.integers(0, 2**32), st.integers(2, 5), st.integers(1, 4), st.integers(2, 4))
def test_best_beta_is_scored_on_the_other_seeds(
    seed: int, seeds: int, questions: int, count: int
) -> None:
    rng = np.random.default_rng(seed)
    right = rng.random((count, seeds, questions)) < 0.5
    tokens = rng.integers(0, 3, right.shape)
    runs = [run_of(right[b], tokens[b], beta=b / 4) for b in range(count)]
    found = best_beta_per_question(runs, "")
    rights, costs = [], []
    even, odd = slice(0, None, 2), slice(1, None, 2)
    for half, other in ((even, odd), (odd, even)):
        for question in range(questions):
            best = max(
                range(count),
                key=lambda b: (
                    right[b, half, question].sum(),
                    -tokens[b, half, question].sum(),
                    -b,
                ),
            )
            rights += right[best, other, question].tolist()
            costs += tokens[best, other, question].tolist()
    assert len(rights) == seeds * questions
    assert found.accuracy == pytest.approx(np.mean(rights))
    assert found.tokens == pytest.approx(np.mean(costs))


def test_best_beta_is_not_optimistic() -> None:
    """Where β makes no difference, choosing it gains nothing, though the best of five looks so."""
    rng = np.random.default_rng(5)
    right = rng.random((5, 8, 4000)) < 0.5
    found = best_beta_per_question([run_of(right[b], beta=b / 4) for b in range(5)], "")
    assert found.accuracy == pytest.approx(0.5, abs=0.015)
    assert right.mean(axis=1).max(axis=0).mean() > 0.65


def right_of(seeds: int = 2, questions: int = 2) -> NDArray[np.bool_]:
    return np.ones((seeds, questions), bool)


def test_nothing_is_selected_on_a_held_out_environment() -> None:
    runs = [run_of(right_of(), beta=beta) for beta in (0.0, 1.0)]
    assert best_beta_per_question(runs, "search").accuracy == 1
    with pytest.raises(ValueError, match="cmc on e: β must not be chosen on a held-out"):
        best_beta_per_question(runs, "held-out")


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "one agent on one environment"),
        ([run_of(right_of()), run_of(right_of(), agent="asc")], "one agent on one environment"),
        ([run_of(right_of()), run_of(right_of(), env="f")], "one agent on one environment"),
        ([run_of(right_of())], "needs runs with at least two different β, got \\[0.5\\]"),
        ([run_of(right_of())] * 2, "at least two different β"),
        ([run_of(right_of(), beta=None)] * 2, "at least two different β"),
        ([run_of(right_of(1)), run_of(right_of(1), beta=1.0)], "needs at least two seeds"),
        (
            [run_of(right_of()), run_of(right_of(3), beta=1.0)],
            "cmc on e at β=0.5 and cmc on e at β=1 played different seeds",
        ),
    ],
)
def test_best_beta_needs_a_sweep(runs: list[Run], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        best_beta_per_question(runs, "")
