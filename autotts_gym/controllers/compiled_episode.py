"""The episode that compiled controllers receive.

``CompiledEpisode`` offers the methods of :class:`autotts_gym.controllers.episode.Episode` to
compiled code, where each becomes a few machine instructions. It is a tuple of numbers: addresses of
the episode's arrays and their lengths. Addresses, not arrays, because a controller may allocate,
and numba would then count references to every array of the tuple at each call.
"""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import numpy as np
from numba import types
from numba.extending import overload_attribute, overload_method

from autotts_gym.controllers.episode import NO_BUDGET
from autotts_gym.controllers.errors import IllegalActionError, StepLimitError
from autotts_gym.mdp import actions, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.generation_confidence import UNKNOWN
from autotts_gym.mdp.generation_confidence import lowest_confidence as lowest_window
from autotts_gym.mdp.generation_confidence import mean_confidence as mean_window
from autotts_gym.mdp.jit import WITHIN_CALLER, WITHOUT_RUNTIME, F, compiled, inlined
from autotts_gym.mdp.packed_arrays import view_at
from autotts_gym.mdp.state import EpisodeState, Traces


class CompiledEpisode(NamedTuple):
    """Addresses of the arrays of an :class:`~autotts_gym.mdp.state.EpisodeState`, and lengths.

    Names end in an underscore where a controller's attribute has the name without it.

    Attributes:
        ledger, branches, codes, order: addresses of the state's arrays.
        probes, trace_branches, confidences, probe_tokens, nulls: addresses of the trace arrays.
        log_: address of the action log, int32, with room for all actions that can be legal.
        max_branches_: number of rows of ``branches``.
        classes_: number of columns of ``codes``.
        has_confidences_: 0 if the traces have no confidences.
        confidence_sums, confidence_tokens: addresses of the trace arrays.
    """

    ledger: np.int64
    branches: np.int64
    codes: np.int64
    order: np.int64
    probes: np.int64
    trace_branches: np.int64
    confidences: np.int64
    probe_tokens: np.int64
    nulls: np.int64
    log_: np.int64
    max_branches_: np.int64
    classes_: np.int64
    has_confidences_: np.int64
    confidence_sums: np.int64
    confidence_tokens: np.int64


# Stands in for lengths that the rules never read. Numba adds the length to negative indices; adding
# 0 compiles to nothing, and the rules use no negative index.
_UNUSED_LENGTH = 0

_mean_confidence = compiled(mean_window)
_lowest_confidence = compiled(lowest_window)


@inlined
def _state(episode):
    traces = Traces(
        view_at(episode.probes, (_UNUSED_LENGTH,), np.int16),
        view_at(episode.trace_branches, (_UNUSED_LENGTH,), s.TRACE),
        view_at(episode.confidences, (_UNUSED_LENGTH,), np.float32),
        view_at(episode.probe_tokens, (_UNUSED_LENGTH,), np.int32),
        view_at(episode.nulls, (_UNUSED_LENGTH,), np.uint8),
        view_at(episode.confidence_sums, (_UNUSED_LENGTH,), np.float32),
        view_at(episode.confidence_tokens, (_UNUSED_LENGTH,), np.int32),
    )
    n = episode.max_branches_
    return EpisodeState(
        view_at(episode.ledger, (1,), s.LEDGER)[0],
        view_at(episode.branches, (n,), s.BRANCH),
        view_at(episode.codes, (s.CODE_ROWS, episode.classes_), np.int16),
        view_at(episode.order, (n,), np.int64),
        traces,
    )


@inlined
def _exists(episode, i):
    return 0 <= i < episode.max_branches_


@inlined
def _check_branch(episode, i):
    if i < 0 or i >= episode.max_branches_:
        raise IllegalActionError("there is no such branch")
    return i


@inlined
def _action_id(episode, block, i):
    return rules.action_id(block, i, episode.max_branches_)


