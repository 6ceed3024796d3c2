"""The single environment as Gymnasium and its users expect it: spaces, masks, copies, endings.

That it plays by the rules is shown in test_equivalence.py.
"""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from random import Random
from typing import Any

import gymnasium as gym
import matplotlib.pyplot as plt
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import InvalidAction, ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from stable_baselines3.common.env_checker import check_env as check_for_sb3
from stores import random_action

import autotts_gym  # noqa: F401 - registers AutoTTS-v0
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.traces.registry import DEFAULT
from autotts_gym.traces.store import Branch, Question, TraceStore

ANSWER, BRANCH = 0, 1
MAKES = [AutoTTSEnv, partial(gym.make, "AutoTTS-v0")]


def play(env: gym.Env[Any, Any], seed: int = 0, most: int = 300) -> Iterator[Any]:
    """Steps of random actions, mostly legal, from where the episode is; ``most`` at most."""
    random = Random(seed)
    for _ in range(most):
        step = env.step(random_action(random, env.get_wrapper_attr("action_masks")().tolist()))
        yield step
        if step[2] or step[3]:
            return


def episodes(env: gym.Env[Any, Any], seed: int | None = None) -> Iterator[Any]:
    """What two episodes return, the second one's draw following from the first one's."""
    yield env.reset(seed=seed)
    yield from play(env)
    yield env.reset()
    yield from play(env, 1)


def same(found: Any, wanted: Any) -> bool:
    return data_equivalence(found, wanted, exact=True)


# --- what checkers say, and registration ---------------------------------------------------------

SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "compact": {"observation": "compact"},
    "conditioned": {"beta": (0.2, 0.8), "max_branches": 8},
    "cost alone": {"beta": 0, "max_branches": 8, "billing": "interval"},
    "budget": {"budget": 640, "max_branches": 8, "probe_tokens": 1},
    "no budget": {"budget": 0, "max_branches": 2},
    "auto-probe": {"auto_probe": True, "max_branches": 8},
    "few columns": {"max_depth": 2, "max_classes": 1, "max_branches": 8},
    "many columns": {"max_depth": 200, "max_classes": 500, "max_branches": 8},
    "one branch": {"max_branches": 1},
    "step limit": {"step_limit": 2, "max_branches": 8},  # checkers want a step after the first
    "several": {"env": ["deep", "shallow"], "max_branches": 5},
    "several, compact": {"env": ["deep", "shallow"], "max_branches": 5, "observation": "compact"},
    "confidences": {"env": ["shallow"], "max_branches": 5, "probe_tokens": "recorded"},
}


@pytest.mark.parametrize("check", [check_env, check_for_sb3], ids=["gymnasium", "sb3"])
@pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)
def test_checkers_have_nothing_to_say(
    check: Callable[[Any], None], setting: dict[str, Any], two_stores: list[str]
) -> None:
    # Any warning is an error. With a specification, all render modes are checked too.
    if "env" in setting:
        folders = {path.rpartition("/")[2]: path for path in two_stores}
        setting = setting | {"env": [folders[name] for name in setting["env"]]}
    check(gym.make("AutoTTS-v0", render_mode="rgb_array", **setting).unwrapped)


def test_specification_survives_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"env": [DEFAULT], "beta": (0.2, 0.8), "max_branches": 4, "budget": 960}
    env = gym.make("AutoTTS-v0", **arguments)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert same(list(episodes(env, 3)), list(episodes(again, 3)))
    env.spec.pprint()
    assert "id=AutoTTS-v0" in capsys.readouterr().out


def test_keyword_arguments_arrive(two_stores: list[str]) -> None:
    arguments = {"max_branches": 3, "budget": 9_000, "auto_probe": True, "beta": 0.25}
    env = gym.make("AutoTTS-v0", env=two_stores[1], **arguments).unwrapped
    env.reset()
    assert {name: getattr(env, name) for name in arguments} == arguments
    card = TraceStore.open(two_stores[1]).card
    assert (env.interval, env.depth_limit) == (card.interval, card.depth)


@pytest.mark.parametrize("mode", ["video", "rgb_array_list", 1])
def test_bad_render_mode_is_named(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"render_mode must be one of \['human', "):
        AutoTTSEnv(render_mode=mode)


def test_importing_is_light() -> None:
    script = """
import sys
import autotts_gym
slow = {"numba", "pyarrow", "matplotlib", "torch", "scipy", "PIL", "stable_baselines3"}
assert not slow & sys.modules.keys(), slow & sys.modules.keys()

import gymnasium
env = gymnasium.make("AutoTTS-v0", max_branches=4)
env.reset(seed=0)
env.step(1)
slow = {"matplotlib", "torch", "PIL", "pandas", "stable_baselines3", "scipy.stats"}
assert not slow & sys.modules.keys(), slow & sys.modules.keys()
"""
    assert (
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=False).returncode == 0
    )


