"""Playing controllers in bulk: a controller, a replay environment, many episodes.

Where numba can compile the controller, it is compiled together with the rules; where it cannot,
it plays as plain Python through ``AutoTTSEnv.step``. The episodes are the same, and which of the
two ran is reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numba.core.errors import NumbaError, NumbaWarning
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
        self._replay = Replay({str(store.path or "the store"): store})
        self._replay.check_width(terms.max_branches)
        self._terms = terms
        self._allocate()
        self.path: Literal["compiled", "python"] = "python"
        self.reason = ""
        self._play: Callable[..., None] = self._play_python
        if interpret or agent.published:
            self.reason = "asked for" if interpret else "a published program is plain Python"
            return
        try:
            self._compile()
            self.path = "compiled"
            self._play = self._play_compiled
        except NumbaError as error:
            self.reason = _first_line(error)
        except Exception as error:  # there are programs that numba stumbles over
            self.reason = f"numba failed: {type(error).__name__}: {_first_line(error)}"

    def _allocate(self) -> None:
        """One episode, and what is played in it."""
        n, replay = self._terms.max_branches, self._replay
        self._ledger = np.zeros(s.LEDGER_SIZE, np.int64)
        self._arrays = (
            *replay.traces,
            self._ledger,
            np.zeros((n, s.BRANCH_SIZE), np.int64),
            np.zeros((2, replay.classes), np.int16),
            np.zeros(n, np.int64),
            np.array([self._terms.ledger(store) for store in replay.stores]),
            replay.questions,
        )

    def _compile(self) -> None:
        """Compile the controller with the rules, by playing no episode at all."""
        self._compiled = player(self._agent.solve, self._agent.takes_beta, self._agent.digest)
        orders = np.empty((0, self._terms.max_branches), np.int64)
        no_episode = np.empty(0, np.int64), orders, np.empty(0)
        results = np.empty((0, rules.RESULT_SIZE), np.int64)
        with warnings.catch_warnings(category=NumbaWarning, action="ignore"):
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

        Raises:
            ValueError: there is no such question, branch or β; compiled code looks at no bounds.
        """
        if not 0 <= beta <= 1:
            raise ValueError(f"beta must be within [0, 1], got {beta}")
        self._check(questions, orders)
        results = np.zeros((len(questions), rules.RESULT_SIZE), np.int64)
        failures: dict[int, str] = {}
        self._play(questions, orders, beta, results, failures)
        answers = self._replay.stores[0].tables.answers
        return Episodes(
            correct=results[:, rules.RIGHT] == 1,
            answers=[
                "" if code < 0 else answers[question][code]
                for question, code in zip(
                    questions.tolist(), results[:, rules.CODE].tolist(), strict=True
                )
            ],
            tokens=results[:, rules.TOKENS],
            sequential_tokens=results[:, rules.SEQUENTIAL_TOKENS],
            actions=results[:, rules.STEPS],
            failures=failures,
        )

    def _check(self, questions: NDArray[np.int64], orders: NDArray[np.int64]) -> None:
        shape, counts = (len(questions), self._terms.max_branches), self._replay.branch_counts
        if orders.shape != shape:
            raise ValueError(f"orders must have the shape {shape}, got {orders.shape}")
        if not shape[0]:
            return
        if questions.min() < 0 or questions.max() >= len(counts):
            raise ValueError(f"questions must stay within 0..{len(counts) - 1}")
        if orders.min() < 0 or (orders.max(axis=1) >= counts[questions]).any():
            raise ValueError("orders must name branches that their questions have")

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
            except (Exception, SystemExit) as error:  # as above
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
        error: Exception | SystemExit,
        costs: tuple[int, int, int],
        results: NDArray[np.int64],
        failures: dict[int, str],
    ) -> None:
        """Record an episode that an error ended: wrong, at what it had cost by then."""
        results[k] = (0, -1, *costs)
        if not isinstance(error, StepLimitError):  # being cut off is a result, not a failure
            text = f": {_first_line(error)}" if str(error) else ""
            failures[k] = type(error).__name__ + text


_PREAMBLES: Final = ("Failed in nopython", "- Resolution failure")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Numba begins with the passes that failed; what went wrong stands below.
    telling = [line for line in lines if not line.startswith(_PREAMBLES)]
    return (telling or lines or [type(error).__name__])[0]
