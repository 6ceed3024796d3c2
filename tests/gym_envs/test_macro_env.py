"""Macro-actions: the wrapper and the compiled vector environment play the same episodes."""

from __future__ import annotations

import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import with_generation

import autotts_gym  # noqa: F401 - registers
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.macro_env import MacroActions, MacroEnv, MacroVectorEnv
from autotts_gym.gym_envs.wrappers import MultiObjective
from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp.macro_features import BRANCH_FEATURE_NAMES
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=6, branches=12, seed=3)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"budget": 60_000},
    {"billing": "interval", "probe_tokens": 7},
    {"step_limit": 40},
    {"budget": 30_000, "probe_tokens": 100},
]


class Recorder(gym.Wrapper[Any, Any, Any, Any]):
    """Records (action, reward, info) of every step."""

    def reset(self, **arguments: Any) -> Any:
        self.played: list[tuple[int, float, dict[str, Any]]] = []
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self.observation = result[0]
        self.played.append((action, result[1], dict(result[4])))
        return result


def choose(mask: np.ndarray, rng: np.random.Generator) -> int:
    """A random macro-action; answers and illegal ones are rare."""
    if rng.random() < 0.05:
        return int(rng.integers(len(mask)))
    chances = mask.astype(float)
    is_macro = len(mask) == d.NUM_MACRO_ACTIONS
    answers = range(d.WIDEN_1) if is_macro else range(2 + 3 * 12, 50)
    chances[[d.ANSWER, *answers]] *= 0.02
    return int(rng.choice(len(mask), p=chances / chances.sum()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(OPTIONS), st.booleans(), st.booleans())
def test_single_and_vector_environment_are_the_same(
    store: TraceStore, seed: int, options: dict[str, Any], atomic: bool, generation: bool
) -> None:
    if generation:
        store = with_generation(store)
    recorder = Recorder(AutoTTSEnv(store, max_branches=12, beta=(0.0, 1.0), **options))
    env = MacroActions(recorder, atomic=atomic)
    envs = MacroVectorEnv(
        1,
        store,
        atomic=atomic,
        max_branches=12,
        beta=(0.0, 1.0),
        autoreset_mode=AutoresetMode.DISABLED,
        **options,
    )
    single = MacroEnv(store, atomic=atomic, max_branches=12, beta=(0.0, 1.0), **options)
    rng = np.random.default_rng(seed)
    one, info = env.reset(seed=seed % 1000)
    assert data_equivalence(single.reset(seed=seed % 1000), (one, info), exact=True)
    many, _ = envs.reset(seed=seed % 1000)
    seen = np.full(12, -1, np.float32)
    while True:
        assert np.array_equal(one["branch_generation_confidence"], seen)
        assert one.keys() == many.keys()
        for key, value in one.items():
            assert np.array_equal(value, many[key][0]), key
        assert env.observation_space.contains(one)
        macro_action = choose(one["action_mask"], rng)
        legal = bool(one["action_mask"][macro_action])
        before = len(recorder.played)
        one, reward, terminated, truncated, info = result = env.step(macro_action)
        assert data_equivalence(single.step(macro_action), result, exact=True)
        assert np.array_equal(single.action_masks(), env.action_masks())
        many, rewards, over, cut, infos = envs.step(np.array([macro_action]))
        part = recorder.played[before:]
        seen = recorder.observation["branch_generation_confidence"]
        assert generation or (seen == -1).all()
        # Reward and cost are sums over the bundle, which has an illegal action only if the
        # macro-action is illegal.
        assert reward == rewards[0] == sum(gain for _, gain, _ in part)
        assert info["cost"] == sum(found["cost"] for _, _, found in part)
        assert [found["invalid_action"] for _, _, found in part] == [not legal] * len(part)
        assert part
        assert (terminated, truncated) == (over[0], cut[0])
        assert info["invalid_action"] != legal
        assert {f"_{key}" for key in info} | info.keys() == infos.keys()
        for key in info.keys() - {"action_mask"}:
            assert info[key] == infos[key][0], key
            assert info[key].dtype == infos[key].dtype, key
        if terminated or truncated:
            break


def test_features_that_did_not_change_are_those_of_an_unknown_branch(store: TraceStore) -> None:
    """Features of branches that did not change are kept; the second batch writes all anew."""
    envs, anew = (MacroVectorEnv(16, store, max_branches=12) for _ in range(2))
    rng = np.random.default_rng(0)
    observation, _ = envs.reset(seed=0)
    anew.reset(seed=0)
    for _ in range(200):
        actions = np.array([choose(mask, rng) for mask in observation["action_mask"]])
        opened = np.arange(12) < anew.batch.ledger["opened"][:, None]
        anew.batch.arrays.macro.branch_memory["requested"][opened] = -1
        anew.batch.branch_features[opened] = np.nan
        observation, *_ = envs.step(actions)
        other, *_ = anew.step(actions)
        for key, array in observation.items():
            assert np.array_equal(array, other[key]), key


def test_episodes_equal_those_of_their_single_actions(store: TraceStore) -> None:
    """Replaying the recorded actions in AutoTTS-v0 gives the same return."""
    recorder = Recorder(AutoTTSEnv(store, max_branches=12))
    env, plain = MacroActions(recorder), AutoTTSEnv(store, max_branches=12)
    rng = np.random.default_rng(0)
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        plain.reset(seed=seed)
        total, over, info = 0.0, False, {}
        while not over:
            observation, reward, over, _, info = env.step(choose(observation["action_mask"], rng))
            total += reward
        again = [plain.step(action) for action, _, _ in recorder.played]
        assert again[-1][4]["tokens"] == info["tokens"]
        assert sum(result[1] for result in again) == pytest.approx(total, abs=1e-12)
        assert again[-1][2]


def test_dissent_counts_probes() -> None:
    """Each probe of a branch counts once, however often other branches are probed."""
    a = Branch(["7"] * 9, 1000, "7")
    b = Branch(["5"] * 9, 1000, "5")
    store = TraceStore.from_branches([Question("?", gold="5", branches=[a, a, b, b])], interval=100)
    env = MacroActions(AutoTTSEnv(store, max_branches=4))
    env.reset(seed=0, options={"branch_order": [0, 1, 2, 3]})
    dissent, unprobed = map(BRANCH_FEATURE_NAMES.index, ("dissent", "unprobed"))

    def dissents(name: str) -> list[float]:
        observation, *_ = env.step(d.NAMES.index(name))
        assert not observation["branches"][:, unprobed].any()
        return (observation["branches"][:, dissent] * 8).tolist()

    dissents("WIDEN_2")
    assert dissents("WIDEN_1") == [0, 0, 1, 0]
    assert dissents("DEEPEN_LEADERS_4") == [0, 0, 1, 0]
    assert dissents("DEEPEN_1") == [0, 0, 2, 0]
    single = MacroActions(AutoTTSEnv(store, max_branches=4), atomic=True)
    single.reset(seed=0, options={"branch_order": [0, 1, 2, 3]})
    observation, *_ = single.step(1)
    assert observation["branches"][0, unprobed] == pytest.approx(0.1)
    observation, *_ = single.step(2 + 4)
    assert observation["branches"][0, unprobed] == 0


def test_each_bundle(store: TraceStore) -> None:
    recorder = Recorder(AutoTTSEnv(store, max_branches=12))
    env = MacroActions(recorder)
    observation, _ = env.reset(seed=1)
    assert observation["action_mask"].tolist() == [1] * 7 + [0] * 8

    def names(macro_action: str) -> list[str]:
        recorder.played.clear()
        env.step(d.NAMES.index(macro_action))
        return [recorder.unwrapped.describe(action) for action, _, _ in recorder.played]  # type: ignore[attr-defined]

    assert names("WIDEN_2") == ["BRANCH", "BRANCH", "PROBE(0)", "PROBE(1)"]
    assert names("DEEPEN_1") == ["CONTINUE(0)", "CONTINUE(1)", "PROBE(0)", "PROBE(1)"]
    assert names("WIDEN_1") == ["BRANCH", "PROBE(2)"]
    assert names("DEEPEN_YOUNGEST_4") == ["CONTINUE(2)"] * 4 + ["PROBE(2)"]
    assert names("DEEPEN_OLDEST_4") == [
        *["CONTINUE(2)"] * 4,
        *["CONTINUE(0)"] * 4,
        "PROBE(2)",
        "PROBE(0)",
    ]
    assert names("PRUNE_OLDEST") == ["PRUNE(2)"]
    read = names("READ")
    target = int(np.ceil(d.READ_LENGTH * env.unwrapped.mean_length))  # type: ignore[attr-defined]
    assert read.count("CONTINUE(0)") == target - 6
    assert read.count("CONTINUE(1)") == target - 2
    assert read[-2:] == ["PROBE(0)", "PROBE(1)"]
    assert names("WIDEN_8")[-1] == "PROBE(10)"
    assert names("WIDEN_8") == ["BRANCH", "PROBE(11)"]  # one branch is left
    assert names("ANSWER") == ["ANSWER"]


def test_weighted_vote_prefers_short_branches() -> None:
    """One short branch outvotes two long ones, and a null answer does not vote."""
    long = Branch(["7"] * 9, 1000, "7")
    short = Branch([], 50, "5")
    null = Branch([], 50, "")
    store = TraceStore.from_branches(
        [Question("?", gold="5", branches=[null, long, long, short])], interval=100
    )
    env = MacroActions(AutoTTSEnv(store, max_branches=4))
    for macro_action, correct in (
        ("ANSWER", False),
        ("ANSWER_FINISHED", False),
        ("ANSWER_WEIGHTED", True),
    ):
        env.reset(seed=0, options={"branch_order": [0, 1, 2, 3]})
        for name in ("WIDEN_4", *["DEEPEN_4"] * 3):
            env.step(d.NAMES.index(name))
        *_, info = env.step(d.NAMES.index(macro_action))
        assert info["correct"] == correct, macro_action


def test_is_registered_and_passes_the_checker(store: TraceStore) -> None:
    env = gym.make("AutoTTS-Decisions-v0", disable_env_checker=True)
    assert env.action_space == gym.spaces.Discrete(d.NUM_MACRO_ACTIONS)
    with pytest.raises(gym.error.ResetNeeded, match="before action_masks"):
        env.get_wrapper_attr("action_masks")()
    env.reset(seed=0)
    assert env.get_wrapper_attr("action_masks")().dtype == np.bool_
    assert isinstance(env.unwrapped, MacroEnv)
    assert env.unwrapped.describe(3) == d.NAMES[3] == "WIDEN_1"
    check_env(env.unwrapped)
    envs = gym.make_vec("AutoTTS-Decisions-v0", num_envs=3, vectorization_mode="vector_entry_point")
    observation, _ = envs.reset(seed=0)
    assert envs.observation_space.contains(observation)


def test_multi_objective_wrapper(store: TraceStore) -> None:
    env = MultiObjective(MacroActions(AutoTTSEnv(store, max_branches=12)))
    env.reset(seed=0)
    env.step(d.WIDEN_1)
    _, reward, *_ = env.step(d.ANSWER)
    assert reward.shape == (2,)


def test_invalid_arguments(store: TraceStore) -> None:
    with pytest.raises(ValueError, match="auto_probe=False"):
        MacroActions(AutoTTSEnv(store, max_branches=12, auto_probe=True))
    with pytest.raises(ValueError, match="auto_probe=False"):
        MacroVectorEnv(2, store, max_branches=12, auto_probe=True)
    for other in ("CartPole-v1", "AutoTTS-Decisions-v0"):
        with pytest.raises(TypeError, match="not <"):
            MacroActions(gym.make(other))
    env = MacroActions(AutoTTSEnv(store, max_branches=12))
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="action 15 is outside"):
        env.step(15)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize(
    ("action", "error", "message"),
    [
        (15, gym.error.InvalidAction, "action 15 is outside"),
        (-1, gym.error.InvalidAction, "action -1 is outside"),
        (3.7, TypeError, "integer"),
        (np.array([3]), TypeError, "integer"),
    ],
)
def test_rejected_actions_change_nothing(
    store: TraceStore, wrapped: bool, action: Any, error: type[Exception], message: str
) -> None:
    env = MacroActions(AutoTTSEnv(store)) if wrapped else MacroEnv(store)
    env.reset(seed=0)
    with pytest.raises(error, match=message):
        env.step(action)
    assert env.step(np.int64(d.ANSWER))[4]["steps"] == 1


