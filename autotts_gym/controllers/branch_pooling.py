"""Mean and maximum of the encodings of open branches, with their gradients, compiled.

Torch needs about ten passes over the encodings for the same; in training, these take longer than
the matrix products of the networks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from autotts_gym.mdp.jit import entry_point


@entry_point()
def _pool(values, opened, pooled, largest_at):
    size = values.shape[2]
    for k in range(values.shape[0]):
        mean, largest, at = pooled[k, :size], pooled[k, size:], largest_at[k]
        for j in range(size):
            mean[j] = largest[j] = 0
            at[j] = -1
        for i in range(opened[k]):
            row = values[k, i]
            place = np.int32(i)
            for j in range(size):
                value = row[j] if row[j] > 0 else np.float32(0)
                mean[j] += value
                is_larger = value > largest[j]
                at[j] = place if is_larger else at[j]
                largest[j] = value if is_larger else largest[j]
        scale = np.float32(1) / np.float32(max(opened[k], 1))
        for j in range(size):
            mean[j] *= scale


@entry_point()
def _spread(gradients, values, opened, largest_at, spread):
    size = values.shape[2]
    for k in range(values.shape[0]):
        of_mean, of_largest = gradients[k, :size], gradients[k, size:]
        at = largest_at[k]
        scale = np.float32(1) / np.float32(max(opened[k], 1))
        for i in range(values.shape[1]):
            row, result = values[k, i], spread[k, i]
            if i >= opened[k]:
                result[:] = 0
                continue
            place = np.int32(i)
            for j in range(size):
                gradient = of_mean[j] * scale
                gradient += of_largest[j] if at[j] == place else np.float32(0)
                result[j] = gradient if row[j] > 0 else np.float32(0)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, opened: Tensor) -> Tensor:
        count, _, size = values.shape
        pooled = torch.empty(count, 2 * size)
        largest_at = torch.empty(count, size, dtype=torch.int32)
        _pool(values.numpy(), opened.numpy(), pooled.numpy(), largest_at.numpy())
        ctx.save_for_backward(values, opened, largest_at)
        return pooled

    @staticmethod
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor, None]:
        values, opened, largest_at = ctx.saved_tensors
        spread = torch.empty_like(values)
        _spread(
            gradients.contiguous().numpy(),
            values.numpy(),
            opened.numpy(),
            largest_at.numpy(),
            spread.numpy(),
        )
        return spread, None


def mean_and_maximum(values: Tensor, opened: Tensor) -> Tensor:
    """Mean and maximum over the open branches of ``relu(values)``; zeros without any.

    Args:
        values: float32[..., n, U].
        opened: int64[...], number of open branches, which are the first ones.

    Returns:
        float32[..., 2 · U].
    """
    flat = values.reshape(-1, *values.shape[-2:])
    pooled: Tensor = _Pool.apply(flat, opened.reshape(-1))
    return pooled.view(*values.shape[:-2], -1)
