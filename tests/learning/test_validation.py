"""Trials tell what the benchmark tells."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_network import Policy, Shape
from autotts_gym.evaluation.pareto import cost_at
from autotts_gym.learning import validation as module
from autotts_gym.learning.ppo import Config, Progress, Training
from autotts_gym.learning.validation import BETAS, KNOBS, Validation, ValidationScore
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


def test_is_the_same_every_time(store: TraceStore) -> None:
    trial = Validation({"made": store}, [1, 2, 5], EpisodeConfig(N))
    torch.manual_seed(0)
    policy = Policy(Shape(max_branches=N))
    assert trial.play(policy, TokenPrices()).facts() == trial.play(policy, TokenPrices()).facts()


def test_agrees_with_a_rollout() -> None:
    """The policy that comes along, on its own questions."""
    (store,) = registry.open_stores("tinylm/medium/chain").values()
    agent = load("ppo/chain")
    trial = Validation({"medium": store}, [3, 4, 30, 41, 50], EpisodeConfig(), seeds=3)
    standing = trial.play(agent.policy, agent.prices)  # type: ignore[attr-defined]
    episodes = trial._episodes["medium"]
    played = [Rollout(agent, store, EpisodeConfig()).play(*episodes, knob) for knob in KNOBS]
    costs = np.array([p.tokens.mean() for p in played])
    right = np.array([p.correct.mean() for p in played])
    assert len(set(episodes[0].tolist())) == 5
    for beta, share in zip(BETAS, standing.shares["medium"], strict=True):
        cmc = Rollout(load("cmc"), store, EpisodeConfig()).play(*episodes, beta)
        needed = float(cost_at(cmc.correct.mean(), costs, right)) / cmc.tokens.mean()
        assert share == pytest.approx(needed, nan_ok=True)
    full = store.card.mean_tokens * 64
    price = np.array([1 / agent.prices.beta(knob) - 1 for knob in KNOBS])  # type: ignore[attr-defined]
    assert standing.reward == pytest.approx(float((right - price * costs / full).mean()))


def test_figures() -> None:
    standing = ValidationScore(0.5, {"a": [0.5, float("nan")], "b": [2.0, 1.0]})
    assert standing.share == pytest.approx(1.0)
    assert standing.reached == 0.75
    assert standing.facts() == {
        "return": 0.5,
        "share_of_cmc_tokens": {"a": [0.5, None], "b": [2.0, 1.0]},
    }
    assert math.isnan(ValidationScore(0.5, {"a": [float("nan")]}).share)


def test_the_best_is_kept(
    tmp_path: Path, store: TraceStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also across a kill: the policy of the second of three stretches did best."""
    rewards = iter([0.1, 0.3, 0.2])
    monkeypatch.setattr(
        module.Validation, "play", lambda *_: ValidationScore(next(rewards), {"made": [1.0]})
    )
    made = Config(
        decisions=3 * 64, shape=Shape(max_branches=N), num_envs=8, horizon=4, stretch=2, epochs=1,
        minibatches=2,
    )  # fmt: skip

    def training() -> Training:
        trial = Validation({"made": store}, None, EpisodeConfig(N))
        return Training({"made": store}, None, made, tmp_path / "run", trial, early=True)

    first = training()
    weights = []

    def report(at: Progress) -> None:
        if at.standing is not None:
            weights.append({k: v.clone() for k, v in first.policy.state_dict().items()})
            if len(weights) == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.run(report)
    rewards = iter([0.2])
    again = training()
    assert again.done == 2
    again.run()
    again.export(tmp_path / "policy")
    agent = load(str(tmp_path / "policy"))
    kept = agent.policy.state_dict()  # type: ignore[attr-defined]
    assert all(torch.equal(kept[name], weights[1][name]) for name in kept)
    card = agent.card  # type: ignore[attr-defined]
    assert card["kept_decisions"] == 128
    assert [entry["trial"]["return"] for entry in card["history"]] == [0.1, 0.3, 0.2]
    with pytest.raises(ValueError, match="early stopping needs a trial"):
        Training({"made": store}, None, made, tmp_path / "other", early=True)
