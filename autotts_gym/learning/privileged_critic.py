"""A critic that also reads how the episode would continue, which a policy must not.

Traces are recorded in full before training, so the critic, which only training needs, can read
which branches end with the correct answer, and after how many intervals. That makes advantages less
noisy. They stay unbiased: a value may depend on all of the state, hidden parts included, as long as
the choice of actions does not (asymmetric actor-critic, Pinto et al., arXiv 1710.06542).
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from autotts_gym.controllers.policy_network import Shape, Trunk, initialize
from autotts_gym.mdp import state as s
from autotts_gym.mdp.macro_batch import MacroBatch

#: Features of an open branch.
BRANCH_FEATURES: Final = (
    "ends_correct",  # its final answer is correct
    "is_correct",  # its latest answer is correct
    "remaining",  # intervals up to its end that were not requested, in mean lengths over 2
)
#: Features of the episode.
GLOBAL_FEATURES: Final = (
    "leader_correct",  # the leading answer is correct
    "correct_share",  # of all recorded branches of the question
    "wrong_share",  # largest share of recorded branches with the same wrong final answer
    "length",  # mean length of the question's branches, in the environment's mean lengths over 2
    "next_correct",  # the next branch to be opened ends correct
    "next_length",  # its length, in mean lengths over 2
)
NUM_BRANCH_FEATURES: Final = len(BRANCH_FEATURES)
NUM_GLOBAL_FEATURES: Final = len(GLOBAL_FEATURES)


class PrivilegedFeatures:
    """Computes the privileged features of a batch of episodes.

    Args:
        batch: a batch over recorded traces.
    """

    def __init__(self, batch: MacroBatch) -> None:
        self._batch = batch
        dataset = batch.dataset
        traces = dataset.traces.branches
        # Branches are stored question after question.
        starts = dataset.questions["branches"]
        question = np.repeat(np.arange(len(starts)), dataset.branch_counts)
        self._ends_correct = traces["final"] == dataset.questions["gold"][question]
        self._lengths = traces["length"] + 1
        #: float32[Q, 3]: correct share, wrong share, and mean length in intervals.
        self._of_question = np.zeros((len(starts), 3), np.float32)
        for q, (start, count) in enumerate(zip(starts, dataset.branch_counts, strict=True)):
            rows = slice(start, start + count)
            wrong = traces["final"][rows][~self._ends_correct[rows]]
            most_common = np.unique(wrong, return_counts=True)[1].max(initial=0)
            correct_share, length = self._ends_correct[rows].mean(), self._lengths[rows].mean()
            self._of_question[q] = correct_share, most_common / count, length

    def compute(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Features of the current states of E episodes.

        Returns:
            float32[E, N, NUM_BRANCH_FEATURES], zeros for branches that are not open, and
            float32[E, NUM_GLOBAL_FEATURES].
        """
        batch = self._batch
        rows = np.arange(len(batch.actions))
        mean_length = batch.mean_lengths(rows)
        open_branches = batch.branches["status"] != s.UNOPENED
        gold = batch.ledger["gold"]
        remaining = self._lengths[batch.order] - batch.branches["requested"]
        branches = {
            "ends_correct": self._ends_correct[batch.order],
            "is_correct": self._is_correct(batch.branches["latest"], gold),
            "remaining": remaining.clip(0) / (2 * mean_length[:, None]),
        }
        leader = batch.episode_memory["leader"]
        correct_share, wrong_share, length = self._of_question[batch.ledger["question"]].T
        opened = batch.ledger["opened"]
        has_next = opened < batch.order.shape[1]
        next_branch = batch.order[rows, np.minimum(opened, batch.order.shape[1] - 1)]
        features = {
            "leader_correct": self._is_correct(leader[:, None], gold)[:, 0],
            "correct_share": correct_share,
            "wrong_share": wrong_share,
            "length": length / (2 * mean_length),
            "next_correct": self._ends_correct[next_branch] & has_next,
            "next_length": np.where(has_next, self._lengths[next_branch] / (2 * mean_length), 0),
        }
        return (
            np.stack(
                [np.where(open_branches, branches[name], 0) for name in BRANCH_FEATURES],
                axis=-1,
                dtype=np.float32,
            ),
            np.stack([features[name] for name in GLOBAL_FEATURES], axis=-1, dtype=np.float32),
        )

    def _is_correct(
        self, classes: NDArray[np.integer], gold: NDArray[np.int64]
    ) -> NDArray[np.bool_]:
        """Whether classes of the episodes, [E, K], are the gold answer; ``gold``: int64[E]."""
        codes = np.take_along_axis(
            self._batch.codes[:, s.CODE_OF], np.maximum(classes, 0).astype(np.int64), 1
        )
        correct: NDArray[np.bool_] = (classes >= 0) & (codes == gold[:, None])
        return correct


class Critic(nn.Module):
    """The value of a state, from observation and privileged features; only training needs it.

    Args:
        shape: sizes of the network.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.trunk = Trunk(shape, (NUM_BRANCH_FEATURES, NUM_GLOBAL_FEATURES))
        self.value = nn.Linear(shape.hidden, 1)
        initialize(self, self.value, gain=1.0)

    def forward(
        self,
        branches: Tensor,
        features: Tensor,
        privileged: tuple[Tensor, Tensor],
        opened: Tensor | None = None,
    ) -> Tensor:
        """Values, float32[...].

        Args:
            branches, features, opened: observations, as for ``Trunk.forward``.
            privileged: as of :meth:`PrivilegedFeatures.compute`.
        """
        embedding = self.trunk(
            torch.cat([branches, privileged[0]], -1),
            torch.cat([features, privileged[1]], -1),
            opened,
        )
        values: Tensor = self.value(embedding).squeeze(-1)
        return values
