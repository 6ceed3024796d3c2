"""Compiled rollouts of typed trees.

The skeleton of :mod:`autotts_gym.discovery.code_generation` is compiled once, with an interpreter
of postfix code in its slots. The code and the constants of a program are arguments, so that no
program needs to be compiled during a search.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import linecache
import math
from collections.abc import Sequence
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
_FADE, _LN, _OVER = pt.FADE, pt.LN, pt.OVER
_FEATURE = pt.FEATURE


def _run(code, values, stack, features):  # type: ignore[no-untyped-def] # compiled
    """Evaluate a tree, with the operations of ``code_generation.OPERATION_TEMPLATES``."""
    top = -1
    for word in code:
        if word < 0:
            break
        if word < _FEATURE:
            top += 1
            stack[top] = values[word]
        elif word < _ADD:
            top += 1
            stack[top] = features[word - _FEATURE]
        elif word == _FADE:
            stack[top] = math.exp(-max(stack[top], 0.0))
        elif word == _LN:
            stack[top] = math.log1p(max(stack[top], 0.0))
        else:
            b = stack[top]
            top -= 1
            a = stack[top]
            if word == _ADD:
                a = a + b
            elif word == _SUB:
                a = a - b
            elif word == _MUL:
                a = a * b
            elif word == _MIN:
                a = min(a, b)
            elif word == _MAX:
                a = max(a, b)
            else:
                a = a / (1.0 + abs(b))
            stack[top] = a
    return stack[0]


def _build_solve() -> tuple[Any, str]:
    """The skeleton with the interpreter in its slots, and a digest of their source."""
    slots = {}
    for row, slot in enumerate(pt.SLOTS):
        features = ", ".join(f if f in pt.AVAILABLE[slot] else "0.0" for f in pt.FEATURES)
        slots[slot] = f"_run(codes[{row}], values, stack, ({features}))"
        if slot in ("drop", "stop"):
            slots[slot] += " > 0.0"
    text = skeleton(pt.FEATURES).format(
        parameters="beta, codes, values",
        constants="    stack = np.empty(len(codes[0]))",
        stride="max(1, int(values[-1]))",
        **slots,
    )
    # Tracebacks and the digest of compiled code read the source from linecache.
    name = "<skeleton>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace = globals()
    exec(compile(text, name, "exec"), namespace)
    digest = hashlib.sha256((text + inspect.getsource(_run)).encode()).hexdigest()
    return namespace["solve"], digest


_SOLVE, _DIGEST = _build_solve()
#: Arguments of an empty program, from which the types of the arguments are compiled.
_EMPTY: Final = (
    np.full((len(pt.SLOTS), pt.MAX_CODE + 1), pt.END, np.int64),
    np.zeros(pt.MAX_CONSTANTS),
)


class TreeRollout:
    """Plays typed trees on a search set in compiled code.

    Args:
        search: environments, questions and branch orders.
        logs: keep the actions of every episode.
    """

    def __init__(self, search: SearchSet, *, logs: bool = False) -> None:
        agent = FunctionAgent("program", Path("program"), True, _DIGEST, _SOLVE)
        self.search = search
        self._rollouts = [
            Rollout(agent, store, search.config, logs=logs, extra_args=_EMPTY)
            for store in search.stores
        ]
        assert all(rollout.path == "compiled" for rollout in self._rollouts)

    def play(
        self,
        program: Program,
        environment: int,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
    ) -> EpisodeResults:
        """Play K episodes of one environment.

        Args:
            program: the tree.
            environment: index of the environment.
            questions: int64[K], rows of the store.
            orders: int64[K, max_branches], branch orders.
            beta: β.
        """
        rollout = self._rollouts[environment]
        rollout.extra_args = (program.code(), program.values(beta))
        return rollout.play(questions, orders, beta)

    def sweep(self, program: Program, questions: Sequence[int] | None = None) -> Curve:
        """Run the β sweep of a program on all questions, or on the given rows."""
        return self.search.sweep(functools.partial(self.play, program), questions)
