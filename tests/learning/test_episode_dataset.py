"""``record_episodes`` and ``autotts record``: Minari data sets that replay exactly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from autotts_gym.controllers.loader import load
from autotts_gym.learning import episode_dataset
from autotts_gym.learning.episode_dataset import Observation, record_episodes
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry

minari = pytest.importorskip("minari")

ENV = "tinylm/medium/chain"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("observation", ["compact", "flat", "full"])
def test_episodes_can_be_played_again(
    observation: Observation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(episode_dataset, "_EPISODES_PER_WRITE", 3)
    written = record_episodes(
        [load("cmc"), load("self_consistency")],
        ENV,
        "autotts/test-v0",
        betas=[0.0, 1.0],
        seeds=[3, 4],
        questions=[7, 2],
        observation=observation,
        max_branches=6,
    )
    dataset = minari.load_dataset("autotts/test-v0")
    assert (dataset.total_episodes, dataset.total_steps) == (written.episodes, written.steps)
    assert written.episodes == 2 * 2 * 2 * 2
    assert not written.failures
    env = dataset.recover_environment()
    seen = set()
    for episode, meta in zip(
        dataset.iterate_episodes(), dataset.storage.get_episode_metadata(range(16)), strict=True
    ):
        options = meta["options"]
        seen.add((options["agent"], options["question"], options["beta"], meta["seed"]))
        start = {"question": int(options["question"]), "beta": float(options["beta"])}
        order = np.asarray(options["branch_order"])
        found, info = env.reset(options=start | {"branch_order": order})
        for step, action in enumerate(episode.actions):
            assert_observed(episode.observations, step, found)
            found, reward, terminated, truncated, info = env.step(int(action))
            assert reward == episode.rewards[step]
            assert terminated == episode.terminations[step]
            assert truncated == episode.truncations[step]
            assert episode.infos.keys() == info.keys() - {"action_mask"}
            assert all(episode.infos[key][step + 1] == info[key] for key in episode.infos)
        assert_observed(episode.observations, len(episode.actions), found)
        assert terminated
    assert len(seen) == 16


def assert_observed(observations: Any, step: int, expected: Any) -> None:
    if isinstance(expected, dict):
        assert observations.keys() == expected.keys()
        assert all(np.array_equal(observations[key][step], expected[key]) for key in expected)
    else:
        assert np.array_equal(observations[step], expected)


def test_episodes_are_those_of_a_benchmark() -> None:
    record_episodes([load("cmc")], ENV, "cmc-v0", seeds=[5], questions=[1, 9], max_branches=8)
    store, rows = registry.open_store(ENV), np.array([1, 9])
    orders = branch_orders("random", np.array([5, 5]), rows, store, 8)
    played = Rollout(load("cmc"), store, EpisodeConfig(8)).play(rows, orders, 0.5)
    episodes = minari.load_dataset("cmc-v0").iterate_episodes()
    assert [e.infos["tokens"][-1] for e in episodes] == played.tokens.tolist()


def test_failed_episodes_are_left_out() -> None:
    def fails_sometimes(episode: Any) -> None:
        i = episode.branch()
        while episode.can_extend(i):
            episode.extend(i)
        episode.probe(i)
        if episode.spent > 170:
            raise ValueError("a long branch")
        episode.answer()

    agent = load(fails_sometimes)
    store = registry.open_store(ENV)
    rows = np.arange(len(store.tables.ids))
    orders = branch_orders("random", np.zeros_like(rows), rows, store, 8)
    failures = Rollout(agent, store, EpisodeConfig(8)).play(rows, orders, 0.5).failures
    assert 0 < len(failures) < len(rows)
    written = record_episodes([agent], ENV, "some-v0", max_branches=8)
    assert written.episodes == len(rows) - len(failures)
    assert len(written.failures) == len(failures)
    assert "ValueError: a long branch" in written.failures[0]


def test_nothing_is_left_of_a_recording_that_fails() -> None:
    def fails(episode: Any) -> None:
        raise ValueError("always")

    with pytest.raises(ValueError, match=r"no episode was recorded: fails on .* always"):
        record_episodes([load(fails)], ENV, "none-v0", max_branches=4)
    seen = []

    def interrupt(agent: str, steps: int) -> None:
        seen.append(steps)
        if len(seen) == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record_episodes(
            [load("cmc")], ENV, "half-v0", seeds=[0, 1], max_branches=4, on_episode=interrupt
        )
    assert not minari.list_local_datasets()


def test_the_command(autotts: Callable[..., Any]) -> None:
    arguments = ("record", "cmc", "--env", ENV, "--questions", "0-2", "--max-branches", 4)
    done = autotts(*arguments, "--name", "autotts/cmc-v0", "--folder", "sets", "--seeds", "0,1")
    assert done.code == 0, done.err
    assert "recorded autotts/cmc-v0: 6 episodes" in done.out
    again = autotts(*arguments, "--name", "autotts/cmc-v0", "--folder", "sets")
    assert (again.code, again.err.strip()) == (
        1,
        "autotts: there is a data set 'autotts/cmc-v0' already: choose another name",
    )
    wrong = autotts(*arguments, "--name", "a b", "--folder", "sets")
    assert wrong.code == 1
    assert "a b" in wrong.err


def test_the_environment_is_recovered_by_name() -> None:
    record_episodes([load("cmc")], ENV, "cmc-v0", questions=[0], max_branches=4)
    spec = minari.load_dataset("cmc-v0").env_spec
    assert spec.kwargs["env"] == ENV
    assert isinstance(gym.make(spec).action_space, gym.spaces.Discrete)