def test_module_in_the_id_imports_it() -> None:
    script = 'import gymnasium; gymnasium.make("autotts_gym:AutoTTS-v0", max_branches=4).reset()'
    assert (
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=False).returncode == 0
    )


# --- what must not be played ---------------------------------------------------------------------


def test_strict_mode_refuses_and_changes_nothing(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores, max_branches=3, invalid_action="raise", render_mode="ansi")
    env.reset(seed=1)
    env.step(BRANCH)
    env.step(2)  # CONTINUE(0)
    before = pickle.dumps(env)
    illegal = np.flatnonzero(~env.action_masks())
    assert len(illegal) > 0
    for action in illegal:
        with pytest.raises(InvalidAction, match=re.escape(f"{env.describe(action)} is illegal")):
            env.step(action)
    assert pickle.dumps(env) == before


def test_penalised_action_changes_nothing_but_the_count() -> None:
    env = AutoTTSEnv(max_branches=3, invalid_penalty=0.25)
    start, _ = env.reset(seed=1)
    found, reward, terminated, truncated, info = env.step(2)
    assert same(found, start)
    assert (reward, terminated, truncated) == (-0.25, False, False)
    assert (info["invalid_action"], info["cost"]) == (True, 0.0)
    assert env.step(ANSWER)[4]["steps"] == 2


@pytest.mark.parametrize("strict", ["penalize", "raise"])
@pytest.mark.parametrize("action", [-1, 2 + 4 * 3, 10**30])
def test_ids_outside_the_space_are_refused(action: int, strict: str) -> None:
    env = AutoTTSEnv(max_branches=3, invalid_action=strict)
    env.reset()
    before = pickle.dumps(env)
    with pytest.raises(InvalidAction, match=rf"action {action} is outside Discrete\(14\)"):
        env.step(action)
    assert pickle.dumps(env) == before


def test_actions_are_integers_of_any_kind() -> None:
    env = AutoTTSEnv(max_branches=3)
    env.reset()
    for one in (1, np.int64(1), np.array(1)):
        assert not env.step(one)[4]["invalid_action"]
    for other in (1.0, "1", None, np.array([1])):
        with pytest.raises(TypeError, match="integer"):
            env.step(other)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", MAKES, ids=["class", "gym.make"])
def test_nothing_is_played_without_a_reset(make: Callable[..., gym.Env[Any, Any]]) -> None:
    env = make(max_branches=3, step_limit=3, render_mode="ansi")
    assert not env.get_wrapper_attr("action_masks")().any()
    with pytest.raises(ResetNeeded, match=r"reset()"):
        env.step(ANSWER)
    with pytest.raises(ResetNeeded, match=r"reset()"):
        env.render()
    for actions in ([ANSWER], [BRANCH, BRANCH, BRANCH]):
        env.reset()
        last = [env.step(action) for action in actions][-1]
        assert last[2:4] == (len(actions) < 3, len(actions) == 3)
        with pytest.raises(ResetNeeded, match=r"call reset\(\) before step\(\)"):
            env.step(ANSWER)
        env.render()  # how it ended may be looked at


# --- legality ------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto_probe", [False, True])
def test_masks_agree(auto_probe: bool) -> None:
    env = gym.make("AutoTTS-v0", max_branches=4, budget=1_280, auto_probe=auto_probe)
    env.action_space.seed(0)
    legal = env.get_wrapper_attr("action_masks")
    for seed in range(20):
        found, info = env.reset(seed=seed)
        over = False
        while not over:
            mask = info["action_mask"]
            assert mask.dtype == np.int8
            assert legal().dtype == np.bool_
            assert np.array_equal(mask, found["action_mask"])
            assert np.array_equal(mask, legal())
            # Gymnasium's own sampling takes the mask as it is.
            found, _, terminated, truncated, info = env.step(env.action_space.sample(mask=mask))
            assert not info["invalid_action"]
            over = terminated or truncated


def test_several_environments_keep_their_own_limits(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores, max_branches=2)
    deepest = TraceStore.open(two_stores[0]).card.depth
    for path in two_stores:
        card = TraceStore.open(path).card
        found, _ = env.reset(options={"env": path})
        assert found["plane"].shape == (2 * deepest,)
        assert (env.interval, env.depth_limit) == (card.interval, card.depth)
        env.step(BRANCH)
        steps = 0
        while env.action_masks()[2]:
            env.step(2)
            steps += 1
        assert steps == card.depth - 1
        info = env.step(ANSWER)[4]
        assert info["env"] == path
        tokens = TraceStore.open(path).question(info["question"]).branches
        assert info["tokens"] in [branch.tokens for branch in tokens]


