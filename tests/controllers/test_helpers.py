"""Helper functions of controllers: order of finishing, answering, weights and percentiles."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.helpers import (
    answer_with,
    confidence_window,
    leaders,
    open_branches,
    percentile,
    probe_in_order,
    require_generation_confidence,
    weighted_vote,
)
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.traces.store import Branch, Question, TraceStore

INTERVAL = 10


def episode(branches: list[Branch], **options: object) -> Episode:
    store = TraceStore.from_branches([Question("?", "7", branches)], INTERVAL)
    env = AutoTTSEnv(store, max_branches=len(branches), observation="compact", **options)
    order = np.arange(len(branches))
    return Episode(env, env.reset(options={"question": 0, "branch_order": order})[0])


@pytest.mark.parametrize("billing", ["tokens", "interval"])
@pytest.mark.parametrize("probe_tokens", [0, 3])
def test_branches_of_a_round_finish_in_order_of_their_tokens(
    billing: str, probe_tokens: int
) -> None:
    branches = [
        Branch([], 9, "7"),
        Branch(["7"], 25, "7"),
        Branch([], 4, "7"),
        Branch([], 9, "7"),
        Branch(["7"], 12, "7"),
    ]
    playing = episode(branches, billing=billing, probe_tokens=probe_tokens)
    order, tokens = np.full(5, -1), np.zeros(5, np.int64)
    open_branches(playing, 9)
    count = probe_in_order(playing, order, tokens, 0)
    assert (count, order[:3].tolist()) == (3, [2, 0, 3])
    assert (tokens[:3] - probe_tokens).tolist() == [4, 9, 9]
    assert probe_in_order(playing, order, tokens, count) == 3  # nothing to probe
    playing.extend_all()
    assert probe_in_order(playing, order, tokens, count) == 5
    assert order.tolist() == [2, 0, 3, 4, 1]


def test_answer_with_a_class() -> None:
    playing = episode([Branch([], 5, answer) for answer in ("No", "8", "7", "8")])
    open_branches(playing, 4)
    playing.probe_all()
    answer_with(playing, playing.latest(2))
    assert playing.info["answer_class"] == playing.latest(2)
    assert playing.info["correct"] == 1


@pytest.mark.parametrize(
    ("answers", "expected"),
    [(["No", "No", "8", "7", "7"], "7"), (["No", "7", "8"], "7"), (["No", "No", "ERR"], "No")],
)
def test_answer_without_a_class(answers: list[str], expected: str) -> None:
    """The plurality of what is not null; of everything if all are null."""
    playing = episode([Branch([], 5, answer) for answer in answers])
    open_branches(playing, len(answers))
    playing.probe_all()
    answer_with(playing, -1)
    assert playing.info["answer_class"] == playing.latest(answers.index(expected))


def test_pruned_branches_do_not_answer() -> None:
    playing = episode([Branch([], 5, answer) for answer in ("7", "7", "8")])
    open_branches(playing, 3)
    playing.probe_all()
    playing.prune(0)
    playing.prune(1)
    answer_with(playing, -1)
    assert playing.info["answer_class"] == playing.latest(2)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 8)), max_size=30))
def test_weighted_votes(pairs: list[tuple[int, int]]) -> None:
    answers, votes, slots = np.empty(6, np.int64), np.zeros(6), 0
    totals: dict[int, float] = {}
    for answer, eighths in pairs:
        slots = weighted_vote(answers, votes, slots, answer, eighths / 8)
        totals[answer] = totals.get(answer, 0) + eighths / 8
    assert dict(zip(answers[:slots].tolist(), votes[:slots].tolist(), strict=True)) == totals
    best, first, _ = leaders(votes, slots)
    if totals:
        assert answers[best] == max(totals, key=totals.__getitem__)
        assert first == max(totals.values())


@given(
    st.lists(st.floats(0, 20), min_size=1, max_size=40),
    st.integers(0, 1000).map(lambda tenths: tenths / 10),
)
def test_percentile_equals_that_of_numpy(values: list[float], percent: float) -> None:
    found = percentile(np.array(values), percent)
    assert found == pytest.approx(np.percentile(values, percent), rel=1e-12, abs=1e-12)


@given(st.integers(2, 65), st.integers(0, 64))
def test_a_value_is_its_own_percentile(count: int, rank: int) -> None:
    """Where the position is exactly that of a value, which rounding errors must not miss."""
    rank %= count
    values = np.sqrt(np.arange(1.0, count + 1))
    percent = float(Fraction(100 * rank, count - 1))
    assert percentile(values, percent) == values[rank]


@pytest.mark.parametrize(
    ("tokens", "interval", "window"), [(40, 10, 1), (137, 16, 2), (100_000, 500, 4), (600, 50, 3)]
)
def test_the_window_is_a_quarter_of_a_branch(tokens: int, interval: int, window: int) -> None:
    n = (tokens - 1) // interval
    store = TraceStore.from_branches(
        [Question("?", "7", [Branch(["7"] * n, tokens, "7")])], interval
    )
    env = AutoTTSEnv(store, max_branches=1, observation="compact")
    assert confidence_window(Episode(env, env.reset()[0])) == window


def test_generation_confidences_are_required() -> None:
    with pytest.raises(ValueError, match="autotts collect records them by default"):
        require_generation_confidence(episode([Branch([], 5, "7")]))
    held = Branch([], 5, "7", confidence_sums=[30.0], confidence_tokens=[5])
    require_generation_confidence(episode([held]))
