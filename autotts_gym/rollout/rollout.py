"""Bulk rollouts of a trusted controller in this process.

If numba can compile the controller, it is compiled together with the rules; otherwise it plays as
plain Python through ``AutoTTSEnv.step``. Both give the same episodes, and ``Rollout.path`` names
the one in use.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numba.core.errors import NumbaError, NumbaWarning
from numpy.typing import NDArray

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.compiler import compile_player
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import failure_message, first_line
from autotts_gym.controllers.function_agent import FunctionAgent
from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.autotts_env import AutoTTSEnv
from autotts_gym.mdp import actions
from autotts_gym.mdp import state as s
from autotts_gym.mdp.actions import max_legal_actions
from autotts_gym.mdp.macro_batch import MacroBatch
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.episode_results import answered_rows, failed_row
from autotts_gym.traces.store import TraceStore


class Rollout(EpisodePlayer):
    """Plays one controller's episodes on one trace store, in this process.

    Args:
        agent: the controller, or its name or path.
        store: the traces, or the name or path of an environment.
        config: configuration of the episodes.
        interpret: play as plain Python even if the controller can be compiled.
        settle: compute the settled tokens of every episode; roughly doubles the time.
        logs: keep the actions of every episode.
        ledger: LEDGER[1], holds the running episode's ledger, for example in shared
            memory; by default an array of its own.
        extra_args: further arguments for a compiled controller. They may change between calls, but
            not their types.

    Raises:
        ValueError: the agent is untrusted, or the configuration does not fit the store.

    Attributes:
        path: ``"compiled"``, ``"python"``, or ``"policy"`` for a trained policy
            (:class:`~autotts_gym.controllers.policy_agent.PolicyPlayer`).
        reason: why the controller is not compiled, for example the first line of numba's message;
            empty if it is.
        extra_args: see above.
    """

    def __init__(
        self,
        agent: Agent | str | os.PathLike[str] | Callable[..., Any],
        store: TraceStore | str | os.PathLike[str],
        config: EpisodeConfig,
        *,
        interpret: bool = False,
        settle: bool = False,
        logs: bool = False,
        ledger: s.Records | None = None,
        extra_args: tuple[Any, ...] = (),
    ) -> None:
        super().__init__(store, config, settle)
        agent = load(agent)
        if agent.is_untrusted:
            raise ValueError(f"{agent.name} is untrusted: play it in a Sandbox")
        self._agent = agent
        self.extra_args = extra_args
        self._keep_logs = logs
        self._allocate(ledger)
        self.path, self.reason = "python", ""
        self._play: Callable[..., None] = self._play_python
        self._player = None
        if not interpret:
            self._player = agent.player(self._dataset, config, settle or logs)
        if self._player is not None:
            self.path = "policy"
            self.batch_size = self._player.max_episodes
            self._play = self._play_batches
            # Compile the rules now: the time limit of episodes must not include it.
            self._player.play(np.zeros(1, np.int64), np.arange(config.max_branches)[None], 0.0)
        elif interpret:
            self.reason = "plain Python was requested"
        elif agent.published:
            self.reason = "a published-style program is plain Python"
        elif not isinstance(agent, FunctionAgent):
            self.reason = "it is not a function"
        else:
            self._try_to_compile(agent)
        if self.path == "python":
            self._set_up_env()

    def _allocate(self, ledger: s.Records | None) -> None:
        """Allocate the arrays of one episode and its action log."""
        n, dataset = self._config.max_branches, self._dataset
        self._episode = s.EpisodeArrays.allocate(dataset.traces, dataset.classes, n)
        if ledger is not None:
            self._episode = self._episode._replace(ledger=ledger)
        self.ledger = self._episode.ledger
        self._log = np.empty(max_legal_actions(n, dataset.depth), np.int32)

    def _try_to_compile(self, agent: FunctionAgent) -> None:
        """Compile the controller with the rules, by a call that plays no episodes."""
        try:
            self._compiled = compile_player(agent.solve, agent.takes_beta, agent.digest)
            orders = np.empty((0, self._config.max_branches), np.int64)
            no_episodes = np.empty(0, np.int64), orders, np.empty(0)
            results = np.empty(0, s.RESULT)
            with warnings.catch_warnings(category=NumbaWarning, action="ignore"):
                self._run_compiled(*no_episodes, results, np.zeros(1, np.int64))
        except NumbaError as error:
            self.reason = first_line(error)
        except Exception as error:  # numba itself fails on some programs
            self.reason = f"numba failed: {type(error).__name__}: {first_line(error)}"
        else:
            self.path = "compiled"
            self._play = self._play_compiled

    def _set_up_env(self) -> None:
        """Create the environment for plain Python, and compile its rules by a short episode."""
        config = self._config
        env = AutoTTSEnv(
            self._dataset.stores[0],
            observation="compact",
            billing=config.billing,
            max_branches=config.max_branches,
            budget=config.budget,
            probe_tokens=config.probe_tokens,
            step_limit=config.step_limit,
            latency_weight=config.latency_weight,
        )
        self._branches = env._batch.branches[0]
        self._codes = env._batch.codes[0, s.CODE_OF]
        self._env = _LedgerCopy(env, self.ledger)
        order = np.arange(config.max_branches)
        self._env.reset(options={"question": 0, "branch_order": order})
        self._env.step(actions.ANSWER)
        self._settled_tokens(0, order, self._branches, [actions.ANSWER])

    def _run_compiled(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        betas: NDArray[np.float64],
        results: s.Records,
        played: NDArray[np.int64],
    ) -> None:
        self._compiled(
            self._episode,
            self._log,
            self._initial_ledgers,
            self._dataset.questions,
            questions,
            orders,
            betas,
            self._settle,
            self._recount,
            results,
            played,
            self.extra_args,
        )

    def play_remaining(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: s.Records,
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
            except BaseException as error:  # including SystemExit: only its episode fails
                k = int(played[0])
                results[k] = failed_row(self.ledger[0], self._settle)
                fail(k, failure_message(error))
                self._count_episode(played)

    def _count_episode(self, played: NDArray[np.int64]) -> None:
        """Count the episode that has just ended, and keep its actions if requested."""
        if self._keep_logs:
            if self.path == "python":
                log = np.array(self._handle.log, np.int32)
            else:  # for a policy, only if the episode could not start
                log = self._log[: self.ledger["steps"][0]].copy()
            self.logs.append(log)
        played[0] += 1

    def _play_compiled(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: s.Records,
        played: NDArray[np.int64],
    ) -> None:
        betas = np.full(len(questions), beta)
        if not self._keep_logs:
            self._run_compiled(questions, orders, betas, results, played)
            return
        while played[0] < len(questions):  # one by one: the log array holds one episode
            one = slice(played[0], played[0] + 1)
            counter = np.zeros(1, np.int64)
            self._run_compiled(questions[one], orders[one], betas[one], results[one], counter)
            self._count_episode(played)

    def _play_python(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: s.Records,
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
            answer = info["answer_class"]
            results["correct"][k] = info["correct"]
            results["code"][k] = self._codes[answer] if answer >= 0 else -1
            results["tokens"][k] = info["tokens"]
            results["sequential_tokens"][k] = info["sequential_tokens"]
            results["steps"][k] = info["steps"]
            results["probes"][k] = info["probes"]
            results["settled_tokens"][k] = self._settled_tokens(
                question, orders[k], self._branches, episode.log
            )
            self._count_episode(played)

    def _play_batches(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: s.Records,
        played: NDArray[np.int64],
    ) -> None:
        assert self._player is not None
        while played[0] < len(questions):
            first = int(played[0])
            chosen = slice(first, min(first + self._player.max_episodes, len(questions)))
            batch, truncated = self._player.play(questions[chosen], orders[chosen], beta)
            results[chosen] = answered_rows(batch, np.arange(chosen.stop - first))
            for e in np.flatnonzero(truncated).tolist():
                self._fail(first + e, "StepLimitError: the episode was truncated by its step limit")
                results[first + e] = failed_row(batch.ledger[e], self._settle)
            if self._settle or self._keep_logs:
                self._follow_actions(
                    batch, truncated, questions[chosen], orders[chosen], results[chosen]
                )
            played[0] = chosen.stop

    def _follow_actions(
        self,
        batch: MacroBatch,
        truncated: NDArray[np.bool_],
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        results: s.Records,
    ) -> None:
        """Compute the settled tokens of episodes that a policy has played, and keep their logs."""
        for e, question in enumerate(questions.tolist()):
            log = batch.history[e, : batch.lengths[e]]
            if not truncated[e]:
                results["settled_tokens"][e] = self._settled_tokens(
                    question, orders[e], batch.branches[e], log
                )
            if self._keep_logs:
                self.logs.append(log.copy())


class _LedgerCopy(gym.Wrapper[Any, Any, Any, Any]):
    """Copies the environment's ledger to another array after every reset and step."""

    def __init__(self, env: AutoTTSEnv, ledger: s.Records) -> None:
        super().__init__(env)
        # As bytes: NumPy copies structured records field by field.
        self._source, self._target = (array.view(np.uint8) for array in (env._batch.ledger, ledger))

    def reset(self, **arguments: Any) -> Any:
        result = self.env.reset(**arguments)
        self._target[:] = self._source
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._target[:] = self._source
        return result
