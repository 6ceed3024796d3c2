"""Tests of the single environment: spaces, masks, copies, seeding, infos and rendering.

test_equivalence.py compares its results with the reference.
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
CONSTRUCTORS = [AutoTTSEnv, partial(gym.make, "AutoTTS-v0")]


def random_steps(env: gym.Env[Any, Any], seed: int = 0, max_steps: int = 300) -> Iterator[Any]:
    """Continue the episode with at most ``max_steps`` random actions, most of them legal."""
    random = Random(seed)
    for _ in range(max_steps):
        step = env.step(random_action(random, env.get_wrapper_attr("action_masks")().tolist()))
        yield step
        if step[2] or step[3]:
            return


def two_episodes(env: gym.Env[Any, Any], seed: int | None = None) -> Iterator[Any]:
    """Results of two consecutive episodes; the second continues with the generator of the first."""
    yield env.reset(seed=seed)
    yield from random_steps(env)
    yield env.reset()
    yield from random_steps(env, 1)


def same(actual: Any, expected: Any) -> bool:
    return data_equivalence(actual, expected, exact=True)


# --- environment checkers and registration -------------------------------------------------------

CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "compact": {"observation": "compact"},
    "conditioned": {"beta": (0.2, 0.8), "max_branches": 8},
    "cost only": {"beta": 0, "max_branches": 8, "billing": "interval"},
    "budget": {"budget": 640, "max_branches": 8, "probe_tokens": 1},
    "zero budget": {"budget": 0, "max_branches": 2},
    "auto-probe": {"auto_probe": True, "max_branches": 8},
    "few columns": {"max_depth": 2, "max_classes": 1, "max_branches": 8},
    "many columns": {"max_depth": 200, "max_classes": 500, "max_branches": 8},
    "one branch": {"max_branches": 1},
    "step limit": {"step_limit": 2, "max_branches": 8},  # checkers need a second step
    "two stores": {"env": ["deep", "shallow"], "max_branches": 5},
    "two stores, compact": {
        "env": ["deep", "shallow"],
        "max_branches": 5,
        "observation": "compact",
    },
    "confidences": {"env": ["shallow"], "max_branches": 5, "probe_tokens": "recorded"},
}


@pytest.mark.slow
@pytest.mark.parametrize("check", [check_env, check_for_sb3], ids=["gymnasium", "sb3"])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_environment_checkers_pass(
    check: Callable[[Any], None], config: dict[str, Any], two_stores: list[str]
) -> None:
    # Warnings are errors. With a spec, the checkers also check all render modes.
    if "env" in config:
        folders = {path.rpartition("/")[2]: path for path in two_stores}
        config = config | {"env": [folders[name] for name in config["env"]]}
    check(gym.make("AutoTTS-v0", render_mode="rgb_array", **config).unwrapped)


def test_spec_round_trips_through_json(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = {"env": [DEFAULT], "beta": (0.2, 0.8), "max_branches": 4, "budget": 960}
    env = gym.make("AutoTTS-v0", **arguments)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    assert same(list(two_episodes(env, 3)), list(two_episodes(again, 3)))
    env.spec.pprint()
    assert "id=AutoTTS-v0" in capsys.readouterr().out


def test_keyword_arguments_are_applied(two_stores: list[str]) -> None:
    arguments = {"max_branches": 3, "budget": 9_000, "auto_probe": True, "beta": 0.25}
    env = gym.make("AutoTTS-v0", env=two_stores[1], **arguments).unwrapped
    env.reset()
    assert {name: getattr(env, name) for name in arguments} == arguments
    card = TraceStore.open(two_stores[1]).card
    assert (env.interval, env.depth_limit) == (card.interval, card.depth)


@pytest.mark.parametrize("mode", ["video", "rgb_array_list", 1])
def test_invalid_render_mode_is_rejected(mode: Any) -> None:
    with pytest.raises(ValueError, match=r"render_mode must be one of \['human', "):
        AutoTTSEnv(render_mode=mode)


@pytest.mark.slow
def test_import_loads_no_slow_modules() -> None:
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


@pytest.mark.slow
def test_environment_id_with_module() -> None:
    script = 'import gymnasium; gymnasium.make("autotts_gym:AutoTTS-v0", max_branches=4).reset()'
    assert (
        subprocess.run([sys.executable, "-W", "error", "-c", script], check=False).returncode == 0
    )


# --- invalid actions -----------------------------------------------------------------------------


def test_strict_mode_raises_and_changes_nothing(two_stores: list[str]) -> None:
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


def test_penalized_action_changes_only_the_step_count() -> None:
    env = AutoTTSEnv(max_branches=3, invalid_penalty=0.25)
    start, _ = env.reset(seed=1)
    observation, reward, terminated, truncated, info = env.step(2)
    assert same(observation, start)
    assert (reward, terminated, truncated) == (-0.25, False, False)
    assert (info["invalid_action"], info["cost"]) == (True, 0.0)
    assert env.step(ANSWER)[4]["steps"] == 2


@pytest.mark.parametrize("strict", ["penalize", "raise"])
@pytest.mark.parametrize("action", [-1, 2 + 4 * 3, 10**30])
def test_actions_outside_the_space_are_rejected(action: int, strict: str) -> None:
    env = AutoTTSEnv(max_branches=3, invalid_action=strict)
    env.reset()
    before = pickle.dumps(env)
    with pytest.raises(InvalidAction, match=rf"action {action} is outside Discrete\(14\)"):
        env.step(action)
    assert pickle.dumps(env) == before


def test_actions_may_be_any_integer_type() -> None:
    env = AutoTTSEnv(max_branches=3)
    env.reset()
    for action in (1, np.int64(1), np.array(1)):
        assert not env.step(action)[4]["invalid_action"]
    for not_integer in (1.0, "1", None, np.array([1])):
        with pytest.raises(TypeError, match="integer"):
            env.step(not_integer)  # type: ignore[arg-type]


@pytest.mark.parametrize("make", CONSTRUCTORS, ids=["class", "gym.make"])
def test_step_and_render_need_a_reset(make: Callable[..., gym.Env[Any, Any]]) -> None:
    env = make(max_branches=3, step_limit=3, render_mode="ansi")
    with pytest.raises(ResetNeeded, match=r"call reset\(\) before action_masks\(\)"):
        env.get_wrapper_attr("action_masks")()
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
        env.render()  # rendering still works after the end


# --- legality ------------------------------------------------------------------------------------


@pytest.mark.parametrize("auto_probe", [False, True])
def test_masks_agree(auto_probe: bool) -> None:
    env = gym.make("AutoTTS-v0", max_branches=4, budget=1_280, auto_probe=auto_probe)
    env.action_space.seed(0)
    legal = env.get_wrapper_attr("action_masks")
    for seed in range(20):
        observation, info = env.reset(seed=seed)
        done = False
        while not done:
            mask = info["action_mask"]
            assert mask.dtype == np.int8
            assert legal().dtype == np.bool_
            assert np.array_equal(mask, observation["action_mask"])
            assert np.array_equal(mask, legal())
            # Gymnasium's sampling accepts the mask.
            observation, _, terminated, truncated, info = env.step(
                env.action_space.sample(mask=mask)
            )
            assert not info["invalid_action"]
            done = terminated or truncated


def test_each_store_keeps_its_depth_limit(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores, max_branches=2)
    deepest = TraceStore.open(two_stores[0]).card.depth
    for path in two_stores:
        card = TraceStore.open(path).card
        observation, _ = env.reset(options={"env": path})
        assert observation["plane"].shape == (2 * deepest,)
        assert (env.interval, env.depth_limit) == (card.interval, card.depth)
        env.step(BRANCH)
        steps = 0
        while env.action_masks()[2]:
            env.step(2)
            steps += 1
        assert steps == card.depth - 1
        info = env.step(ANSWER)[4]
        assert info["env_index"] == two_stores.index(path)
        tokens = TraceStore.open(path).question(info["question"]).branches
        assert info["tokens"] in [branch.tokens for branch in tokens]


def test_is_null_by_answer_class(two_stores: list[str]) -> None:
    branches = [Branch([answer], 900, "x") for answer in ("No", "7", "", "8")]
    env = AutoTTSEnv(
        TraceStore.from_branches([Question("?", "7", branches)], 500),
        max_branches=4,
        auto_probe=True,
    )
    env.reset(options={"branch_order": [0, 1, 2, 3]})
    assert not env.is_null(0)  # no answer is revealed yet
    observation = [env.step(BRANCH)[0] for _ in range(4)][-1]
    assert [env.is_null(c) for c in range(-1, 5)] == [False, True, False, True, False, False]
    assert observation["class_null"][:4].tolist() == [1, 0, 1, 0]


def test_describe_names_actions() -> None:
    env = AutoTTSEnv(max_branches=2)
    names = [env.describe(action) for action in range(10)]
    blocks = [f"{name}({i})" for name in ("CONTINUE", "PROBE", "PRUNE", "ANSWER") for i in (0, 1)]
    assert names == ["ANSWER", "BRANCH", *blocks]


# --- copies and ownership of arrays --------------------------------------------------------------

COPIES = [copy.deepcopy, lambda env: pickle.loads(pickle.dumps(env))]


@pytest.mark.parametrize("make_copy", COPIES, ids=["deepcopy", "pickle"])
@pytest.mark.parametrize("make", CONSTRUCTORS, ids=["class", "gym.make"])
def test_copies_continue_equally_and_independently(
    make_copy: Callable[[Any], Any], make: Callable[..., Any], two_stores: list[str]
) -> None:
    env = make(env=two_stores, max_branches=5, beta=(0, 1), render_mode="ansi")
    env.reset(seed=5)
    assert not list(random_steps(env, max_steps=20))[-1][2]
    twin, witness = make_copy(env), make_copy(env)
    mask, text = env.unwrapped.action_masks(), env.render()
    continuation = [*random_steps(twin, seed=1), *two_episodes(twin)]
    # The original is unchanged, and continues equally.
    assert np.array_equal(env.unwrapped.action_masks(), mask)
    assert env.render() == text
    assert same([*random_steps(env, seed=1), *two_episodes(env)], continuation)
    assert env.render() == twin.render()
    assert same([*random_steps(witness, seed=1), *two_episodes(witness)], continuation)


def test_copies_share_traces(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores, max_branches=5)
    traces = env._config.dataset.traces
    twin = copy.deepcopy(env)
    assert all(a is b for a, b in zip(twin._batch.dataset.traces, traces, strict=True))
    # Unpickled traces are read-only as well, because compiled code requires read-only arrays.
    twin = pickle.loads(pickle.dumps(env))
    assert not any(array.flags.writeable for array in twin._batch.dataset.traces)


def test_returned_arrays_are_independent_of_the_environment() -> None:
    env, modified = (AutoTTSEnv(max_branches=4, beta=(0, 1)) for _ in range(2))
    results = [(result, copy.deepcopy(result)) for result in two_episodes(env, 7)]
    assert all(same(result, original) for result, original in results)
    for (result, _), other in zip(results, two_episodes(modified, 7), strict=True):
        assert same(other, result)
        for array in (*other[0].values(), other[-1]["action_mask"]):
            array[:] = -7


# --- determinism ---------------------------------------------------------------------------------


GENERATION_KEYS = "branch_generation_confidence", "generation_confidence_plane"


def test_traces_without_generation_confidences_show_none() -> None:
    env = AutoTTSEnv("synthetic-aime24", max_branches=3)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(BRANCH)
    assert not env.has_generation_confidence
    assert env.generation_confidence(0) == env.lowest_confidence(0, 2) == -1
    for key in GENERATION_KEYS:
        assert (second[key] == -1).all()
        assert second[key].flags.writeable
        assert not np.shares_memory(first[key], second[key])
        assert second[key] in env.observation_space[key]


def test_probes_reveal_generation_confidences(two_stores: list[str]) -> None:
    """All intervals up to the probe, and those of no other store or branch."""
    env = AutoTTSEnv(two_stores, max_branches=3, max_depth=4)
    order = [4, 2, 0]
    options = {"env": two_stores[1], "question": 1, "branch_order": order}
    env.reset(options=options)
    traces = TraceStore.open(two_stores[1])[1].branches[2]
    sums, tokens = traces.confidence_sums, traces.confidence_tokens
    assert sums is not None
    assert tokens is not None
    for action in (BRANCH, BRANCH, 2 + 1, 2 + 1):  # three intervals of branch 1, not probed
        observation, *_ = env.step(action)
        for key in GENERATION_KEYS:
            assert (observation[key] == -1).all()
            assert observation[key].flags.writeable
    observation, *_ = env.step(2 + 3 + 1)
    means = [s / t for s, t in zip(sums[:3], tokens[:3], strict=True)]
    plane = observation["generation_confidence_plane"].reshape(3, 4)
    np.testing.assert_allclose(plane[1], [*means, -1], rtol=1e-6)
    assert (plane[[0, 2]] == -1).all()
    assert observation["branch_generation_confidence"].tolist() == [-1, plane[1, 2], -1]
    assert env.generation_confidence(1, 2) == sum(sums[1:3]) / sum(tokens[1:3])
    assert env.lowest_confidence(1, 1) == min(means)
    assert env.generation_confidence(0) == -1
    with pytest.raises(ValueError, match="window must be at least 0"):
        env.generation_confidence(1, -1)
    # The other store of the same environment records none.
    env.reset(options=options | {"env": two_stores[0]})
    assert not env.has_generation_confidence
    env.step(BRANCH)
    observation, *_ = env.step(2 + 3)
    assert env.generation_confidence(0) == -1
    assert all((observation[key] == -1).all() for key in GENERATION_KEYS)


def test_automatic_probes_reveal_generation_confidences(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores[1], max_branches=1, auto_probe=True, observation="compact")
    env.reset(seed=0, options={"question": 0})
    for action in (BRANCH, 2, 2):
        observation, *_ = env.step(action)
        known = env.generation_confidence(0, 1)
        assert known > 0
        assert observation["branch_generation_confidence"].tolist() == [np.float32(known)]
    assert "generation_confidence_plane" not in observation


def test_seed_determines_all_episodes(two_stores: list[str]) -> None:
    def run(seed: int) -> list[Any]:
        env = gym.make("AutoTTS-v0", env=two_stores, max_branches=5, beta=(0, 1))
        return list(two_episodes(env, seed))

    assert same(run(1), run(1))
    assert not same(run(1), run(2))


def test_episodes_differ_without_a_seed() -> None:
    betas = set()
    for env in (AutoTTSEnv(max_branches=4, beta=(0, 1)) for _ in range(2)):
        for _ in range(9):
            env.reset()
            betas.add(env.beta)
    assert len(betas) == 18


def test_options_select_an_episode_regardless_of_the_seed(two_stores: list[str]) -> None:
    env = AutoTTSEnv(two_stores, max_branches=4, beta=(0, 1))
    fixed = {"env": two_stores[0], "question": 1, "beta": 0.7, "branch_order": [3, 1, 0, 5]}
    first = [env.reset(seed=1, options=fixed), *random_steps(env)]
    assert same([env.reset(seed=2, options=fixed), *random_steps(env)], first)
    ids = TraceStore.open(two_stores[0]).tables.ids
    assert same([env.reset(options=fixed | {"question": ids[1]}), *random_steps(env)], first)
    info = first[-1][4]
    assert (info["env_index"], info["question"], info["beta"]) == (0, 1, 0.7)
    assert first[0][0]["globals"][-1] == np.float32(0.7)


def test_rejected_reset_leaves_the_episode_unchanged() -> None:
    env = AutoTTSEnv(max_branches=4)
    env.reset(seed=1)
    twin = copy.deepcopy(env)
    with pytest.raises(ValueError, match="unknown reset options"):
        env.reset(options={"quest": 3})
    assert same(list(random_steps(env)), list(random_steps(twin)))


# --- info at each step ---------------------------------------------------------------------------

INFO: dict[str, type] = {
    "action_mask": np.ndarray,
    "invalid_action": np.int8,
    "cost": np.float64,
    "token_cost": np.float64,
    "latency_cost": np.float64,
    "beta": np.float64,
    "latency_weight": np.float64,
    "correct": np.int8,
    "has_gold": np.int8,
    "answer_class": np.int64,
    "tokens": np.int64,
    "sequential_tokens": np.int64,
    "steps": np.int64,
    "probes": np.int64,
    "env_index": np.int64,
    "question": np.int64,
    "accuracy_reward": np.float64,
    "cost_reward": np.float64,
    "token_reward": np.float64,
    "latency_reward": np.float64,
}
STRINGS: dict[str, type] = {"answer": str, "gold": str, "env": str}


def types_of(info: dict[str, Any]) -> dict[str, type]:
    return {key: type(value) for key, value in info.items()}


def test_strings_in_info_are_optional() -> None:
    env, plain = (AutoTTSEnv(max_branches=4, info_strings=strings) for strings in (True, False))
    infos: list[Any] = [env.reset(seed=2)[1]]
    others = [plain.reset(seed=2)[1]]
    for action in (BRANCH, 2 + 4, ANSWER):  # the second one probes
        infos.append(env.step(action)[4])
        others.append(plain.step(action)[4])
    for info, other in zip(infos, others, strict=True):
        assert types_of(info) == INFO | STRINGS
        assert types_of(other) == INFO
        assert all(np.array_equal(info[key], other[key]) for key in INFO)
    assert [infos[2][key] for key in STRINGS] == [""] * 3  # nothing hidden before the end
    last = infos[-1]
    assert last["answer"] == plain.answer_text(last["answer_class"]) != ""
    assert last["env"] == DEFAULT
    with pytest.raises(ValueError, match="info_strings must be True or False, got 'answer'"):
        AutoTTSEnv(info_strings="answer")  # type: ignore[arg-type]


def test_masks_are_arrays_of_their_own() -> None:
    env = AutoTTSEnv(max_branches=4)
    results: list[Any] = [env.reset(seed=0), env.step(BRANCH)]
    for result in results:
        observation, info = result[0], result[-1]
        before = observation["action_mask"].copy()
        info["action_mask"][:] = 7
        assert np.array_equal(observation["action_mask"], before)
    assert env.action_masks().sum() < 18


@pytest.mark.parametrize("step_limit", [None, 25])
def test_info_is_complete_and_consistent(step_limit: int | None, two_stores: list[str]) -> None:
    env = AutoTTSEnv(
        two_stores,
        max_branches=4,
        beta=(0, 1),
        step_limit=step_limit,
        invalid_penalty=0.125,
        info_strings=True,
    )
    ends = []
    for seed in range(30):
        _, info = env.reset(seed=seed)
        initial = info
        assert types_of(info) == INFO | STRINGS
        steps = list(random_steps(env, seed))
        for _, reward, terminated, truncated, info in steps[:-1]:
            assert types_of(info) == INFO | STRINGS
            # The result is hidden until the end.
            costs = {"cost", "token_cost", "latency_cost"}
            hidden = info.keys() - {"action_mask", "invalid_action"} - costs
            assert {key: info[key] for key in hidden} == {key: initial[key] for key in hidden}
            assert (type(reward), terminated, truncated) == (float, False, False)
        _, _, terminated, truncated, info = steps[-1]
        if not (terminated or truncated):
            continue
        assert types_of(info) == INFO | STRINGS
        assert (type(terminated), type(truncated)) == (bool, bool)
        assert terminated is not truncated
        ends.append((truncated, bool(info["correct"])))
        assert info["steps"] == len(steps)
        assert info["beta"] == env.beta
        correct, cost, beta = info["accuracy_reward"], info["cost_reward"], info["beta"]
        assert correct == info["correct"] == (info["answer"] == info["gold"])
        assert not (truncated and correct)
        assert sum(step[4]["cost"] for step in steps) == pytest.approx(-cost, abs=1e-12)
        expected = beta * correct + (1 - beta) * cost
        expected -= 0.125 * sum(step[4]["invalid_action"] for step in steps)
        assert sum(step[1] for step in steps) == pytest.approx(expected, abs=1e-12)
    assert (step_limit is not None, step_limit is None) in ends


# --- rendering -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_frames_have_a_fixed_size_and_do_not_depend_on_the_observation() -> None:
    full, compact = (
        gym.make("AutoTTS-v0", max_branches=6, observation=kind, render_mode="rgb_array")
        for kind in ("full", "compact")
    )
    frames = []
    for seed in range(3):
        full.reset(seed=seed)
        compact.reset(seed=seed)
        done = False
        while not done:
            random = Random(len(frames))
            mask = compact.get_wrapper_attr("action_masks")().tolist()
            action = random_action(random, mask)
            _, done = full.step(action), compact.step(action)[2]
            frames.append(compact.render())
            assert np.array_equal(frames[-1], full.render())
    assert {(frame.shape, frame.dtype.name) for frame in frames} == {(frames[0].shape, "uint8")}
    assert all(size % 2 == 0 for size in frames[0].shape[:2])  # video codecs need even sizes
    assert len({frame.tobytes() for frame in frames}) > len(frames) / 2


def test_ansi_rendering_describes_the_episode() -> None:
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
    # An answer in the last allowed step terminates the episode, without truncation.
    env.reset()
    env.step(BRANCH)
    env.step(ANSWER)
    assert "answered nothing: wrong" in env.render()


def test_human_rendering_without_a_display(capfd: pytest.CaptureFixture[str]) -> None:
    with gym.make("AutoTTS-v0", max_branches=3, render_mode="human") as env:
        env.reset(seed=0)
        list(random_steps(env, max_steps=20))
        assert env.render() is None
        assert len(plt.get_fignums()) == 1
        twin = copy.deepcopy(env)  # a copy has no window before its first render
        assert len(plt.get_fignums()) == 1
        twin.render()
        assert len(plt.get_fignums()) == 2
        twin.close()
    assert not plt.get_fignums()
    env.close()  # a second close has no effect
    assert capfd.readouterr() == ("", "")


def test_rendering_without_a_render_mode_warns() -> None:
    env = AutoTTSEnv(max_branches=3)
    env.reset()
    with pytest.warns(UserWarning, match="render mode"):
        assert env.render() is None


def test_np_random_gives_the_key_of_the_episodes() -> None:
    """A seed, or another generator, starts the episodes anew; draws from the generator do not."""

    def betas(env: AutoTTSEnv, count: int = 3) -> list[float]:
        return [float(env.reset()[1]["beta"]) for _ in range(count)]

    env, other = (AutoTTSEnv(max_branches=3, beta=(0, 1)) for _ in range(2))
    first = float(env.reset(seed=5)[1]["beta"])
    following = betas(env)
    assert len({first, *following}) == 4
    other.np_random = np.random.default_rng(5)
    assert other.np_random_seed == -1
    assert betas(other, 1) == [first]
    other.np_random.random(7)
    assert betas(other) == following
    other.np_random = np.random.default_rng(6)
    assert not {first, *following} & {*betas(other)}
    # Other generators than Gymnasium's work as well.
    for each in (env, other):
        each.np_random = np.random.Generator(np.random.MT19937(1))
    assert betas(env) == betas(other)
    assert env.reset(seed=5)[1]["beta"] == first
    # Options change no later draw.
    env.reset(options={"beta": 0.5, "question": 3, "branch_order": [4, 2, 0]})
    assert betas(env, 2) == following[1:]


def test_functions_draw_from_np_random() -> None:
    env = AutoTTSEnv(max_branches=3, beta=lambda rng: rng.random())
    first = [env.reset(seed=5)[1]["beta"], env.reset()[1]["beta"]]
    assert first[0] != first[1]
    assert [env.reset(seed=5)[1]["beta"], env.reset()[1]["beta"]] == first
    # The rest of an episode is drawn as without a function.
    plain = AutoTTSEnv(max_branches=3)
    for seed in (5, None):
        env.reset(seed=seed)
        plain.reset(seed=seed)
        assert np.array_equal(env._batch.order, plain._batch.order)
