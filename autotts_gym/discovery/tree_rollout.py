"""Compiled rollouts of the genetic proposer's programs (``program_tree.Program``).

A program consists of expression trees that fill the slots of a fixed controller, the skeleton of
:mod:`autotts_gym.discovery.code_generation`. Compiling each program would take seconds. Instead,
the skeleton is compiled once, with a call of an interpreter in each slot. The interpreter evaluates
the trees of a program from their postfix code and constants, which are arguments.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import linecache
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.function_agent import FunctionAgent
from autotts_gym.discovery import program_tree as pt
from autotts_gym.discovery.code_generation import skeleton
from autotts_gym.discovery.objective import Curve, SearchSet
from autotts_gym.discovery.program_tree import Program
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.rollout import Rollout

_ADD, _SUB, _MUL, _MIN, _MAX = pt.ADD, pt.SUB, pt.MUL, pt.MIN, pt.MAX
_FADE, _LN = pt.FADE, pt.LN
_FEATURE = pt.FEATURE


def _evaluate(code, values, stack, features):  # type: ignore[no-untyped-def] # compiled
    """Evaluate the postfix code of one tree.

    The operations must equal ``code_generation.OPERATION_TEMPLATES``.
    """
    top = -1
    for op in code:
        if op < 0:
            break
        if op < _FEATURE:
            top += 1
            stack[top] = values[op]
        elif op < _ADD:
            top += 1
            stack[top] = features[op - _FEATURE]
        elif op == _FADE:
            stack[top] = math.exp(-max(stack[top], 0.0))
        elif op == _LN:
            stack[top] = math.log1p(max(stack[top], 0.0))
        else:
            b = stack[top]
            top -= 1
            a = stack[top]
            if op == _ADD:
                a = a + b
            elif op == _SUB:
                a = a - b
            elif op == _MUL:
                a = a * b
            elif op == _MIN:
                a = min(a, b)
            elif op == _MAX:
                a = max(a, b)
            else:  # OVER
                a = a / (1.0 + abs(b))
            stack[top] = a
    return stack[0]


def interpreted_slots() -> dict[str, str]:
    """The text of each slot of the skeleton: a call of the interpreter.

    They need the arguments ``codes`` and ``values``, and an array ``stack``.
    """
    slots: dict[str, str] = {}
    for row, slot in enumerate(pt.SLOTS):
        features = ", ".join(f if f in pt.AVAILABLE[slot] else "0.0" for f in pt.FEATURES)
        slots[slot] = f"_evaluate(codes[{row}], values, stack, ({features}))"
        if slot in ("drop", "stop"):
            slots[slot] += " > 0.0"
    return slots


def compile_skeleton(
    namespace: dict[str, Any], parameters: str, constants: str, slots: Mapping[str, str]
) -> tuple[Any, str]:
    """The skeleton as a function that has an interpreter in its slots.

    Args:
        namespace: globals of the function.
        parameters: its parameters after the episode.
        constants: lines at its beginning.
        slots: text of each slot, see :func:`interpreted_slots`.

    Returns:
        The function, and a digest of its source and of that of the interpreter.
    """
    text = skeleton(pt.FEATURES).format(
        parameters=parameters,
        constants=constants,
        stride="max(1, int(values[-1]))",
        **slots,
    )
    digest = hashlib.sha256((text + inspect.getsource(_evaluate)).encode()).hexdigest()
    # Tracebacks and the digest of compiled code read the source from linecache.
    name = f"<skeleton {digest[:12]}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    exec(compile(text, name, "exec"), namespace)
    return namespace["solve"], digest


_SOLVE, _DIGEST = compile_skeleton(
    globals(),
    "beta, codes, values",
    "    stack = np.empty(len(codes[0]))",
    interpreted_slots(),
)
#: ``codes`` and ``values`` of an empty program: numba infers the argument types from them.
EMPTY_PROGRAM: Final = (
    np.full((len(pt.SLOTS), pt.MAX_CODE + 1), pt.END, np.int64),
    np.zeros(pt.MAX_CONSTANTS),
)


class TreeRollout:
    """Plays programs on a search set in compiled code.

    Args:
        search: environments, questions and branch orders.
        logs: keep the actions of every episode.
    """

    def __init__(self, search: SearchSet, *, logs: bool = False) -> None:
        agent = FunctionAgent("program", Path("program"), True, _DIGEST, _SOLVE)
        self.search = search
        self._rollouts = [
            Rollout(agent, store, config, logs=logs, extra_args=EMPTY_PROGRAM)
            for store, config in zip(search.stores, search.configs, strict=True)
        ]
        assert all(rollout.path == "compiled" for rollout in self._rollouts)

    def play(
        self,
        program: Program,
        environment: int,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        latency: float = 0.0,
    ) -> EpisodeResults:
        """Play K episodes of one environment.

        Args:
            program: the program.
            environment: index of the environment in ``search.stores``.
            questions: int64[K], rows of the store.
            orders: int64[K, N of the environment], branch orders.
            beta: β of all episodes.
            latency: weight of latency of all episodes.
        """
        rollout = self._rollouts[environment]
        rollout.extra_args = (program.code(), program.values(beta, latency))
        return rollout.play(questions, orders, beta)

    def sweep(
        self,
        program: Program,
        questions: Sequence[int] | None = None,
        environments: Sequence[int] | None = None,
    ) -> Curve:
        """Play a program at several β and weights of latency, see :meth:`.SearchSet.sweep`."""
        play = functools.partial(self.play, program)
        return self.search.sweep(play, questions, environments, uses_latency=program.uses_latency)
