"""Validation: scores are reproducible, and agree with rollouts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_agent import PolicyAgent
from autotts_gym.controllers.policy_network import Policy, Shape
from autotts_gym.evaluation.pareto import cost_at
from autotts_gym.learning.ppo import PPOTrainer
from autotts_gym.learning.progress import Progress
from autotts_gym.learning.training_config import TrainingConfig
from autotts_gym.learning.validation import CMC_BETAS, POLICY_BETAS, Validation, ValidationScore
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

N = 8


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=8, branches=12, seed=5)


def test_scores_are_reproducible(store: TraceStore) -> None:
    validation = Validation({"made": store}, [1, 2, 5], EpisodeConfig(N))
    torch.manual_seed(0)
    policy = Policy(Shape(max_branches=N))
    first, second = (validation.evaluate(policy, TokenPrices()).card_entry() for _ in range(2))
    assert first == second


def test_agrees_with_a_rollout() -> None:
    """A bundled policy on some of its training questions."""
    (store,) = registry.open_stores("tinylm/medium/chain").values()
    agent = load("ppo/chain")
    validation = Validation({"medium": store}, [3, 4, 30, 41, 50], EpisodeConfig(), seeds=3)
    score = validation.evaluate(agent.policy, agent.prices)  # type: ignore[attr-defined]
    episodes = validation._episodes["medium"]
    rollout = Rollout(agent, store, EpisodeConfig())
    results = [rollout.play(*episodes, beta) for beta in POLICY_BETAS]
    tokens = np.array([result.tokens.mean() for result in results])
    accuracy = np.array([result.correct.mean() for result in results])
    assert len(set(episodes[0].tolist())) == 5
    for beta, share in zip(CMC_BETAS, score.token_shares["medium"], strict=True):
        cmc = Rollout(load("cmc"), store, EpisodeConfig()).play(*episodes, beta)
        needed = float(cost_at(cmc.correct.mean(), tokens, accuracy)) / cmc.tokens.mean()
        assert share == pytest.approx(needed, nan_ok=True)
    full = store.card.mean_tokens * 64
    price = np.array([1 / agent.prices.reward_beta(beta) - 1 for beta in POLICY_BETAS])  # type: ignore[attr-defined]
    assert score.mean_return == pytest.approx(float((accuracy - price * tokens / full).mean()))


@settings(max_examples=5, deadline=None)
@given(weight=st.floats(0.01, 1))
def test_returns_have_sequential_tokens_as_a_second_cost(weight: float) -> None:
    store = generate(questions=4, branches=12, seed=5)
    torch.manual_seed(0)
    policy, prices, config = Policy(Shape(max_branches=N)), TokenPrices(), EpisodeConfig(N)
    validation = Validation({"made": store}, None, config, 2, latency_weights=(0.0, weight))
    plain = Validation({"made": store}, None, config, 2).evaluate(policy, prices)
    score = validation.evaluate(policy, prices)
    expected = plain.token_shares["made"]
    assert score.token_shares["made"] == pytest.approx(expected, nan_ok=True)
    episodes = validation._episodes["made"]
    rollout = Rollout(PolicyAgent.from_network(policy, prices), store, config)
    returns = []
    for beta in POLICY_BETAS:
        played = rollout.play(*episodes, beta)
        tokens = played.tokens.mean() / (N * store.card.mean_tokens)
        sequential = played.sequential_tokens.mean() / store.longest_tokens(N)
        cost = (1 - weight) * tokens + weight * sequential
        returns.append(played.correct.mean() - (1 / prices.reward_beta(beta) - 1) * cost)
    assert score.mean_return == pytest.approx((plain.mean_return + np.mean(returns)) / 2)


def test_summaries_of_a_score() -> None:
    score = ValidationScore(0.5, {"a": [0.5, float("nan")], "b": [2.0, 1.0]})
    assert score.mean_token_share == pytest.approx(1.0)
    assert score.matched_fraction == 0.75
    assert score.card_entry() == {
        "return": 0.5,
        "share_of_cmc_tokens": {"a": [0.5, None], "b": [2.0, 1.0]},
    }
    assert math.isnan(ValidationScore(0.5, {"a": [float("nan")]}).mean_token_share)


def test_the_best_policy_is_kept(
    tmp_path: Path, store: TraceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy after the second of three segments, although the training is killed once."""
    returns = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(
        Validation, "evaluate", lambda *_: ValidationScore(next(returns), {"made": [1.0]})
    )
    config = TrainingConfig(
        total_timesteps=3 * 64,
        shape=Shape(max_branches=N),
        num_envs=8,
        num_steps=4,
        checkpoint_interval=2,
        update_epochs=1,
        num_minibatches=2,
    )

    def make_trainer() -> PPOTrainer:
        validation = Validation({"made": store}, None, EpisodeConfig(N))
        run = tmp_path / "run"
        return PPOTrainer({"made": store}, None, config, run, validation, keep_best=True)

    first = make_trainer()
    weights = []

    def on_progress(progress: Progress) -> None:
        if progress.validation is not None:
            weights.append({k: v.clone() for k, v in first.policy.state_dict().items()})
            if len(weights) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(on_progress)
    returns = iter([0.2])
    resumed = make_trainer()
    assert resumed.segments_done == 2
    resumed.run()
    resumed.export(tmp_path / "policy")
    agent = load(str(tmp_path / "policy"))
    kept = agent.policy.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(kept[name], weights[1][name]) for name in kept)
    card = agent.card  # type: ignore[attr-defined]
    assert card["kept_decisions"] == 128
    assert [entry["trial"]["return"] for entry in card["history"]] == [0.1, 0.3, 0.2]
    with pytest.raises(ValueError, match="keep_best=True needs a validation"):
        PPOTrainer({"made": store}, None, config, tmp_path / "other", keep_best=True)
