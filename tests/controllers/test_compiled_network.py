"""Compiled networks have the logits of torch, and choose the same actions."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.controllers.compiled_network import CompiledNetwork
from autotts_gym.controllers.loader import load
from autotts_gym.controllers.policy_agent import PolicyAgent
from autotts_gym.controllers.policy_network import Policy, Shape
from autotts_gym.mdp.macro_features import (
    NUM_BRANCH_FEATURES,
    NUM_GLOBAL_FEATURES,
    STATUS_FEATURES,
)

N = 24
#: Widths that are and are not multiples of the four inputs that are added at once.
SHAPES = (
    Shape("equivariant", N, encoder=8, hidden=16),
    Shape("equivariant", N, encoder=5, hidden=7),
    Shape("equivariant", N, encoder=32, hidden=64, atomic=True),
    Shape("equivariant", N, encoder=3, hidden=6, atomic=True),
    Shape("mlp", N, encoder=8, hidden=16),
    Shape("mlp", N, encoder=8, hidden=9, atomic=True),
    Shape("equivariant", N, encoder=5, hidden=7, latency=True),
    Shape("mlp", N, encoder=8, hidden=9, latency=True),
)


@functools.cache
def networks(shape: Shape | str) -> tuple[Policy, CompiledNetwork]:
    """A bundled policy by its name, or an untrained one whose logits are about 1."""
    if isinstance(shape, str):
        agent = load(shape)
        assert isinstance(agent, PolicyAgent)
        policy = agent.policy
    else:
        torch.manual_seed(7)
        policy = Policy(shape)
        with torch.no_grad():
            for parameter in policy.logits.parameters():
                parameter.mul_(100).add_(torch.randn_like(parameter) / 10)
    return policy, CompiledNetwork(policy, N)


def torch_logits(
    policy: Policy, branches: np.ndarray, features: np.ndarray, mask: np.ndarray
) -> np.ndarray:
    """Logits of one state, float32[A]."""
    with torch.inference_mode():
        arrays = [torch.from_numpy(array[None]) for array in (branches, features, mask)]
        logits: np.ndarray = policy.act(*arrays)[0].numpy()
    return logits


def random_branch(rng: np.random.Generator) -> np.ndarray:
    """Features of an opened branch; many are 0, as in episodes."""
    row = rng.random(NUM_BRANCH_FEATURES, np.float32) * 2
    row *= rng.random(NUM_BRANCH_FEATURES) < rng.random()
    row[STATUS_FEATURES] = np.eye(3)[rng.integers(3)]
    return row


@pytest.mark.parametrize("shape", [*SHAPES, "ppo/aime24", "ppo/chain", "ppo/real"])
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), opened=st.integers(0, N), changes=st.integers(0, 4))
def test_logits_are_those_of_torch(
    shape: Shape | str, seed: int, opened: int, changes: int
) -> None:
    """In states that follow each other, too: unchanged branches are not encoded again."""
    policy, network = networks(shape)
    rng = np.random.default_rng(seed)
    branches = np.zeros((N, NUM_BRANCH_FEATURES), np.float32)
    for i in range(opened):
        branches[i] = random_branch(rng)
    mask = np.zeros(len(network.arrays.logits), np.bool_)
    mask[: 2 if policy.shape.atomic else None] = True
    if policy.shape.atomic:
        mask[2:].reshape(4, N)[:, :opened] = True
    for _ in range(1 + changes):
        features = rng.random(policy.shape.num_global_features, np.float32) * 4 - 2
        expected = torch_logits(policy, branches, features, mask)[mask]
        logits = network.logits(branches, features, opened)[mask]
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())
        if opened:
            branches[rng.integers(opened)] = random_branch(rng)


def test_weights_of_further_training_are_used() -> None:
    policy, network = networks(SHAPES[0])
    rng = np.random.default_rng(0)
    branches = np.zeros((N, NUM_BRANCH_FEATURES), np.float32)
    branches[:3] = [random_branch(rng) for _ in range(3)]
    features = rng.random(NUM_GLOBAL_FEATURES, np.float32)
    before = network.logits(branches, features, 3).copy()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.1)
    network.refresh()
    after = network.logits(branches, features, 3)
    expected = torch_logits(policy, branches, features, np.ones(len(after), np.bool_))
    assert abs(after - before).max() > 0.01
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5 * abs(expected).max())
