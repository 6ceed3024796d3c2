"""Trainings: they learn, and one that was killed ends as it would have ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3.common.vec_env import VecEnv

from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_network import Shape
from autotts_gym.gym_envs.macro_env import MacroVectorEnv
from autotts_gym.learning.ppo import CHECKPOINT, Config, Progress, Training
from autotts_gym.learning.sb3 import ALGORITHMS, Sb3Training, Sb3VecEnv
from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

N = 16
#: Tokens cost as much as matters: reading all branches whole costs half of a right answer.
PRICE = TokenPrices(0.5, 0.5)
SMALL = Shape(max_branches=N, encoder=16, hidden=32)


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=24, branches=32, seed=7)


def config(**changed: Any) -> Config:
    given = {"shape": SMALL, "prices": PRICE, "num_envs": 16, "horizon": 8, "stretch": 2}
    return Config(**{**given, "minibatches": 2, "epochs": 1, **changed})


def returned(correct: np.ndarray, tokens: np.ndarray, store: TraceStore) -> float:
    """Mean return in right answers, after what tokens cost."""
    full = N * store.card.mean_tokens
    return float(correct.mean() - PRICE.high * (tokens / full).mean())


def by_agent(agent: str, store: TraceStore) -> float:
    questions = np.repeat(np.arange(24), 20)
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(32)[:N] for _ in questions])
    played = Rollout(load(agent), store, EpisodeConfig(N)).play(questions, orders, 0.5)
    return returned(played.correct, played.tokens, store)


def by_chance(store: TraceStore) -> float:
    """Any decision that can be made, each as likely."""
    envs = MacroVectorEnv(64, store, max_branches=N)
    observation, _ = envs.reset(seed=0)
    rng = np.random.default_rng(0)
    ended: list[tuple[bool, int]] = []
    while len(ended) < 1000:
        chances = observation["action_mask"] * rng.random((64, d.COUNT))
        observation, *_, info = envs.step(chances.argmax(axis=1))
        if "final_info" in info:
            last = info["final_info"]
            ended += zip(
                last["correct"][last["_correct"]], last["tokens"][last["_correct"]], strict=True
            )
    correct, tokens = np.array(ended).T
    return returned(correct, tokens, store)


class Killed(BaseException):
    """What a training is killed with."""


def test_a_killed_training_ends_as_it_would_have(tmp_path: Path, store: TraceStore) -> None:
    made = config(decisions=3 * 16 * 8 * 2)
    whole = Training({"made": store}, None, made, tmp_path / "whole")
    whole.run()

    killed = Training({"made": store}, None, made, tmp_path / "killed")
    updates: list[Progress] = []

    def kill(at: Progress) -> None:
        updates.append(at)
        if len(updates) == 3:  # in the midst of the second stretch
            raise Killed

    with pytest.raises(Killed):
        killed.run(kill)
    again = Training({"made": store}, None, made, tmp_path / "killed")
    assert again.done == 1
    again.run()
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(again.policy.state_dict()[name], value), name
    assert again.history == whole.history
    with pytest.raises(ValueError, match="belongs to another training: its seed differ"):
        Training({"made": store}, None, config(seed=1, decisions=768), tmp_path / "killed")
    again.forget()
    assert not (tmp_path / "killed" / CHECKPOINT).exists()


@pytest.mark.parametrize("algorithm", [*ALGORITHMS, "cleanrl-ppo"])
def test_what_is_exported_plays(tmp_path: Path, store: TraceStore, algorithm: str) -> None:
    """The decisions of the algorithm's own network, where it is one of stable-baselines3."""
    made = config(decisions=400)
    training: Any
    if algorithm == "cleanrl-ppo":
        training = Training({"made": store}, [0, 1, 2], made, tmp_path / "run")
    else:
        training = Sb3Training(algorithm, {"made": store}, [0, 1, 2], made, tmp_path / "run")
    training.run()
    training.export(tmp_path / "policy", {"command": "none"})
    agent = load(str(tmp_path / "policy"))
    questions, orders = np.arange(24), np.array([np.arange(N)] * 24)
    played = Rollout(agent, store, EpisodeConfig(N, step_limit=2000)).play(questions, orders, 0.5)
    assert len(played.tokens) == 24
    card: dict[str, Any] = agent.card  # type: ignore[attr-defined]
    assert card["algorithm"] == algorithm
    assert card["questions"] == [0, 1, 2]
    assert card["data"] == {"made": store.card.fingerprint}
    assert card["decisions"] >= 400
    if algorithm == "cleanrl-ppo":
        return
    envs = MacroVectorEnv(8, store, max_branches=N)
    observation, _ = envs.reset(seed=0)
    observation, *_ = envs.step(np.full(8, d.WIDEN + 2))
    tensors, _ = training.model.policy.obs_to_tensor(observation)
    with torch.no_grad():
        if algorithm == "dqn":
            theirs = training.model.policy.q_net(tensors)
        else:
            theirs = training.model.policy.get_distribution(tensors).distribution.logits
        ours = training.policy.act(
            tensors["branches"], tensors["globals"], torch.ones(8, d.COUNT, dtype=torch.bool)
        )
    shift = theirs - ours
    torch.testing.assert_close(shift, shift[:, :1].expand_as(shift), rtol=0, atol=1e-4)


