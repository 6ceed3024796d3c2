"""``AnsweringService``: episodes of requests, from the queue to the bill."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import logging
import time
from collections.abc import Callable
from typing import Any, Final

from autotts_gym.controllers.errors import failure_message
from autotts_gym.deployment.solver import Solution, SolveThread
from autotts_gym.gateway.admission import Admission
from autotts_gym.gateway.api_errors import ApiError
from autotts_gym.gateway.episode_plan import EpisodePlan
from autotts_gym.gateway.gateway_metrics import GatewayMetrics
from autotts_gym.gateway.request_log import log
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv
from autotts_gym.inference.engine import EngineError
from autotts_gym.inference.http_engine import RefusedError
from autotts_gym.inference.prober import PromptTooLongError
from autotts_gym.live.live_branches import DeadlinePassedError
from autotts_gym.utils.daemon_threads import DaemonThreads

#: Seconds after its timeout in which an episode may still give its best answer.
_GRACE: Final = 2.0
#: Seconds between two reports of progress, at least.
_PROGRESS: Final = 0.25
#: Most answers whose votes are reported as progress.
_MOST_VOTES: Final = 5
#: Status of requests whose client has gone, in the log only.
CLIENT_GONE: Final = 499
#: Status codes of upstreams with which they refuse what the client wrote.
_CLIENT_FAULTS: Final = frozenset({400, 413, 422})

#: Gets the state of the episode: branches, probes, tokens, seconds and votes.
Progress = Callable[[dict[str, Any]], None]


class RunningEpisode:
    """An episode that plays in its thread.

    Args:
        plan: the episode.
        thread: its thread.
        end: called on the event loop, with the future of the thread, when the thread ends.
    """

    def __init__(
        self,
        plan: EpisodePlan,
        thread: SolveThread,
        end: Callable[[concurrent.futures.Future[Solution]], None],
    ) -> None:
        self._plan = plan
        self._thread = thread
        self._done = asyncio.Event()
        loop = asyncio.get_running_loop()
        thread.future.add_done_callback(functools.partial(_schedule_end, loop, self._done, end))

    def abandon(self) -> None:
        """Abort the generation of an episode whose client has gone."""
        if not self._thread.future.done():
            self._plan.abandoned = True
        self._thread.cancel()

    async def solution(self) -> Solution:
        """Wait for the end. If this is cancelled, the generation is aborted.

        Raises:
            ApiError: there is no answer.
        """
        try:
            async with asyncio.timeout_at(self._plan.deadline + _GRACE):
                await self._done.wait()
        except TimeoutError:
            self._plan.late = True
            self._thread.cancel()
            raise _late() from None
        except asyncio.CancelledError:
            self.abandon()
            raise
        return _solution_of(self._plan, self._thread.future)


# Not a method: a future keeps its functions. If they had the episode, which has the future, each
# would remain until a garbage collection, which stops all requests.
def _schedule_end(
    loop: asyncio.AbstractEventLoop,
    done: asyncio.Event,
    end: Callable[[concurrent.futures.Future[Solution]], None],
    future: concurrent.futures.Future[Solution],
) -> None:
    """Let an episode end on the event loop: first the reply, then ``end``."""

    def conclude() -> None:
        done.set()
        loop.call_soon(end, future)

    with contextlib.suppress(RuntimeError):  # the event loop is closed
        loop.call_soon_threadsafe(conclude)


class AnsweringService:
    """Plays the episodes of requests, each in a thread.

    Args:
        admission: limits their number.
        metrics: where they are recorded.
        max_branches: N, maximum width of an episode.
    """

    def __init__(self, admission: Admission, metrics: GatewayMetrics, max_branches: int) -> None:
        self._admission = admission
        self._metrics = metrics
        self._max_branches = max_branches
        self._threads = DaemonThreads("autotts-solve")

    def close(self) -> None:
        """Let the threads end that no episode needs."""
        self._threads.close()

    async def enter(self, plan: EpisodePlan) -> None:
        """Wait until the episode of a plan may start; :meth:`start` must follow immediately.

        Raises:
            ApiError: there is no place; see :class:`~autotts_gym.gateway.admission.Admission`.
        """
        try:
            self._update_gauges(waiting=1)
            plan.queue_seconds = await self._admission.enter(plan.deadline)
        except ApiError as error:
            self._report(plan, error.status, error.outcome)
            raise
        except asyncio.CancelledError:
            self._report(plan, CLIENT_GONE, "cancelled")
            raise
        finally:
            self._update_gauges()
        self._metrics.queue_seconds.observe(plan.queue_seconds)

    def _update_gauges(self, waiting: int = 0) -> None:
        self._metrics.running.set(self._admission.running)
        self._metrics.waiting.set(self._admission.waiting + waiting)

    def start(self, plan: EpisodePlan, progress: Progress | None = None) -> RunningEpisode:
        """Start an episode that has entered.

        Args:
            plan: the episode.
            progress: called on the event loop while the episode runs.
        """
        begun = time.monotonic()
        plan.live.prefetch(plan.question)  # while the thread and its environment start
        thread = SolveThread(
            plan.question,
            plan.agent,
            seed=plan.seed,
            watch=None if progress is None else _watch(progress),
            run=self._threads.run,
            live=plan.live,
            max_branches=self._max_branches,
            budget=plan.token_budget,
            beta=plan.beta,
            latency_weight=plan.latency_weight,
            deadline=max(plan.deadline - begun, 0.001),
        )

        def end(future: concurrent.futures.Future[Solution]) -> None:
            self._admission.leave(time.monotonic() - begun)
            self._update_gauges()
            self._record(plan, future)

        # The place is free when the thread ends, which may be later than the reply.
        return RunningEpisode(plan, thread, end)

    def _record(self, plan: EpisodePlan, future: concurrent.futures.Future[Solution]) -> None:
        """Record what came of an episode."""
        facts: dict[str, Any] = {}
        status, outcome = 200, "answered"
        try:
            solution = _solution_of(plan, future)
            outcome = "timed_out" if solution.timed_out else outcome
            outcome = "degraded" if solution.error else outcome
        except ApiError as error:
            status, outcome = error.status, error.outcome
        if plan.late:
            status, outcome = 504, "timeout"
        if plan.abandoned:
            status, outcome = CLIENT_GONE, "cancelled"
        failure = future.exception()
        if failure is not None:
            facts["failure"] = failure_message(failure)
        else:
            solution = future.result()
            self._metrics.record_solution(plan.controller, solution, status == 200)
            facts = _bill_facts(solution)
        self._metrics.seconds.labels(plan.controller).observe(time.monotonic() - plan.started)
        self._report(plan, status, outcome, **facts)

    def _report(self, plan: EpisodePlan, status: int, outcome: str, **facts: Any) -> None:
        """Count a request, and log it."""
        self._metrics.requests.labels(plan.controller, outcome).inc()
        log(
            "request",
            logging.ERROR if outcome == "failed" else logging.INFO,
            request_id=plan.request_id,
            model=plan.model,
            controller=plan.controller,
            protocol=plan.protocol,
            beta=plan.beta,
            status=status,
            outcome=outcome,
            seconds=round(time.monotonic() - plan.started, 3),
            queue_seconds=round(plan.queue_seconds, 3),
            **facts,
        )


def _bill_facts(solution: Solution) -> dict[str, Any]:
    expected = solution.self_consistency_tokens
    facts: dict[str, Any] = {
        "branches": solution.branches,
        "probes": solution.probes,
        "prompt_tokens": solution.prompt_tokens,
        "generated_tokens": solution.generated_tokens,
        "probe_tokens": solution.probe_tokens,
        "tokens": solution.tokens,
        "sequential_tokens": solution.sequential_tokens,
        "confidence": round(solution.confidence, 3),
    }
    if expected is not None:
        facts["saved_tokens"] = expected - solution.tokens
    if solution.error:
        facts["failure"] = solution.error
    return facts


def _watch(progress: Progress) -> Callable[[AutoTTSLiveEnv], None]:
    """A function for the thread of an episode that reports progress, not too often."""
    loop = asyncio.get_running_loop()
    started = time.monotonic()
    next_report = started

    def watch(env: AutoTTSLiveEnv) -> None:
        nonlocal next_report
        now = time.monotonic()
        if now < next_report:
            return
        next_report = now + _PROGRESS
        votes = sorted(env.votes.items(), key=lambda item: -item[1])[:_MOST_VOTES]
        facts = {
            "branches": env.opened,
            "generated_tokens": env.generated,
            "seconds": round(now - started, 3),
            "votes": dict(votes),
        }
        with contextlib.suppress(RuntimeError):  # the event loop is closed
            loop.call_soon_threadsafe(progress, facts)

    return watch


def _late() -> ApiError:
    return ApiError(504, "no answer within the timeout", code="timeout", outcome="timeout")


def _solution_of(plan: EpisodePlan, future: concurrent.futures.Future[Solution]) -> Solution:
    """The solution of an episode that has ended.

    Raises:
        ApiError: the episode has no answer.
    """
    failure = future.exception()
    if failure is not None:
        raise _failure(plan, failure) from failure
    solution = future.result()
    if solution.answer or not (solution.error or solution.timed_out):
        return solution
    if solution.timed_out:
        raise _late()
    raise _upstream_failure()


def _failure(plan: EpisodePlan, failure: BaseException) -> ApiError:
    if isinstance(failure, PromptTooLongError):
        return ApiError(400, str(failure), code="context_length_exceeded", param="messages")
    if isinstance(failure, DeadlinePassedError):
        return _late()
    if isinstance(failure, RefusedError) and failure.status in _CLIENT_FAULTS:
        reason = str(failure).partition(": ")[2]  # without the URL
        return ApiError(400, f"the model server refuses the request: {reason}")
    if isinstance(failure, EngineError):
        return _upstream_failure()
    if plan.token_budget is not None:
        return ApiError(
            400,
            f"the controller {plan.controller} cannot play with token_budget={plan.token_budget}",
            param="autotts.token_budget",
        )
    return ApiError(
        500,
        f"the controller {plan.controller} failed ({type(failure).__name__})",
        code="controller_failed",
        outcome="failed",
    )


def _upstream_failure() -> ApiError:
    return ApiError(
        502, "the model server failed, or cannot be reached", code="upstream", outcome="upstream"
    )
