"""Playing controllers in bulk: a controller, a replay environment, many episodes.

Where numba can compile the controller, it is compiled together with the rules; where it cannot,
it plays as plain Python through ``AutoTTSEnv.step``. The episodes are the same, and which of the
two ran is reported.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from autotts_gym.controllers.compiled import player
from autotts_gym.controllers.handle import Episode, StepLimitError
from autotts_gym.controllers.loading import Agent
from autotts_gym.env import AutoTTSEnv
from autotts_gym.mdp import rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.replay import Replay, Terms
from autotts_gym.traces.store import TraceStore


@dataclass(frozen=True)
class Episodes:
    """Results of K episodes, in the order in which they were asked for.

    Attributes:
        correct: bool[K].
        answers: K strings; empty where nothing was answered.
        tokens: int64[K], true total tokens.
        sequential_tokens: int64[K], the true clock at the end, tokens.
        actions: int64[K].
        failures: message of the error that ended an episode, by its index; such an episode counts
            as wrong, at what it had cost by then.
    """

    correct: NDArray[np.bool_]
    answers: list[str]
    tokens: NDArray[np.int64]
    sequential_tokens: NDArray[np.int64]
    actions: NDArray[np.int64]
    failures: dict[int, str] = field(default_factory=dict)


class Rollout:
    """A controller on one store under given terms.

    Args:
        agent: the controller.
        store: the traces.
        terms: the terms of play.
        interpret: play as plain Python, even where the controller can be compiled.

    Attributes:
        path: ``"compiled"`` or ``"python"``, which of the two plays.
        reason: why it is not compiled, the first line of numba's message; empty if it is.
    """

    def __init__(
        self, agent: Agent, store: TraceStore, terms: Terms, *, interpret: bool = False
    ) -> None:
        if terms.auto_probe:
            raise ValueError("controllers probe for themselves: play them with auto_probe=False")
        self._agent = agent
        self._replay = Replay({"": store})
        self._replay.check_width(terms.max_branches)
        self._terms = terms
        self.path: Literal["compiled", "python"] = "python"
        self.reason = ""
        self._play: Callable[..., None] = self._play_python
        self.compile_seconds = 0.0
        if interpret:
            self.reason = "asked for"
            return
        started = time.perf_counter()
        try:
            self._prepare()
            self.path = "compiled"
            self._play = self._play_compiled
        except NumbaError as error:
            self.reason = _first_line(error)
        self.compile_seconds = time.perf_counter() - started

    def _prepare(self) -> None:
        """Allocate one episode and compile the controller with the rules."""
        n, replay = self._terms.max_branches, self._replay
        self._arrays = (
            *replay.traces,
            np.zeros(s.LEDGER_SIZE, np.int64),
            np.zeros((n, s.BRANCH_SIZE), np.int64),
            np.zeros((2, replay.classes), np.int16),
            np.zeros(n, np.int64),
            np.array([self._terms.ledger(store) for store in replay.stores]),
            replay.questions,
        )
        self._ledger = self._arrays[len(replay.traces)]
        self._compiled = player(self._agent.solve, self._agent.takes_beta, self._agent.digest)
        no_episode = np.empty(0, np.int64), np.empty((0, n), np.int64), np.empty(0)
        results = np.empty((0, rules.RESULT_SIZE), np.int64)
        self._compiled(*self._arrays, *no_episode, results, np.zeros(1, np.int64))

    def play(
        self, questions: NDArray[np.int64], orders: NDArray[np.int64], beta: float
    ) -> Episodes:
        """Play K episodes.

        Args:
            questions: int64[K], rows of the store.
            orders: int64[K, max_branches], the branches of each question in the order in which
                they open.
            beta: β of all of them.
        """
        results = np.zeros((len(questions), rules.RESULT_SIZE), np.int64)
        failures: dict[int, str] = {}
        self._play(questions, orders, beta, results, failures)
        return Episodes(
            correct=results[:, rules.RIGHT] == 1,
            answers=[
                "" if code < 0 else self._replay.answers(int(question))[code]
                for question, code in zip(questions, results[:, rules.CODE], strict=True)
            ],
            tokens=results[:, rules.TOKENS],
            sequential_tokens=results[:, rules.SEQUENTIAL_TOKENS],
            actions=results[:, rules.STEPS],
            failures=failures,
        )

    def _play_compiled(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: NDArray[np.int64],
        failures: dict[int, str],
    ) -> None:
        played = np.zeros(1, np.int64)
        betas = np.full(len(questions), beta)
        while played[0] < len(questions):
            try:
                self._compiled(*self._arrays, questions, orders, betas, results, played)
            except Exception as error:  # whatever a controller raises ends its episode alone
                k = int(played[0])
                played[0] += 1
                ledger = self._ledger
                self._fail(
                    k,
                    error,
                    (ledger[s.TRUE_SPENT], ledger[s.TRUE_CLOCK], ledger[s.STEPS]),
                    results,
                    failures,
                )

    def _play_python(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: NDArray[np.int64],
        failures: dict[int, str],
    ) -> None:
        terms = self._terms
        env = AutoTTSEnv(
            self._replay.stores[0],
            observation="compact",
            billing=terms.billing,
            max_branches=terms.max_branches,
            budget=terms.budget,
            probe_tokens=terms.probe_tokens,
            step_limit=terms.step_limit,
        )
        for k, (question, order) in enumerate(zip(questions, orders, strict=True)):
            options = {"question": int(question), "branch_order": order, "beta": beta}
            episode = Episode(env, env.reset(options=options)[0])
            try:
                self._agent(episode, beta)
            except Exception as error:  # as above
                steps = 0
                if not episode.ended:  # answering settles the bill; it was not the controller's
                    episode.answer()
                    steps = -1
                info = episode.info
                costs = info["tokens"], info["sequential_tokens"], info["steps"] + steps
                self._fail(k, error, costs, results, failures)
                continue
            info = episode.info
            answers = self._replay.answers(int(question))
            results[k, rules.RIGHT] = info["correct"]
            results[k, rules.CODE] = answers.index(info["answer"]) if info["answer"] else -1
            results[k, rules.TOKENS] = info["tokens"]
            results[k, rules.SEQUENTIAL_TOKENS] = info["sequential_tokens"]
            results[k, rules.STEPS] = info["steps"]

    @staticmethod
    def _fail(
        k: int,
        error: Exception,
        costs: tuple[int, int, int],
        results: NDArray[np.int64],
        failures: dict[int, str],
    ) -> None:
        """Record an episode that an error ended: wrong, at what it had cost by then."""
        results[k] = (0, -1, *costs)
        if not isinstance(error, StepLimitError):  # being cut off is a result, not a failure
            failures[k] = f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Numba names the pass that failed first; what went wrong stands below.
    telling = [line for line in lines if not line.startswith("Failed in nopython")]
    return (telling or lines or [type(error).__name__])[0]
