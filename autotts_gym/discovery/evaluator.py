"""What comes of a program: checks, a β sweep over the search set, and what the sweep shows."""

from __future__ import annotations

import ast
import contextlib
import functools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError, GivenUpError
from autotts_gym.controllers.function_agent import agent_from_source
from autotts_gym.discovery.diagnosis import diagnose
from autotts_gym.discovery.error_analysis import EpisodeDiagnosis, Logged, look_back
from autotts_gym.discovery.objective import Play, SearchSet
from autotts_gym.discovery.program_tree import Program
from autotts_gym.discovery.proposal import Verdict
from autotts_gym.discovery.source_checks import check
from autotts_gym.discovery.transcripts import traces
from autotts_gym.discovery.tree_rollout import Engine
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.limits import TIME_LIMIT
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import untrusted_from_source

#: Branch orders of a question that programs are scored on which are played as plain Python: what
#: they cost is a hundred times what compiled code does.
PLAIN_SEEDS: Final = 4


class Evaluator:
    """Plays programs on a search set.

    Args:
        search: environments, questions and branch orders.
        knob: whether β has to be a knob: a sweep that does not spend more as it rises is a fault.
        telling: whether verdicts have diagnoses and traces; these are of the first branch order of
            every question.
        time_limit: seconds after which an episode of an untrusted program is ended.
    """

    def __init__(
        self,
        search: SearchSet,
        *,
        knob: bool = True,
        telling: bool = True,
        time_limit: float = TIME_LIMIT,
    ) -> None:
        self.search, self.knob, self.telling = search, knob, telling
        self._time_limit = time_limit
        self._engine = Engine(search, logs=telling)

    def tree(self, program: Program) -> Verdict:
        """The verdict on a typed tree, which plays in compiled code."""
        return self._verdict(functools.partial(self._engine.play, program), program.size)

    def agent(self, agent: Agent) -> Verdict:
        """The verdict on a controller that is trusted, played in this process."""
        rollouts = [
            Rollout(agent, store, self.search.terms, logs=self.telling)
            for store in self.search.stores
        ]
        return self._played_by(rollouts, agent.source.decode("utf-8"))

    def source(self, source: str, *, untrusted: bool = True) -> Verdict:
        """The verdict on a text: checked, then played, in a sandbox unless somebody vouches for it.

        One that cannot be played is rejected, and has no score.
        """
        text = source.encode("utf-8")
        try:  # first, since it parses texts elsewhere that would bring this process down
            program = untrusted_from_source(Path("controller.py"), text)
        except AgentError as error:
            return Verdict(fault=str(error))
        fault = check(source, knob=self.knob)
        if fault:
            return Verdict(fault=fault)
        if not untrusted:
            try:
                return self.agent(agent_from_source(Path("controller.py"), text))
            except AgentError as error:
                return Verdict(fault=str(error))
        with contextlib.ExitStack() as stack:
            boxes = [
                stack.enter_context(
                    Sandbox(program, store, self.search.terms, time_limit=self._time_limit)
                )
                for store in self.search.stores
            ]

            try:
                return self._played_by(boxes, source)
            except GivenUpError as error:
                return Verdict(fault=f"given up: {error}")

    def _played_by(self, players: Sequence[EpisodePlayer], source: str) -> Verdict:
        """The verdict on a text, which is played by a player of each environment."""

        def play(
            e: int, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
        ) -> EpisodeResults:
            return players[e].play(questions, orders, beta)

        return self._verdict(play, constants_of(source))

    def _verdict(self, play: Play, size: int) -> Verdict:
        """The verdict on whoever plays, and keeps logs where something is to be told."""
        failures: Counter[str] = Counter()
        count = 0
        seen: list[EpisodeDiagnosis] = []

        def watched(
            e: int, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
        ) -> EpisodeResults:
            nonlocal count
            played = play(e, questions, orders, beta)
            failures.update(played.failures.values())
            count += len(questions)
            if self.telling:
                seen.append(self._look_back(e, questions, orders, beta, played))
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
            diagnosis=diagnose(seen).text() if seen else "",
            traces=traces(seen) if seen else "",
        )

    def _look_back(
        self,
        e: int,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        played: EpisodeResults,
    ) -> EpisodeDiagnosis:
        """What became of the first branch order of every question."""
        every = self.search.seeds
        return look_back(
            Logged(
                self.search.names[e],
                self.search.stores[e],
                self.search.terms,
                beta,
                questions[::every],
                orders[::every],
                played.logs[::every],
                {k // every: m for k, m in played.failures.items() if k % every == 0},
            )
        )


def evaluate(
    source: str,
    *,
    envs: Sequence[str],
    questions: Sequence[int] | None = None,
    seeds: int = PLAIN_SEEDS,
    knob: bool = True,
    telling: bool = True,
    untrusted: bool = True,
) -> Verdict:
    """The verdict on the text of a program, as ``autotts discover`` gives it.

    Args:
        source: of the program, which is checked and played in a sandbox.
        envs: names or paths of the environments to search on.
        questions: their rows; all by default.
        seeds: branch orders of each question.
        knob: whether β has to be a knob.
        telling: whether there are a diagnosis and traces.
        untrusted: play it in a sandbox; otherwise in this process, compiled where that can be.

    Raises:
        ValueError: there is no such environment or question.
    """
    from autotts_gym.traces import registry

    search = SearchSet(registry.open_stores(*envs), questions, seeds)
    return Evaluator(search, knob=knob, telling=telling).source(source, untrusted=untrusted)


def constants_of(source: str) -> int:
    """Numbers in a program's text: what its size is taken for."""
    return sum(
        isinstance(node, ast.Constant) and isinstance(node.value, int | float)
        for node in ast.walk(ast.parse(source))
    )
