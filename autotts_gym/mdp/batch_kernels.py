"""Compiled functions over a batch of episodes: steps, queued actions and starts."""

from __future__ import annotations

from typing import Annotated, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp import observation, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import ANSWER_BRANCH, BRANCH, BY_TOKENS, PROBE
from autotts_gym.mdp.episode_draws import DRAWN, DrawSources, draw
from autotts_gym.mdp.episode_info import InfoSources, write_info
from autotts_gym.mdp.flat_observation import write_flat
from autotts_gym.mdp.jit import entry_point, inlined
from autotts_gym.mdp.observation import GenerationView, View, generation_view_of, view_of
from autotts_gym.mdp.packed_arrays import Axes
from autotts_gym.mdp.prefetch import prefetch
from autotts_gym.mdp.rules import action_id
from autotts_gym.mdp.slices import operation
from autotts_gym.mdp.state import EpisodeArrays, EpisodeState, Records, state_of
from autotts_gym.mdp.transition import COST, ILLEGAL, LATENCY, TOKENS, play_action

#: Passed instead of an action: do not step this episode.
SKIP: Final = -1


class BatchArrays(NamedTuple):
    """Everything that the rules read and write of E episodes.

    Attributes:
        episodes: their states.
        views, generation: their observations.
    """

    episodes: EpisodeArrays
    views: View
    generation: GenerationView


class StepArrays(NamedTuple):
    """The actions of a step of E episodes, and what it returns besides the observations.

    Attributes:
        actions: int64[E].
        rewards: float64[E].
        costs: float64[3, E].
        outcomes: uint8[E], bits.
        invalid: int8[E], 1 if the action was illegal.
        info: the numbers of ``info`` that belong to an episode.
    """

    actions: Annotated[NDArray[np.int64], Axes(np.int64, 1)]
    rewards: Annotated[NDArray[np.float64], Axes(np.float64, 1)]
    costs: Annotated[NDArray[np.float64], Axes(np.float64, 2)]
    outcomes: Annotated[NDArray[np.uint8], Axes(np.uint8, 1)]
    invalid: Annotated[NDArray[np.int8], Axes(np.int8, 1)]
    info: InfoSources


class PlayedArrays(NamedTuple):
    """The arrays of a batch that is played step by step.

    Attributes:
        batch, step: see there.
        flat: float32[E, F], flat observations; F = 0 if they are not written here.
        initial: LEDGER[S], the initial ledger of an episode of each store.
    """

    batch: BatchArrays
    step: StepArrays
    flat: Annotated[NDArray[np.float32], Axes(np.float32, 2)]
    initial: Annotated[Records, Axes(s.LEDGER, 1)]


class StartArrays(NamedTuple):
    """The arrays of a batch whose episodes are drawn.

    Attributes:
        played, draws: see there.
        orders: int64[T, at least the number of branches of any question], memory of T threads.
        chosen: int64[E], of which the first are the episodes to start.
    """

    played: PlayedArrays
    draws: DrawSources
    orders: Annotated[NDArray[np.int64], Axes(np.int64, 2)]
    chosen: Annotated[NDArray[np.int64], Axes(np.int64, 1)]


@inlined
def clear_info(step: Any, e: int) -> None:
    """Clear what ``info`` holds of the latest step of an episode."""
    step.costs[COST, e] = 0.0
    step.costs[TOKENS, e] = 0.0
    step.costs[LATENCY, e] = 0.0
    step.invalid[e] = 0


@inlined
def clear_step(step: Any, e: int) -> None:
    """Write what a step returns of an episode that it does not play."""
    step.rewards[e] = 0.0
    step.outcomes[e] = 0
    clear_info(step, e)


@inlined
def write_step(step: Any, e: int, episode: EpisodeState, result: Any) -> None:
    """Write what a step returns of an episode, from the result of ``play_action``."""
    reward, cost, tokens, latency, outcome = result
    step.rewards[e] = reward
    step.costs[COST, e] = cost
    step.costs[TOKENS, e] = tokens
    step.costs[LATENCY, e] = latency
    step.outcomes[e] = outcome
    step.invalid[e] = outcome & ILLEGAL != 0
    if episode.ledger.ended:
        write_info(step.info, episode, e)


@inlined
def _write_flat(played: Any, e: int, view: View, generation: GenerationView, ledger: Any) -> None:
    if played.flat.shape[1] > 0:
        write_flat(played.flat[e], view, generation, ledger)


@inlined
def _branch_of(action, n):
    """The branch that an action refers to; 0 for ANSWER and BRANCH."""
    i = max(action - 2, 0)
    while i >= n:
        i -= n
    return i


@inlined
def _prefetch_branch(batch, e, action) -> None:
    """Load what an action reads and writes first."""
    views, n = batch.views, batch.episodes.branches.shape[1]
    i = _branch_of(action, n)
    prefetch(batch.episodes.ledger, e)
    prefetch(batch.episodes.branches[e], i)
    for block in range(ANSWER_BRANCH + 1):
        prefetch(views.mask[e], action_id(block, i, n))
    for column in range(views.branches.shape[0]):
        prefetch(views.branches[column, e], i)


