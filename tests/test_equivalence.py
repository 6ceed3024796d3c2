"""Every face of the process against the reference: the same actions, the same everything.

Single and vector environments, and the controllers' handle, compiled and interpreted, play random
legal and illegal actions over random small stores and settings.
"""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import reference
from gymnasium.error import InvalidAction
from gymnasium.vector import AutoresetMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import ANSWERS, random_action, random_setting, random_store, random_stores

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.controllers.handle import IllegalActionError, NoAnswerError, StepLimitError
from autotts_gym.controllers.loading import load
from autotts_gym.env import AutoTTSEnv
from autotts_gym.evaluation.rollout import Rollout
from autotts_gym.mdp.replay import Terms
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.vector_env import AutoTTSVectorEnv

PARTS, ACTIONS = 20, 5_000  # parts can run side by side
SIDE_BY_SIDE = 6


def test_there_are_enough_actions():
    assert PARTS * ACTIONS >= 100_000


def same(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Two observations are the same to the last bit."""
    assert found.keys() == wanted.keys()
    for key, array in wanted.items():
        assert found[key].dtype == array.dtype, key
        np.testing.assert_array_equal(found[key], array, err_msg=key, strict=True)


def same_info(found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Two infos are the same; figures that are divided by C, up to rounding."""
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if isinstance(value, float):
            assert found[key] == pytest.approx(value, abs=1e-12), key
        else:
            assert np.array_equal(found[key], value), key


def of_one(infos: dict[str, Any], e: int) -> dict[str, Any]:
    """The info of sub-environment ``e`` out of a vector environment's."""
    keys = [key for key in infos if not key.startswith("_") and infos[f"_{key}"][e]]
    return {key: infos[key][e] for key in keys}


class Played:
    """One episode in the reference beside the same one in a single environment."""

    def __init__(self, random: Random, game: reference.Game, names: list[str], env: Any) -> None:
        self.random, self.game, self.names, self.env = random, game, names, env

    def draw(self) -> dict[str, Any]:
        """Start an episode in both; returns the options that fix it."""
        random, game = self.random, self.game
        store = random.randrange(len(self.names))
        row = random.randrange(len(game.questions[store]))
        count = len(game.questions[store][row].branches)
        order = random.sample(range(count), random.randint(game.max_branches, count))
        beta = random.choice([0.0, 1.0, random.random()])
        self.named = {"env": self.names[store], "question": row}
        options = {**self.named, "beta": beta, "branch_order": order}
        self.one = reference.Episode(game, store, row, order, beta)
        self.total = 0.0
        self.wanted = self.one.observe()
        found, info = self.env.reset(options=options)
        same(found, self.wanted)
        same_info(info, {"action_mask": self.wanted["action_mask"]})
        return options

    def step(self, action: int) -> None:
        """Play an action in both; what it comes to is kept, to compare others with it."""
        one, facts = self.one, self.env.unwrapped
        self.reward, *self.over, self.info = one.step(action)
        self.wanted = one.observe()
        self.info["action_mask"] = self.wanted["action_mask"]
        if one.done:
            self.info |= self.named
        found, reward, *over, info = self.env.step(action)
        same(found, self.wanted)
        same_info(info, self.info)
        assert reward == pytest.approx(self.reward, abs=1e-12)
        assert over == self.over
        assert np.array_equal(facts.action_masks(), one.mask)
        assert (facts.spent, facts.clock, facts.beta) == (one.spent, one.clock, one.beta)
        self.total += reward
        if one.done:
            right, beta = info["correct"], one.beta
            penalties = self.game.invalid_penalty * one.illegal
            wanted = beta * right - (1 - beta) * info["tokens"] / one.C - penalties
            assert self.total == pytest.approx(wanted, abs=1e-12)


def save(stores: list[TraceStore], folder: Any) -> list[str]:
    """Write stores to a folder; returns their paths."""
    for number, store in enumerate(stores):
        store.save(folder / f"store{number}")
    return [(folder / f"store{number}").as_posix() for number in range(len(stores))]


def play_setting(random: Random, folder: Any, actions: int) -> int:
    """Random actions under one setting, single, vector and reference in step."""
    stores = random_stores(random)
    setting = random_setting(random, stores)
    game = reference.Game(stores, **setting)
    setting["invalid_action"] = random.choice(["penalize", "raise"])
    names = save(stores, folder)
    vector = gym.make_vec(
        "AutoTTS-v0",
        SIDE_BY_SIDE,
        vectorization_mode="vector_entry_point",
        env=names,
        autoreset_mode=AutoresetMode.DISABLED,
        **setting,
    )
    # gym.make's wrappers check every observation against the space.
    plain = [AutoTTSEnv(names, **setting) for _ in range(SIDE_BY_SIDE - 1)]
    singles = [gym.make("AutoTTS-v0", env=names, **setting), *plain]
    episodes = [Played(random, game, names, env) for env in singles]

    def start(e: int) -> None:
        options = episodes[e].draw() | {"reset_mask": np.arange(SIDE_BY_SIDE) == e}
        found, infos = vector.reset(options=options)
        same({key: array[e] for key, array in found.items()}, episodes[e].wanted)
        same_info(of_one(infos, e), {"action_mask": episodes[e].wanted["action_mask"]})

    vector.reset(seed=0)
    for e in range(SIDE_BY_SIDE):
        start(e)
    for _ in range(actions // SIDE_BY_SIDE):
        chosen = [random_action(random, episode.one.mask) for episode in episodes]
        if setting["invalid_action"] == "raise":
            illegal = [not p.one.legal(a) for p, a in zip(episodes, chosen, strict=True)]
            if any(illegal):
                with pytest.raises(InvalidAction):
                    vector.step(chosen)
            for e in np.flatnonzero(illegal):
                with pytest.raises(InvalidAction):
                    singles[e].step(chosen[e])
                chosen[e] = int(random.choice(np.flatnonzero(episodes[e].one.mask)))
        for episode, action in zip(episodes, chosen, strict=True):
            episode.step(action)
        found, rewards, *overs, infos = vector.step(chosen)
        same(found, {k: np.stack([p.wanted[k] for p in episodes]) for k in found})
        np.testing.assert_allclose(rewards, [p.reward for p in episodes], rtol=0, atol=1e-12)
        assert np.array_equal(np.transpose(overs), [p.over for p in episodes])
        for e, episode in enumerate(episodes):
            same_info(of_one(infos, e), episode.info)
            if episode.one.done:
                start(e)
    for env in (*singles, vector):
        env.close()
    return actions // SIDE_BY_SIDE * SIDE_BY_SIDE


@pytest.mark.parametrize("part", range(PARTS))
def test_environments_play_as_the_reference(part, tmp_path):
    random = Random(part)
    played = 0
    while played < ACTIONS:
        folder = tmp_path / str(played)
        played += play_setting(random, folder, 360)
    assert played >= ACTIONS
