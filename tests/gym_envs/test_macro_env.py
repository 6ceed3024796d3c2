"""Decisions: bundles of actions, played by the rules one at a time, or all in compiled code."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st

import autotts_gym  # noqa: F401 - registers
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.macro_env import MacroActions, MacroVectorEnv
from autotts_gym.gym_envs.wrappers import MultiObjective
from autotts_gym.mdp import macro_actions as d
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=6, branches=12, seed=3)


TERMS: list[dict[str, Any]] = [
    {},
    {"budget": 60_000},
    {"billing": "interval", "probe_tokens": 7},
    {"step_limit": 40},
    {"budget": 30_000, "probe_tokens": 100},
]


class Noted(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps what was played, and what it was rewarded with."""

    def reset(self, **arguments: Any) -> Any:
        self.played: list[tuple[int, float, dict[str, Any]]] = []
        return self.env.reset(**arguments)

    def step(self, action: Any) -> Any:
        found = self.env.step(action)
        self.played.append((action, found[1], dict(found[4])))
        return found


def choose(mask: np.ndarray, rng: np.random.Generator) -> int:
    """A decision at random; answers are rare, and so is what cannot be done."""
    if rng.random() < 0.05:
        return int(rng.integers(len(mask)))
    legal = mask.astype(float)
    legal[[d.ANSWER, *(range(d.WIDEN) if len(mask) == d.COUNT else range(2 + 3 * 12, 50))]] *= 0.02
    return int(rng.choice(len(mask), p=legal / legal.sum()))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from(TERMS), st.booleans())
def test_one_at_a_time_and_compiled_are_the_same(
    store: TraceStore, seed: int, terms: dict[str, Any], atomic: bool
) -> None:
    noted = Noted(AutoTTSEnv(store, max_branches=12, beta=(0.0, 1.0), **terms))
    env = MacroActions(noted, atomic=atomic)
    envs = MacroVectorEnv(
        1,
        store,
        atomic=atomic,
        max_branches=12,
        beta=(0.0, 1.0),
        autoreset_mode=AutoresetMode.DISABLED,
        **terms,
    )
    rng = np.random.default_rng(seed)
    one, info = env.reset(seed=seed % 1000)
    many, _ = envs.reset(seed=seed % 1000)
    while True:
        assert one.keys() == many.keys()
        for key, value in one.items():
            assert np.array_equal(value, many[key][0]), key
        assert env.observation_space.contains(one)
        decision = choose(one["action_mask"], rng)
        possible = bool(one["action_mask"][decision])
        before = len(noted.played)
        one, reward, terminated, truncated, info = env.step(decision)
        many, rewards, over, cut, infos = envs.step(np.array([decision]))
        part = noted.played[before:]
        # What a decision earns and costs is what its actions do, and only one that cannot be made
        # has an illegal action.
        assert reward == rewards[0] == sum(gain for _, gain, _ in part)
        assert info["cost"] == sum(found["cost"] for _, _, found in part)
        assert [found["invalid_action"] for _, _, found in part] == [not possible] * len(part)
        assert part
        assert (terminated, truncated) == (over[0], cut[0])
        assert info["invalid_action"] is not possible
        if terminated or truncated:
            for key in ("tokens", "sequential_tokens", "steps", "probes", "correct", "answer"):
                assert info[key] == infos[key][0]
            break


def test_episodes_are_those_of_their_actions(store: TraceStore) -> None:
    """Played again action by action, without decisions, an episode has the same return."""
    noted = Noted(AutoTTSEnv(store, max_branches=12))
    env, plain = MacroActions(noted), AutoTTSEnv(store, max_branches=12)
    rng = np.random.default_rng(0)
    for seed in range(10):
        observation, _ = env.reset(seed=seed)
        plain.reset(seed=seed)
        total, over, info = 0.0, False, {}
        while not over:
            observation, reward, over, _, info = env.step(choose(observation["action_mask"], rng))
            total += reward
        again = [plain.step(action) for action, _, _ in noted.played]
        assert again[-1][4]["tokens"] == info["tokens"]
        assert sum(found[1] for found in again) == pytest.approx(total, abs=1e-12)
        assert again[-1][2]


