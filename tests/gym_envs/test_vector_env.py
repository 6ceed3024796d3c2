"""Tests of the vector environment: creation, seeding, resets, copies, masks and rendering.

test_equivalence.py compares its sub-environments with single environments.
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
import torch
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import NumpyToTorch
from stores import random_action

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.vector_env import AutoTTSVectorEnv

ANSWER, BRANCH = 0, 1
MODES = pytest.mark.parametrize("mode", list(AutoresetMode))


def random_steps(
    env: gym.vector.VectorEnv[Any, Any, Any], steps: int = 40, seed: int = 0
) -> Iterator[Any]:
    """Results of random steps, most of them legal, and of resets in the mode without autoreset."""
    random = Random(seed)
    for _ in range(steps):
        masks = env.unwrapped.action_masks()  # type: ignore[attr-defined]
        step = env.step(np.array([random_action(random, mask.tolist()) for mask in masks]))
        yield step
        ended = step[2] | step[3]
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and ended.any():
            yield env.reset(options={"reset_mask": ended})


def same(actual: Any, expected: Any) -> bool:
    return data_equivalence(actual, expected, exact=True)


def reset_mask(*rows: bool) -> dict[str, Any]:
    return {"reset_mask": np.array(rows)}


# --- creation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["AutoTTS-v0", "autotts_gym:AutoTTS-v0"])
def test_make_vec(name: str) -> None:
    # make_vec uses the vector entry point by default.
    env = gym.make_vec(name, num_envs=3, max_branches=4, beta=(0.2, 0.8), budget=640)
    assert type(env) is AutoTTSVectorEnv
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert env.num_envs == 3
    single = gym.make("AutoTTS-v0", max_branches=4)
    assert env.single_observation_space == single.observation_space
    assert env.single_action_space == single.action_space
    assert isinstance(env.action_space, gym.spaces.MultiDiscrete)
    observations, _ = env.reset(seed=0)
    assert observations in env.observation_space
    assert all(step[0] in env.observation_space for step in random_steps(env))
    # The spec recreates the environment.
    assert env.spec is not None
    recreated = gym.make_vec(EnvSpec.from_json(env.spec.to_json()))
    assert type(recreated) is AutoTTSVectorEnv
    assert same(recreated.reset(seed=1), env.reset(seed=1))
    env.close()
    env.close()


@pytest.mark.parametrize("mode", ["SameStep", "NextStep", "Disabled", *AutoresetMode])
def test_autoreset_mode_by_value_or_enum(mode: Any) -> None:
    env = gym.make_vec("AutoTTS-v0", 2, max_branches=2, autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is AutoresetMode(mode)


@pytest.mark.parametrize("name", ["SAME_STEP", "NEXT_STEP", "DISABLED"])
def test_autoreset_mode_by_name(name: str) -> None:
    env = gym.make_vec("AutoTTS-Decisions-v0", 2, max_branches=2, autoreset_mode=name)
    assert env.metadata["autoreset_mode"] is AutoresetMode[name]


def test_max_episode_steps_truncates() -> None:
    env = gym.make_vec("AutoTTS-v0", 2, max_branches=2, max_episode_steps=3)
    env.reset()
    truncated = [env.step(np.full(2, BRANCH))[3].tolist() for _ in range(3)]
    assert truncated == [[False, False], [False, False], [True, True]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_envs": 0}, "num_envs must be an integer of at least 1, got 0"),
        ({"threads": 0}, "threads must be an integer of at least 1, got 0"),
        ({"threads": 2.0}, "threads must be an integer of at least 1, got 2.0"),
        ({"num_envs": 2.0}, "num_envs must be an integer of at least 1, got 2.0"),
        ({"num_envs": True}, "num_envs must be an integer of at least 1, got True"),
        ({"render_mode": "human"}, 'render_mode must be "rgb_array" or "ansi", got \'human\''),
        ({"autoreset_mode": "never"}, "'never' is not a valid AutoresetMode"),
        ({"step_limit": 3, "max_episode_steps": 4}, "give either step_limit or max_episode_steps"),
    ],
)
def test_invalid_arguments_are_rejected(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        AutoTTSVectorEnv(**{"num_envs": 2, **arguments})


# --- invalid actions -----------------------------------------------------------------------------


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
def test_rejected_actions_change_nothing(mode: AutoresetMode, actions: Any, message: str) -> None:
    env = AutoTTSVectorEnv(3, max_branches=2, invalid_action="raise", autoreset_mode=mode)
    env.reset(seed=1)
    before = pickle.dumps(env)
    with pytest.raises(InvalidAction, match=re.escape(message)):
        env.step(actions)
    assert pickle.dumps(env) == before
    assert not env.step([1, 1, 1])[4]["invalid_action"].any()


@MODES
def test_step_and_render_need_a_reset(mode: AutoresetMode) -> None:
    env = AutoTTSVectorEnv(2, max_branches=2, autoreset_mode=mode, render_mode="ansi")
    with pytest.raises(ResetNeeded, match="call reset\\(\\) before action_masks\\(\\)"):
        env.action_masks()
    with pytest.raises(ResetNeeded, match="sub-environment 0 has no running episode: reset it"):
        env.step([0, 0])
    with pytest.raises(ResetNeeded, match="nothing to render yet"):
        env.render()
    # Sub-environments outside the mask would have no observation.
    with pytest.raises(ResetNeeded, match="first reset must start every sub-environment"):
        env.reset(options=reset_mask(True, False))
    env.reset()
    env.step([BRANCH, ANSWER])
    if mode is AutoresetMode.DISABLED:
        with pytest.raises(ResetNeeded, match="sub-environment 1 has no running episode: reset it"):
            env.step([0, 0])
        env.reset(options=reset_mask(False, True))
    env.step([0, 0])


# --- seeds ---------------------------------------------------------------------------------------

# With auto-probe and branches read almost to their ends, different episodes have different infos.
ACTIONS = [BRANCH] * 3 + [2, 3, 4] * 4 + [ANSWER]


@pytest.fixture
def config(two_stores: list[str]) -> dict[str, Any]:
    return {"env": two_stores, "max_branches": 3, "beta": (0, 1), "auto_probe": True}


def single_final_infos(make: Callable[[], Any], seeds: list[int], episodes: int) -> list[Any]:
    """Final infos of the episodes of single environments."""
    ends: list[Any] = [[] for _ in seeds]
    for seed, env_ends in zip(seeds, ends, strict=True):
        env = make()
        for number in range(episodes):
            env.reset(seed=None if number else seed)
            env_ends.append([env.step(action)[4] for action in ACTIONS][-1])
    return ends


def vector_final_infos(
    env: gym.vector.VectorEnv[Any, Any, Any], seed: Any, episodes: int
) -> list[Any]:
    """Final infos of the episodes of a vector environment; all episodes have the same length."""
    ends: list[Any] = [[] for _ in range(env.num_envs)]
    mode = env.metadata["autoreset_mode"]
    env.reset(seed=seed)
    for _ in range(episodes):
        infos = [env.step(np.full(env.num_envs, action))[4] for action in ACTIONS][-1]
        infos = infos.get("final_info", infos)
        for e, env_ends in enumerate(ends):
            env_ends.append({key: infos[key][e] for key in infos if not key.startswith("_")})
        if mode is AutoresetMode.NEXT_STEP:
            env.step(np.zeros(env.num_envs, int))
        elif mode is AutoresetMode.DISABLED:
            env.reset()
    return ends


@MODES
def test_same_seeds_give_the_same_episodes_in_all_environment_types(
    mode: AutoresetMode, config: dict[str, Any]
) -> None:
    expected = single_final_infos(lambda: AutoTTSEnv(**config), [7, 8, 9], episodes=3)
    assert len({end["beta"] for env_ends in expected for end in env_ends}) == 9
    made = single_final_infos(lambda: gym.make("AutoTTS-v0", **config), [7, 8, 9], episodes=3)
    vector = gym.make_vec("AutoTTS-v0", 3, autoreset_mode=mode, **config)
    arguments: dict[str, Any] = {
        "vectorization_mode": "sync",
        "vector_kwargs": {"autoreset_mode": mode},
    }
    sync = gym.make_vec("AutoTTS-v0", 3, **arguments, **config)
    for actual in (made, vector_final_infos(vector, 7, 3), vector_final_infos(sync, 7, 3)):
        for env_ends, other_ends in zip(expected, actual, strict=True):
            for end, info in zip(env_ends, other_ends, strict=True):
                assert end.keys() == info.keys()
                assert all(np.array_equal(info[key], end[key]) for key in end)
    # The states of the generators are equal as well.
    assert vector.np_random_seed == sync.np_random_seed == (7, 8, 9)
    states = [[g.bit_generator.state for g in env.np_random] for env in (vector, sync)]
    assert states[0] == states[1]


def test_one_seed_per_sub_environment(config: dict[str, Any]) -> None:
    env = AutoTTSVectorEnv(3, **config)
    expected = vector_final_infos(env, 7, 2)
    assert same(vector_final_infos(env, [7, 8, 9], 2), expected)
    assert same(vector_final_infos(env, np.array([7, 8, 9]), 2), expected)
    assert same(vector_final_infos(env, np.int64(7), 2), expected)
    # None continues the stream of a sub-environment and does not affect the others.
    first, second = env.reset(seed=7)[1]["beta"], env.reset()[1]["beta"]
    env.reset(seed=7)
    assert env.reset(seed=[7, None, 9])[1]["beta"].tolist() == [first[0], second[1], first[2]]
    assert env.np_random_seed == (7, 8, 9)
    with pytest.raises(ValueError, match="2 seeds for 3 sub-environments"):
        env.reset(seed=[1, 2])


def test_episodes_differ_without_a_seed(two_stores: list[str]) -> None:
    betas = []
    for env in (AutoTTSVectorEnv(20, max_branches=2, beta=(0, 1)) for _ in range(2)):
        for _ in range(2):
            betas += env.reset()[0]["globals"][:, -1].tolist()
        assert len(set(env.np_random_seed)) == 20
    assert len(set(betas)) == 80
    # All stores occur in one batch.
    env = AutoTTSVectorEnv(20, two_stores, max_branches=2)
    env.reset(seed=0)
    assert set(env.step([ANSWER] * 20)[4]["final_info"]["env_index"]) == {0, 1}


# --- partial resets ------------------------------------------------------------------------------


@MODES
def test_reset_mask_selects_the_sub_environments(mode: AutoresetMode) -> None:
    env = AutoTTSVectorEnv(3, max_branches=4, beta=(0, 1), autoreset_mode=mode)
    env.reset(seed=3)
    before = env.step([BRANCH] * 3)[0]
    options = reset_mask(False, True, False) | {"question": 5, "beta": 0.25}
    original = copy.deepcopy(options)
    observations, info = env.reset(seed=[1, None, 1], options=options)
    assert same(options, original)  # the caller's options are unchanged
    for key in observations:
        assert np.array_equal(observations[key][::2], before[key][::2])
    assert observations["globals"][1].tolist() == [0, 0, -1, 0, 0.25]
    assert info["_action_mask"].tolist() == [False, True, False]
    assert np.array_equal(info["action_mask"][1], observations["action_mask"][1])
    assert not info["action_mask"][::2].any()
    # Seeds of sub-environments outside the mask are ignored: their streams continue.
    singles = [AutoTTSEnv(max_branches=4, beta=(0, 1)) for _ in range(3)]
    drawn = [[single.reset(seed=3 + e)[1]["beta"]] for e, single in enumerate(singles)]
    for single, betas in zip(singles, drawn, strict=True):
        betas += [single.reset()[1]["beta"] for _ in range(2)]
    following = copy.deepcopy(env).reset()[1]["beta"].tolist()
    assert following == [drawn[0][1], drawn[1][2], drawn[2][1]]
    assert env.np_random_seed == (3, 4, 5)
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
def test_invalid_reset_masks_are_rejected(mask: Any, error: type[Exception]) -> None:
    env = AutoTTSVectorEnv(2, max_branches=2)
    env.reset()
    with pytest.raises(error, match=r"options\['reset_mask'\]"):
        env.reset(options={"reset_mask": mask})


def test_rejected_reset_changes_nothing(two_stores: list[str]) -> None:
    # Questions have five branches in the shallow store and six in the deep one, so that this order
    # fits only some sub-environments.
    env = AutoTTSVectorEnv(20, two_stores, max_branches=2)
    env.reset(seed=0)
    env.step([BRANCH] * 20)
    twin = copy.deepcopy(env)
    with pytest.raises(ValueError, match=r"must stay within 0\.\.4"):
        env.reset(options={"branch_order": [5, 0]})
    actions = [ANSWER] * 20
    assert same(env.step(actions)[4]["final_info"], twin.step(actions)[4]["final_info"])
    # A rejected first reset has no effect either.
    env = AutoTTSVectorEnv(20, max_branches=2, beta=(0, 1))
    with pytest.raises(ValueError, match="unknown reset options"):
        env.reset(seed=0, options={"quest": 3})
    assert len(set(env.reset()[0]["globals"][:, -1])) == 20


# --- copies and ownership of arrays --------------------------------------------------------------


@pytest.mark.parametrize("make_copy", [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))])
@MODES
def test_copies_continue_equally_and_independently(
    mode: AutoresetMode, make_copy: Callable[[Any], Any], two_stores: list[str]
) -> None:
    env = AutoTTSVectorEnv(
        3, two_stores, max_branches=5, beta=(0, 1), autoreset_mode=mode, render_mode="ansi"
    )
    env.reset(seed=5)
    list(random_steps(env, 30))
    twin, witness = make_copy(env), make_copy(env)
    mask, text = env.action_masks(), env.render()
    continuation = [*random_steps(twin), twin.reset(), *random_steps(twin)]
    assert np.array_equal(env.action_masks(), mask)
    assert env.render() == text
    assert same([*random_steps(env), env.reset(), *random_steps(env)], continuation)
    assert env.render() == twin.render()
    assert same([*random_steps(witness), witness.reset(), *random_steps(witness)], continuation)


def test_copies_share_traces(two_stores: list[str]) -> None:
    env = AutoTTSVectorEnv(2, two_stores, max_branches=5)
    assert copy.deepcopy(env)._config.dataset is env._config.dataset
    assert copy.deepcopy(env)._batch.dataset is env._batch.dataset
    twin = pickle.loads(pickle.dumps(env))
    assert not any(array.flags.writeable for array in twin._batch.dataset.traces)


def modify(result: Any) -> None:
    """Change every number in a nested result in place, except in read-only arrays."""
    if isinstance(result, np.ndarray) and result.dtype != object:
        if result.flags.writeable:
            result[:] = ~result if result.dtype == np.bool_ else result + 1
    elif isinstance(result, dict):
        modify(tuple(result.values()))
    elif isinstance(result, tuple | np.ndarray):
        for value in result:
            modify(value)


def test_observations_share_what_no_trace_records() -> None:
    envs = AutoTTSVectorEnv(2, "synthetic-aime24", max_branches=3)
    first, _ = envs.reset(seed=0)
    second, *_ = envs.step(np.ones(2, np.int64))
    for key in ("branch_generation_confidence", "generation_confidence_plane"):
        assert (second[key] == -1).all()
        assert second[key] in envs.observation_space[key]
        assert second[key] is first[key]
        assert not second[key].flags.writeable
    assert all(first[key].flags.writeable for key in ("branch_status", "plane"))


@MODES
def test_returned_arrays_are_independent_of_the_environment(mode: AutoresetMode) -> None:
    env, modified = (
        AutoTTSVectorEnv(3, max_branches=3, beta=(0, 1), autoreset_mode=mode) for _ in range(2)
    )
    firsts = [env.reset(seed=7), modified.reset(seed=7)]
    results = [(result, copy.deepcopy(result)) for result in [firsts[0], *random_steps(env, 80)]]
    assert all(same(result, original) for result, original in results)
    modify(firsts[1])
    for (result, _), other in zip(results[1:], random_steps(modified, 80), strict=True):
        assert same(other, result)
        modify(other[:2])
        modify(other[4:])  # random_steps() reads terminated and truncated


# --- masks and rendering -------------------------------------------------------------------------


@MODES
def test_masks_agree(mode: AutoresetMode) -> None:
    env = gym.make_vec("AutoTTS-v0", 4, max_branches=3, budget=960, autoreset_mode=mode)
    env.action_space.seed(0)
    observations, info = env.reset(seed=0)
    ended = np.zeros(4, bool)
    for _ in range(60):
        assert info["action_mask"].dtype == np.int8
        assert info["_action_mask"].all()
        assert np.array_equal(info["action_mask"], observations["action_mask"])
        assert np.array_equal(env.unwrapped.action_masks(), observations["action_mask"] == 1)
        # Gymnasium's sampling accepts a tuple of masks.
        actions = env.action_space.sample(mask=tuple(observations["action_mask"]))
        observations, _, terminated, _, info = env.step(actions)
        assert not info.get("invalid_action", ended).any()
        if mode is AutoresetMode.DISABLED and terminated.any():
            observations, _ = env.reset(options={"reset_mask": terminated})
            info = {"action_mask": observations["action_mask"], "_action_mask": np.ones(4, bool)}


@pytest.mark.parametrize("observation", ["full", "compact"])
@MODES
def test_rendering_matches_single_environments(mode: AutoresetMode, observation: str) -> None:
    for render_mode in ("rgb_array", "ansi"):
        config: dict[str, Any] = {"max_branches": 3, "render_mode": render_mode}
        env = AutoTTSVectorEnv(2, autoreset_mode=mode, observation=observation, **config)
        singles = [AutoTTSEnv(**config) for _ in range(2)]
        env.reset(seed=3)
        for i, single in enumerate(singles):
            single.reset(seed=3 + i)
        shapes = set()
        for action in (BRANCH, 2, 5, BRANCH, 3, 6):  # BRANCH, CONTINUE and PROBE
            env.step([action] * 2)
            frames = env.render()
            assert frames is not None
            for single, frame in zip(singles, frames, strict=True):
                single.step(action)
                assert np.array_equal(single.render(), frame)
                shapes.add(np.shape(frame))
        assert len(shapes) == 1
        # The frame after the end of an episode depends on the autoreset mode.
        env.step([ANSWER, BRANCH])
        singles[0].step(ANSWER)
        if mode is AutoresetMode.SAME_STEP:
            singles[0].reset()
        assert np.array_equal(env.render()[0], singles[0].render())
        if mode is AutoresetMode.NEXT_STEP:
            env.step([ANSWER, BRANCH])
            singles[0].reset()
            assert np.array_equal(env.render()[0], singles[0].render())


def test_rendering_without_a_render_mode_warns() -> None:
    env = AutoTTSVectorEnv(2, max_branches=2)
    env.reset()
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None


# --- info ----------------------------------------------------------------------------------------


@MODES
@pytest.mark.parametrize("strings", [True, False])
def test_info_always_has_the_same_keys(mode: AutoresetMode, strings: bool) -> None:
    config: dict[str, Any] = {"max_branches": 3, "info_strings": strings}
    env = AutoTTSVectorEnv(4, autoreset_mode=mode, **config)
    single = AutoTTSEnv(**config).reset()[1]
    _, first = env.reset(seed=0)
    assert first.keys() == single.keys() | {f"_{key}" for key in single}
    # In the last step, all episodes end at once.
    for actions in ([BRANCH] * 4, [ANSWER, BRANCH, 2, 2], [ANSWER] * 4):
        if mode is AutoresetMode.DISABLED and actions == [ANSWER] * 4:
            env.reset(options=reset_mask(True, False, False, False))
        *_, infos = env.step(np.array(actions))
        final = infos.pop("final_info", None)
        assert infos.keys() - {"final_obs", "_final_obs", "_final_info"} == first.keys()
        assert all(infos[f"_{key}"].all() for key in single)
        if final is not None:
            assert final.keys() == first.keys()
        for key in single:
            assert infos[key].dtype == first[key].dtype
            assert (infos[key].dtype == object) == (key in ("answer", "gold", "env"))


# With SAME_STEP, Gymnasium puts observations in an array, which its wrapper cannot convert.
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.DISABLED])
@pytest.mark.parametrize("kind", ["vector_entry_point", "sync"])
def test_numpy_to_torch(mode: AutoresetMode, kind: str) -> None:
    arguments: dict[str, Any] = {"autoreset_mode": mode}
    if kind == "sync":
        arguments = {"vector_kwargs": arguments}
    env: Any = gym.make_vec("AutoTTS-v0", 2, vectorization_mode=kind, max_branches=3, **arguments)
    env = NumpyToTorch(env)
    env.reset(seed=0)
    for actions in ([BRANCH, BRANCH], [BRANCH, ANSWER]):
        observations, rewards, *_, infos = env.step(torch.tensor(actions))
    assert isinstance(observations["globals"], torch.Tensor)
    assert rewards.shape == (2,)
    assert infos["steps"].tolist() == [0, 2]
    assert infos["correct"].dtype == torch.int8
