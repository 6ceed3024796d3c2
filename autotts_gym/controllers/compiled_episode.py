"""Controllers compiled together with the rules.

The handle here is a tuple of numbers: the addresses of an episode's arrays. It offers the methods
of :class:`autotts_gym.controllers.episode.EpisodeState` to compiled code, where each becomes a few
machine instructions. Addresses rather than arrays, because a controller may allocate, and numba
would count references to every array of the tuple at each call.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, NamedTuple

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload_attribute, overload_method
from numba.np.arrayobj import populate_array

from autotts_gym.controllers.episode import (
    NO_BUDGET,
    IllegalActionError,
    NoAnswerError,
    StepLimitError,
)
from autotts_gym.mdp import actions, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.jit import (
    CONTROLLER,
    WITHIN_CALLER,
    WITHOUT_RUNTIME,
    F,
    entry_point,
    inlined,
)
from autotts_gym.mdp.settled_tokens import settled_tokens
from autotts_gym.mdp.state import EpisodeState, Traces


class CompiledEpisode(NamedTuple):
    """Addresses of the arrays of an :class:`~autotts_gym.mdp.state.EpisodeState`, and their lengths.

    And that of the log, int32[...]: the ids of its actions, with room for all that are legal.
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


@intrinsic
def _view(typingctx: Any, address: Any, shape: Any, dtype: Any) -> Any:
    """A C-ordered array at an address; ``numba.carray`` does the same, but needs the run time."""
    array = types.Array(dtype.dtype, len(shape), "C")

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        made = context.make_array(array)(context, builder)
        itemsize = context.get_constant(types.intp, dtype.dtype.bitwidth // 8)
        sizes = cgutils.unpack_tuple(builder, args[1])
        strides = [itemsize]
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        data = builder.inttoptr(args[0], made.data.type)
        populate_array(made, data, sizes, strides, itemsize, meminfo=None)
        return made._getvalue()

    return array(types.int64, shape, dtype), build


# A length that the rules never ask for. Numba would count a negative index from it: adding 0 is
# left out of the machine code, and the rules have no negative index.
_ANY = 0


@inlined
def _episode(handle):
    traces = Traces(
        _view(handle.probes, (_ANY,), np.int16),
        _view(handle.trace_branches, (_ANY, 4), np.int64),
        _view(handle.confidences, (_ANY,), np.float32),
        _view(handle.probe_tokens, (_ANY,), np.int32),
        _view(handle.nulls, (_ANY,), np.uint8),
    )
    n = handle.max_branches_
    return EpisodeState(
        _view(handle.ledger, (s.LEDGER_SIZE,), np.int64),
        _view(handle.branches, (n, s.BRANCH_SIZE), np.int64),
        _view(handle.codes, (2, handle.classes_), np.int16),
        _view(handle.order, (n,), np.int64),
        traces,
    )


@inlined
def _exists(handle, i):
    return 0 <= i < handle.max_branches_


@inlined
def _known(handle, i):
    if i < 0 or i >= handle.max_branches_:
        raise IllegalActionError("there is no such branch")
    return i


@inlined
def _id(handle, block, i):
    return 2 + block * handle.max_branches_ + i


@inlined
def _count_step(handle, action):
    """Log an action that was played; the episode is cut off where that reaches the limit."""
    ledger = _episode(handle).ledger
    _view(handle.log_, (_ANY,), np.int32)[ledger[s.STEPS]] = action
    ledger[s.STEPS] += 1
    if ledger[s.STEPS] >= ledger[s.STEP_LIMIT] and ledger[s.ENDED] == 0:
        ledger[s.ENDED] = 1
        raise StepLimitError("the episode was cut off by its step limit")


def _method(function: F) -> F:
    """Make a function of (handle, ...) a method of the handle in compiled code.

    It becomes part of the controller. To call it would take longer than most actions do, since a
    handle is many words to pass.
    """
    return _offer(function, WITHIN_CALLER)


def _called_method(function: F) -> F:
    """Like :func:`_method`, for a long one that episodes seldom need."""
    return _offer(function, WITHOUT_RUNTIME)


def _offer(function: F, options: dict[str, Any]) -> F:
    def choose(handle: Any, *args: Any, **kwargs: Any) -> Any:
        return function if handle.instance_class is CompiledEpisode else None

    choose.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
    overload_method(types.NamedUniTuple, function.__name__, strict=False, jit_options=options)(
        choose
    )
    return function


def _property(function: F) -> F:
    """Make a function of (handle) an attribute of the handle in compiled code."""

    @overload_attribute(
        types.NamedUniTuple, function.__name__, strict=False, jit_options=WITHOUT_RUNTIME
    )
    def choose(handle: Any) -> Any:
        return function if handle.instance_class is CompiledEpisode else None

    return function


# --- the handle's methods, as in autotts_gym.controllers.episode ----------------------------------


@_called_method
def branch(handle):
    episode = _episode(handle)
    if not handle.can_branch():
        raise IllegalActionError("BRANCH is illegal here")
    i = rules.branch(episode)
    _count_step(handle, actions.BRANCH)
    return i


@_method
def extend(handle, i):
    episode = _episode(handle)
    if not handle.can_extend(i):
        raise IllegalActionError("CONTINUE is illegal here")
    rules.extend(episode, i)
    _count_step(handle, _id(handle, actions.CONTINUE, i))


@_method
def probe(handle, i):
    episode = _episode(handle)
    if not handle.can_probe(i):
        raise IllegalActionError("PROBE is illegal here")
    rules.probe(episode, i)
    _count_step(handle, _id(handle, actions.PROBE, i))
    b = episode.branches[i]
    return b[s.LATEST], b[s.FINISHED] == 1


@_method
def prune(handle, i):
    episode = _episode(handle)
    if not handle.can_prune(i):
        raise IllegalActionError("PRUNE is illegal here")
    rules.prune(episode, i)
    _count_step(handle, _id(handle, actions.PRUNE, i))


@_called_method
def answer(handle, i=-1):
    episode = _episode(handle)
    if episode.ledger[s.ENDED] or (i >= 0 and not handle.can_answer(i)):
        raise IllegalActionError("ANSWER is illegal here")
    rules.answer(episode, rules.plurality(episode) if i < 0 else episode.branches[i, s.LATEST])
    _count_step(handle, actions.ANSWER if i < 0 else _id(handle, actions.ANSWER_BRANCH, i))


@_method
def extend_all(handle):
    count = 0
    for i in range(handle.opened):
        if handle.can_extend(i):
            handle.extend(i)
            count += 1
    return count


@_method
def probe_all(handle):
    count = 0
    for i in range(handle.opened):
        if handle.can_probe(i):
            handle.probe(i)
            count += 1
    return count


@_method
def note(handle, name, value):
    _ = 0.0 + value  # what is no number is refused, as in Python; of the rest nothing remains


@_method
def can_branch(handle):
    episode = _episode(handle)
    return episode.ledger[s.ENDED] == 0 and rules.can_branch(episode)


@_method
def can_extend(handle, i):
    episode = _episode(handle)
    return episode.ledger[s.ENDED] == 0 and _exists(handle, i) and rules.can_extend(episode, i)


@_method
def can_probe(handle, i):
    episode = _episode(handle)
    return episode.ledger[s.ENDED] == 0 and _exists(handle, i) and rules.can_probe(episode, i)


@_method
def can_prune(handle, i):
    episode = _episode(handle)
    return episode.ledger[s.ENDED] == 0 and _exists(handle, i) and rules.can_prune(episode, i)


@_method
def can_answer(handle, i):
    episode = _episode(handle)
    return episode.ledger[s.ENDED] == 0 and _exists(handle, i) and rules.can_answer(episode, i)


@_method
def active(handle, i):
    return _episode(handle).branches[_known(handle, i), s.STATUS] == s.ACTIVE


@_method
def depth(handle, i):
    return _episode(handle).branches[_known(handle, i), s.REQUESTED]


@_method
def revealed(handle, i):
    return _episode(handle).branches[_known(handle, i), s.REVEALED]


@_method
def latest(handle, i):
    return _episode(handle).branches[_known(handle, i), s.LATEST]


@_method
def finished(handle, i):
    return _episode(handle).branches[_known(handle, i), s.FINISHED] == 1


@_method
def confidence(handle, i):
    episode = _episode(handle)
    b = episode.branches[_known(handle, i)]
    if handle.has_confidences_ == 0 or b[s.REVEALED] == 0 or b[s.FINISHED] == 1:
        return -1.0
    return float(episode.traces.confidences[b[s.OFFSET] + b[s.REVEALED] - 1])


@_method
def is_null(handle, answer):
    episode = _episode(handle)
    if answer < 0 or answer >= episode.ledger[s.CLASSES]:
        return False
    code = episode.codes[s.CODE_OF, answer]
    return episode.traces.nulls[episode.ledger[s.NULLS] + code] == 1


@_property
def max_branches(handle):
    return handle.max_branches_


@_property
def opened(handle):
    return _episode(handle).ledger[s.OPENED]


@_property
def interval(handle):
    return _episode(handle).ledger[s.INTERVAL]


@_property
def depth_limit(handle):
    return _episode(handle).ledger[s.DEPTH_LIMIT]


@_property
def spent(handle):
    return _episode(handle).ledger[s.SPENT]


@_property
def clock(handle):
    return _episode(handle).ledger[s.CLOCK]


@_property
def remaining(handle):
    ledger = _episode(handle).ledger
    if ledger[s.BUDGET] == s.NO_BUDGET:
        return NO_BUDGET
    return max(ledger[s.BUDGET] - ledger[s.SPENT], 0)


# --- controllers ---------------------------------------------------------------------------------


def compile_controller(solve: Callable[..., Any], takes_beta: bool) -> Any:
    """Compile ``solve`` with the helper functions of its own file, as ``f(handle, beta)``."""
    assert isinstance(solve, FunctionType)
    inner = _compile(solve, {})
    if takes_beta:
        return inner

    def without_beta(episode, beta):
        return inner(episode)

    return numba.njit(**CONTROLLER)(without_beta)


def _compile(function: FunctionType, done: dict[FunctionType, Any]) -> Any:
    """Compile a function and, first, the plain functions that it names.

    A controller need not know of numba: its helpers are functions like any other. Only those of
    its own file and of this package are compiled, for the key of the kept code covers no others.
    """
    namespace = dict(function.__globals__)
    copy = FunctionType(
        function.__code__,
        namespace,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    copy.__module__ = function.__module__
    done[function] = dispatcher = numba.njit(**CONTROLLER)(copy)
    for name in _names(function.__code__):
        value = namespace.get(name)
        if isinstance(value, FunctionType) and (
            value.__globals__ is function.__globals__
            or (value.__module__ or "").startswith("autotts_gym.")
        ):
            namespace[name] = done[value] if value in done else _compile(value, done)
    return dispatcher


def _names(code: Any) -> set[str]:
    """Global names that a function's code refers to, those of functions within it included."""
    inner = (c for c in code.co_consts if hasattr(c, "co_names"))
    return set(code.co_names).union(*map(_names, inner))


def player(solve: Callable[..., Any], takes_beta: bool, key: str) -> Any:
    """One compiled function that plays episode after episode with a controller.

    Args:
        solve, takes_beta: the controller; what is ``given`` when it plays are further arguments.
        key: digest of its text, under which the machine code is kept.
    """
    controller = compile_controller(solve, takes_beta)

    def play(
        episode,
        log,
        terms,
        questions,
        rows,
        orders,
        betas,
        settle,
        recount,
        results,
        played,
        given,
    ):
        ledger, branches, codes, order, traces = episode
        handle = CompiledEpisode(
            np.int64(ledger.ctypes.data),
            np.int64(branches.ctypes.data),
            np.int64(codes.ctypes.data),
            np.int64(order.ctypes.data),
            np.int64(traces.probes.ctypes.data),
            np.int64(traces.branches.ctypes.data),
            np.int64(traces.confidences.ctypes.data),
            np.int64(traces.probe_tokens.ctypes.data),
            np.int64(traces.nulls.ctypes.data),
            np.int64(log.ctypes.data),
            np.int64(branches.shape[0]),
            np.int64(codes.shape[1]),
            np.int64(len(traces.confidences)),
        )
        # An exception leaves the count of episodes behind, and Python goes on after the failed one.
        while played[0] < len(rows):
            k = played[0]
            row = rows[k]
            question = questions[row]
            agreed = terms[question[s.Q_STORE]]
            rules.begin(episode, agreed, question, row, orders[k])
            controller(handle, betas[k], *given)
            if ledger[s.ENDED] == 0:
                raise NoAnswerError("solve returned without episode.answer()")
            rules.conclude(episode, results[k])
            if settle:
                pricings = branches[:, s.PRICING]
                results[k, rules.SETTLED_TOKENS] = settled_tokens(
                    recount, agreed, question, row, orders[k], pricings, log[: ledger[s.STEPS]]
                )
            played[0] += 1

    return entry_point(key, allocates=True)(play)
