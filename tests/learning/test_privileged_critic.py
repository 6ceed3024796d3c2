"""What the critic is told comes true."""

from __future__ import annotations

import numpy as np
import pytest

from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.learning import privileged_critic as h
from autotts_gym.learning.privileged_critic import PrivilegedFeatures
from autotts_gym.mdp import macro_actions as d
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.mark.parametrize("seed", range(3))
def test_what_lies_ahead_comes_true(seed: int) -> None:
    """Episodes are read to the end: every branch ends as was foretold, and when."""
    stores = [generate(questions=5, branches=9, seed=seed), generate(questions=3, branches=12)]
    envs = MacroVectorEnv(20, stores, max_branches=8, autoreset_mode="Disabled")
    ahead = PrivilegedFeatures(envs.batch)
    envs.reset(seed=seed)
    _, foretold = ahead.look()
    for decision in (d.WIDEN + 1, d.WIDEN + 2, d.DEEPEN_4):
        envs.step(np.full(20, decision))
    branches, features = ahead.look()
    assert (branches[:, 6:] == 0).all()  # not open
    left = branches[:, :6, 2].copy()
    end = branches[:, :6, 0].copy()
    says_right, leads_right = branches[:, :6, 1], features[:, 0]
    for _ in range(40):
        envs.step(np.full(20, d.DEEPEN_4))
    branches, features = ahead.look()
    assert (branches[:, :6, 2] == 0).all()
    assert np.array_equal(branches[:, :6, 1], end)
    assert np.array_equal(branches[:, :6, 0], end)
    assert set(np.unique(says_right)) <= {0, 1}
    assert np.array_equal(foretold[:, 4], end[:, 0])
    assert (left >= 0).all()
    assert left.max() > 0
    leads_right = features[:, 0]
    *_, info = envs.step(np.full(20, d.ANSWER_WEIGHTED))
    assert np.array_equal(info["correct"], leads_right == 1)


def test_of_a_question() -> None:
    answers = ["1", "1", "2", "3", "2", "2"]
    branches = [Branch([], 10 * (k + 1), answer) for k, answer in enumerate(answers)]
    store = TraceStore.from_branches([Question("?", gold="1", branches=branches)], interval=10)
    envs = MacroVectorEnv(1, store, max_branches=6)
    envs.reset(seed=0, options={"branch_order": [5, 0, 1, 2, 3, 4]})
    _, features = PrivilegedFeatures(envs.batch).look()
    seen = dict(zip(h.FEATURES, features[0].tolist(), strict=True))
    assert seen["right"] == pytest.approx(1 / 3)
    assert seen["others"] == pytest.approx(1 / 2)
    assert seen["next right"] == 0
    assert seen["leader right"] == 0
    envs.step(np.array([d.WIDEN]))
    _, features = PrivilegedFeatures(envs.batch).look()
    assert features[0, h.FEATURES.index("next right")] == 1
    assert features.shape[1] == h.SIZE
