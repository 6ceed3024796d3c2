"""What comes of a program: checks, a β sweep over the search set, and what the sweep shows."""

from __future__ import annotations

import ast
import functools
from collections import Counter

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.loading import Agent
from autotts_gym.discovery.engine import Engine
from autotts_gym.discovery.grammar import Program
from autotts_gym.discovery.proposing import Verdict
from autotts_gym.discovery.scoring import Play, SearchSet
from autotts_gym.evaluation.rollout import Episodes, Rollout


class Evaluator:
    """Plays programs on a search set.

    Args:
        search: environments, questions and branch orders.
        knob: whether β has to be a knob: a sweep that does not spend more as it rises is a fault.
        traces: whether verdicts have diagnoses and traces.
    """

    def __init__(self, search: SearchSet, *, knob: bool = True, traces: bool = True) -> None:
        self.search, self.knob, self.traces = search, knob, traces
        self._engine = Engine(search)

    def tree(self, program: Program) -> Verdict:
        """The verdict on a typed tree, which plays in compiled code."""
        return self._verdict(functools.partial(self._engine.play, program), program.size)

    def agent(self, agent: Agent) -> Verdict:
        """The verdict on a controller that is trusted, played in this process."""
        rollouts = [Rollout(agent, store, self.search.terms) for store in self.search.stores]

        def play(
            e: int, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
        ) -> Episodes:
            return rollouts[e].play(questions, orders, beta)

        return self._verdict(play, constants_of(agent.source[0].decode("utf-8")))

    def _verdict(self, play: Play, size: int) -> Verdict:
        failures: Counter[str] = Counter()
        count = 0

        def watched(
            e: int, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
        ) -> Episodes:
            nonlocal count
            played = play(e, questions, orders, beta)
            failures.update(played.failures.values())
            count += len(questions)
            return played

        curve = self.search.sweep(watched)
        fault = curve.fault() if self.knob else ""
        if failures:
            message, times = failures.most_common(1)[0]
            fault = f"{failures.total()} of {count} episodes failed, {times} of them with {message}"
        return Verdict(
            score=curve.score,
            fault=fault,
            size=size,
            by_question=tuple(curve.by_question.tolist()),
            curve=curve.facts(),
        )


def constants_of(source: str) -> int:
    """Numbers in a program's text: what its size is taken for."""
    return sum(
        isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        for node in ast.walk(ast.parse(source))
    )
