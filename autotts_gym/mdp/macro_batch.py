"""Batches of episodes that are played by macro-actions."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.actions import max_legal_actions
from autotts_gym.mdp.batch import Batch
from autotts_gym.mdp.batch_kernels import (
    SKIP,
    BatchArrays,
    PlayedArrays,
    clear_step,
    write_step,
)
from autotts_gym.mdp.episode_draws import DrawTables
from autotts_gym.mdp.flat_observation import clipped, scaled_confidence
from autotts_gym.mdp.generation_confidence import UNKNOWN
from autotts_gym.mdp.jit import entry_point, inlined
from autotts_gym.mdp.macro_actions import expand, max_runs
from autotts_gym.mdp.macro_features import (
    BRANCH_RECORD,
    GLOBAL_RECORD,
    NUM_ALL_GLOBAL_FEATURES,
    NUM_BRANCH_FEATURES,
    NUM_GLOBAL_FEATURES,
)
from autotts_gym.mdp.macro_transition import (
    MacroArrays,
    MacroBatchArrays,
    memory_of,
    observe,
    play_macro_action,
)
from autotts_gym.mdp.observation import View, view_of
from autotts_gym.mdp.packed_arrays import Axes, pack
from autotts_gym.mdp.slices import Program, bound, operation
from autotts_gym.mdp.state import Records, state_of
from autotts_gym.mdp.trace_dataset import EpisodeConfig, TraceDataset

# --- compiled code -------------------------------------------------------------------------------


class MacroPlayedArrays(NamedTuple):
    """The arrays of a batch that is played step by step, with those of macro-actions.

    Attributes:
        played, macro: see there.
        queues: int32[T, >= max_runs, 2], working memory of T threads; int32[T, 0, 2] if single
            actions are played.
        history, lengths, branch_features, all_features: as in :class:`MacroBatch`.
        flat: float32[E, F], flat observations; F = 0 if they are not wanted.
        chosen: int64[E], of which the first are the episodes that have started.
    """

    played: PlayedArrays
    macro: MacroArrays
    queues: Annotated[NDArray[np.int32], Axes(np.int32, 3)]
    history: Annotated[NDArray[np.int32], Axes(np.int32, 2)]
    lengths: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    branch_features: Annotated[NDArray[np.float32], Axes(np.float32, 3)]
    all_features: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    flat: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    chosen: Annotated[NDArray[np.int64], Axes(np.int64, 1)]


class TrackedArrays(NamedTuple):
    """The arrays of one episode that another environment steps, with an axis of one episode."""

    views: View
    macro: MacroArrays


@inlined
def _write_flat(arrays, e):
    """Write the flat observation of episode ``e``."""
    if arrays.flat.shape[1] == 0:
        return
    row, features = arrays.flat[e], arrays.branch_features[e]
    confidences = arrays.played.batch.generation.confidences[e]
    mask = arrays.played.batch.views.mask[e]
    if arrays.queues.shape[1] > 0:
        mask = arrays.macro.mask[e]
    n, numbers = features.shape
    # The global features that are shown: what the other slices leave.
    shown = row.shape[0] - n * numbers - n - mask.shape[0]
    for k in range(shown):
        row[k] = clipped(arrays.all_features[e, k])
    for i in range(n):
        for k in range(numbers):
            row[shown + i * numbers + k] = clipped(features[i, k])
    place = shown + n * numbers
    for i in range(n):
        row[place + i] = UNKNOWN
        if confidences.shape[0] > 0:
            row[place + i] = clipped(scaled_confidence(confidences[i]))
    place += n
    for a in range(mask.shape[0]):
        row[place + a] = mask[a]


@operation(MacroPlayedArrays)
def _step(arrays, first, last, thread):
    batch, step = arrays.played.batch, arrays.played.step
    both = MacroBatchArrays(batch, arrays.macro)
    queue, history, lengths = arrays.queues[thread], arrays.history, arrays.lengths
    atomic = queue.shape[0] == 0
    ended = 0
    for e in range(first, last):
        if step.actions[e] == SKIP:
            clear_step(step, e)
            continue
        result = play_macro_action(both, e, step.actions[e], queue, history, lengths, atomic)
        episode = state_of(batch.episodes, e)
        write_step(step, e, episode, result)
        _write_flat(arrays, e)
        ended += episode.ledger.ended
    return ended


@operation(MacroPlayedArrays)
def _begin(arrays, first, last, thread):
    batch, macro = arrays.played.batch, arrays.macro
    for k in range(first, last):
        e = arrays.chosen[k]
        ledger = batch.episodes.ledger[e]
        width = batch.episodes.branches.shape[1]
        macro.mean_lengths[e] = ledger.full_cost / width / ledger.interval
        arrays.lengths[e] = 0
        arrays.branch_features[e] = 0
        observe(macro, view_of(batch.views, e), ledger.depth_limit, e, True)
        _write_flat(arrays, e)
    return 0


@entry_point(packed=TrackedArrays)
def _expand_tracked(arrays, depth_limit, macro_action, queue):
    view, memory = view_of(arrays.views, 0), memory_of(arrays.macro, 0)
    return expand(view, memory, arrays.macro.mean_lengths[0], depth_limit, macro_action, queue)


@entry_point(packed=TrackedArrays)
def _observe_tracked(arrays, depth_limit, is_start):
    observe(arrays.macro, view_of(arrays.views, 0), depth_limit, 0, is_start)


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
        self._queue = np.empty((max_runs(max_branches), 2), np.int32)
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
        runs = self._queue[: max(count, 1)]
        bundle: list[int] = np.repeat(runs[:, 0], runs[:, 1]).tolist()
        return bundle

    def begin(self, view: View, mean_length: float, depth_limit: int) -> None:
        """Start an episode.

        Args:
            view: its observation, with an axis of one episode.
            mean_length: mean length of the environment's branches, intervals.
            depth_limit: largest length of the environment's branches, intervals.
        """
        self._macro.mean_lengths[0], self._depth_limit = mean_length, depth_limit
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
        observes_latency, draws, threads: as for ``Batch``.

    Attributes:
        history: int32[E, L], ids of the actions of each episode; L = 0 if they are not kept.
        lengths: int64[E], number of actions in ``history``.
        branch_features: float32[E, N, NUM_BRANCH_FEATURES].
        features: float32[E, NUM_GLOBAL_FEATURES], global features.
        all_features: float32[E, NUM_ALL_GLOBAL_FEATURES], the same with those about latency.
        episode_memory: EPISODE_MEMORY[E], see :mod:`autotts_gym.mdp.macro_memory`.
        arrays, bundle_arguments: the arrays and the last arguments of :func:`play_macro_action`.
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
        draws: DrawTables | None = None,
        threads: int = 1,
    ) -> None:
        self._atomic = atomic
        n = config.max_branches
        history_length = max_legal_actions(n, dataset.depth) if keep_actions else 0
        self.history = np.zeros((num_envs, history_length), np.int32)
        self.lengths = np.zeros(num_envs, np.int64)
        self._queues = np.empty((threads, 0 if atomic else max_runs(n), 2), np.int32)
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
            draws=draws,
            threads=threads,
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
        self.arrays = MacroBatchArrays(
            BatchArrays(self._state, self.view, self.generation), self._macro
        )
        self._macro_packed = pack(
            MacroPlayedArrays(
                self._played_arrays,
                self._macro,
                self._queues,
                self.history,
                self.lengths,
                self.branch_features,
                self.all_features,
                self.flat,
                self._chosen,
            )
        )
        self._macro_address = self._macro_packed.ctypes.data
        self.bundle_arguments = (self._queues[0], self.history, self.lengths, self._atomic)

    def _compiled_flat(self) -> NDArray[np.float32]:
        return np.empty((len(self.flat), 0), np.float32)  # written with the features

    _MACRO_BOUND: Final = (
        "features",
        "episode_memory",
        "arrays",
        "bundle_arguments",
        "_macro_packed",
        "_macro_address",
    )

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k not in self._MACRO_BOUND}

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

    def step_program(self) -> Program:
        """As of :class:`Batch`, for macro-actions."""
        return bound(_step, self._macro_packed)

    def step(self) -> None:
        """As of :class:`Batch`, for macro-actions."""
        _step(self._macro_address, 0, len(self.actions), 0)

    def start_program(self) -> Program:
        """As of :class:`Batch`."""
        return np.concatenate([super().start_program(), bound(_begin, self._macro_packed)])

    def _follow_start(self, count: int) -> None:
        _begin(self._macro_address, 0, count, 0)
