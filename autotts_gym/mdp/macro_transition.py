"""A step of an episode by a macro-action: its bundle is played, summed up and observed."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import observation, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import ANSWER_BRANCH, BRANCH, CONTINUE, PROBE, PRUNE
from autotts_gym.mdp.batch_kernels import BatchArrays
from autotts_gym.mdp.jit import inlined
from autotts_gym.mdp.macro_actions import NUM_MACRO_ACTIONS, expand, update_mask
from autotts_gym.mdp.macro_features import BRANCH_RECORD, GLOBAL_RECORD, update_features
from autotts_gym.mdp.macro_memory import (
    BRANCH_MEMORY,
    EPISODE_MEMORY,
    Memory,
    count_remembered,
    reset_memory,
    update_memory,
)
from autotts_gym.mdp.macro_votes import BALLOT
from autotts_gym.mdp.observation import View, generation_view_of, view_of
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.prefetch import prefetch
from autotts_gym.mdp.state import Records, state_of
from autotts_gym.mdp.transition import (
    affordability,
    observe_branch,
    observe_masks,
    play_action,
    play_unobserved,
)


class MacroArrays(NamedTuple):
    """What macro-actions add to the arrays of E episodes.

    Attributes:
        mean_lengths: float64[E], mean length of a branch of the environment, intervals.
        branch_memory: BRANCH_MEMORY[E, N].
        episode_memory: EPISODE_MEMORY[E].
        branches: BRANCH_RECORD[E, N], branch features.
        globals: GLOBAL_RECORD[E], global features.
        mask: int8[E, NUM_MACRO_ACTIONS].
        ballots: BALLOT[E, N], working memory.
    """

    mean_lengths: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    branch_memory: Annotated[Records, Axes(BRANCH_MEMORY, 2)]
    episode_memory: Annotated[Records, Axes(EPISODE_MEMORY, 1)]
    branches: Annotated[Records, Axes(BRANCH_RECORD, 2)]
    globals: Annotated[Records, Axes(GLOBAL_RECORD, 1)]
    mask: Annotated[NDArray[np.int8], Axes(np.int8, 2)]
    ballots: Annotated[Records, Axes(BALLOT, 2)]

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
            np.zeros((num_envs, n), BALLOT),
        )


class MacroBatchArrays(NamedTuple):
    """The arrays of a batch that is played by macro-actions."""

    batch: BatchArrays
    macro: MacroArrays


@inlined
def memory_of(macro: MacroArrays, e: int) -> Memory:
    """The memory of episode ``e``."""
    return Memory(macro.branch_memory[e], macro.episode_memory[e], macro.ballots[e])


@inlined
def observe(macro: MacroArrays, view: View, depth_limit: int, e: int, is_start: bool) -> None:
    """Update memory, features and mask of episode ``e`` after a macro-action, or at its start."""
    memory, mean_length = memory_of(macro, e), macro.mean_lengths[e]
    if is_start:
        reset_memory(memory)
    votes = count_remembered(memory, view, mean_length)
    if not is_start:
        update_memory(memory, view, votes)
    update_features(
        view, memory, votes, mean_length, depth_limit, macro.branches[e], macro.globals[e]
    )
    update_mask(view, memory, mean_length, macro.mask[e])


@inlined
def _extend_at_once(episode, i, most):
    """CONTINUE(i) as often as is legal, at most ``most`` times; returns how often.

    At the step limit, the last action settles the costs: it is left to ``play_unobserved``.
    """
    ledger = episode.ledger
    most = min(most, ledger.depth_limit - episode.branches[i].requested)
    most = min(most, ledger.step_limit - ledger.steps - 1)
    if most < 2 or not rules.can_extend(episode, i):
        return 0
    count = rules.affordable_intervals(episode, most)
    rules.extend_by(episode, i, count)
    ledger.steps += count
    return count


@inlined
def _prefetch_branches(episode, queue, count):
    """Load the branches of a bundle."""
    n = episode.branches.shape[0]
    opened = episode.ledger.opened
    for k in range(count):
        action = queue[k, 0]
        if action == BRANCH:
            if opened < n:
                prefetch(episode.branches, opened)
                prefetch(episode.traces.branches, episode.order[opened])
            opened += 1
        elif action < rules.action_id(PROBE, 0, n):
            prefetch(episode.branches, action - rules.action_id(CONTINUE, 0, n))


@inlined
def _prefetch_classes(episode, queue, count):
    """Load the classes of the answers that the second half of a bundle reveals."""
    n = episode.branches.shape[0]
    first, end = rules.action_id(PROBE, 0, n), rules.action_id(PRUNE, 0, n)
    for k in range(count // 2, count):
        action = queue[k, 0]
        if first <= action < end:
            b = episode.branches[action - first]
            if b.status == s.ACTIVE and b.requested <= b.length:
                code = episode.traces.probes[b.offset + b.requested - 1]
                prefetch(episode.codes[s.CLASS_OF], code)


@inlined
def _observe_bundle(episode, view, generation, queue, count):
    """Update the observation of the branches of a bundle: each has one run of PROBE or PRUNE."""
    n = episode.branches.shape[0]
    first, end = rules.action_id(PROBE, 0, n), rules.action_id(ANSWER_BRANCH, 0, n)
    first_prune = rules.action_id(PRUNE, 0, n)
    for k in range(count):
        action = queue[k, 0]
        if first <= action < end:
            i = action - (first_prune if action >= first_prune else first)
            if i < episode.ledger.opened:  # the budget may not have covered it
                observe_branch(episode, view, generation, i)


@inlined
def play_macro_action(arrays, e, macro_action, queue, history, lengths, atomic):
    """Play a macro-action in episode ``e``, and observe it.

    Args:
        arrays: :class:`MacroBatchArrays`.
        queue: int32[>= max_runs, 2], overwritten.
        history, lengths, atomic: as in :class:`MacroBatch`.

    Returns:
        What :func:`~autotts_gym.mdp.transition.play_action` returns, summed over the actions.
    """
    rewards = costs = all_tokens = all_latency = 0.0
    outcomes = 0
    episode = state_of(arrays.batch.episodes, e)
    ledger = episode.ledger
    view = view_of(arrays.batch.views, e)
    generation = generation_view_of(arrays.batch.generation, e)
    count = 0
    if not atomic:
        memory, mean_length = memory_of(arrays.macro, e), arrays.macro.mean_lengths[e]
        count = expand(view, memory, mean_length, ledger.depth_limit, macro_action, queue)
        macro_action = queue[0, 0]
    keeps_actions = history.shape[1] > 0
    if count == 0:  # a single action, or an illegal one
        if keeps_actions:
            history[e, lengths[e]] = macro_action
            lengths[e] += 1
        rewards, costs, all_tokens, all_latency, outcomes = play_action(
            episode, view, generation, macro_action
        )
    _prefetch_branches(episode, queue, count)
    before = affordability(episode)
    changes = False  # whether the budget ever covered more or less than at the start
    first_continue = rules.action_id(CONTINUE, 0, episode.branches.shape[0])
    for k in range(count):
        if 2 * k == count:
            _prefetch_classes(episode, queue, count)
        action, times = queue[k, 0], queue[k, 1]
        while times > 0 and ledger.ended == 0:
            played = 0
            if times > 1:
                i = action - first_continue
                played = _extend_at_once(episode, i, times)
                if played > 0:
                    # The sums of single actions, to the last bit.
                    tokens = ledger.interval / ledger.full_cost
                    cost = (1 - ledger.latency_weight) * tokens + ledger.latency_weight * 0.0
                    reward = 0.0 - (1 - ledger.beta) * cost
                    for _ in range(played):
                        rewards += reward
                        costs += cost
                        all_tokens += tokens
            if played == 0:
                if not rules.is_legal(episode, action):
                    break
                played = 1
                reward, cost, tokens, latency, outcome, _ = play_unobserved(episode, action)
                rewards += reward
                costs += cost
                all_tokens += tokens
                all_latency += latency
                outcomes |= outcome
            times -= played
            changes = changes or before != affordability(episode)
            if keeps_actions:
                for _ in range(played):
                    history[e, lengths[e]] = action
                    lengths[e] += 1
    if count > 0:
        _observe_bundle(episode, view, generation, queue, count)
        if changes:
            observe_masks(view, episode)
        observation.update_globals(view, episode)
    observe(arrays.macro, view, ledger.depth_limit, e, False)
    return rewards, costs, all_tokens, all_latency, outcomes
