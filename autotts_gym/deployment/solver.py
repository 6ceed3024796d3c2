"""Answering a question with a controller on a running model: what an application calls.

::

    from autotts_gym.live.connection import connect
    from autotts_gym.deployment.solver import solve

    with connect("http://127.0.0.1:8000/v1", reference="my-environment") as model:
        found = solve("What is 17 · 12?", "cmc", beta=0.5, live=model)
        print(found.answer, found.tokens, found.wall_seconds)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.loader import load
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv, LiveError
from autotts_gym.traces import registry


@dataclass(frozen=True)
class Solution:
    """An answer, and its bill.

    Attributes:
        answer: empty where there is none.
        votes: what the branches that were active at the end had shown last, and how many of them.
        confidence: share of these votes that the answer has; 0 without votes.
        correct: whether it is the gold answer; None where that is not known.
        tokens: total tokens as billed: what was requested of every branch, up to its end.
        sequential_tokens: the latency of the critical path, tokens.
        generated_tokens: tokens that branches really generated.
        probe_tokens, probes: tokens that probes generated, and how many there were.
        branches: how many were opened.
        wall_seconds: from the question to the answer.
        self_consistency_tokens, self_consistency_seconds: what reading ``max_branches`` whole
            branches would be expected to cost, by the reference environment's branches and by the
            seconds that a sequential token took here; None without a reference.
        error: what the model failed with; empty where it did not. The answer is then the best one
            that was there by then.
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
    error: str = field(default="")

    def facts(self) -> dict[str, Any]:
        """Everything by name, as for JSON."""
        return asdict(self)


class _Watched(gym.Wrapper[Any, Any, Any, Any]):
    """Calls a function after every reset and step."""

    def __init__(self, env: gym.Env[Any, Any], watch: Callable[[AutoTTSLiveEnv], None]) -> None:
        super().__init__(env)
        self._watch = watch

    def reset(self, **arguments: Any) -> Any:
        found = self.env.reset(**arguments)
        self._watch(self.unwrapped)  # type: ignore[arg-type]
        return found

    def step(self, action: Any) -> Any:
        found = self.env.step(action)
        self._watch(self.unwrapped)  # type: ignore[arg-type]
        return found


def solve(
    question: str,
    agent: str | Agent = "cmc",
    *,
    beta: float = 0.5,
    gold: str | None = None,
    seed: int | None = None,
    watch: Callable[[AutoTTSLiveEnv], None] | None = None,
    **arguments: Any,
) -> Solution:
    """Answer a question.

    Args:
        question: its text.
        agent: a controller, by name or path.
        beta: β, for controllers that have the knob.
        gold: the right answer, where it is known.
        seed: of the branches' draws.
        watch: called with the environment after every action; it can be rendered then.
        arguments: those of ``AutoTTS-Live-v0``: ``live``, or ``base_url`` or ``model``, ...

    Returns:
        The answer and its bill. Where the model fails on the way it is what was known by then,
        with ``error``.

    Raises:
        EngineError: the model cannot be reached at all.
        AgentError, IllegalActionError, NoAnswerError: the controller cannot be loaded, or misplays.
    """
    controller = load(agent) if isinstance(agent, str) else agent
    env = AutoTTSLiveEnv(beta=beta, **arguments)
    try:
        played: gym.Env[Any, Any] = env if watch is None else _Watched(env, watch)
        error = ""
        try:
            info = controller.play(played, seed=seed, question=question, gold=gold)
        except LiveError as failure:
            info, error = failure.info, str(failure)
        return _solution(env, info, error)
    finally:
        env.close()


async def solve_async(question: str, agent: str | Agent = "cmc", **arguments: Any) -> Solution:
    """:func:`solve`, awaited: many questions can be under way at once, on one ``live`` model.

    Cancelled, it stops waiting at once; what is under way on the model is aborted with the next
    action of the controller.
    """
    stopped = False
    watch = arguments.pop("watch", None)

    def check(env: AutoTTSLiveEnv) -> None:
        if stopped:
            raise asyncio.CancelledError
        if watch is not None:
            watch(env)

    try:
        return await asyncio.to_thread(solve, question, agent, watch=check, **arguments)
    finally:
        stopped = True


def _solution(env: AutoTTSLiveEnv, info: dict[str, Any], error: str) -> Solution:
    votes = env.votes
    total = sum(votes.values())
    tokens = seconds = None
    if env.live.reference is not None:
        tokens, longest = self_consistency(env.live.reference, env.max_branches)
        if info["sequential_tokens"]:
            seconds = longest * info["wall_seconds"] / info["sequential_tokens"]
    return Solution(
        answer=info["answer"],
        votes=dict(sorted(votes.items(), key=lambda item: -item[1])),
        confidence=votes.get(info["answer"], 0) / total if total else 0.0,
        correct=info["correct"],
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
    )


def self_consistency(reference: str, width: int) -> tuple[int, float]:
    """What reading ``width`` branches costs in an environment: total and sequential tokens."""
    store = next(iter(registry.open_stores(reference).values()))
    ends = np.cumsum(store.tables.branch_counts)
    longest = [part[:width].max() for part in np.split(store.tables.tokens, ends[:-1])]
    return round(width * store.card.mean_tokens), float(np.mean(longest))