def test_adapter(store: TraceStore) -> None:
    """Step for step what the vector environment does."""
    ours = MacroVectorEnv(6, store, max_branches=N, beta=(0.2, 0.9))
    theirs: VecEnv = Sb3VecEnv(MacroVectorEnv(6, store, max_branches=N, beta=(0.2, 0.9)))
    theirs.seed(3)
    there = theirs.reset()
    here, _ = ours.reset(seed=[3 + e for e in range(6)])
    rng = np.random.default_rng(0)
    returns = np.zeros(6)
    ends = 0
    for _ in range(200):
        for key, value in here.items():
            assert np.array_equal(value, there[key])
        masks = np.stack(theirs.env_method("action_masks"))
        assert np.array_equal(masks, here["action_mask"] != 0)
        actions = (masks * rng.random(masks.shape)).argmax(axis=1)
        here, rewards, terminated, truncated, info = ours.step(actions)
        there, gains, dones, infos = theirs.step(actions)
        assert np.array_equal(rewards.astype(np.float32), gains)
        assert np.array_equal(terminated | truncated, dones)
        returns += rewards
        for e in range(6):
            assert ("terminal_observation" in infos[e]) is bool(dones[e])
            if dones[e]:
                ends += 1
                assert infos[e]["episode"]["r"] == pytest.approx(returns[e])
                last = info["final_obs"][e]
                for key, value in infos[e]["terminal_observation"].items():
                    assert np.array_equal(value, last[key])
        returns[dones] = 0
    assert ends > 20
    assert theirs.has_attr("action_masks")
    assert not theirs.has_attr("nothing")
    with pytest.raises(ValueError, match="use SameStep"):
        Sb3VecEnv(MacroVectorEnv(2, store, max_branches=N, autoreset_mode="NextStep"))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("algorithm", ["maskable-ppo", "cleanrl-ppo"])
def test_learns(tmp_path: Path, store: TraceStore, algorithm: str, seed: int) -> None:
    """In a minute it earns 0.1 right answers more than chance and than reading every branch."""
    made = config(decisions=100_000, seed=seed, num_envs=128, horizon=32, minibatches=4, epochs=3)
    training: Any
    if algorithm == "cleanrl-ppo":
        training = Training({"made": store}, None, made, tmp_path / "run")
    else:
        training = Sb3Training(algorithm, {"made": store}, None, made, tmp_path / "run")
    training.run()
    training.export(tmp_path / "policy")
    learned = by_agent(str(tmp_path / "policy"), store)
    assert learned > by_chance(store) + 0.1
    assert learned > by_agent("self_consistency", store) + 0.1
