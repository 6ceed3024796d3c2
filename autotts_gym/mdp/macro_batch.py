"""Many episodes side by side that are played by decisions: see :mod:`autotts_gym.mdp.macro_actions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import macro_actions as d
from autotts_gym.mdp.actions import max_legal_actions
from autotts_gym.mdp.batch import SKIP, Batch, BatchArrays, EpisodeStart, play_action
from autotts_gym.mdp.jit import entry_point
from autotts_gym.mdp.observation import View, view_of
from autotts_gym.mdp.state import state_of
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset


@entry_point("decisions", flatten=BatchArrays)
def _decide(
    batch,
    actions,
    rewards,
    costs,
    outcomes,
    means,
    log,
    memory,
    branch_features,
    features,
    decision_mask,
    history,
    lengths,
    atomic,
):
    ended = 0
    for e in range(len(actions)):
        rewards[e] = 0.0
        costs[e] = 0.0
        outcomes[e] = 0
        if actions[e] == SKIP:
            continue
        episode = state_of(batch.episodes, e)
        view = view_of(batch.views, e)
        mean, limit = means[e], episode.ledger.depth_limit
        if atomic:
            count, log[0] = 0, actions[e]
        else:
            count = d.bundle(view, memory[e], mean, limit, actions[e], log)
        for k in range(max(count, 1)):
            if count > 0 and view.mask[log[k]] == 0:
                continue
            if history.shape[1] > 0:
                history[e, lengths[e]] = log[k]
                lengths[e] += 1
            reward, cost, outcome = play_action(episode, view, log[k])
            rewards[e] += reward
            costs[e] += cost
            outcomes[e] |= outcome
            if episode.ledger.ended:
                break
        ended += episode.ledger.ended
        d.remember(memory[e], view, mean)
        d.summarize(view, memory[e], mean, limit, branch_features[e], features[e])
        d.show_mask(view, memory[e], mean, decision_mask[e])
    return ended


@entry_point("decisions", flatten=BatchArrays)
def _begin(batch, means, memory, branch_features, features, decision_mask, episodes):
    for e in episodes:
        view = view_of(batch.views, e)
        limit = batch.episodes.ledger[e].depth_limit
        d.forget(memory[e])
        d.summarize(view, memory[e], means[e], limit, branch_features[e], features[e])
        d.show_mask(view, memory[e], means[e], decision_mask[e])


@entry_point("decisions", flatten=View)
def _lay(views, memory, mean, limit, decision, log):
    return d.bundle(view_of(views, 0), memory, mean, limit, decision, log)


@entry_point("decisions", flatten=View)
def _take_in(views, memory, mean, limit, starts, branch_features, features, decision_mask):
    view = view_of(views, 0)
    if starts:
        d.forget(memory)
    else:
        d.remember(memory, view, mean)
    d.summarize(view, memory, mean, limit, branch_features, features)
    d.show_mask(view, memory, mean, decision_mask)


class MacroTracker:
    """Bundles and summaries of one episode of an environment that is stepped action by action.

    Args:
        max_branches: N.
        atomic: a decision is an action of ``AutoTTS-v0``, by its id, instead of a bundle.

    Attributes:
        branch_features: float32[N, BRANCH_SIZE]; ``features``: float32[SIZE].
    """

    def __init__(self, max_branches: int, *, atomic: bool = False) -> None:
        self._atomic = atomic
        self._memory = np.zeros((max_branches + 1, d.MEMORY_SIZE), np.int32)
        self._log = np.empty(0, np.int32)
        self._depth = 0
        self._mean = 1.0
        self.branch_features = np.zeros((max_branches, d.BRANCH_SIZE), np.float32)
        self.features = np.zeros(d.SIZE, np.float32)
        self._mask = np.zeros(d.COUNT, np.int8)

    def mask(self, view: View) -> NDArray[np.int8]:
        """Which decisions can be made, int8[COUNT], or int8[2 + 4N]."""
        return view.mask[0] if self._atomic else self._mask

    def bundle(self, view: View, decision: int) -> list[int]:
        """The actions of a decision; one that is illegal where it cannot be made."""
        if self._atomic:
            return [decision]
        known = (self._memory, self._mean, self._depth)
        count = _lay(*view, *known, decision, self._log)
        return self._log[: max(count, 1)].tolist()

    def begin(self, view: View, mean: float, depth: int) -> None:
        """An episode has started.

        Args:
            view: its observation.
            mean, depth: mean and greatest length of the environment's branches, intervals.
        """
        self._mean, self._depth = mean, depth
        longest = d.longest(len(self.branch_features), depth)
        if len(self._log) < longest:
            self._log = np.empty(longest, np.int32)
        self._take_in(view, starts=True)

    def follow(self, view: View) -> None:
        """A bundle was played."""
        self._take_in(view, starts=False)

    def _take_in(self, view: View, *, starts: bool) -> None:
        known = (self._memory, self._mean, self._depth, starts)
        _take_in(*view, *known, self.branch_features, self.features, self._mask)


class MacroBatch(Batch):
    """A :class:`~autotts_gym.mdp.batch.Batch` whose ``actions`` are decisions.

    Args: as for ``Batch``, and ``keeps``: whether every action that is played is kept; ``atomic``:
    ``actions`` are those of ``AutoTTS-v0``, and only what is seen is that of decisions.

    Attributes:
        history: int32[E, L], the ids of the actions of each episode, and ``lengths``: int64[E], how
            many they are; L is 0 where they are not kept.
        memory: int32[E, N + 1, 4], see :mod:`autotts_gym.mdp.macro_actions`.
        branch_features: float32[E, N, BRANCH_SIZE]; ``features``: float32[E, SIZE].
    """

    def __init__(
        self,
        dataset: TraceDataset,
        config: EpisodeConfig,
        num_envs: int,
        max_depth: int,
        max_classes: int,
        plane: bool,
        invalid_penalty: float,
        keeps: bool = False,
        atomic: bool = False,
    ) -> None:
        self._atomic = atomic
        n = config.max_branches
        longest = max_legal_actions(n, dataset.depth) if keeps else 0
        self.history = np.zeros((num_envs, longest), np.int32)
        self.lengths = np.zeros(num_envs, np.int64)
        self._means = np.ones(num_envs)
        self._log = np.empty(d.longest(n, dataset.depth), np.int32)
        self.memory = np.zeros((num_envs, n + 1, d.MEMORY_SIZE), np.int32)
        self.branch_features = np.zeros((num_envs, n, d.BRANCH_SIZE), np.float32)
        self.features = np.zeros((num_envs, d.SIZE), np.float32)
        self._mask = np.zeros((num_envs, d.COUNT), np.int8)
        super().__init__(dataset, config, num_envs, max_depth, max_classes, plane, invalid_penalty)

    def _bind(self) -> None:
        super()._bind()
        shown = (self.memory, self.branch_features, self.features, self._mask)
        kept = (self.history, self.lengths)
        self._decide_arrays = (
            *self._step_arguments,
            self._means,
            self._log,
            *shown,
            *kept,
            self._atomic,
        )
        self._begin_arrays = (*self._arrays, self._means, *shown)

    def __getstate__(self) -> dict[str, Any]:
        left = ("_decide_arrays", "_begin_arrays")
        return {k: v for k, v in super().__getstate__().items() if k not in left}

    @property
    def mask(self) -> NDArray[np.int8]:
        """Which decisions can be made, int8[E, COUNT], or int8[E, 2 + 4N]."""
        return self.view.mask if self._atomic else self._mask

    def observed(self) -> dict[str, NDArray[Any]]:
        return {
            "action_mask": self.mask,
            "branches": self.branch_features,
            "globals": self.features,
        }

    def step(self) -> int:
        """Make the decisions in ``self.actions``; returns how many episodes ended with it."""
        return int(_decide(*self._decide_arrays))

    def reset(self, episodes: Sequence[int], starts: Sequence[EpisodeStart]) -> None:
        super().reset(episodes, starts)
        rows = np.array(episodes, np.int64)
        self._means[rows] = self.mean_lengths(rows)
        self.lengths[rows] = 0
        _begin(*self._begin_arrays, rows)
