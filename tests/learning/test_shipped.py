"""The policies that come along."""

from __future__ import annotations

import numpy as np
import pytest

from autotts_gym.controllers.loader import load, trained
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry


def test_there_are_some() -> None:
    assert "ppo/chain" in trained()


@pytest.mark.parametrize("name", trained())
def test_says_how_it_was_made(name: str) -> None:
    card = load(name).card  # type: ignore[attr-defined]
    assert card["command"].startswith("autotts train ")
    assert "--out OUT" in card["command"]
    assert card["decisions"] > 1_000_000
    assert card["wall_seconds"] > 0
    assert card["data"]
    assert {"torch", "numpy", "autotts_gym"} <= card["versions"].keys()
    assert card["history"]


@pytest.mark.parametrize("name", trained())
@pytest.mark.parametrize(
    "terms", [EpisodeConfig(), EpisodeConfig(budget=2_000), EpisodeConfig(20, billing="interval")]
)
def test_in_bulk_and_through_step(name: str, terms: EpisodeConfig) -> None:
    (store,) = registry.open_stores("tinylm/medium/chain-hard").values()
    questions = np.arange(6)
    orders = np.array([branch_order("random", 0, q, 128)[: terms.max_branches] for q in range(6)])
    bulk = Rollout(load(name), store, terms)
    single = Rollout(load(name), store, terms, interpret=True)
    for beta in (0.0, 0.5, 1.0):
        fast, slow = bulk.play(questions, orders, beta), single.play(questions, orders, beta)
        assert not fast.failures
        assert fast.answers == slow.answers
        assert np.array_equal(fast.tokens, slow.tokens)
        assert np.array_equal(fast.actions, slow.actions)


def test_spends_more_with_its_knob_and_less_than_it_gains() -> None:
    """Held-out questions: dearer and better along the knob, and better than CMC for as much."""
    (store,) = registry.open_stores("tinylm/medium/chain-hard").values()
    questions = np.tile(np.arange(60), 4)
    orders = np.array([branch_order("random", k // 60, k % 60, 128)[:64] for k in range(240)])
    knob = [
        Rollout(load("ppo/chain"), store, EpisodeConfig()).play(questions, orders, b)
        for b in (0, 0.4)
    ]
    cmc = Rollout(load("cmc"), store, EpisodeConfig()).play(questions, orders, 0.5)
    cheap, dear = knob
    assert cheap.tokens.mean() < dear.tokens.mean() < cmc.tokens.mean()
    assert cheap.correct.mean() < dear.correct.mean()
    assert dear.correct.mean() > cmc.correct.mean() - 0.01