@inlined
def _count_steps(episode, action, count):
    """Log an action played ``count`` times, and truncate the episode at its step limit."""
    ledger = _state(episode).ledger
    log = view_at(episode.log_, (_UNUSED_LENGTH,), np.int32)
    first = ledger.steps
    for k in range(first, first + count):
        log[k] = action
    ledger.steps = first + count
    if ledger.steps >= ledger.step_limit and ledger.ended == 0:
        ledger.ended = 1
        raise StepLimitError("the episode was truncated by its step limit")


@inlined
def _count_step(episode, action):
    _count_steps(episode, action, 1)


def _method(function: F) -> F:
    """Register ``function(episode, ...)`` as a method of the episode, inlined into its caller.

    Most actions are shorter than a call, which would pass all fields of the episode.
    """
    return _register(function, WITHIN_CALLER)


def _called_method(function: F) -> F:
    """Register a method that is called, not inlined: a long one that is rarely used."""
    return _register(function, WITHOUT_RUNTIME)


def _register(function: F, options: dict[str, Any]) -> F:
    def choose(episode: Any, *args: Any, **kwargs: Any) -> Any:
        return function if episode.instance_class is CompiledEpisode else None

    choose.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    overload_method(types.NamedUniTuple, function.__name__, strict=False, jit_options=options)(
        choose
    )
    return function


def _property(function: F) -> F:
    """Register ``function(episode)`` as an attribute of the episode."""

    @overload_attribute(
        types.NamedUniTuple, function.__name__, strict=False, jit_options=WITHOUT_RUNTIME
    )
    def choose(episode: Any) -> Any:
        return function if episode.instance_class is CompiledEpisode else None

    return function


# Methods and attributes, as documented in autotts_gym.controllers.episode.


@_called_method
def branch(episode):
    state = _state(episode)
    if not episode.can_branch():
        raise IllegalActionError("BRANCH is illegal here")
    i = rules.branch(state)
    _count_step(episode, actions.BRANCH)
    return i


@_method
def extend(episode, i):
    state = _state(episode)
    if not episode.can_extend(i):
        raise IllegalActionError("CONTINUE is illegal here")
    rules.extend(state, i)
    _count_step(episode, _action_id(episode, actions.CONTINUE, i))


@_called_method
def extend_fully(episode, i):
    if not episode.can_extend(i):
        return 0
    state = _state(episode)
    ledger = state.ledger
    count = min(ledger.depth_limit - state.branches[i].requested, ledger.step_limit - ledger.steps)
    count = rules.affordable_intervals(state, count)
    rules.extend_by(state, i, count)
    _count_steps(episode, _action_id(episode, actions.CONTINUE, i), count)
    return count


@_called_method
def read(episode, i):
    b = _state(episode).branches[_check_branch(episode, i)]
    episode.extend_fully(i)
    if episode.can_probe(i):
        episode.probe(i)
    return np.int64(b.latest), b.finished == 1


@_method
def probe(episode, i):
    state = _state(episode)
    if not episode.can_probe(i):
        raise IllegalActionError("PROBE is illegal here")
    rules.probe(state, i)
    _count_step(episode, _action_id(episode, actions.PROBE, i))
    b = state.branches[i]
    return np.int64(b.latest), b.finished == 1


@_method
def prune(episode, i):
    state = _state(episode)
    if not episode.can_prune(i):
        raise IllegalActionError("PRUNE is illegal here")
    rules.prune(state, i)
    _count_step(episode, _action_id(episode, actions.PRUNE, i))


@_called_method
def answer(episode, i=-1):
    state = _state(episode)
    if state.ledger.ended or (i >= 0 and not episode.can_answer(i)):
        raise IllegalActionError("ANSWER is illegal here")
    rules.answer(state, rules.plurality(state) if i < 0 else state.branches[i].latest)
    _count_step(episode, actions.ANSWER if i < 0 else _action_id(episode, actions.ANSWER_BRANCH, i))


@_method
def extend_all(episode):
    count = 0
    for i in range(episode.opened):
        if episode.can_extend(i):
            episode.extend(i)
            count += 1
    return count


@_method
def probe_all(episode):
    count = 0
    for i in range(episode.opened):
        if episode.can_probe(i):
            episode.probe(i)
            count += 1
    return count


