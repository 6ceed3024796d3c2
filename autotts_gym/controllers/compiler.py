"""Compilation of controllers together with the rules."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

import numba
import numpy as np

from autotts_gym.controllers.compiled_episode import CompiledEpisode
from autotts_gym.controllers.errors import NoAnswerError
from autotts_gym.controllers.function_digest import global_names
from autotts_gym.mdp import rules
from autotts_gym.mdp.jit import CONTROLLER, entry_point
from autotts_gym.mdp.settled_tokens import settled_tokens
from autotts_gym.mdp.state import state_of


def compile_controller(solve: Callable[..., Any], takes_beta: bool) -> Any:
    """Compile ``solve`` and the helper functions of its module, as ``f(episode, beta)``."""
    assert isinstance(solve, FunctionType)
    compiled_solve = _compile(solve, {})
    if takes_beta:
        return compiled_solve

    def without_beta(episode, beta):
        return compiled_solve(episode)

    return numba.njit(**CONTROLLER)(without_beta)


def _compile(function: FunctionType, done: dict[FunctionType, Any]) -> Any:
    """Compile a function after the plain functions that it refers to.

    Helper functions therefore need no numba decorator. Only those of the function's own module and
    of this package are compiled: the key of the cached machine code covers no others.
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
    for name in global_names(function.__code__):
        value = namespace.get(name)
        if isinstance(value, FunctionType) and (
            value.__globals__ is function.__globals__
            or (value.__module__ or "").startswith("autotts_gym.")
        ):
            namespace[name] = done[value] if value in done else _compile(value, done)
    return dispatcher


def compile_player(solve: Callable[..., Any], takes_beta: bool, key: str) -> Any:
    """Compile a function that plays episode after episode with one controller.

    Args:
        solve, takes_beta: the controller. It also receives the elements of ``extra_args``.
        key: digest of the controller, under which the machine code is cached.
    """
    controller = compile_controller(solve, takes_beta)

    def play(
        arrays,
        log,
        initial_ledgers,
        questions,
        rows,
        orders,
        betas,
        settle,
        recount,
        results,
        played,
        extra_args,
    ):
        state = state_of(arrays, 0)
        ledger, traces = state.ledger, arrays.traces
        episode = CompiledEpisode(
            np.int64(arrays.ledger.ctypes.data),
            np.int64(arrays.branches.ctypes.data),
            np.int64(arrays.codes.ctypes.data),
            np.int64(arrays.order.ctypes.data),
            np.int64(traces.probes.ctypes.data),
            np.int64(traces.branches.ctypes.data),
            np.int64(traces.confidences.ctypes.data),
            np.int64(traces.probe_tokens.ctypes.data),
            np.int64(traces.nulls.ctypes.data),
            np.int64(log.ctypes.data),
            np.int64(arrays.branches.shape[1]),
            np.int64(arrays.codes.shape[2]),
            np.int64(len(traces.confidences)),
            np.int64(traces.confidence_sums.ctypes.data),
            np.int64(traces.confidence_tokens.ctypes.data),
        )
        # After an exception, the caller reads `played` and continues behind the failed episode.
        while played[0] < len(rows):
            k = played[0]
            row = rows[k]
            question = questions[row]
            initial_ledger = initial_ledgers[question.store]
            rules.begin(state, initial_ledger, question, row, orders[k], betas[k])
            controller(episode, betas[k], *extra_args)
            if ledger.ended == 0:
                raise NoAnswerError("solve returned without episode.answer()")
            rules.conclude(state, results[k])
            if settle:
                actions = log[: ledger.steps]
                results[k].settled_tokens = settled_tokens(
                    recount, initial_ledger, question, row, orders[k], state.branches, actions
                )
            played[0] += 1

    return entry_point(key, allocates=True)(play)