def test_strict_actions(store: TraceStore) -> None:
    env = MacroEnv(store, invalid_action="raise")
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="READ is illegal here"):
        env.step(d.READ)


@pytest.mark.parametrize("atomic", [True, False])
def test_rendering_shows_the_same_as_the_wrapper(store: TraceStore, atomic: bool) -> None:
    wrapper = MacroActions(AutoTTSEnv(store, max_branches=12, render_mode="ansi"), atomic=atomic)
    single = MacroEnv(store, max_branches=12, atomic=atomic, render_mode="ansi")
    vector = MacroVectorEnv(1, store, max_branches=12, atomic=atomic, render_mode="ansi")
    rng = np.random.default_rng(1)
    observation, _ = wrapper.reset(seed=0)
    single.reset(seed=0)
    vector.reset(seed=0)
    for _ in range(30):
        legal = observation["action_mask"].copy()
        legal[: 1 if atomic else d.WIDEN_1] = 0
        legal[2 + 3 * 12 :] = 0  # no answers
        if not legal.any():
            break
        action = int(rng.choice(np.flatnonzero(legal)))
        observation, *_ = wrapper.step(action)
        single.step(action)
        vector.step(np.array([action]))
        assert (single.render(),) == vector.render()
        assert single.describe(action) in str(single.render())
        scenes = [env.unwrapped.scene() for env in (wrapper, single)]  # type: ignore[attr-defined]
        assert np.array_equal(scenes[0].plane, scenes[1].plane)


