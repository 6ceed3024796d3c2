"""Evaluation of programs: source checks, a β sweep over the search set, and its diagnosis."""

from __future__ import annotations

import ast
import contextlib
import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError, GivenUpError
from autotts_gym.controllers.function_agent import agent_from_source
from autotts_gym.discovery.diagnosis import diagnose
from autotts_gym.discovery.error_analysis import EpisodeLogs, ErrorAnalysis, analyze_errors
from autotts_gym.discovery.objective import PlayEpisodes, SearchSet
from autotts_gym.discovery.program_tree import Program
from autotts_gym.discovery.proposal import Evaluation
from autotts_gym.discovery.source_checks import check
from autotts_gym.discovery.transcripts import format_transcripts
from autotts_gym.discovery.tree_rollout import TreeRollout
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.episode_results import EpisodeResults
from autotts_gym.rollout.limits import TIME_LIMIT
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.sandbox.player import Sandbox
from autotts_gym.sandbox.untrusted_agent import untrusted_from_source

#: Default number of branch orders per question for programs played as plain Python, which is about
#: a hundred times slower than compiled code.
INTERPRETED_SEEDS: Final = 4
#: Attribute of the episode that a program reads if it depends on the weight of latency.
_LATENCY: Final = "latency_weight"


class Evaluator:
    """Evaluates programs on a search set.

    Args:
        search: environments, questions and branch orders.
        knob: require β to control spending: reject a program whose tokens do not rise with β.
        diagnostics: add a diagnosis and transcripts to evaluations. They cover the first branch
            order of every question.
        time_limit: processor time after which an episode of an untrusted program is ended, seconds.
        weaker_sandbox: play untrusted programs even if the sandbox of this machine lacks a
            protection.
    """

    def __init__(
        self,
        search: SearchSet,
        *,
        knob: bool = True,
        diagnostics: bool = True,
        time_limit: float = TIME_LIMIT,
        weaker_sandbox: bool = False,
    ) -> None:
        self.search, self.knob, self.diagnostics = search, knob, diagnostics
        self._time_limit, self._weaker_sandbox = time_limit, weaker_sandbox
        self._tree_rollout = TreeRollout(search, logs=diagnostics)

    def evaluate_tree(self, program: Program) -> Evaluation:
        """Evaluate a typed tree in compiled code."""
        play = functools.partial(self._tree_rollout.play, program)
        return self._evaluate(play, program.size, program.uses_latency)

    def evaluate_agent(self, agent: Agent) -> Evaluation:
        """Evaluate a trusted controller in this process."""
        source = agent.source.decode("utf-8")
        rollouts = {
            key: Rollout(agent, self.search.stores[key[0]], config, logs=self.diagnostics)
            for key, config in self._configs(source).items()
        }
        return self._evaluate_players(rollouts, source)

    def _configs(self, source: str) -> dict[tuple[int, float], EpisodeConfig]:
        """The configs with which a program is played, by environment and weight of latency.

        A program that ignores the weight is played at one.
        """
        weights = self.search.latency if _LATENCY in source else self.search.latency[:1]
        return {
            (e, weight): replace(config, latency_weight=weight)
            for e, config in enumerate(self.search.configs)
            for weight in weights
        }

    def evaluate_source(self, source: str, *, untrusted: bool = True) -> Evaluation:
        """Check a source text and evaluate it.

        A program that cannot be played is rejected and has no score.

        Args:
            source: text of the controller.
            untrusted: play it in a sandbox instead of in this process.
        """
        text = source.encode("utf-8")
        # The text is parsed in another process first: some texts crash the parser.
        try:
            program = untrusted_from_source(
                Path("controller.py"), text, weaker_sandbox=self._weaker_sandbox
            )
        except AgentError as error:
            return Evaluation(rejection=str(error))
        rejection = check(source, knob=self.knob)
        if rejection:
            return Evaluation(rejection=rejection)
        if not untrusted:
            try:
                return self.evaluate_agent(agent_from_source(Path("controller.py"), text))
            except AgentError as error:
                return Evaluation(rejection=str(error))
        with contextlib.ExitStack() as stack:
            sandboxes = {
                key: stack.enter_context(
                    Sandbox(
                        program, self.search.stores[key[0]], config, time_limit=self._time_limit
                    )
                )
                for key, config in self._configs(source).items()
            }
            try:
                return self._evaluate_players(sandboxes, source)
            except GivenUpError as error:
                return Evaluation(rejection=f"given up: {error}")

    def _evaluate_players(
        self, players: Mapping[tuple[int, float], EpisodePlayer], source: str
    ) -> Evaluation:
        """Evaluate a source text, given players by environment and weight of latency."""

        def play(
            e: int,
            questions: NDArray[np.int64],
            orders: NDArray[np.int64],
            beta: float,
            latency: float,
        ) -> EpisodeResults:
            return players[e, latency].play(questions, orders, beta)

        return self._evaluate(play, program_size(source), _LATENCY in source)

    def _evaluate(self, play: PlayEpisodes, size: int, uses_latency: bool) -> Evaluation:
        """Run the sweep and, with ``diagnostics``, analyze the logs of its episodes."""
        failures: Counter[str] = Counter()
        count = 0
        analyses: list[ErrorAnalysis] = []

        def play_and_analyze(
            e: int,
            questions: NDArray[np.int64],
            orders: NDArray[np.int64],
            beta: float,
            latency: float,
        ) -> EpisodeResults:
            nonlocal count
            results = play(e, questions, orders, beta, latency)
            failures.update(results.failures.values())
            count += len(questions)
            if self.diagnostics:
                analyses.append(self._analyze(e, questions, orders, beta, results))
            return results

        curve = self.search.sweep(play_and_analyze, uses_latency=uses_latency)
        rejection = curve.rejection() if self.knob else ""
        if failures:
            message, times = failures.most_common(1)[0]
            rejection = (
                f"{failures.total()} of {count} episodes failed, {times} of them with {message}"
            )
        return Evaluation(
            score=curve.score,
            rejection=rejection,
            size=size,
            by_question=tuple(curve.by_question.tolist()),
            curve=curve.to_dict(),
            diagnosis=diagnose(analyses).text() if analyses else "",
            transcripts=format_transcripts(analyses) if analyses else "",
        )

    def _analyze(
        self,
        e: int,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: EpisodeResults,
    ) -> ErrorAnalysis:
        """Analyze the episodes of the first branch order of every question."""
        step = self.search.seeds
        return analyze_errors(
            EpisodeLogs(
                self.search.names[e],
                self.search.stores[e],
                self.search.configs[e],
                beta,
                questions[::step],
                orders[::step],
                results.logs[::step],
                {k // step: m for k, m in results.failures.items() if k % step == 0},
            )
        )


def evaluate(
    source: str,
    *,
    envs: Sequence[str],
    questions: Sequence[int] | None = None,
    seeds: int = INTERPRETED_SEEDS,
    knob: bool = True,
    diagnostics: bool = True,
    untrusted: bool = True,
    weaker_sandbox: bool = False,
    latency: Sequence[float] = (0.0,),
) -> Evaluation:
    """Evaluate the source text of a program, as ``autotts discover`` does.

    Args:
        source: text of the controller. It is checked before it is played.
        envs: names or paths of the environments to search on.
        questions: rows of the questions; all by default.
        seeds: number of branch orders per question.
        knob: require β to control spending.
        diagnostics: add a diagnosis and transcripts.
        untrusted: play the program in a sandbox; otherwise in this process, compiled if possible.
        weaker_sandbox: play it even if the sandbox of this machine lacks a protection.
        latency: weights of latency in the score, each in [0, 1].

    Raises:
        MissingProtectionError: the sandbox of this machine lacks a protection.
        ValueError: an environment or a question does not exist.
    """
    from autotts_gym.traces import registry

    search = SearchSet(registry.open_stores(*envs), questions, seeds, latency=latency)
    evaluator = Evaluator(search, knob=knob, diagnostics=diagnostics, weaker_sandbox=weaker_sandbox)
    return evaluator.evaluate_source(source, untrusted=untrusted)


def program_size(source: str) -> int:
    """Size of a program: its constants, weighed by what they can hold.

    A number counts 1, as does every 8 bytes of a text, and of an integer that is longer. Docstrings
    do not count: a program cannot read them.
    """
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)
    }
    return sum(
        _constant_size(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and id(node) not in docstrings
    )


def _constant_size(value: object) -> int:
    size = 0
    if isinstance(value, str):
        size = len(value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        size = len(value)
    elif isinstance(value, int):
        size = max(8, math.ceil(value.bit_length() / 8))
    elif isinstance(value, float | complex):
        size = 8
    return math.ceil(size / 8)