@_method
def note(episode, name, value):
    _ = 0.0 + value  # rejects values that are not numbers, as in Python; compiles to nothing


@_method
def can_branch(episode):
    state = _state(episode)
    return state.ledger.ended == 0 and rules.can_branch(state)


@_method
def can_extend(episode, i):
    state = _state(episode)
    return state.ledger.ended == 0 and _exists(episode, i) and rules.can_extend(state, i)


@_method
def can_probe(episode, i):
    state = _state(episode)
    return state.ledger.ended == 0 and _exists(episode, i) and rules.can_probe(state, i)


@_method
def can_prune(episode, i):
    state = _state(episode)
    return state.ledger.ended == 0 and _exists(episode, i) and rules.can_prune(state, i)


@_method
def can_answer(episode, i):
    state = _state(episode)
    return state.ledger.ended == 0 and _exists(episode, i) and rules.can_answer(state, i)


@_method
def active(episode, i):
    return _state(episode).branches[_check_branch(episode, i)].status == s.ACTIVE


@_method
def depth(episode, i):
    return np.int64(_state(episode).branches[_check_branch(episode, i)].requested)


@_method
def revealed(episode, i):
    return np.int64(_state(episode).branches[_check_branch(episode, i)].revealed)


@_method
def latest(episode, i):
    return np.int64(_state(episode).branches[_check_branch(episode, i)].latest)


@_method
def finished(episode, i):
    return _state(episode).branches[_check_branch(episode, i)].finished == 1


@_method
def confidence(episode, i):
    state = _state(episode)
    b = state.branches[_check_branch(episode, i)]
    if episode.has_confidences_ == 0 or b.revealed == 0 or b.finished == 1:
        return -1.0
    return float(state.traces.confidences[b.offset + b.revealed - 1])


@_called_method
def generation_confidence(episode, i, window=None):
    state = _state(episode)
    b = state.branches[_check_branch(episode, i)]
    size = 0 if window is None else window
    if size < 0:
        raise ValueError("window must be at least 0, in intervals")
    if state.ledger.has_generation_confidence == 0:
        return UNKNOWN
    first = b.offset + state.order[i]
    sums, tokens = state.traces.confidence_sums, state.traces.confidence_tokens
    return _mean_confidence(sums, tokens, first, first + b.revealed, size)


@_called_method
def lowest_confidence(episode, i, window=None):
    state = _state(episode)
    b = state.branches[_check_branch(episode, i)]
    size = 0 if window is None else window
    if size < 0:
        raise ValueError("window must be at least 0, in intervals")
    if state.ledger.has_generation_confidence == 0:
        return UNKNOWN
    first = b.offset + state.order[i]
    end = first + b.revealed
    sums, tokens = state.traces.confidence_sums, state.traces.confidence_tokens
    lowest = _lowest_confidence(sums, tokens, first, end - b.finished, size)
    return lowest if lowest >= 0 else _mean_confidence(sums, tokens, first, end, 0)


@_method
def is_null(episode, answer):
    state = _state(episode)
    if answer < 0 or answer >= state.ledger.classes:
        return False
    code = state.codes[s.CODE_OF, answer]
    return state.traces.nulls[state.ledger.nulls + code] == 1


@_property
def max_branches(episode):
    return episode.max_branches_


@_property
def opened(episode):
    return _state(episode).ledger.opened


@_property
def interval(episode):
    return _state(episode).ledger.interval


@_property
def depth_limit(episode):
    return _state(episode).ledger.depth_limit


@_property
def mean_tokens(episode):
    return _state(episode).ledger.full_cost / episode.max_branches_


@_property
def latency_weight(episode):
    return _state(episode).ledger.latency_weight


@_property
def has_generation_confidence(episode):
    return _state(episode).ledger.has_generation_confidence == 1


@_property
def spent(episode):
    return _state(episode).ledger.spent


@_property
def clock(episode):
    return _state(episode).ledger.clock


@_property
def remaining(episode):
    ledger = _state(episode).ledger
    if ledger.budget == s.NO_BUDGET:
        return NO_BUDGET
    return max(ledger.budget - ledger.spent, 0)
