"""Replays: rows equal what programs that stop there have seen and spent."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.objective import SearchSet
from autotts_gym.discovery.program_tree import Constant, Node, Program
from autotts_gym.discovery.replays import FEATURES, Recorder, Replays
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.discovery.variation import seed_programs
from autotts_gym.traces.synthetic_traces import generate

BETA = 0.25


def stopping(threshold: float) -> Program:
    """The seed program with another stop rule: more votes than a threshold."""
    rule = Node(pt.SUB, (Node("votes"), Node(Constant(threshold))))
    return replace(seed_programs()["widening"], stop=rule)


@pytest.fixture(scope="module")
def search() -> SearchSet:
    stores = {f"made-{k}": generate(questions=6, branches=64, seed=k) for k in range(2)}
    return SearchSet(stores, seeds=3)


@pytest.fixture(scope="module")
def replays(search: SearchSet) -> Replays:
    never = replace(seed_programs()["widening"], stop=Node(Constant(-1.0)))
    return Recorder(search).replay(never, [BETA, 1.0])


def test_shapes(replays: Replays) -> None:
    rows = len(replays.correct)
    assert replays.features.shape == (rows, len(FEATURES))
    assert replays.starts[0] == 0
    assert replays.starts[-1] == rows
    assert (np.diff(replays.starts) > 0).all()
    assert len(replays.betas) == len(replays.questions) == len(replays.environments)
    assert len(replays.betas) == len(replays.starts) - 1 <= 2 * 2 * 6 * 3
    assert set(replays.betas) == {BETA, 1.0}
    assert set(replays.latency) == {0.0}
    assert set(replays.questions) <= set(range(6))
    inside = np.delete(np.diff(replays.tokens), replays.starts[1:-1] - 1)
    assert (inside > -1e-3).all()  # tokens rise, up to what is settled at the end of a branch


def test_reading_policy_depends_on_the_weight_of_latency(search: SearchSet) -> None:
    reading = replace(
        seed_programs()["widening"], stop=Node(Constant(-1.0)), width=Node(Constant(2.0, 0.0, 60.0))
    )
    replays = Recorder(search).replay(reading, [0.5], (0.0, 1.0))
    last = replays.starts[1:] - 1
    narrow, wide = (replays.sequential[last[replays.latency == w]].mean() for w in (0.0, 1.0))
    assert narrow > 4 * wide
    assert len(replays.latency) == len(replays.betas)


@pytest.mark.parametrize("votes", [0, 2, 5, 1000])
def test_rows_equal_stopped_episodes(search: SearchSet, replays: Replays, votes: int) -> None:
    """A program that stops at a number of votes plays as recorded up to there."""
    rollout = TreeRollout(search)
    column = replays.features[:, FEATURES.index("votes")]
    for e in range(2):
        at = np.flatnonzero((replays.environments == e) & (replays.betas == BETA))
        # Questions without an episode that has no vote, and thus no row.
        complete = np.flatnonzero(np.bincount(replays.questions[at], minlength=6) == 3)
        assert len(complete) > 2
        at = at[np.isin(replays.questions[at], complete)]
        questions, orders = search.episodes(e, complete.tolist())
        results = rollout.play(stopping(votes), e, questions, orders, BETA)
        for k, episode in enumerate(at):
            first, end = replays.starts[episode : episode + 2]
            rows = np.arange(first, end)
            above = rows[column[rows] > votes]
            row = above[0] if len(above) else end - 1
            assert replays.questions[episode] == questions[k]
            assert bool(replays.correct[row]) == results.correct[k]
            if len(above):  # tokens of rows are the visible ones
                assert replays.tokens[row] * search.full_tokens[e] == pytest.approx(
                    results.tokens[k], rel=0.01
                )
                assert replays.sequential[row] * search.longest[e] == pytest.approx(
                    results.sequential_tokens[k], rel=0.01
                )
