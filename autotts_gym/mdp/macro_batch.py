"""Batches of episodes that are played by macro-actions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import flat_observation
from autotts_gym.mdp.actions import max_legal_actions
from autotts_gym.mdp.batch import SKIP, Batch, BatchArrays, EpisodeStart
from autotts_gym.mdp.flat_observation import LIMIT
from autotts_gym.mdp.jit import entry_point, inlined
from autotts_gym.mdp.macro_actions import (
    NUM_MACRO_ACTIONS,
    expand,
    max_bundle_length,
    update_mask,
)
from autotts_gym.mdp.macro_features import (
    BRANCH_RECORD,
    GLOBAL_RECORD,
    NUM_ALL_GLOBAL_FEATURES,
    NUM_BRANCH_FEATURES,
    NUM_GLOBAL_FEATURES,
    update_features,
)
from autotts_gym.mdp.macro_memory import (
    BRANCH_MEMORY,
    EPISODE_MEMORY,
    Memory,
    reset_memory,
    update_memory,
)
from autotts_gym.mdp.observation import View, generation_view_of, view_of
from autotts_gym.mdp.packed_arrays import Axes, pack
from autotts_gym.mdp.state import Records, state_of
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset
from autotts_gym.mdp.transition import COST, LATENCY, TOKENS, play_action

# --- compiled code -------------------------------------------------------------------------------


class MacroArrays(NamedTuple):
    """What macro-actions add to the arrays of E episodes.

    Attributes:
        mean_lengths: float64[E], mean length of a branch of the environment, intervals.
        branch_memory: BRANCH_MEMORY[E, N].
        episode_memory: EPISODE_MEMORY[E].
        branches: BRANCH_RECORD[E, N], branch features.
        globals: GLOBAL_RECORD[E], global features.
        mask: int8[E, NUM_MACRO_ACTIONS].
    """

    mean_lengths: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    branch_memory: Annotated[Records, Axes(BRANCH_MEMORY, 2)]
    episode_memory: Annotated[Records, Axes(EPISODE_MEMORY, 1)]
    branches: Annotated[Records, Axes(BRANCH_RECORD, 2)]
    globals: Annotated[Records, Axes(GLOBAL_RECORD, 1)]
    mask: Annotated[NDArray[np.int8], Axes(np.int8, 2)]

    @classmethod
    def allocate(
        cls,
        branch_features: NDArray[np.float32],
        global_features: NDArray[np.float32],
    ) -> MacroArrays:
        """Arrays that share the memory of the features.

        Args:
            branch_features: float32[E, N, NUM_BRANCH_FEATURES].
            global_features: float32[E, NUM_ALL_GLOBAL_FEATURES].
        """
        num_envs, n, _ = branch_features.shape
        return cls(
            np.ones(num_envs),
            np.zeros((num_envs, n), BRANCH_MEMORY),
            np.zeros(num_envs, EPISODE_MEMORY),
            branch_features.view(BRANCH_RECORD)[..., 0],
            global_features.view(GLOBAL_RECORD)[..., 0],
            np.zeros((num_envs, NUM_MACRO_ACTIONS), np.int8),
        )


class MacroBatchArrays(NamedTuple):
    """The arrays of a batch that is played by macro-actions."""

    batch: BatchArrays
    macro: MacroArrays


class TrackedArrays(NamedTuple):
    """The arrays of one episode that another environment steps, with an axis of one episode."""

    views: View
    macro: MacroArrays


@inlined
def _memory_of(macro: MacroArrays, e: int) -> Memory:
    return Memory(macro.branch_memory[e], macro.episode_memory[e])


@inlined
def _observe(macro: MacroArrays, view: View, depth_limit: int, e: int) -> None:
    """Write features and mask of episode ``e``."""
    memory, mean_length = _memory_of(macro, e), macro.mean_lengths[e]
    update_features(view, memory, mean_length, depth_limit, macro.branches[e], macro.globals[e])
    update_mask(view, memory, mean_length, macro.mask[e])


@entry_point(packed=MacroBatchArrays)
def _step(arrays, actions, rewards, costs, outcomes, queue, history, lengths, atomic):
    ended = 0
    for e in range(len(actions)):
        rewards[e] = 0.0
        costs[:, e] = 0.0
        outcomes[e] = 0
        if actions[e] == SKIP:
            continue
        episode = state_of(arrays.batch.episodes, e)
        view = view_of(arrays.batch.views, e)
        generation = generation_view_of(arrays.batch.generation, e)
        memory = _memory_of(arrays.macro, e)
        mean_length, limit = arrays.macro.mean_lengths[e], episode.ledger.depth_limit
        if atomic:
            count, queue[0] = 0, actions[e]
        else:
            count = expand(view, memory, mean_length, limit, actions[e], queue)
        for k in range(max(count, 1)):
            if count > 0 and view.mask[queue[k]] == 0:
                continue
            if history.shape[1] > 0:
                history[e, lengths[e]] = queue[k]
                lengths[e] += 1
            reward, cost, tokens, latency, outcome = play_action(
                episode, view, generation, queue[k]
            )
            rewards[e] += reward
            costs[COST, e] += cost
            costs[TOKENS, e] += tokens
            costs[LATENCY, e] += latency
            outcomes[e] |= outcome
            if episode.ledger.ended:
                break
        ended += episode.ledger.ended
        update_memory(memory, view, mean_length)
        _observe(arrays.macro, view, limit, e)
    return ended


@entry_point(packed=MacroBatchArrays)
def _begin(arrays, episodes):
    for e in episodes:
        reset_memory(_memory_of(arrays.macro, e))
        limit = arrays.batch.episodes.ledger[e].depth_limit
        _observe(arrays.macro, view_of(arrays.batch.views, e), limit, e)


@entry_point(packed=TrackedArrays)
def _expand_tracked(arrays, depth_limit, macro_action, queue):
    view, memory = view_of(arrays.views, 0), _memory_of(arrays.macro, 0)
    return expand(view, memory, arrays.macro.mean_lengths[0], depth_limit, macro_action, queue)


@entry_point(packed=TrackedArrays)
def _observe_tracked(arrays, depth_limit, is_start):
    view, memory = view_of(arrays.views, 0), _memory_of(arrays.macro, 0)
    if is_start:
        reset_memory(memory)
    else:
        update_memory(memory, view, arrays.macro.mean_lengths[0])
    _observe(arrays.macro, view, depth_limit, 0)


# --- interface -----------------------------------------------------------------------------------


class MacroTracker:
    """Bundles, features and mask of one episode, which another environment steps.

    Args:
        max_branches: N.
        atomic: macro-actions are single actions of ``AutoTTS-v0``, by their ids.

    Attributes:
        branch_features: float32[N, NUM_BRANCH_FEATURES].
        features: float32[NUM_GLOBAL_FEATURES], global features.
        all_features: float32[NUM_ALL_GLOBAL_FEATURES], the same with those about latency.
    """

    def __init__(self, max_branches: int, *, atomic: bool = False) -> None:
        self._atomic = atomic
        branch_features = np.zeros((1, max_branches, NUM_BRANCH_FEATURES), np.float32)
        features = np.zeros((1, NUM_ALL_GLOBAL_FEATURES), np.float32)
        self._macro = MacroArrays.allocate(branch_features, features)
        self._bind()
        self._queue = np.empty(0, np.int32)
        self._depth_limit = 0
        self._packed_view: tuple[View, NDArray[np.int64]] | None = None

    def _bind(self) -> None:
        """Make the features of the records' memory."""
        macro, n = self._macro, self._macro.branches.shape[1]
        self.branch_features = macro.branches.view(np.float32).reshape(n, NUM_BRANCH_FEATURES)
        self.all_features = macro.globals.view(np.float32)
        self.features = self.all_features[:NUM_GLOBAL_FEATURES]

    def __getstate__(self) -> dict[str, Any]:
        # A copy has its arrays at other addresses, and binds its features anew.
        left_out = ("branch_features", "all_features", "features")
        kept = {key: value for key, value in self.__dict__.items() if key not in left_out}
        return kept | {"_packed_view": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._bind()

    def mask(self, view: View) -> NDArray[np.int8]:
        """Legal macro-actions, int8[NUM_MACRO_ACTIONS]; or legal actions, int8[2 + 4N]."""
        return view.mask[0] if self._atomic else self._macro.mask[0]

    def bundle(self, view: View, macro_action: int) -> list[int]:
        """The actions of a macro-action; one illegal action if the macro-action is illegal."""
        if self._atomic:
            return [macro_action]
        count = _expand_tracked(self._packed(view), self._depth_limit, macro_action, self._queue)
        return self._queue[: max(count, 1)].tolist()

    def begin(self, view: View, mean_length: float, depth_limit: int) -> None:
        """Start an episode.

        Args:
            view: its observation, with an axis of one episode.
            mean_length: mean length of the environment's branches, intervals.
            depth_limit: largest length of the environment's branches, intervals.
        """
        self._macro.mean_lengths[0], self._depth_limit = mean_length, depth_limit
        size = max_bundle_length(len(self.branch_features), depth_limit)
        if len(self._queue) < size:
            self._queue = np.empty(size, np.int32)
        self.branch_features[:] = 0
        self._observe(view, is_start=True)

    def follow(self, view: View) -> None:
        """Observe the episode after a bundle was played."""
        self._observe(view, is_start=False)

    def _packed(self, view: View) -> NDArray[np.int64]:
        """``TrackedArrays``, packed; an environment passes the same view in every step."""
        if self._packed_view is None or self._packed_view[0] is not view:
            self._packed_view = view, pack(TrackedArrays(view, self._macro))
        return self._packed_view[1]

    def _observe(self, view: View, *, is_start: bool) -> None:
        _observe_tracked(self._packed(view), self._depth_limit, is_start)


class MacroBatch(Batch):
    """A :class:`~autotts_gym.mdp.batch.Batch` whose ``actions`` are macro-actions.

    Args:
        dataset, config, num_envs, max_depth, max_classes, plane, invalid_penalty: as for ``Batch``.
        flat: as for ``Batch``.
        keep_actions: keep the actions of every episode in ``history``.
        atomic: ``actions`` are single actions of ``AutoTTS-v0``; the observation is the same.
        observes_latency: as for ``Batch``.

    Attributes:
        history: int32[E, L], ids of the actions of each episode; L = 0 if they are not kept.
        lengths: int64[E], number of actions in ``history``.
        branch_features: float32[E, N, NUM_BRANCH_FEATURES].
        features: float32[E, NUM_GLOBAL_FEATURES], global features.
        all_features: float32[E, NUM_ALL_GLOBAL_FEATURES], the same with those about latency.
        episode_memory: EPISODE_MEMORY[E], see :mod:`autotts_gym.mdp.macro_memory`.
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
        keep_actions: bool = False,
        atomic: bool = False,
        flat: dict[str, slice] | None = None,
        *,
        observes_latency: bool = False,
    ) -> None:
        self._atomic = atomic
        n = config.max_branches
        history_length = max_legal_actions(n, dataset.depth) if keep_actions else 0
        self.history = np.zeros((num_envs, history_length), np.int32)
        self.lengths = np.zeros(num_envs, np.int64)
        self._queue = np.empty(max_bundle_length(n, dataset.depth), np.int32)
        self.branch_features = np.zeros((num_envs, n, NUM_BRANCH_FEATURES), np.float32)
        self.all_features = np.zeros((num_envs, NUM_ALL_GLOBAL_FEATURES), np.float32)
        self._macro = MacroArrays.allocate(self.branch_features, self.all_features)
        super().__init__(
            dataset,
            config,
            num_envs,
            max_depth,
            max_classes,
            plane,
            invalid_penalty,
            flat=flat,
            observes_latency=observes_latency,
        )

    def _bind(self) -> None:
        super()._bind()
        self.features = self.all_features[:, :NUM_GLOBAL_FEATURES]
        # The records share the memory of the features, also after a copy.
        self._macro = self._macro._replace(
            branches=self.branch_features.view(BRANCH_RECORD)[..., 0],
            globals=self.all_features.view(GLOBAL_RECORD)[..., 0],
        )
        self.episode_memory: Records = self._macro.episode_memory
        self._macro_packed = pack(
            MacroBatchArrays(BatchArrays(self._state, self.view, self.generation), self._macro)
        )
        self._macro_step_arguments = (
            self._macro_packed,
            self.actions,
            self.rewards,
            self._costs,
            self.outcomes,
            self._queue,
            self.history,
            self.lengths,
            self._atomic,
        )

    def __getstate__(self) -> dict[str, Any]:
        bound = ("features", "episode_memory", "_macro_packed", "_macro_step_arguments")
        return {k: v for k, v in super().__getstate__().items() if k not in bound}

    @property
    def mask(self) -> NDArray[np.int8]:
        """Legal macro-actions, int8[E, NUM_MACRO_ACTIONS]; or legal actions, int8[E, 2 + 4N]."""
        return self.view.mask if self._atomic else self._macro.mask

    def observed(self) -> dict[str, NDArray[Any]]:
        """The observations by key, each with an axis of episodes."""
        confidences = super().observed()["branch_generation_confidence"]
        return {
            "action_mask": self.mask,
            "branches": self.branch_features,
            "branch_generation_confidence": confidences,
            "globals": self.all_features if self._observes_latency else self.features,
        }

    def step(self) -> int:
        """Play the macro-actions in ``self.actions``; ``SKIP`` leaves an episode unchanged.

        Returns:
            Number of episodes that ended.
        """
        ended = int(_step(*self._macro_step_arguments))
        if self.flat_slices:
            self.update_flat()
        return ended

    def play(self, action: int) -> None:
        """Play a macro-action in the first episode of a batch that has no other."""
        self.actions[0] = action
        self.step()

    def update_flat(self) -> None:
        arrays = self.observed()
        arrays["branch_generation_confidence"] = flat_observation.scaled_confidence(
            arrays["branch_generation_confidence"]
        )
        for name, part in self.flat_slices.items():
            values = arrays[name].reshape(len(self.flat), -1)
            np.clip(values, -LIMIT, LIMIT, out=self.flat[:, part])

    def reset(self, episodes: Sequence[int], starts: Sequence[EpisodeStart]) -> None:
        """Start ``episodes``, each from its entry of ``starts``."""
        super().reset(episodes, starts)
        rows = np.array(episodes, np.int64)
        self._macro.mean_lengths[rows] = self.mean_lengths(rows)
        self.lengths[rows] = 0
        self.branch_features[rows] = 0
        _begin(self._macro_packed, rows)
        if self.flat_slices:
            self.update_flat()