@inlined
def _prefetch_probe(batch, e, action) -> None:
    """Load the recorded probe at the depth of the branch."""
    b = batch.episodes.branches[e, _branch_of(action, batch.episodes.branches.shape[1])]
    prefetch(batch.episodes.traces.probes, b.offset + b.requested - 1)


@inlined
def _prefetch_class(batch, e, action) -> None:
    """Load the class of the answer that PROBE reveals."""
    n = batch.episodes.branches.shape[1]
    first = action_id(PROBE, 0, n)
    if first <= action < first + n:
        b = batch.episodes.branches[e, action - first]
        if b.status == s.ACTIVE and b.requested <= b.length:
            code = batch.episodes.traces.probes[b.offset + b.requested - 1]
            prefetch(batch.episodes.codes[e, s.CLASS_OF], code)


@inlined
def _prefetch(batch, step, e, last) -> None:
    """Load what the steps of the next episodes read: what depends on other loads comes later."""
    if e + 12 < last:
        _prefetch_branch(batch, e + 12, step.actions[e + 12])
        _prefetch_probe(batch, e + 8, step.actions[e + 8])
        _prefetch_class(batch, e + 4, step.actions[e + 4])


@operation(PlayedArrays)
def step_episodes(played: Any, first: Any, last: Any, thread: Any) -> Any:
    """Play the actions of episodes ``first`` to ``last`` - 1; returns how many ended."""
    batch, step = played.batch, played.step
    ended = 0
    for e in range(first, last):
        _prefetch(batch, step, e, last)
        action = step.actions[e]
        if action == SKIP:
            clear_step(step, e)
            continue
        episode = state_of(batch.episodes, e)
        view = view_of(batch.views, e)
        generation = generation_view_of(batch.generation, e)
        write_step(step, e, episode, play_action(episode, view, generation, action))
        _write_flat(played, e, view, generation, episode.ledger)
        ended += episode.ledger.ended
    return ended


@entry_point(packed=BatchArrays)
def play_queues(batch, queues, counts, outcomes):
    """Play queued actions of some episodes, each up to its end or to an illegal action.

    An illegal action changes nothing, not even the number of steps. The arguments are those of
    :meth:`~autotts_gym.mdp.batch.Batch.queue_arguments`.
    """
    for e in range(len(counts)):
        if counts[e] == 0:
            continue
        episode = state_of(batch.episodes, e)
        view = view_of(batch.views, e)
        generation = generation_view_of(batch.generation, e)
        ledger, mask = episode.ledger, view.mask
        configured = ledger.billing
        outcome = 0
        played = 0
        while played < counts[e] and outcome == 0:
            action = queues[e, played]
            by_tokens = action == BRANCH + BY_TOKENS
            if by_tokens:
                action = BRANCH
            if ledger.ended or action < 0 or action >= mask.shape[0] or not mask[action]:
                outcome = ILLEGAL
                break
            if by_tokens:
                ledger.billing = s.BY_TOKENS
            _, _, _, _, outcome = play_action(episode, view, generation, action)
            ledger.billing = configured
            queues[e, played] = action
            played += 1
        counts[e] = played
        outcomes[e] = outcome


@inlined
def _begin(played, e, row, order, beta, weight):
    """Start episode ``e``."""
    batch = played.batch
    episode = state_of(batch.episodes, e)
    view = view_of(batch.views, e)
    generation = generation_view_of(batch.generation, e)
    question = played.step.info.questions[row]
    used = rules.begin(episode, played.initial[question.store], question, row, order, beta)
    episode.ledger.latency_weight = weight
    observation.write_initial(view, episode, used)
    observation.clear_generation(generation, used)
    observation.update_globals(view, episode)
    clear_info(played.step, e)
    write_info(played.step.info, episode, e)
    _write_flat(played, e, view, generation, episode.ledger)


@entry_point(packed=PlayedArrays)
def begin_episodes(played, chosen, rows, betas, weights, orders):
    """Start the K episodes ``chosen`` from given questions, β, w and orders of branches."""
    for k in range(len(chosen)):
        _begin(played, chosen[k], rows[k], orders[k], betas[k], weights[k])


@operation(StartArrays)
def start_episodes(arrays, first, last, thread):
    """Start the episodes ``chosen[first:last]`` from what is drawn for them."""
    order = arrays.orders[thread]
    width = arrays.played.batch.episodes.branches.shape[1]
    for k in range(first, last):
        e = arrays.chosen[k]
        row, beta, weight = draw(arrays.draws, e, DRAWN, DRAWN, width, order)
        _begin(arrays.played, e, row, order[:width], beta, weight)
        arrays.draws.streams.episodes[e] += np.uint64(1)
    return 0


@entry_point(packed=BatchArrays)
def replay_actions(batch, actions):
    """Play int64 ``actions`` in the first episode; nothing is reported of these steps."""
    episode = state_of(batch.episodes, 0)
    view = view_of(batch.views, 0)
    generation = generation_view_of(batch.generation, 0)
    for action in actions:
        play_action(episode, view, generation, action)


@entry_point(packed=PlayedArrays)
def conclude_episodes(played, chosen):
    """Write the infos of the episodes ``chosen``."""
    for e in chosen:
        write_info(played.step.info, state_of(played.batch.episodes, e), e)
