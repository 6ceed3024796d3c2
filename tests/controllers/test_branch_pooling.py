"""Pooled encodings and their gradients are those of torch."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.controllers.branch_pooling import mean_and_maximum


def by_torch(values: torch.Tensor, opened: torch.Tensor) -> torch.Tensor:
    """The same in operations of torch."""
    is_open = torch.arange(values.shape[-2]) < opened.unsqueeze(-1)
    encoded = values.relu() * is_open.unsqueeze(-1)
    mean = encoded.sum(-2) / opened.clamp(min=1).unsqueeze(-1)
    return torch.cat([mean, encoded.max(-2).values], -1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.lists(st.integers(1, 5), max_size=2), st.integers(1, 9))
def test_values_and_gradients_are_those_of_torch(seed: int, axes: list[int], width: int) -> None:
    rng = np.random.default_rng(seed)
    units = int(rng.integers(1, 20))
    values = torch.from_numpy(rng.normal(size=(*axes, width, units)).astype(np.float32))
    opened = torch.from_numpy(rng.integers(0, width + 1, axes))
    weights = torch.from_numpy(rng.normal(size=(*axes, 2 * units)).astype(np.float32))
    results = []
    for pool in (mean_and_maximum, by_torch):
        inputs = values.clone().requires_grad_()
        pooled = pool(inputs, opened)
        (pooled * weights).sum().backward()
        assert inputs.grad is not None
        results.append((pooled.detach().numpy(), inputs.grad.numpy()))
    (pooled, gradient), (expected, expected_gradient) = results
    assert pooled.shape == (*axes, 2 * units)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
