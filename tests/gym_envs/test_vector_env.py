"""The vector environment as Gymnasium and its users expect it: seeds, resets, copies, rendering.

That its sub-environments play like single ones is shown in test_equivalence.py.
"""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from stores import random_action

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv

ANSWER, BRANCH = 0, 1
MODES = pytest.mark.parametrize("mode", list(AutoresetMode))


def play(env: gym.vector.VectorEnv[Any, Any, Any], steps: int = 40, seed: int = 0) -> Iterator[Any]:
    """Steps of random actions, mostly legal; what has ended is reset where nothing else does."""
    random = Random(seed)
    for _ in range(steps):
        masks = env.unwrapped.action_masks()  # type: ignore[attr-defined]
        step = env.step(np.array([random_action(random, mask.tolist()) for mask in masks]))
        yield step
        ended = step[2] | step[3]
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and ended.any():
            yield env.reset(options={"reset_mask": ended})


def same(found: Any, wanted: Any) -> bool:
    return data_equivalence(found, wanted, exact=True)


def masked(*rows: bool) -> dict[str, Any]:
    return {"reset_mask": np.array(rows)}


# --- made by Gymnasium ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AutoTTS-v0", "autotts_gym:AutoTTS-v0"])
def test_made_by_gymnasium(name: str) -> None:
    # The class itself is what make_vec takes where nothing else is asked for.
    env = gym.make_vec(name, num_envs=3, max_branches=4, beta=(0.2, 0.8), budget=640)
    assert type(env) is AutoTTSVectorEnv
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.num_envs == 3
    single = gym.make("AutoTTS-v0", max_branches=4)
    assert env.single_observation_space == single.observation_space
    assert env.single_action_space == single.action_space
    assert isinstance(env.action_space, gym.spaces.MultiDiscrete)
    found, _ = env.reset(seed=0)
    assert found in env.observation_space
    assert all(step[0] in env.observation_space for step in play(env))
    # A specification makes another one.
    assert env.spec is not None
    again = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
    assert type(again) is AutoTTSVectorEnv
    assert same(again.reset(seed=1), env.reset(seed=1))
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled", *AutoresetMode])
def test_modes_by_name_or_enum(mode: Any) -> None:
    env = gym.make_vec("AutoTTS-v0", 2, max_branches=2, autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is AutoresetMode(mode)


def test_gymnasiums_limit_is_the_step_limit() -> None:
    env = gym.make_vec("AutoTTS-v0", 2, max_branches=2, max_episode_steps=3)
    env.reset()
    truncated = [env.step(np.full(2, BRANCH))[3].tolist() for _ in range(3)]
    assert truncated == [[False, False], [False, False], [True, True]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
        ({"num_envs": 2.0}, "num_envs must be an integer of at least 1, got 2.0"),
        ({"num_envs": True}, "num_envs must be an integer of at least 1, got True"),
        ({"render_mode": "human"}, 'render_mode must be "rgb_array" or "ansi", got \'human\''),
        ({"autoreset_mode": "never"}, "'never' is not a valid AutoresetMode"),
        ({"step_limit": 3, "max_episode_steps": 4}, "give either step_limit or max_episode_steps"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        AutoTTSVectorEnv(**{"num_envs": 2, **arguments})


# --- what must not be played ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ([1, 1], "actions must be integers of shape (3,), got int64 of shape (2,)"),
        (1, "actions must be integers of shape (3,), got int64 of shape ()"),
        ([1.0, 1.0, 1.0], "actions must be integers of shape (3,), got float64 of shape (3,)"),
        ([1, 1, 10], "an action is outside Discrete(10)"),
        ([1, -1, 1], "an action is outside Discrete(10)"),
        ([1, 1, 2], "action 2 of sub-environment 2 is illegal"),
    ],
)
@MODES
def test_refused_actions_change_nothing(mode: AutoresetMode, actions: Any, message: str) -> None:
    env = AutoTTSVectorEnv(3, max_branches=2, invalid_action="raise", autoreset_mode=mode)
    env.reset(seed=1)
    before = pickle.dumps(env)
    with pytest.raises(InvalidAction, match=re.escape(message)):
        env.step(actions)
    assert pickle.dumps(env) == before
    assert not env.step([1, 1, 1])[4]["invalid_action"].any()


@MODES
def test_nothing_is_played_without_a_reset(mode: AutoresetMode) -> None:
    env = AutoTTSVectorEnv(2, max_branches=2, autoreset_mode=mode, render_mode="ansi")
    assert not env.action_masks().any()
    with pytest.raises(ResetNeeded, match="sub-environment 0 has no running episode: reset it"):
        env.step([0, 0])
    with pytest.raises(ResetNeeded, match="nothing to render yet"):
        env.render()
    # Nor could there be an observation of those that the mask leaves out.
    with pytest.raises(ResetNeeded, match="first reset must start every sub-environment"):
        env.reset(options=masked(True, False))
    env.reset()
    env.step([BRANCH, ANSWER])
    if mode is AutoresetMode.DISABLED:
        with pytest.raises(ResetNeeded, match="sub-environment 1 has no running episode: reset it"):
            env.step([0, 0])
        env.reset(options=masked(False, True))
    env.step([0, 0])


# --- seeds ---------------------------------------------------------------------------------------

# With auto-probe, and branches read to their ends or nearly so: it tells all draws apart.
REVEAL = [BRANCH] * 3 + [2, 3, 4] * 4 + [ANSWER]


@pytest.fixture
def setting(two_stores: list[str]) -> dict[str, Any]:
    return {"env": two_stores, "max_branches": 3, "beta": (0, 1), "auto_probe": True}


def of_singles(make: Callable[[], Any], seeds: list[int], episodes: int) -> list[Any]:
    """How the episodes of single environments end."""
    ends: list[Any] = [[] for _ in seeds]
    for seed, own in zip(seeds, ends, strict=True):
        env = make()
        for number in range(episodes):
            env.reset(seed=None if number else seed)
            own.append([env.step(action)[4] for action in REVEAL][-1])
    return ends


def of_vector(env: gym.vector.VectorEnv[Any, Any, Any], seed: Any, episodes: int) -> list[Any]:
    """How the episodes of a vector environment end; all of them take as long."""
    ends: list[Any] = [[] for _ in range(env.num_envs)]
    mode = env.metadata["autoreset_mode"]
    env.reset(seed=seed)
    for _ in range(episodes):
        infos = [env.step(np.full(env.num_envs, action))[4] for action in REVEAL][-1]
        infos = infos.get("final_info", infos)
        for e, own in enumerate(ends):
            own.append({key: infos[key][e] for key in infos if not key.startswith("_")})
        if mode is AutoresetMode.NEXT_STEP:
            env.step(np.zeros(env.num_envs, int))
        elif mode is AutoresetMode.DISABLED:
            env.reset()
    return ends


@MODES
def test_same_seeds_same_episodes_on_every_path(
    mode: AutoresetMode, setting: dict[str, Any]
) -> None:
    wanted = of_singles(lambda: AutoTTSEnv(**setting), [7, 8, 9], episodes=3)
    assert len({end["tokens"] for own in wanted for end in own}) > 6
    made = of_singles(lambda: gym.make("AutoTTS-v0", **setting), [7, 8, 9], episodes=3)
    vector = gym.make_vec("AutoTTS-v0", 3, autoreset_mode=mode, **setting)
    how: dict[str, Any] = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": mode}}
    sync = gym.make_vec("AutoTTS-v0", 3, **how, **setting)
    for found in (made, of_vector(vector, 7, 3), of_vector(sync, 7, 3)):
        for own, other in zip(wanted, found, strict=True):
            for end, info in zip(own, other, strict=True):
                assert end.keys() == info.keys()
                assert all(np.array_equal(info[key], end[key]) for key in end)
    # What comes next is drawn alike as well.
    assert vector.np_random_seed == sync.np_random_seed == (7, 8, 9)
    states = [[g.bit_generator.state for g in env.np_random] for env in (vector, sync)]
    assert states[0] == states[1]


def test_a_seed_for_each(setting: dict[str, Any]) -> None:
    env = AutoTTSVectorEnv(3, **setting)
    wanted = of_vector(env, 7, 2)
    assert same(of_vector(env, [7, 8, 9], 2), wanted)
    assert same(of_vector(env, np.array([7, 8, 9]), 2), wanted)
    assert same(of_vector(env, np.int64(7), 2), wanted)
    # None goes on with what a sub-environment has, and says nothing of the others.
    env.reset(seed=7)
    states = [g.bit_generator.state for g in copy.deepcopy(env.np_random)]
    env.reset(seed=[7, None, 9])
    assert env.np_random_seed == (7, 8, 9)
    assert [g.bit_generator.state for g in env.np_random][::2] == states[::2]
    assert env.np_random[1].bit_generator.state != states[1]
    with pytest.raises(ValueError, match="2 seeds for 3 sub-environments"):
        env.reset(seed=[1, 2])


def test_without_a_seed_every_episode_is_another(two_stores: list[str]) -> None:
    betas = []
    for env in (AutoTTSVectorEnv(20, max_branches=2, beta=(0, 1)) for _ in range(2)):
        for _ in range(2):
            betas += env.reset()[0]["globals"][:, -1].tolist()
        assert len(set(env.np_random_seed)) == 20
    assert len(set(betas)) == 80
    # Several environments are all played, side by side.
    env = AutoTTSVectorEnv(20, two_stores, max_branches=2)
    env.reset(seed=0)
    assert set(env.step([ANSWER] * 20)[4]["final_info"]["env"]) == set(two_stores)


# --- resets of some ------------------------------------------------------------------------------


@MODES
def test_reset_mask_starts_those_and_no_others(mode: AutoresetMode) -> None:
    env = AutoTTSVectorEnv(3, max_branches=4, beta=(0, 1), autoreset_mode=mode)
    env.reset(seed=3)
    before = env.step([BRANCH] * 3)[0]
    generators = [g.bit_generator.state for g in copy.deepcopy(env.np_random)]
    options = masked(False, True, False) | {"question": 5, "beta": 0.25}
    kept = copy.deepcopy(options)
    found, info = env.reset(seed=[1, None, 1], options=options)
    assert same(options, kept)  # they are the caller's
    for key in found:
        assert np.array_equal(found[key][::2], before[key][::2])
    assert found["globals"][1].tolist() == [0, 0, -1, 0, 0.25]
    assert info["_action_mask"].tolist() == [False, True, False]
    assert np.array_equal(info["action_mask"][1], found["action_mask"][1])
    assert not info["action_mask"][::2].any()
    # Seeds of those that are left out are left out too.
    states = [g.bit_generator.state for g in env.np_random]
    assert [a == b for a, b in zip(states, generators, strict=True)] == [True, False, True]
    infos = env.step([ANSWER] * 3)[4]
    infos = infos.get("final_info", infos)
    assert infos["steps"].tolist() == [2, 1, 2]
    assert infos["question"][1] == 5


@pytest.mark.parametrize(
    ("mask", "error"),
    [
        ([True, True], TypeError),
        (np.array([1, 1]), TypeError),
        (np.array([True]), ValueError),
        (np.array([False, False]), ValueError),
    ],
)
def test_bad_masks_are_refused(mask: Any, error: type[Exception]) -> None:
    env = AutoTTSVectorEnv(2, max_branches=2)
    env.reset()
    with pytest.raises(error, match=r"options\['reset_mask'\]"):
        env.reset(options={"reset_mask": mask})


def test_a_refused_reset_starts_nothing(two_stores: list[str]) -> None:
    # The shallow store has five branches a question, the deep one six: where both are played, an
    # order may fit some sub-environments only.
    env = AutoTTSVectorEnv(20, two_stores, max_branches=2)
    env.reset(seed=0)
    env.step([BRANCH] * 20)
    twin = copy.deepcopy(env)
    with pytest.raises(ValueError, match=r"must stay within 0\.\.4"):
        env.reset(options={"branch_order": [5, 0]})
    actions = [ANSWER] * 20
    assert same(env.step(actions)[4]["final_info"], twin.step(actions)[4]["final_info"])
    # Nor does a first one that fails leave anything behind.
    env = AutoTTSVectorEnv(20, max_branches=2, beta=(0, 1))
    with pytest.raises(ValueError, match="unknown reset options"):
        env.reset(seed=0, options={"quest": 3})
    assert len(set(env.reset()[0]["globals"][:, -1])) == 20


# --- copies, and who owns what -------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@MODES
def test_copies_continue_alike_and_alone(
    mode: AutoresetMode, copied: Callable[[Any], Any], two_stores: list[str]
) -> None:
    env = AutoTTSVectorEnv(
        3, two_stores, max_branches=5, beta=(0, 1), autoreset_mode=mode, render_mode="ansi"
    )
    env.reset(seed=5)
    list(play(env, 30))
    twin, witness = copied(env), copied(env)
    mask, text = env.action_masks(), env.render()
    ahead = [*play(twin), twin.reset(), *play(twin)]
    assert np.array_equal(env.action_masks(), mask)
    assert env.render() == text
    assert same([*play(env), env.reset(), *play(env)], ahead)
    assert env.render() == twin.render()
    assert same([*play(witness), witness.reset(), *play(witness)], ahead)


def test_copies_do_not_copy_traces(two_stores: list[str]) -> None:
    env = AutoTTSVectorEnv(2, two_stores, max_branches=5)
    assert copy.deepcopy(env)._config.dataset is env._config.dataset
    assert copy.deepcopy(env)._batch.dataset is env._batch.dataset
    twin = pickle.loads(pickle.dumps(env))
    assert not any(array.flags.writeable for array in twin._batch.dataset.traces)


def spoil(found: Any) -> None:
    """Change every number in whatever was returned."""
    if isinstance(found, np.ndarray) and found.dtype != object:
        found[:] = ~found if found.dtype == np.bool_ else found + 1
    elif isinstance(found, dict):
        spoil(tuple(found.values()))
    elif isinstance(found, tuple | np.ndarray):
        for value in found:
            spoil(value)


@MODES
def test_what_was_returned_stays_and_may_be_changed(mode: AutoresetMode) -> None:
    env, spoiled = (
        AutoTTSVectorEnv(3, max_branches=3, beta=(0, 1), autoreset_mode=mode) for _ in range(2)
    )
    firsts = [env.reset(seed=7), spoiled.reset(seed=7)]
    kept = [(found, copy.deepcopy(found)) for found in [firsts[0], *play(env, 80)]]
    assert all(same(found, then) for found, then in kept)
    spoil(firsts[1])
    for (found, _), other in zip(kept[1:], play(spoiled, 80), strict=True):
        assert same(other, found)
        spoil(other[:2])
        spoil(other[4:])  # play() looks at the ends of a step


# --- masks and rendering -------------------------------------------------------------------------


@MODES
def test_masks_agree(mode: AutoresetMode) -> None:
    env = gym.make_vec("AutoTTS-v0", 4, max_branches=3, budget=960, autoreset_mode=mode)
    env.action_space.seed(0)
    found, info = env.reset(seed=0)
    ended = np.zeros(4, bool)
    for _ in range(60):
        assert info["action_mask"].dtype == np.int8
        assert info["_action_mask"].all()
        assert np.array_equal(info["action_mask"], found["action_mask"])
        assert np.array_equal(env.unwrapped.action_masks(), found["action_mask"] == 1)
        # Gymnasium's own sampling takes a tuple of masks.
        actions = env.action_space.sample(mask=tuple(found["action_mask"]))
        found, _, terminated, _, info = env.step(actions)
        assert not info.get("invalid_action", ended).any()
        if mode is AutoresetMode.DISABLED and terminated.any():
            found, _ = env.reset(options={"reset_mask": terminated})
            info = {"action_mask": found["action_mask"], "_action_mask": np.ones(4, bool)}


@pytest.mark.parametrize("observation", ["full", "compact"])
@MODES
def test_renders_what_single_environments_do(mode: AutoresetMode, observation: str) -> None:
    for render_mode in ("rgb_array", "ansi"):
        setting: dict[str, Any] = {"max_branches": 3, "render_mode": render_mode}
        env = AutoTTSVectorEnv(2, autoreset_mode=mode, observation=observation, **setting)
        singles = [AutoTTSEnv(**setting) for _ in range(2)]
        env.reset(seed=3)
        for i, single in enumerate(singles):
            single.reset(seed=3 + i)
        shapes = set()
        for action in (BRANCH, 2, 5, BRANCH, 3, 6):  # branches, continued and probed
            env.step([action] * 2)
            frames = env.render()
            assert frames is not None
            for single, frame in zip(singles, frames, strict=True):
                single.step(action)
                assert np.array_equal(single.render(), frame)
                shapes.add(np.shape(frame))
        assert len(shapes) == 1
        # What a frame shows of an end depends on what follows it in the same step.
        env.step([ANSWER, BRANCH])
        singles[0].step(ANSWER)
        if mode is AutoresetMode.SAME_STEP:
            singles[0].reset()
        assert np.array_equal(env.render()[0], singles[0].render())
        if mode is AutoresetMode.NEXT_STEP:
            env.step([ANSWER, BRANCH])
            singles[0].reset()
            assert np.array_equal(env.render()[0], singles[0].render())


def test_rendering_without_a_mode_says_so() -> None:
    env = AutoTTSVectorEnv(2, max_branches=2)
    env.reset()
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None
