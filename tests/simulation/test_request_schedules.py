"""Schedules: what the actions of an episode request."""

from __future__ import annotations

from typing import Any

import fleets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.controllers.loader import load
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.simulation.request_schedules import (
    DROP,
    EXTEND,
    EXTEND_TO_END,
    KINDS,
    WAIT,
    Schedules,
    play_schedules,
)
from autotts_gym.traces.synthetic_traces import generate


def operations(schedules: Schedules, episode: int = 0) -> list[tuple[int, int, int]]:
    """Branch, kind and target of every operation of an episode."""
    at = slice(*schedules.offsets[episode : episode + 2])
    branches, kinds = np.divmod(schedules.operations[at], KINDS)
    return list(zip(branches.tolist(), kinds.tolist(), schedules.targets[at].tolist(), strict=True))


def test_requests_between_two_probes_are_one() -> None:
    def solve(episode: Any) -> None:
        i = episode.branch()
        j = episode.branch()
        episode.extend(i)
        episode.extend(i)
        episode.probe(i)
        episode.extend(i)
        episode.probe(i)
        episode.prune(j)
        episode.answer(i)

    schedules = fleets.schedules_of(solve, fleets.store_of([[35, 35]]), 2)
    assert operations(schedules) == [
        (0, EXTEND, 30),
        (1, EXTEND, 10),
        (0, WAIT, 0),
        (0, EXTEND_TO_END, 35),
        (0, WAIT, 0),
        (1, DROP, 0),
    ]
    assert schedules.requested_tokens().tolist() == [45] == schedules.tokens.tolist()


def test_requests_beyond_the_end_are_left_out() -> None:
    def solve(episode: Any) -> None:
        i, j = episode.branch(), episode.branch()
        for _ in range(3):
            episode.extend(i)
            episode.extend(j)
        episode.probe(j)
        episode.probe(i)
        episode.answer()

    schedules = fleets.schedules_of(solve, fleets.store_of([[8, 38]]), 2, [0, 1, 2])
    for episode in range(3):
        assert {target for *_, target in operations(schedules, episode)} == {8, 38, 0}
        kinds = [kind for _, kind, _ in operations(schedules, episode)]
        assert kinds == [EXTEND_TO_END, EXTEND_TO_END, WAIT, WAIT]


@given(
    lengths=st.lists(st.lists(st.integers(1, 90), min_size=3, max_size=3), min_size=1, max_size=4),
    controller=st.sampled_from(fleets.CONTROLLERS),
)
def test_tokens_are_those_of_the_replay(lengths: list[list[int]], controller: Any) -> None:
    schedules = fleets.schedules_of(controller, fleets.store_of(lengths), 3, [0, 1])
    assert (schedules.requested_tokens() == schedules.tokens).all()
    waits = schedules.operations % KINDS == WAIT
    assert waits.sum() == schedules.probes.sum()


@pytest.mark.parametrize("name", ["cmc", "self_consistency"])
def test_tokens_of_bundled_controllers(name: str) -> None:
    agent = load(name)
    store = generate(questions=2, branches=8, seed=1, interval=2000)
    schedules = play_schedules(agent, {"synthetic": store}, [0], 0.5, EpisodeConfig(max_branches=8))
    assert (schedules.requested_tokens() == schedules.tokens).all()


def test_several_environments_are_joined() -> None:
    one, two = fleets.store_of([[25, 30]]), fleets.store_of([[40, 40], [7, 7]], interval=5)
    config = EpisodeConfig(max_branches=2)
    agent = load(fleets.read_all)
    joined = play_schedules(agent, {"one": one, "two": two}, [0, 1], 0.5, config)
    assert sorted(joined.tokens.tolist()) == [14, 14, 55, 55, 80, 80]
    assert (joined.requested_tokens() == joined.tokens).all()
    assert len(joined) == 6


def test_episodes_that_fail_are_incorrect() -> None:
    def solve(episode: Any) -> None:
        episode.probe(episode.branch())
        raise RuntimeError

    schedules = fleets.schedules_of(solve, fleets.store_of([[25, 30]]), 2)
    assert (schedules.failures, schedules.correct.tolist()) == (1, [False])
    assert schedules.requested_tokens().tolist() == [10] == schedules.tokens.tolist()


def test_a_store_with_too_few_branches() -> None:
    with pytest.raises(ValueError, match="max_branches=3, but question 0"):
        fleets.schedules_of(fleets.read_all, fleets.store_of([[25, 30]]), 3)
