"""Episodes of policies are the same whether torch or compiled code chooses the actions."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.controllers.compiled_network import MAX_WEIGHTS
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_agent import PolicyAgent, PolicyPlayer
from autotts_gym.controllers.policy_network import Policy, Shape
from autotts_gym.mdp import macro_actions
from autotts_gym.mdp.actions import BRANCH
from autotts_gym.mdp.macro_features import NUM_BRANCH_FEATURES, NUM_GLOBAL_FEATURES
from autotts_gym.mdp.token_price import TokenPrices
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.rollout.branch_orders import branch_orders
from autotts_gym.traces import registry
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.synthetic_traces import generate

BUNDLED_ENVS = [
    name
    for name, path in registry.listing().items()
    if path.is_relative_to(registry.bundled("envs"))
]
FIGURES = ("true_spent", "true_clock", "answer", "steps", "probes")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads of torch only wait for each other in networks this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def players(
    agent: PolicyAgent, store: TraceStore, config: EpisodeConfig
) -> tuple[PolicyPlayer, PolicyPlayer]:
    """The compiled player of a policy, and that of torch."""
    arguments = agent.policy, agent.prices, TraceDataset({"store": store}), config
    compiled = PolicyPlayer(*arguments, keep_actions=True)
    by_torch = PolicyPlayer(*arguments, keep_actions=True, compiles=False)
    assert compiled.compiles
    assert not by_torch.compiles
    return compiled, by_torch


def assert_same_episodes(
    agent: PolicyAgent, store: TraceStore, config: EpisodeConfig, rows: np.ndarray
) -> int:
    """Play every row at three β both ways, and compare all actions; returns their number."""
    compiled, by_torch = players(agent, store, config)
    seeds = np.arange(len(rows))
    orders = branch_orders("random", seeds, rows, store, config.max_branches)
    actions = 0
    for beta in (0.0, 0.5, 1.0):
        here, truncated = compiled.play(rows, orders, beta)
        there, truncated_there = by_torch.play(rows, orders, beta)
        assert np.array_equal(truncated, truncated_there)
        for e in range(len(rows)):
            length = int(here.lengths[e])
            assert length == there.lengths[e]
            assert np.array_equal(here.history[e, :length], there.history[e, :length])
            for name in FIGURES:
                assert here.ledger[name][e] == there.ledger[name][e], name
            actions += length
    return actions


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ppo/aime24", "ppo/chain", "ppo/real"])
@pytest.mark.parametrize("env", BUNDLED_ENVS)
def test_bundled_policies_play_the_same_episodes(name: str, env: str) -> None:
    agent, store = load(name), registry.open_store(env)
    assert isinstance(agent, PolicyAgent)
    width = min(64, int(store.tables.branch_counts.min()))
    rows = np.arange(min(6, store.card.questions))
    assert assert_same_episodes(agent, store, EpisodeConfig(width), rows) > len(rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape",
    [
        Shape("equivariant", 12, encoder=8, hidden=16),
        Shape("equivariant", 12, encoder=8, hidden=16, atomic=True),
        Shape("mlp", 12, encoder=8, hidden=16),
        Shape("mlp", 12, encoder=8, hidden=16, atomic=True),
        Shape("equivariant", 12, encoder=8, hidden=16, latency=True),
        Shape("mlp", 12, encoder=8, hidden=16, latency=True),
    ],
)
@pytest.mark.parametrize(
    "config",
    [
        EpisodeConfig(12),
        EpisodeConfig(12, budget=60_000, probe_tokens=5, billing="interval"),
        EpisodeConfig(12, step_limit=30, latency_weight=0.5),
    ],
)
def test_untrained_policies_play_the_same_episodes(shape: Shape, config: EpisodeConfig) -> None:
    """They choose among nearly all actions."""
    torch.manual_seed(3)
    policy = Policy(shape)
    with torch.no_grad():
        for parameter in policy.logits.parameters():
            parameter.mul_(100).add_(torch.randn_like(parameter) / 4)
    agent = PolicyAgent.from_network(policy, TokenPrices())
    store = generate(questions=8, branches=12, seed=5)
    assert assert_same_episodes(agent, store, config, np.arange(8)) >= 24


@settings(max_examples=8, deadline=None)
@given(weight=st.floats(0, 1))
def test_a_policy_reads_the_latency_weight(weight: float) -> None:
    """This one opens one branch first if w > 0.5, and four if w < 0.5."""
    policy = Policy(Shape("mlp", 6, hidden=2, latency=True))
    column = 6 * NUM_BRANCH_FEATURES + NUM_GLOBAL_FEATURES  # of w
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.zero_()
        first, second = policy.actor.decide[0], policy.actor.decide[2]
        first.weight[0, column], first.bias[0] = 100, -50
        second.weight[0, 0] = 100
        assert isinstance(policy.logits, torch.nn.Linear)
        policy.logits.weight[macro_actions.WIDEN_1, 0] = 50
        policy.logits.weight[macro_actions.WIDEN_4, 0] = -50
    agent = PolicyAgent.from_network(policy, TokenPrices())
    store = generate(questions=2, branches=6, seed=1)
    config = EpisodeConfig(6, step_limit=4, latency_weight=weight)
    compiled, by_torch = players(agent, store, config)
    orders = np.array([np.arange(6)] * 2)
    here, _ = compiled.play(np.arange(2), orders, 0.5)
    there, _ = by_torch.play(np.arange(2), orders, 0.5)
    assert np.array_equal(here.history, there.history)
    if abs(weight - 0.5) > 0.05:
        assert (here.history[:, 1] == BRANCH).all() == (weight < 0.5)


def test_large_networks_play_through_torch() -> None:
    store = generate(questions=2, branches=4, seed=0)
    policy = Policy(Shape("equivariant", 4, encoder=64, hidden=400))
    assert policy.shape.num_parameters > MAX_WEIGHTS
    player = PolicyPlayer(
        policy, TokenPrices(), TraceDataset({"store": store}), EpisodeConfig(4), False
    )
    assert not player.compiles
    batch, truncated = player.play(np.arange(2), np.array([np.arange(4)] * 2), 0.5)
    assert batch.ledger["ended"][:2].all()
    assert not truncated.any()
