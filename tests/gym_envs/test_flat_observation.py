"""``observation="flat"``: one array, the same in single and vector environments."""

from __future__ import annotations

import copy
import pickle
from random import Random
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import random_action, random_store, with_generation

from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.gym_envs.macro_env import MacroEnv
from autotts_gym.mdp.flat_observation import BRANCH_NUMBERS
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

ENV = "tinylm/medium/chain"


def expected(compact: dict[str, Any], depth_limit: int) -> dict[str, np.ndarray]:
    """The slices, computed from the compact observation of the same state."""
    n, m = len(compact["branch_status"]), len(compact["class_votes"])
    numbers = compact["globals"].copy()
    numbers[0] /= n
    votes = compact["class_votes"]
    rows = np.zeros((n, len(BRANCH_NUMBERS)))
    for i in np.flatnonzero(compact["branch_status"]):
        requested, revealed = compact["branch_requested"][i], compact["branch_revealed"][i]
        latest = min(compact["branch_latest"][i], m - 1)
        generation = compact["branch_generation_confidence"][i]
        confidence = compact.get("branch_confidence", np.full(n, -1.0))[i]
        row = {
            "active": compact["branch_status"][i] == 1,
            "pruned": compact["branch_status"][i] == 2,
            "requested": requested / depth_limit,
            "revealed": revealed / depth_limit,
            "finished": compact["branch_finished"][i],
            "unread": (requested - revealed) / depth_limit,
            "votes": latest >= 0 and votes[latest] / n,
            "leads": latest >= 0 and votes[latest] == votes.max() > 0,
            "null": latest >= 0 and compact["class_null"][latest],
            "generation_confidence": generation / 20 if generation >= 0 else -1,
            "confidence": confidence / 20 if confidence >= 0 else -1,
        }
        rows[i] = [row[name] for name in BRANCH_NUMBERS]
    return {
        "globals": numbers.clip(-2, 2),
        "branches": rows.ravel().clip(-2, 2),
        "class_votes": votes / n,
        "action_mask": compact["action_mask"],
    }


@settings(max_examples=50, deadline=None)
@given(st.randoms(use_true_random=False), st.booleans())
def test_slices_are_those_of_the_compact_observation(random: Random, generation: bool) -> None:
    store = random_store(random, costs=random.random() < 0.5)
    if generation:
        store = with_generation(store)
    config = {"max_classes": random.choice([1, 3, 64]), "budget": random.choice([None, 500])}
    flat, compact = (
        AutoTTSEnv(store, observation=kind, **config)  # type: ignore[arg-type]
        for kind in ("flat", "compact")
    )
    found, wanted = flat.reset(seed=1)[0], compact.reset(seed=1)[0]
    for _ in range(60):
        assert found.dtype == np.float32
        assert found in flat.observation_space
        parts = expected(wanted, compact.depth_limit)
        assert list(flat.flat_slices) == list(parts)
        assert flat.flat_slices["action_mask"].stop == len(found)
        for name, values in parts.items():
            np.testing.assert_allclose(
                found[flat.flat_slices[name]], values, rtol=1e-6, err_msg=name
            )
        action = random_action(random, flat.action_masks().tolist())
        result, other = flat.step(action), compact.step(action)
        assert data_equivalence(result[1:], other[1:], exact=True)
        if result[2]:
            break
        found, wanted = result[0], other[0]


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return with_generation(generate(questions=6, branches=8, seed=3))


@pytest.mark.parametrize("atomic", [True, False])
def test_slices_of_macro_environments(store: TraceStore, atomic: bool) -> None:
    flat, plain = (
        MacroEnv(store, atomic=atomic, observation=kind)  # type: ignore[arg-type]
        for kind in ("flat", "compact")
    )
    found, wanted = flat.reset(seed=1)[0], plain.reset(seed=1)[0]
    rng = np.random.default_rng(0)
    for _ in range(40):
        assert found in flat.observation_space
        for name, part in flat.flat_slices.items():
            values = wanted[name].ravel().clip(-2, 2)
            if name == "branch_generation_confidence":
                values = np.where(wanted[name] < 0, -1, wanted[name] / 20)
            np.testing.assert_allclose(found[part], values, rtol=1e-6, err_msg=name)
        legal = np.flatnonzero(wanted["action_mask"])[1:]
        if not len(legal):
            break
        action = int(rng.choice(legal))
        (found, *result), (wanted, *other) = flat.step(action), plain.step(action)
        assert data_equivalence(result, other, exact=True)
        if result[1]:
            break


@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("name", ["AutoTTS-v0", "AutoTTS-Decisions-v0"])
def test_vector_environments_are_the_same(name: str, mode: AutoresetMode) -> None:
    config: dict[str, Any] = {"env": ENV, "max_branches": 6, "observation": "flat"}
    envs: list[Any] = [
        gym.make_vec(name, 3, vectorization_mode=kind, **options, **config)
        for kind, options in (
            ("sync", {"vector_kwargs": {"autoreset_mode": mode}}),
            ("vector_entry_point", {"autoreset_mode": mode}),
        )
    ]
    assert envs[0].observation_space == envs[1].observation_space
    first = [env.reset(seed=4) for env in envs]
    assert data_equivalence(*first)
    rng = np.random.default_rng(1)
    part = envs[1].unwrapped.flat_slices["action_mask"]
    observation = first[1][0]
    for _ in range(60):
        masks = observation[:, part]
        actions = np.array([rng.choice(np.flatnonzero(mask)) for mask in masks])
        results = [env.step(actions) for env in envs]
        assert data_equivalence(*results)
        observation = results[1][0]
        ended = results[0][2] | results[0][3]
        if mode is AutoresetMode.DISABLED and ended.any():
            resets = [env.reset(options={"reset_mask": ended.copy()}) for env in envs]
            assert data_equivalence(*resets)
            observation = resets[1][0]


@pytest.mark.parametrize("name", ["AutoTTS-v0", "AutoTTS-Decisions-v0"])
def test_checker_and_copies(name: str) -> None:
    env: Any = gym.make(name, env=ENV, max_branches=4, observation="flat").unwrapped
    check_env(env, skip_render_check=True)
    env.reset(seed=0)
    env.step(4)
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert data_equivalence(twin.step(4), copy.deepcopy(env).step(4), exact=True)


def test_controllers_refuse_flat_observations() -> None:
    with pytest.raises(ValueError, match='observation="full" or "compact"'):
        load("cmc").play(gym.make("AutoTTS-v0", env=ENV, observation="flat"))
    with pytest.raises(ValueError, match="AutoTTS-v0 or AutoTTS-Live-v0"):
        load("cmc").play(gym.make("AutoTTS-Decisions-v0", env=ENV))