def test_dissent_is_counted_by_looks() -> None:
    """What a branch says is held against it once, however often others are looked at."""
    a = Branch(["7"] * 9, 1000, "7")
    b = Branch(["5"] * 9, 1000, "5")
    store = TraceStore.from_branches([Question("?", gold="5", branches=[a, a, b, b])], interval=100)
    env = MacroActions(AutoTTSEnv(store, max_branches=4))
    env.reset(seed=0, options={"branch_order": [0, 1, 2, 3]})
    dissent, unread = d.BRANCH_FEATURES.index("dissent"), d.BRANCH_FEATURES.index("unread")

    def seen(decision: str) -> list[float]:
        observation, *_ = env.step(d.NAMES.index(decision))
        assert not observation["branches"][:, unread].any()
        return (observation["branches"][:, dissent] * 8).tolist()

    seen("WIDEN_2")
    assert seen("WIDEN_1") == [0, 0, 1, 0]
    assert seen("DEEPEN_LEADERS_4") == [0, 0, 1, 0]
    assert seen("DEEPEN_1") == [0, 0, 2, 0]
    single = MacroActions(AutoTTSEnv(store, max_branches=4), atomic=True)
    single.reset(seed=0, options={"branch_order": [0, 1, 2, 3]})
    observation, *_ = single.step(1)
    assert observation["branches"][0, unread] == pytest.approx(0.1)
    observation, *_ = single.step(2 + 4)
    assert observation["branches"][0, unread] == 0


def test_each_bundle(store: TraceStore) -> None:
    noted = Noted(AutoTTSEnv(store, max_branches=12))
    env = MacroActions(noted)
    observation, _ = env.reset(seed=1)
    assert observation["action_mask"].tolist() == [1] * 7 + [0] * 8

    def names(decision: str) -> list[str]:
        noted.played.clear()
        env.step(d.NAMES.index(decision))
        return [noted.unwrapped.describe(action) for action, _, _ in noted.played]  # type: ignore[attr-defined]

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
    target = int(np.ceil(d.LONG * env.unwrapped.mean_length))  # type: ignore[attr-defined]
    assert read.count("CONTINUE(0)") == target - 6
    assert read.count("CONTINUE(1)") == target - 2
    assert read[-2:] == ["PROBE(0)", "PROBE(1)"]
    assert names("WIDEN_8")[-1] == "PROBE(10)"
    assert names("WIDEN_8") == ["BRANCH", "PROBE(11)"]  # there is room for one
    assert names("ANSWER") == ["ANSWER"]


def test_answers_by_weight_go_to_what_ended_early() -> None:
    """Two long branches against a short one, and against a null answer."""
    from autotts_gym.traces.store import Branch, Question

    long = Branch(["7"] * 9, 1000, "7")
    short = Branch([], 50, "5")
    null = Branch([], 50, "")
    store = TraceStore.from_branches(
        [Question("?", gold="5", branches=[null, long, long, short])], interval=100
    )
    env = MacroActions(AutoTTSEnv(store, max_branches=4))
    for decision, right in (
        ("ANSWER", False),
        ("ANSWER_FINISHED", False),
        ("ANSWER_WEIGHTED", True),
    ):
        env.reset(seed=0, options={"branch_order": [0, 1, 2, 3]})
        for name in ("WIDEN_4", *["DEEPEN_4"] * 3):
            env.step(d.NAMES.index(name))
        *_, info = env.step(d.NAMES.index(decision))
        assert info["correct"] is right, decision


def test_is_registered_and_checks_out(store: TraceStore) -> None:
    env = gym.make("AutoTTS-Decisions-v0", disable_env_checker=True)
    assert env.action_space == gym.spaces.Discrete(d.COUNT)
    assert isinstance(env.get_wrapper_attr("action_masks")(), np.ndarray)
    with pytest.warns(UserWarning, match="different from the unwrapped version"):
        check_env(env, skip_render_check=True)
    envs = gym.make_vec("AutoTTS-Decisions-v0", num_envs=3, vectorization_mode="vector_entry_point")
    observation, _ = envs.reset(seed=0)
    assert envs.observation_space.contains(observation)


def test_wrappers_that_read_the_process_fit(store: TraceStore) -> None:
    env = MultiObjective(MacroActions(AutoTTSEnv(store, max_branches=12)))
    env.reset(seed=0)
    env.step(d.WIDEN)
    _, reward, *_ = env.step(d.ANSWER)
    assert reward.shape == (2,)


def test_what_is_refused(store: TraceStore) -> None:
    with pytest.raises(ValueError, match="auto_probe=False"):
        MacroActions(AutoTTSEnv(store, max_branches=12, auto_probe=True))
    with pytest.raises(ValueError, match="auto_probe=False"):
        MacroVectorEnv(2, store, max_branches=12, auto_probe=True)
    with pytest.raises(TypeError, match="not <"):
        MacroActions(gym.make("CartPole-v1"))
    env = MacroActions(AutoTTSEnv(store, max_branches=12))
    env.reset(seed=0)
    with pytest.raises(gym.error.InvalidAction, match="decision 15 is outside"):
        env.step(15)
