"""Compiled evaluation of programs as trees: nothing is compiled from one program to the next.

The skeleton of :mod:`autotts_gym.discovery.program_tree` is compiled once, with an evaluator of postfix
code in its slots; a program's code and constants are arguments.
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
from autotts_gym.discovery import program_tree as g
from autotts_gym.discovery.objective import Curve, SearchSet
from autotts_gym.discovery.program_tree import Program
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.rollout import Rollout

_ADD, _SUB, _MUL, _MIN, _MAX = g.ADD, g.SUB, g.MUL, g.MIN, g.MAX
_FADE, _LN, _OVER = g.FADE, g.LN, g.OVER
_FIGURE = g.FIGURE


def _run(code, values, stack, figures):  # type: ignore[no-untyped-def] # compiled
    """The value of a tree; the forms are those of ``grammar.FORM``."""
    top = -1
    for word in code:
        if word < 0:
            break
        if word < _FIGURE:
            top += 1
            stack[top] = values[word]
        elif word < _ADD:
            top += 1
            stack[top] = figures[word - _FIGURE]
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


def _made() -> tuple[Any, str]:
    """The skeleton with the evaluator in its slots, and what tells its text."""
    slots = {}
    for row, slot in enumerate(g.SLOTS):
        seen = ", ".join(f if f in g.VISIBLE[slot] else "0.0" for f in g.FIGURES)
        slots[slot] = f"_run(codes[{row}], values, stack, ({seen}))"
        if slot in ("drop", "stop"):
            slots[slot] += " > 0.0"
    text = g.skeleton(g.FIGURES).format(
        parameters="beta, codes, values",
        constants="    stack = np.empty(len(codes[0]))",
        stride="max(1, int(values[-1]))",
        **slots,
    )
    # So that tracebacks, and the digest of what is compiled, have the text.
    name = "<skeleton>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace = globals()
    exec(compile(text, name, "exec"), namespace)
    digest = hashlib.sha256((text + inspect.getsource(_run)).encode()).hexdigest()
    return namespace["solve"], digest


_SOLVE, _DIGEST = _made()
_NOTHING: Final = (
    np.full((len(g.SLOTS), g.LONGEST + 1), g.END, np.int64),
    np.zeros(g.MOST_CONSTANTS),
)


class Engine:
    """Plays programs on a search set.

    Args:
        search: its environments, questions and branch orders.
        logs: keep the actions of every episode.
    """

    def __init__(self, search: SearchSet, *, logs: bool = False) -> None:
        agent = FunctionAgent("program", Path("program"), True, _DIGEST, _SOLVE)
        self.search = search
        self._rollouts = [
            Rollout(agent, store, search.terms, logs=logs, extra_args=_NOTHING)
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
        """Play K episodes of an environment; further arguments as for ``Player.play``."""
        rollout = self._rollouts[environment]
        rollout.extra_args = (program.code(), program.values(beta))
        return rollout.play(questions, orders, beta)

    def sweep(self, program: Program, questions: Sequence[int] | None = None) -> Curve:
        """The β sweep of a program, on all questions or on some."""
        return self.search.sweep(functools.partial(self.play, program), questions)
