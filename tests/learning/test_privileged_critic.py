"""Privileged features: they predict how the recorded branches continue."""

from __future__ import annotations

import numpy as np
import pytest

from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.learning.privileged_critic import (
    BRANCH_FEATURES,
    GLOBAL_FEATURES,
    NUM_GLOBAL_FEATURES,
    PrivilegedFeatures,
)
from autotts_gym.mdp import macro_actions as d
from autotts_gym.traces.store import Branch, Question, TraceStore
from autotts_gym.traces.synthetic_traces import generate


@pytest.mark.parametrize("seed", range(3))
def test_predictions_come_true(seed: int) -> None:
    """Branches that are probed to their ends have the predicted final answers and lengths."""
    stores = [generate(questions=5, branches=9, seed=seed), generate(questions=3, branches=12)]
    envs = MacroVectorEnv(20, stores, max_branches=8, autoreset_mode="Disabled")
    privileged = PrivilegedFeatures(envs.batch)
    envs.reset(seed=seed)
    _, first = privileged.compute()
    for macro_action in (d.WIDEN_2, d.WIDEN_4, d.DEEPEN_4):
        envs.step(np.full(20, macro_action))
    branches, _ = privileged.compute()
    assert (branches[:, 6:] == 0).all()  # not open
    ends_correct, is_correct, remaining = np.moveaxis(branches[:, :6].copy(), -1, 0)
    for _ in range(40):
        envs.step(np.full(20, d.DEEPEN_4))
    branches, features = privileged.compute()
    assert (branches[:, :6, BRANCH_FEATURES.index("remaining")] == 0).all()
    assert np.array_equal(branches[:, :6, BRANCH_FEATURES.index("is_correct")], ends_correct)
    assert np.array_equal(branches[:, :6, BRANCH_FEATURES.index("ends_correct")], ends_correct)
    assert set(np.unique(is_correct)) <= {0, 1}
    assert np.array_equal(first[:, GLOBAL_FEATURES.index("next_correct")], ends_correct[:, 0])
    assert (remaining >= 0).all()
    assert remaining.max() > 0
    leader_correct = features[:, GLOBAL_FEATURES.index("leader_correct")]
    *_, info = envs.step(np.full(20, d.ANSWER_WEIGHTED))
    assert np.array_equal(info["correct"], leader_correct == 1)


def test_features_of_a_question() -> None:
    answers = ["1", "1", "2", "3", "2", "2"]
    branches = [Branch([], 10 * (k + 1), answer) for k, answer in enumerate(answers)]
    store = TraceStore.from_branches([Question("?", gold="1", branches=branches)], interval=10)
    envs = MacroVectorEnv(1, store, max_branches=6)
    envs.reset(seed=0, options={"branch_order": [5, 0, 1, 2, 3, 4]})
    _, features = PrivilegedFeatures(envs.batch).compute()
    named = dict(zip(GLOBAL_FEATURES, features[0].tolist(), strict=True))
    assert named["correct_share"] == pytest.approx(1 / 3)
    assert named["wrong_share"] == pytest.approx(1 / 2)
    assert named["next_correct"] == 0
    assert named["leader_correct"] == 0
    envs.step(np.array([d.WIDEN_1]))
    _, features = PrivilegedFeatures(envs.batch).compute()
    assert features[0, GLOBAL_FEATURES.index("next_correct")] == 1
    assert features.shape[1] == NUM_GLOBAL_FEATURES
