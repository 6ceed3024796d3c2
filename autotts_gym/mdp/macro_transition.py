"""A step of an episode by a macro-action: its bundle is played, summed up and observed."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.batch_kernels import BatchArrays
from autotts_gym.mdp.jit import inlined
from autotts_gym.mdp.macro_actions import NUM_MACRO_ACTIONS, expand, update_mask
from autotts_gym.mdp.macro_features import BRANCH_RECORD, GLOBAL_RECORD, update_features
from autotts_gym.mdp.macro_memory import BRANCH_MEMORY, EPISODE_MEMORY, Memory, update_memory
from autotts_gym.mdp.observation import View, generation_view_of, view_of
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.state import Records, state_of
from autotts_gym.mdp.transition import play_action


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


@inlined
def memory_of(macro: MacroArrays, e: int) -> Memory:
    """The memory of episode ``e``."""
    return Memory(macro.branch_memory[e], macro.episode_memory[e])


@inlined
def observe(macro: MacroArrays, view: View, depth_limit: int, e: int) -> None:
    """Write features and mask of episode ``e``."""
    memory, mean_length = memory_of(macro, e), macro.mean_lengths[e]
    update_features(view, memory, mean_length, depth_limit, macro.branches[e], macro.globals[e])
    update_mask(view, memory, mean_length, macro.mask[e])


@inlined
def play_macro_action(arrays, e, macro_action, queue, history, lengths, atomic):
    """Play a macro-action in episode ``e``, and observe it.

    Args:
        arrays: :class:`MacroBatchArrays`.
        queue: int32[>= max_bundle_length], overwritten.
        history, lengths, atomic: as in :class:`MacroBatch`.

    Returns:
        What :func:`~autotts_gym.mdp.transition.play_action` returns, summed over the actions.
    """
    rewards = costs = all_tokens = all_latency = 0.0
    outcomes = 0
    episode = state_of(arrays.batch.episodes, e)
    view = view_of(arrays.batch.views, e)
    generation = generation_view_of(arrays.batch.generation, e)
    memory = memory_of(arrays.macro, e)
    mean_length, limit = arrays.macro.mean_lengths[e], episode.ledger.depth_limit
    if atomic:
        count, queue[0] = 0, macro_action
    else:
        count = expand(view, memory, mean_length, limit, macro_action, queue)
    for k in range(max(count, 1)):
        if count > 0 and view.mask[queue[k]] == 0:
            continue
        if history.shape[1] > 0:
            history[e, lengths[e]] = queue[k]
            lengths[e] += 1
        reward, cost, tokens, latency, outcome = play_action(episode, view, generation, queue[k])
        rewards += reward
        costs += cost
        all_tokens += tokens
        all_latency += latency
        outcomes |= outcome
        if episode.ledger.ended:
            break
    update_memory(memory, view, mean_length)
    observe(arrays.macro, view, limit, e)
    return rewards, costs, all_tokens, all_latency, outcomes
