"""``solve``: answers a question with a controller on a running model.

::

    from autotts_gym.deployment.solver import solve
    from autotts_gym.live.connection import connect

    with connect("http://127.0.0.1:8000/v1", reference="my-environment") as model:
        solution = solve("What is 17 · 12?", "cmc", beta=0.5, live=model)
        print(solution.answer, solution.tokens, solution.wall_seconds)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Unpack

import gymnasium as gym
import numpy as np

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.live_config import LiveEnvOptions
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv, DeadlineError, LiveError
from autotts_gym.traces import registry


@dataclass(frozen=True)
class Solution:
    """The answer to a question, and its cost.

    Attributes:
        answer: the answer; empty if there is none.
        votes: latest answers of the branches that were active at the end, with their counts.
        confidence: fraction of the votes for the answer; 0 without votes.
        correct: whether the answer equals the gold answer; None if that is not known.
        tokens: billed total tokens: the requested tokens of every branch, up to its end.
        sequential_tokens: billed tokens on the critical path.
        generated_tokens: tokens that branches actually generated.
        probe_tokens: tokens that probes generated.
        probes: number of probes.
        branches: number of branches opened.
        wall_seconds: time from the question to the answer.
        self_consistency_tokens: expected total tokens of self-consistency with ``max_branches``
            branches, from the reference environment; None without a reference.
        self_consistency_seconds: its expected time, from the seconds per sequential token in this
            episode; None without a reference.
        error: error message if the model failed, else empty. The answer is then the best one at
            the time of the failure.
        timed_out: whether the deadline ended the episode. The answer is then the best one at that
            time.
        branch: number of the branch that the answer comes from; None if no branch was opened.
        reasoning: reasoning of that branch; empty if the protocol does not mark its end.
        text: text of that branch after its reasoning. If a probe forced the answer, it ends with
            the answer of the probe.
        is_cut: whether that branch ended at the maximum length.
        prompt_tokens: tokens of the prompt; 0 if the server takes no token ids.
    """

    answer: str
    votes: dict[str, int]
    confidence: float
    correct: bool | None
    tokens: int
    sequential_tokens: int
    generated_tokens: int
    probe_tokens: int
    probes: int
    branches: int
    wall_seconds: float
    self_consistency_tokens: int | None = None
    self_consistency_seconds: float | None = None
    error: str = ""
    timed_out: bool = False
    branch: int | None = None
    reasoning: str = ""
    text: str = ""
    is_cut: bool = False
    prompt_tokens: int = 0

    def facts(self) -> dict[str, Any]:
        """Return the attributes as a dictionary, for JSON."""
        return asdict(self)


class SolveInterrupted(KeyboardInterrupt):
    """Ctrl-C during an episode.

    Attributes:
        solution: the best answer so far.
    """

    def __init__(self, solution: Solution) -> None:
        super().__init__()
        self.solution = solution


class _Watched(gym.Wrapper[Any, Any, Any, Any]):
    """Calls a function after every reset and step."""

    def __init__(self, env: AutoTTSLiveEnv, watch: Callable[[AutoTTSLiveEnv], None]) -> None:
        super().__init__(env)
        self._live_env = env
        self._watch = watch

    def reset(self, **options: Any) -> Any:
        result = self.env.reset(**options)
        self._watch(self._live_env)
        return result

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        self._watch(self._live_env)
        return result


def solve(
    question: str | AskedQuestion,
    agent: str | os.PathLike[str] | Callable[..., Any] | Agent = "cmc",
    *,
    gold: str | None = None,
    seed: int | None = None,
    watch: Callable[[AutoTTSLiveEnv], None] | None = None,
    **options: Unpack[LiveEnvOptions],
) -> Solution:
    """Answer a question.

    Args:
        question: text of the question, or a question with the messages before it.
        agent: a controller: its name or path, a function, or an ``Agent``.
        gold: gold answer, if known.
        seed: random seed of the branches' samples.
        watch: called with the environment after every action, for example to render it.
        options: arguments of ``AutoTTS-Live-v0``, such as ``live`` (a connected model),
            ``base_url``, ``model``, ``deadline`` (seconds) or ``beta`` (default 0.5).

    Returns:
        The answer and its cost. If the model fails during the episode, the best answer so far, with
        ``error``; if the deadline passes, the best answer so far, with ``timed_out``.

    Raises:
        EngineError: the model cannot be reached.
        AgentError: the controller cannot be loaded.
        IllegalActionError, NoAnswerError: the controller plays an illegal action or does not
            answer.
        SolveInterrupted: Ctrl-C during the episode; it has the best answer so far.
        ValueError: an argument is invalid.
    """
    asked = question if isinstance(question, AskedQuestion) else AskedQuestion("live", question)
    for text in (asked.text, *(text for message in asked.history for text in message)):
        _check_text(text, "question")
    _check_text(gold or "", "gold")
    if seed is not None and not (isinstance(seed, int | np.integer) and seed >= 0):
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    controller = load(agent)
    options["info_strings"] = True
    env = AutoTTSLiveEnv(**options)
    try:
        played: gym.Env[Any, Any] = env if watch is None else _Watched(env, watch)
        error, timed_out = "", False
        try:
            info = controller.play(played, seed=seed, question=asked, gold=gold)
        except DeadlineError as failure:
            info, timed_out = failure.info, True
        except LiveError as failure:
            info, error = failure.info, str(failure)
        except KeyboardInterrupt:
            if not env.is_running:
                raise
            raise SolveInterrupted(_make_solution(env, env.stop(), "interrupted")) from None
        return _make_solution(env, info, error, timed_out)
    finally:
        env.close()


def _check_text(text: str, name: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{name} is not valid Unicode: lone surrogate {text[error.start]!r} at character "
            f"{error.start}"
        ) from None


async def solve_async(
    question: str | AskedQuestion,
    agent: str | os.PathLike[str] | Callable[..., Any] | Agent = "cmc",
    *,
    gold: str | None = None,
    seed: int | None = None,
    watch: Callable[[AutoTTSLiveEnv], None] | None = None,
    **options: Unpack[LiveEnvOptions],
) -> Solution:
    """Like :func:`solve`, as a coroutine: one ``live`` model can answer many questions at once.

    Every call has a thread of its own, so that no call waits for others. If the coroutine is
    cancelled, it stops waiting and aborts generation on the model immediately.
    """
    thread = SolveThread(question, agent, gold=gold, seed=seed, watch=watch, **options)
    try:
        return await asyncio.wrap_future(thread.future)
    finally:
        thread.cancel()


def _run_in_new_thread(function: Callable[[], object]) -> None:
    threading.Thread(target=function, name="autotts-solve", daemon=True).start()


class SolveThread:
    """A call of :func:`solve` in a thread; asyncio's pool has few, which others use as well.

    Args:
        question, agent, gold, seed, watch, options: as for :func:`solve`.
        run: runs a function in a thread; by default in a new one.

    Attributes:
        future: the solution. It cannot be cancelled, and has a result or an exception when the
            thread ends.
    """

    def __init__(
        self,
        question: str | AskedQuestion,
        agent: str | os.PathLike[str] | Callable[..., Any] | Agent = "cmc",
        *,
        gold: str | None = None,
        seed: int | None = None,
        watch: Callable[[AutoTTSLiveEnv], None] | None = None,
        run: Callable[[Callable[[], object]], object] = _run_in_new_thread,
        **options: Unpack[LiveEnvOptions],
    ) -> None:
        self.future: concurrent.futures.Future[Solution] = concurrent.futures.Future()
        self.future.set_running_or_notify_cancel()  # from here on, it cannot be cancelled
        self._cancelled = False
        self._env: AutoTTSLiveEnv | None = None
        self._watch = watch
        work = functools.partial(
            solve, question, agent, gold=gold, seed=seed, watch=self._check, **options
        )
        run(functools.partial(contextvars.copy_context().run, self._run, work))

    def cancel(self) -> None:
        """Abort generation on the model; the episode ends at the controller's next action.

        The solution then has an ``error``, and what was generated. Without effect at the end.
        """
        self._cancelled = True
        if (env := self._env) is not None:
            env.cancel()

    def _run(self, work: Callable[[], Solution]) -> None:
        try:
            result = work()
        except BaseException as error:
            self._env = None
            self.future.set_exception(error)
        else:
            self._env = None  # not kept as long as the future
            self.future.set_result(result)

    def _check(self, env: AutoTTSLiveEnv) -> None:
        self._env = env
        if self._cancelled:
            env.cancel()
        elif self._watch is not None:
            self._watch(env)


def _make_solution(
    env: AutoTTSLiveEnv, info: dict[str, Any], error: str, timed_out: bool = False
) -> Solution:
    # Attributes of a solution are plain values, which JSON can hold.
    info = {k: v.item() if isinstance(v, np.generic) else v for k, v in info.items()}
    votes = env.votes
    total = sum(votes.values())
    tokens = seconds = None
    if env.live.reference is not None:
        tokens, longest = self_consistency_cost(env.live.reference, env.max_branches)
        if info["sequential_tokens"]:
            seconds = longest * info["wall_seconds"] / info["sequential_tokens"]
    branch = env.answering_branch
    text, cut = ("", False) if branch is None else env.branch_text(branch)
    reasoning, rest = env.live.protocol.split_reasoning(text)
    return Solution(
        answer=info["answer"],
        votes=dict(sorted(votes.items(), key=lambda item: -item[1])),
        confidence=votes.get(info["answer"], 0) / total if total else 0.0,
        correct=bool(info["correct"]) if info["has_gold"] else None,
        tokens=info["tokens"],
        sequential_tokens=info["sequential_tokens"],
        generated_tokens=info["generated_tokens"],
        probe_tokens=info["probe_tokens"],
        probes=info["probes"],
        branches=env.opened,
        wall_seconds=info["wall_seconds"],
        self_consistency_tokens=tokens,
        self_consistency_seconds=seconds,
        error=error,
        timed_out=timed_out,
        branch=branch,
        reasoning=reasoning,
        text=rest,
        is_cut=cut,
        prompt_tokens=env.prompt_tokens,
    )


def self_consistency_cost(reference: str | os.PathLike[str], width: int) -> tuple[int, float]:
    """Return the expected cost of reading ``width`` whole branches in an environment.

    Returns:
        Total tokens and sequential tokens; the latter are
        :meth:`~autotts_gym.traces.store.TraceStore.longest_tokens`.
    """
    store = next(iter(registry.open_stores(reference).values()))
    return round(width * store.card.mean_tokens), store.longest_tokens(width)
