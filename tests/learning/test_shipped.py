"""The bundled policies."""

from __future__ import annotations

import numpy as np
import pytest

from autotts_gym.controllers.loader import load, trained
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry


def test_policies_are_found() -> None:
    assert "ppo/chain" in trained()


@pytest.mark.parametrize("name", trained())
def test_card_describes_the_training(name: str) -> None:
    card = load(name).card  # type: ignore[attr-defined]
    assert card["command"].startswith("autotts train ")
    assert "--out OUT" in card["command"]
    assert card["decisions"] > 1_000_000
    assert card["wall_seconds"] > 0
    assert card["data"]
    assert {"torch", "numpy", "autotts_gym"} <= card["versions"].keys()
    assert card["history"]


@pytest.mark.slow
@pytest.mark.parametrize("name", trained())
@pytest.mark.parametrize(
    "config", [EpisodeConfig(), EpisodeConfig(budget=2_000), EpisodeConfig(20, billing="interval")]
)
def test_bulk_and_single_episodes_are_the_same(name: str, config: EpisodeConfig) -> None:
    (store,) = registry.open_stores("tinylm/medium/chain-hard").values()
    questions = np.arange(6)
    orders = np.array([branch_order("random", 0, q, 128)[: config.max_branches] for q in range(6)])
    bulk = Rollout(load(name), store, config)
    single = Rollout(load(name), store, config, interpret=True)
    for beta in (0.0, 0.5, 1.0):
        fast, slow = bulk.play(questions, orders, beta), single.play(questions, orders, beta)
        assert not fast.failures
        assert fast.answers == slow.answers
        assert np.array_equal(fast.tokens, slow.tokens)
        assert np.array_equal(fast.actions, slow.actions)


def test_accuracy_and_tokens_grow_with_beta() -> None:
    """On held-out questions, where the policy is also about as accurate as CMC for fewer tokens."""
    (store,) = registry.open_stores("tinylm/medium/chain-hard").values()
    questions = np.tile(np.arange(60), 4)
    orders = np.array([branch_order("random", k // 60, k % 60, 128)[:64] for k in range(240)])
    low, high = [
        Rollout(load("ppo/chain"), store, EpisodeConfig()).play(questions, orders, beta)
        for beta in (0, 0.4)
    ]
    cmc = Rollout(load("cmc"), store, EpisodeConfig()).play(questions, orders, 0.5)
    assert low.tokens.mean() < high.tokens.mean() < cmc.tokens.mean()
    assert low.correct.mean() < high.correct.mean()
    assert high.correct.mean() > cmc.correct.mean() - 0.01
