"""What a critic may know and a policy must not: how an episode would go on.

Traces are recorded whole before anything is learned from them, so a *value*, which only training
needs, can be told from what lies ahead: which branches end with the right answer, and after how
long. The advantages of decisions are then far less noisy, and stay unbiased: a state's value may
depend on all of the state, hidden parts included, as long as the decisions do not (asymmetric
actor-critic, Pinto et al., arXiv 1710.06542).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autotts_gym.controllers.policy_network import Shape, Trunk, initialize
from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp import state as s
from autotts_gym.mdp.macro_batch import MacroBatch

#: Columns of what is told of a branch that is open.
BRANCH_FEATURES: Final = (
    "ends right",
    "says right",  # its latest answer is the right one
    "left",  # intervals up to its end that were not requested, in mean lengths over 2
)
#: Entries of what is told of the episode.
FEATURES: Final = (
    "leader right",  # the leading answer is
    "right",  # share of all recorded branches of the question that end right
    "others",  # the largest share that ends with one and the same other answer
    "length",  # of the question's branches, in the environment's mean lengths over 2
    "next right",  # whether the next branch to be opened ends right, and its length
    "next length",
)
BRANCH_SIZE: Final = len(BRANCH_FEATURES)
SIZE: Final = len(FEATURES)


class PrivilegedFeatures:
    """Looks ahead in the episodes of a batch.

    Args:
        batch: of which the traces are whole.
    """

    def __init__(self, batch: MacroBatch) -> None:
        self._batch = batch
        replay = batch.dataset
        traces = replay.traces.branches
        # As questions are laid out one after the other, so are their branches.
        starts = replay.questions["branches"]
        question = np.repeat(np.arange(len(starts)), replay.branch_counts)
        self._right = traces["final"] == replay.questions["gold"][question]
        self._lengths = traces["length"] + 1
        self._facts = np.zeros((len(starts), 3), np.float32)
        for q, (start, count) in enumerate(zip(starts, replay.branch_counts, strict=True)):
            own = slice(start, start + count)
            wrong = traces["final"][own][~self._right[own]]
            most = np.unique(wrong, return_counts=True)[1].max(initial=0)
            share, length = self._right[own].mean(), self._lengths[own].mean()
            self._facts[q] = share, most / count, length

    def look(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What lies ahead: float32[E, N, BRANCH_SIZE] and float32[E, SIZE]."""
        batch = self._batch
        rows = np.arange(len(batch.actions))
        mean = batch.mean_lengths(rows)
        opened = batch.branches["status"] != s.UNOPENED
        gold = batch.ledger["gold"]
        branches = np.zeros((*opened.shape, BRANCH_SIZE), np.float32)
        branches[:, :, 0] = self._right[batch.order] & opened
        latest = batch.branches["latest"]
        branches[:, :, 1] = self._says(latest, gold) & opened
        left = self._lengths[batch.order] - batch.branches["requested"]
        branches[:, :, 2] = np.where(opened, left.clip(0) / (2 * mean[:, None]), 0)
        features = np.zeros((len(rows), SIZE), np.float32)
        leader = batch.memory[:, -1, d.LEADER]
        features[:, 0] = self._says(leader[:, None], gold)[:, 0]
        features[:, 1:4] = self._facts[batch.ledger["question"]]
        features[:, 3] /= 2 * mean
        after = batch.ledger["opened"]
        there = after < batch.order.shape[1]
        following = batch.order[rows, np.minimum(after, batch.order.shape[1] - 1)]
        features[:, 4] = self._right[following] & there
        features[:, 5] = np.where(there, self._lengths[following] / (2 * mean), 0)
        return branches, features

    def _says(self, classes: NDArray[np.integer], gold: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether classes of the episodes, [E, K], stand for the right answer."""
        codes = np.take_along_axis(
            self._batch.codes[:, s.CODE_OF], np.maximum(classes, 0).astype(np.int64), 1
        )
        found: NDArray[np.bool_] = (classes >= 0) & (codes == gold[:, None])
        return found


class Critic(nn.Module):
    """The value of a state, which only training needs; it is told what lies ahead as well."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.trunk = Trunk(shape, (BRANCH_SIZE, SIZE))
        self.value = nn.Linear(shape.hidden, 1)
        initialize(self, self.value, gain=1.0)

    def judge(self, branches: Tensor, features: Tensor, ahead: tuple[Tensor, Tensor]) -> Tensor:
        """Values, float32[...]; ``ahead``: what ``PrivilegedFeatures.look`` returns."""
        seen = torch.cat([branches, ahead[0]], -1), torch.cat([features, ahead[1]], -1)
        found: Tensor = self.value(self.trunk(*seen)).squeeze(-1)
        return found
