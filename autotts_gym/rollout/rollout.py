"""Playing controllers in bulk: a controller, a replay environment, many episodes.

Where numba can compile the controller, it is compiled together with the rules; where it cannot,
it plays as plain Python through ``AutoTTSEnv.step``. The episodes are the same, and which of the
two ran is reported.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, cast

import gymnasium as gym
import numpy as np
from numba.core.errors import NumbaError, NumbaWarning
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.compiled_episode import player
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import first_line, message
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions, rules
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import most_legal
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_results import answered, cut_off
from autotts_gym.rollout.player import EpisodePlayer
from autotts_gym.traces.store import TraceStore


class Rollout(EpisodePlayer):
    """A controller on one store under given terms, played in this process.

    Args:
        agent: the controller.
        store: the traces.
        terms: the terms of play.
        interpret: play as plain Python, even where the controller can be compiled.
        settle: find the settled tokens of every episode, which takes about as long again as playing
            them.
        logs: keep the actions of every episode.
        ledger: int64[LEDGER_SIZE], where the ledger of the running episode is kept, so that another
            process can watch it; an array of its own by default.
        given: further arguments of a controller that is compiled; they can be others from call to
            call, of the same types.

    Attributes:
        path: ``"compiled"``, ``"python"`` or, for trained policies, ``"policy"``: who plays.
        reason: why it is not compiled, the first line of numba's message; empty if it is.
        given: as above.
    """

    def __init__(
        self,
        agent: Agent,
        store: TraceStore,
        terms: EpisodeConfig,
        *,
        interpret: bool = False,
        settle: bool = False,
        logs: bool = False,
        ledger: NDArray[np.int64] | None = None,
        given: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(store, terms, settle)
        if agent.is_untrusted:
            raise ValueError(f"{agent.name} is not vouched for: only a Sandbox plays it")
        self._agent = agent
        self.given = given
        self._keep = logs
        self._allocate(ledger)
        self.path, self.reason = "python", ""
        self._play: Callable[..., None] = self._play_python
        if agent.is_policy and not interpret:
            self._player = cast(Any, agent).player(self._replay, terms, settle or logs)
            self.path = "policy"
            self._play = self._play_policy
        elif interpret or agent.published:
            self.reason = "asked for" if interpret else "a published program is plain Python"
        else:
            try:
                self._compile()
                self.path = "compiled"
                self._play = self._play_compiled
            except NumbaError as error:
                self.reason = first_line(error)
            except Exception as error:  # there are programs that numba stumbles over
                self.reason = f"numba failed: {type(error).__name__}: {first_line(error)}"
        if self.path == "python":
            self._set_up()

    def _allocate(self, ledger: NDArray[np.int64] | None) -> None:
        """Room for one episode and its log."""
        n, replay = self._terms.max_branches, self._replay
        self._episode = s.EpisodeState.allocate(replay.traces, n, replay.classes)
        if ledger is not None:
            self._episode = self._episode._replace(ledger=ledger)
        self.ledger = self._episode.ledger
        self._log = np.empty(most_legal(n, replay.depth), np.int32)

    def _compile(self) -> None:
        """Compile the controller with the rules, by playing no episode at all."""
        self._compiled = player(self._agent.solve, self._agent.takes_beta, self._agent.digest)
        orders = np.empty((0, self._terms.max_branches), np.int64)
        no_episode = np.empty(0, np.int64), orders, np.empty(0)
        results = np.empty((0, rules.RESULT_SIZE), np.int64)
        with warnings.catch_warnings(category=NumbaWarning, action="ignore"):
            self._run(*no_episode, results, np.zeros(1, np.int64))

    def _set_up(self) -> None:
        """Make the environment that a plain program plays, and compile what it takes to play it."""
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
        self._pricings = env._batch.branches[0, :, s.PRICING]
        self._env = _Mirror(env, self.ledger)
        order = np.arange(terms.max_branches)
        self._env.reset(options={"question": 0, "branch_order": order})
        self._env.step(actions.ANSWER)
        self._settled(0, order, self._pricings, [actions.ANSWER])

    def _run(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        betas: NDArray[np.float64],
        results: NDArray[np.int64],
        played: NDArray[np.int64],
    ) -> None:
        self._compiled(
            self._episode,
            self._log,
            self._agreed,
            self._replay.questions,
            questions,
            orders,
            betas,
            self._settle,
            self._recount,
            results,
            played,
            self.given,
        )

    def play_on(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: NDArray[np.int64],
        played: NDArray[np.int64],
        fail: Callable[[int, str], None],
    ) -> None:
        self._fail = fail
        self.logs = []
        while played[0] < len(questions):
            try:
                self._play(questions, orders, beta, results, played)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # whatever else is raised ends its episode alone
                k = int(played[0])
                results[k] = cut_off(self.ledger, self._settle)
                fail(k, message(error))
                self._ended(played)

    def _ended(self, played: NDArray[np.int64]) -> None:
        """Count the episode that has just ended, and keep its actions where that is asked for."""
        if self._keep:
            if self.path == "python":
                log = np.array(self._handle.log, np.int32)
            else:  # a policy gets here only with an episode that could not begin
                log = self._log[: self.ledger[s.STEPS]].copy()
            self.logs.append(log)
        played[0] += 1

    def _play_compiled(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: NDArray[np.int64],
        played: NDArray[np.int64],
    ) -> None:
        betas = np.full(len(questions), beta)
        if not self._keep:
            self._run(questions, orders, betas, results, played)
            return
        while played[0] < len(questions):  # one by one: there is room for one log
            one = slice(played[0], played[0] + 1)
            counter = np.zeros(1, np.int64)
            self._run(questions[one], orders[one], betas[one], results[one], counter)
            self._ended(played)

    def _play_python(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: NDArray[np.int64],
        played: NDArray[np.int64],
    ) -> None:
        env = self._env
        while played[0] < len(questions):
            k = played[0]
            question = int(questions[k])
            options = {"question": question, "branch_order": orders[k], "beta": beta}
            self._handle = episode = Episode(env, env.reset(options=options)[0])
            self._agent(episode, beta)
            info = episode.info
            answers = self._replay.answers(question)
            results[k, rules.RIGHT] = info["correct"]
            results[k, rules.CODE] = answers.index(info["answer"]) if info["answer"] else -1
            results[k, rules.TOKENS] = info["tokens"]
            results[k, rules.SEQUENTIAL_TOKENS] = info["sequential_tokens"]
            results[k, rules.STEPS] = info["steps"]
            results[k, rules.PROBES] = info["probes"]
            results[k, rules.SETTLED_TOKENS] = self._settled(
                question, orders[k], self._pricings, episode.log
            )
            self._ended(played)

    def _play_policy(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: NDArray[np.int64],
        played: NDArray[np.int64],
    ) -> None:
        while played[0] < len(questions):
            first = int(played[0])
            some = slice(first, min(first + self._player.abreast, len(questions)))
            batch, cut = self._player.play(questions[some], orders[some], beta)
            for e, k in enumerate(range(some.start, some.stop)):
                if cut[e]:
                    self._fail(k, "StepLimitError: the episode was cut off by its step limit")
                    results[k] = cut_off(batch.ledger[e], self._settle)
                else:
                    results[k] = answered(batch, e)
                    results[k, rules.SETTLED_TOKENS] = self._settled(
                        int(questions[k]),
                        orders[k],
                        batch.branches[e, :, s.PRICING],
                        batch.history[e, : batch.lengths[e]] if self._settle else (),
                    )
                if self._keep:
                    self.logs.append(batch.history[e, : batch.lengths[e]].copy())
            played[0] = some.stop


class _Mirror(gym.Wrapper[Any, Any, Any, Any]):
    """Copies the ledger of every moment to where it can be read from outside."""

    def __init__(self, env: AutoTTSEnv, ledger: NDArray[np.int64]) -> None:
        super().__init__(env)
        self._from, self._to = env._ledger, ledger

    def reset(self, **arguments: Any) -> Any:
        found = self.env.reset(**arguments)
        self._to[:] = self._from
        return found

    def step(self, action: Any) -> Any:
        found = self.env.step(action)
        self._to[:] = self._from
        return found