def test_lists_of_frames(store: TraceStore) -> None:
    env = gym.make("AutoTTS-Decisions-v0", env="tinylm/medium/chain", render_mode="rgb_array_list")
    env.reset(seed=0)
    env.step(d.WIDEN_4)
    frames: Any = env.render()
    assert len(frames) == 2
    assert frames[0].dtype == np.uint8


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", ["AutoTTS-v0", "AutoTTS-Decisions-v0"])
def test_max_episode_steps_means_the_same_everywhere(name: str, mode: AutoresetMode) -> None:
    config: dict[str, Any] = {"env": "tinylm/medium/chain", "max_branches": 12}
    envs: list[Any] = [
        gym.make_vec(
            name,
            3,
            max_episode_steps=2,
            vectorization_mode=kind,
            **({"vector_kwargs": {"autoreset_mode": mode}} if kind == "sync" else {}),
            **({} if kind == "sync" else {"autoreset_mode": mode}),
            **config,
        )
        for kind in ("sync", "vector_entry_point")
    ]
    widen = d.WIDEN_4 if name == "AutoTTS-Decisions-v0" else 1
    assert data_equivalence(*(env.reset(seed=4) for env in envs))
    ends = 0
    for k in range(6):
        actions = np.array([widen, widen if k else d.ANSWER, widen])
        results = [env.step(actions) for env in envs]
        for result in results:
            result[4].pop("final_obs", None)
        assert data_equivalence(*results)
        ended = results[0][2] | results[0][3]
        ends += int(ended.sum())
        if mode is AutoresetMode.DISABLED and ended.any():
            assert data_equivalence(
                *(env.reset(options={"reset_mask": ended.copy()}) for env in envs)
            )
    assert ends > 3


def test_copies_observe_their_own_episode(store: TraceStore) -> None:
    env = MacroActions(AutoTTSEnv(store, max_branches=12))
    env.reset(seed=3)
    env.step(d.WIDEN_1)
    before = env.step(d.WIDEN_1)[0]
    other = copy.deepcopy(env)
    for _ in range(3):
        action = int(np.flatnonzero(env.action_masks())[-1])
        found, expected = other.step(action)[0], env.step(action)[0]
        assert all(np.array_equal(found[key], expected[key]) for key in expected)
    assert not np.array_equal(expected["globals"], before["globals"])
