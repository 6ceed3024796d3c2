"""Policy agents: all ways to play them have the same outcome."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_network import Network, Pointers, Policy, Shape, save
from autotts_gym.evaluation import benchmark
from autotts_gym.evaluation.backends import local_pool
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

N = 12


@pytest.fixture(scope="module")
def store() -> TraceStore:
    return generate(questions=8, branches=N, seed=5)


def make_agent(
    folder: Path,
    seed: int = 0,
    network: Network = "equivariant",
    *,
    atomic: bool = False,
    latency: bool = False,
) -> Agent:
    """An untrained policy whose weights make it probe before it answers."""
    torch.manual_seed(seed)
    policy = Policy(Shape(network, N, encoder=8, hidden=16, atomic=atomic, latency=latency))
    with torch.no_grad():
        if isinstance(policy.logits, Pointers):
            policy.logits.branch_logits.weight *= 300
            policy.logits.global_logits.weight *= 300
            policy.logits.global_logits.bias[actions.ANSWER] += 4
        else:
            policy.logits.weight *= 300
            policy.logits.bias[:3] -= 2
    save(policy, folder / f"policy-{seed}", {"prices": {"high": 3.0, "low": 0.005}})
    return load(str(folder / f"policy-{seed}"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "atomic", "latency"),
    [  # seeds of policies that probe
        *((seed, False, False) for seed in range(4)),
        (2, True, False),
        (51, True, False),
        (1, False, True),
    ],
)
@pytest.mark.parametrize(
    "config",
    [EpisodeConfig(N, latency_weight=0.7), EpisodeConfig(N, budget=60_000, probe_tokens=5)],
)
def test_bulk_and_single_episodes_are_the_same(
    tmp_path: Path,
    store: TraceStore,
    seed: int,
    atomic: bool,
    latency: bool,
    config: EpisodeConfig,
) -> None:
    policy = make_agent(tmp_path, seed, atomic=atomic, latency=latency)
    questions = np.repeat(np.arange(8), 3)
    rng = np.random.default_rng(0)
    orders = np.array([rng.permutation(N) for _ in questions])
    bulk = Rollout(policy, store, config, settle=True, logs=True)
    single = Rollout(policy, store, config, settle=True, logs=True, interpret=True)
    assert (bulk.path, single.path) == ("policy", "python")
    lengths = set()
    for beta in (0.0, 0.4, 1.0):
        a, b = bulk.play(questions, orders, beta), single.play(questions, orders, beta)
        assert not a.failures
        assert not b.failures
        assert a.answers == b.answers
        for column in ("correct", "tokens", "sequential_tokens", "actions", "probes"):
            assert np.array_equal(getattr(a, column), getattr(b, column)), column
        assert np.array_equal(a.settled_tokens, b.settled_tokens)
        assert all(map(np.array_equal, a.logs, b.logs))
        assert [len(log) for log in a.logs] == a.actions.tolist()
        lengths |= set(a.actions.tolist())
    assert len(lengths) > 2


def test_plays_an_environment(tmp_path: Path, store: TraceStore) -> None:
    env = AutoTTSEnv(store, max_branches=N, invalid_action="raise")
    info = make_agent(tmp_path).play(env, seed=1, question=2)
    assert info["question"] == 2
    assert info["correct"] in (0, 1)


@pytest.mark.slow
def test_other_processes_play_the_loaded_policy(tmp_path: Path, store: TraceStore) -> None:
    """Its files may have changed since it was loaded."""
    policy = make_agent(tmp_path)
    again = pickle.loads(pickle.dumps(policy))
    assert again == policy
    (tmp_path / "policy-0" / "card.yaml").write_text("gone")
    rows = {}
    for name, pool in (("here", None), ("there", local_pool(1, 60.0))):
        (row,) = benchmark.run(
            [policy],
            {"made": store},
            [0.5],
            range(3),
            tmp_path / name,
            config=EpisodeConfig(N),
            pool=pool,
        )
        rows[name] = row
    assert not isinstance(rows["here"], benchmark.IncompleteRun)
    assert not isinstance(rows["there"], benchmark.IncompleteRun)
    assert rows["here"].path == rows["there"].path == "policy"
    assert np.array_equal(rows["here"].episodes["tokens"], rows["there"].episodes["tokens"])


def test_truncated_episodes_are_not_correct(tmp_path: Path, store: TraceStore) -> None:
    policy = make_agent(tmp_path)
    with torch.no_grad():
        policy.policy.logits.bias[:3] -= 1000  # type: ignore[attr-defined]
    played = Rollout(policy, store, EpisodeConfig(N, step_limit=30)).play(
        np.arange(2), np.array([np.arange(N)] * 2), 0.5
    )
    assert set(played.failures) == {0, 1}
    assert "truncated by its step limit" in played.failures[0]
    assert not played.correct.any()


def test_an_mlp_policy_needs_its_number_of_branches(tmp_path: Path, store: TraceStore) -> None:
    policy = make_agent(tmp_path, network="mlp")
    Rollout(policy, store, EpisodeConfig(N))
    with pytest.raises(AgentError, match=f"trained with max_branches={N}"):
        Rollout(policy, store, EpisodeConfig(6))
