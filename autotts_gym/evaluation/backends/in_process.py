"""Worker that plays jobs in the current process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from autotts_gym.evaluation.backends.job import Job, JobResult
from autotts_gym.mdp import state as s
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.limits import TIME_LIMIT
from autotts_gym.rollout.rollout import Rollout

if TYPE_CHECKING:
    from autotts_gym.sandbox.player import Sandbox
    from autotts_gym.sandbox.untrusted_agent import UntrustedAgent


class InProcessWorker:
    """Plays in the current process, which cannot interrupt a program that never returns.

    Untrusted programs run in a sandbox here as well.

    Args:
        ledger: shared ledger of the running episode, see
            :class:`~autotts_gym.rollout.rollout.Rollout`.
        time_limit: seconds after which a sandbox kills an episode.
    """

    def __init__(self, ledger: s.Records | None = None, time_limit: float = TIME_LIMIT) -> None:
        self._ledger, self._time_limit = ledger, time_limit
        self._rollouts: dict[tuple[Any, ...], Rollout] = {}
        self._sandbox: tuple[tuple[Any, ...], Sandbox] | None = None

    def player(self, job: Job) -> EpisodePlayer:
        """The player of the job's agent on its store; compiled rollouts are cached."""
        key = job.agent.digest, job.store.card.fingerprint, job.config, job.interpret, job.settle
        if job.agent.is_untrusted:
            return self._sandboxed(key, job)
        if key not in self._rollouts:
            self._rollouts[key] = Rollout(
                job.agent,
                job.store,
                job.config,
                interpret=job.interpret,
                settle=job.settle,
                ledger=self._ledger,
            )
        return self._rollouts[key]

    def _sandboxed(self, key: tuple[Any, ...], job: Job) -> Sandbox:
        """A sandbox for the job's agent; the previous one is closed, because it holds processes."""
        from autotts_gym.sandbox.player import Sandbox

        if self._sandbox is None or self._sandbox[0] != key:
            self._close_sandbox()
            agent = cast("UntrustedAgent", job.agent)
            sandbox = Sandbox(
                agent, job.store, job.config, settle=job.settle, time_limit=self._time_limit
            )
            self._sandbox = key, sandbox
        return self._sandbox[1]

    def _close_sandbox(self) -> None:
        if self._sandbox is not None:
            self._sandbox[1].close()
            self._sandbox = None

    def play(self, job: Job) -> JobResult:
        player = self.player(job)
        started = time.perf_counter()
        episodes = player.play(job.questions(), job.orders(0, job.count), job.beta)
        seconds = time.perf_counter() - started
        return JobResult(
            episodes, player.path, player.reason, seconds, reproducible=not player.killed
        )

    def close(self) -> None:
        self._rollouts.clear()
        self._close_sandbox()