def test_null_answers_are_known_by_class(two_stores: list[str]) -> None:
    branches = [Branch([answer], 900, "x") for answer in ("No", "7", "", "8")]
    env = AutoTTSEnv(
        TraceStore.from_branches([Question("?", "7", branches)], 500),
        max_branches=4,
        auto_probe=True,
    )
    env.reset(options={"branch_order": [0, 1, 2, 3]})
    assert not env.is_null(0)  # nothing was seen yet
    found = [env.step(BRANCH)[0] for _ in range(4)][-1]
    assert [env.is_null(c) for c in range(-1, 5)] == [False, True, False, True, False, False]
    assert found["class_null"][:4].tolist() == [1, 0, 1, 0]


def test_actions_have_names() -> None:
    env = AutoTTSEnv(max_branches=2)
    names = [env.describe(action) for action in range(10)]
    blocks = [f"{name}({i})" for name in ("CONTINUE", "PROBE", "PRUNE", "ANSWER") for i in (0, 1)]
    assert names == ["ANSWER", "BRANCH", *blocks]


# --- copies, and who owns what -------------------------------------------------------------------

COPIES = [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))]


@pytest.mark.parametrize("copied", COPIES, ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make", MAKES, ids=["class", "gym.make"])
def test_copies_continue_alike_and_alone(
    copied: Callable[[Any], Any], make: Callable[..., Any], two_stores: list[str]
) -> None:
    env = make(env=two_stores, max_branches=5, beta=(0, 1), render_mode="ansi")
    env.reset(seed=5)
    assert not list(play(env, most=20))[-1][2]
    twin, witness = copied(env), copied(env)
    mask, text = env.unwrapped.action_masks(), env.render()
    ahead = [*play(twin, seed=1), *episodes(twin)]
    # The original has not moved, and goes the same way when it does.
    assert np.array_equal(env.unwrapped.action_masks(), mask)
    assert env.render() == text
    assert same([*play(env, seed=1), *episodes(env)], ahead)
    assert env.render() == twin.render()
    assert same([*play(witness, seed=1), *episodes(witness)], ahead)


def test_copies_do_not_copy_traces(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores, max_branches=5)
    traces = env._config.dataset.traces
    twin = copy.deepcopy(env)
    assert all(a is b for a, b in zip(twin._batch.dataset.traces, traces, strict=True))
    # In another process there are others, frozen all the same: compiled code is made for those.
    twin = pickle.loads(pickle.dumps(env))
    assert not any(array.flags.writeable for array in twin._batch.dataset.traces)


def test_what_was_returned_stays_and_may_be_changed() -> None:
    env, spoiled = (AutoTTSEnv(max_branches=4, beta=(0, 1)) for _ in range(2))
    kept = [(found, copy.deepcopy(found)) for found in episodes(env, 7)]
    assert all(same(found, then) for found, then in kept)
    for (found, _), other in zip(kept, episodes(spoiled, 7), strict=True):
        assert same(other, found)
        for array in (*other[0].values(), other[-1]["action_mask"]):
            array[:] = -7


# --- determinism ---------------------------------------------------------------------------------


def test_a_seed_fixes_all_episodes(two_stores: list[str]) -> None:
    def found(seed: int) -> list[Any]:
        env = gym.make("AutoTTS-v0", env=two_stores, max_branches=5, beta=(0, 1))
        return list(episodes(env, seed))

    assert same(found(1), found(1))
    assert not same(found(1), found(2))


def test_episodes_differ_without_a_seed() -> None:
    betas = set()
    for env in (AutoTTSEnv(max_branches=4, beta=(0, 1)) for _ in range(2)):
        for _ in range(9):
            env.reset()
            betas.add(env.beta)
    assert len(betas) == 18


def test_options_fix_an_episode_whatever_the_seed(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores, max_branches=4, beta=(0, 1))
    fixed = {"env": two_stores[0], "question": 1, "beta": 0.7, "branch_order": [3, 1, 0, 5]}
    first = [env.reset(seed=1, options=fixed), *play(env)]
    assert same([env.reset(seed=2, options=fixed), *play(env)], first)
    ids = TraceStore.open(two_stores[0]).tables.ids
    assert same([env.reset(options=fixed | {"question": ids[1]}), *play(env)], first)
    info = first[-1][4]
    assert (info["env"], info["question"], info["beta"]) == (two_stores[0], 1, 0.7)
    assert first[0][0]["globals"][-1] == np.float32(0.7)


def test_a_refused_reset_leaves_the_episode_alone() -> None:
    env = AutoTTSEnv(max_branches=4)
    env.reset(seed=1)
    twin = copy.deepcopy(env)
    with pytest.raises(ValueError, match="unknown reset options"):
        env.reset(options={"quest": 3})
    assert same(list(play(env)), list(play(twin)))


# --- how an episode ends -------------------------------------------------------------------------

EVERY = {"action_mask": np.ndarray, "invalid_action": bool, "cost": float}
LAST = {
    "correct": bool,
    "answer": str,
    "gold": str,
    "tokens": int,
    "sequential_tokens": int,
    "steps": int,
    "probes": int,
    "env": str,
    "question": int,
    "beta": float,
    "accuracy_reward": float,
    "cost_reward": float,
}


@pytest.mark.parametrize("step_limit", [None, 25])
def test_info_is_complete_and_adds_up(step_limit: int | None, two_stores: list[str]) -> None:
    env = AutoTTSEnv(
        two_stores, max_branches=4, beta=(0, 1), step_limit=step_limit, invalid_penalty=0.125
    )
    ends = []
    for seed in range(30):
        _, info = env.reset(seed=seed)
        assert {key: type(value) for key, value in info.items()} == {"action_mask": np.ndarray}
        steps = list(play(env, seed))
        for _, reward, terminated, truncated, info in steps[:-1]:
            assert {key: type(value) for key, value in info.items()} == EVERY
            assert (type(reward), terminated, truncated) == (float, False, False)
        _, _, terminated, truncated, info = steps[-1]
        if not (terminated or truncated):
            continue
        assert {key: type(value) for key, value in info.items()} == EVERY | LAST
        assert (type(terminated), type(truncated)) == (bool, bool)
        assert terminated is not truncated
        ends.append((truncated, info["correct"]))
        assert info["steps"] == len(steps)
        assert info["beta"] == env.beta
        right, cost, beta = info["accuracy_reward"], info["cost_reward"], info["beta"]
        assert right == info["correct"] == (info["answer"] == info["gold"])
        assert not (truncated and right)
        assert sum(step[4]["cost"] for step in steps) == pytest.approx(-cost, abs=1e-12)
        wanted = beta * right + (1 - beta) * cost
        wanted -= 0.125 * sum(step[4]["invalid_action"] for step in steps)
        assert sum(step[1] for step in steps) == pytest.approx(wanted, abs=1e-12)
    assert (step_limit is not None, step_limit is None) in ends


# --- rendering -----------------------------------------------------------------------------------


def test_frames_keep_their_size_and_show_the_plane_to_compact_agents() -> None:
    full, compact = (
        gym.make("AutoTTS-v0", max_branches=6, observation=kind, render_mode="rgb_array")
        for kind in ("full", "compact")
    )
    frames = []
    for seed in range(3):
        full.reset(seed=seed)
        compact.reset(seed=seed)
        over = False
        while not over:
            random = Random(len(frames))
            mask = compact.get_wrapper_attr("action_masks")().tolist()
            action = random_action(random, mask)
            _, over = full.step(action), compact.step(action)[2]
            frames.append(compact.render())
            assert np.array_equal(frames[-1], full.render())
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {(frames[0].shape, "uint8")}
    assert all(size % 2 == 0 for size in frames[0].shape[:2])  # as video codecs want it
    assert len({frame.tobytes() for frame in frames}) > len(frames) / 2


def test_text_tells_how_it_went() -> None:
    env = AutoTTSEnv(max_branches=3, step_limit=2, render_mode="ansi")
    env.reset(options={"question": 4})
    texts = [env.render()]
    for action in (BRANCH, 2):
        env.step(action)
        texts.append(env.render())
    assert all(isinstance(text, str) for text in texts)
    assert f"{DEFAULT}, question 4" in texts[0]
    assert "none yet" in texts[0]
    assert "BRANCH" in texts[1]
    assert "CONTINUE(0)" in texts[2]
    assert "truncated by the step limit" in texts[2]
    # An empty answer with the last action that there is: not cut off.
    env.reset()
    env.step(BRANCH)
    env.step(ANSWER)
    assert "answered nothing: wrong" in env.render()


def test_window_is_silent_without_a_screen(capfd: pytest.CaptureFixture[str]) -> None:
    with gym.make("AutoTTS-v0", max_branches=3, render_mode="human") as env:
        env.reset(seed=0)
        list(play(env, most=20))
        assert env.render() is None
        assert len(plt.get_fignums()) == 1
        twin = copy.deepcopy(env)  # has no window until it draws
        assert len(plt.get_fignums()) == 1
        twin.render()
        assert len(plt.get_fignums()) == 2
        twin.close()
    assert not plt.get_fignums()
    env.close()  # again
    assert capfd.readouterr() == ("", "")


def test_rendering_without_a_mode_says_so() -> None:
    env = AutoTTSEnv(max_branches=3)
    env.reset()
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None
