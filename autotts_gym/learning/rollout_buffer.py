"""Rollouts of PPO, and their advantages by generalised advantage estimation.

Shapes: T timesteps of a rollout, E environments, N branches, A actions; B and G are the numbers of
branch and global features, P_B and P_G those of the privileged ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Observation(NamedTuple):
    """Observations of ``AutoTTS-Decisions-v0``.

    Attributes:
        branches: float32[..., N, B].
        features: float32[..., G].
        mask: bool[..., A], whether an action is legal.
    """

    branches: Tensor
    features: Tensor
    mask: Tensor

    @classmethod
    def from_arrays(cls, arrays: dict[str, Any]) -> Observation:
        """The observation of a vector environment as tensors, which share its memory."""
        return cls(
            torch.from_numpy(arrays["branches"]),
            torch.from_numpy(arrays["globals"]),
            torch.from_numpy(arrays["action_mask"]).bool(),
        )


class Privileged(NamedTuple):
    """Features that only the critic reads, see :mod:`autotts_gym.learning.privileged_critic`.

    Attributes:
        branches: float32[..., N, P_B].
        features: float32[..., P_G].
    """

    branches: Tensor
    features: Tensor


class Transition(NamedTuple):
    """One timestep of all environments; see :class:`Rollout` for shapes without the axis T."""

    branches: Tensor
    features: Tensor
    mask: Tensor
    privileged_branches: Tensor
    privileged_features: Tensor
    actions: Tensor
    log_probs: Tensor
    rewards: Tensor
    dones: Tensor
    widths: Tensor


@dataclass(frozen=True)
class Rollout:
    """T timesteps of E environments.

    Attributes:
        branches, features, mask: observations, see :class:`Observation`, with axes [T, E, ...].
        privileged_branches, privileged_features: see :class:`Privileged`, with axes [T, E, ...].
        actions: int64[T, E, 1].
        log_probs: float32[T, E], of the actions when they were sampled.
        values: float32[T, E], the critic's.
        rewards: float32[T, E], in units of a correct answer.
        dones: float32[T, E], 1 where the episode ended with the timestep.
        widths: int64[T, E], opened branches.
        next_values: float32[E], of the observations that follow the last timestep.
        outcomes: (1.0 if correct else 0.0, cost as a share of C) of each episode that ended.
    """

    branches: Tensor
    features: Tensor
    mask: Tensor
    privileged_branches: Tensor
    privileged_features: Tensor
    actions: Tensor
    log_probs: Tensor
    rewards: Tensor
    dones: Tensor
    widths: Tensor
    values: Tensor
    next_values: Tensor
    outcomes: list[tuple[float, float]]

    @property
    def episodes(self) -> float:
        """Number of episodes that ended, at least 1."""
        return max(1.0, float(self.dones.sum()))


class Batch(NamedTuple):
    """The timesteps of a rollout in one axis, for an update.

    Attributes:
        observation, privileged, actions, log_probs: as in :class:`Rollout`.
        advantages: float32[T · E], normalised to mean 0 and standard deviation 1.
        returns: float32[T · E], targets of the critic.
        widths: int64[T · E], opened branches.
    """

    observation: Observation
    privileged: Privileged
    actions: Tensor
    log_probs: Tensor
    advantages: Tensor
    returns: Tensor
    widths: Tensor

    @classmethod
    def flatten(cls, rollout: Rollout, advantages: Tensor, returns: Tensor) -> Batch:
        """The batch of a rollout, with advantages and returns as of :func:`estimate_advantages`."""
        r = rollout
        flat = advantages.flatten()
        return cls(
            Observation(r.branches.flatten(0, 1), r.features.flatten(0, 1), r.mask.flatten(0, 1)),
            Privileged(r.privileged_branches.flatten(0, 1), r.privileged_features.flatten(0, 1)),
            r.actions.flatten(0, 1),
            r.log_probs.flatten(),
            (flat - flat.mean()) / (flat.std() + 1e-8),
            returns.flatten(),
            r.widths.flatten(),
        )

    def select(self, rows: Tensor) -> Batch:
        """The timesteps ``rows``, with the branch axis cut to the widest of them."""
        widths = self.widths.index_select(0, rows)
        width = max(1, int(widths.max()))
        observation, privileged = self.observation, self.privileged
        # index_select copies whole rows, unlike an index, which copies number by number.
        return Batch(
            Observation(
                observation.branches[:, :width].index_select(0, rows),
                observation.features.index_select(0, rows),
                observation.mask.index_select(0, rows),
            ),
            Privileged(
                privileged.branches[:, :width].index_select(0, rows),
                privileged.features.index_select(0, rows),
            ),
            self.actions.index_select(0, rows),
            self.log_probs.index_select(0, rows),
            self.advantages.index_select(0, rows),
            self.returns.index_select(0, rows),
            widths,
        )


def stack(transitions: list[Transition]) -> Transition:
    """Consecutive transitions as one, with an axis of timesteps."""
    return Transition(*(torch.stack(column) for column in zip(*transitions, strict=True)))


def groups_by_width(rows: Tensor, widths: Tensor, size: int) -> Iterator[Tensor]:
    """Divide timesteps into groups with similar numbers of open branches, which need less padding.

    The widest ones come first: threads that share the groups then end at about the same time.

    Args:
        rows: int64[K], the timesteps.
        widths: int64[T · E], opened branches of all timesteps.
        size: timesteps of a group, about.

    Yields:
        int64[about size], rows.
    """
    ordered = rows[widths[rows].argsort(descending=True)]
    yield from ordered.chunk(max(1, len(rows) // size))


def estimate_advantages(rollout: Rollout, gae_lambda: float) -> tuple[Tensor, Tensor]:
    """Undiscounted generalised advantages and returns, float32[T, E] each.

    Source: Schulman et al., "High-Dimensional Continuous Control Using Generalized Advantage
    Estimation" (arXiv 1506.02438), with γ = 1.
    """
    advantages = torch.zeros_like(rollout.values)
    advantage = torch.zeros_like(rollout.next_values)
    next_values = rollout.next_values
    for t in reversed(range(len(rollout.rewards))):
        not_done = 1 - rollout.dones[t]
        delta = rollout.rewards[t] + not_done * next_values - rollout.values[t]
        advantage = delta + gae_lambda * not_done * advantage
        advantages[t], next_values = advantage, rollout.values[t]
    return advantages, advantages + rollout.values
