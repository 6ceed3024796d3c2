""":class:`Sandbox`: plays an untrusted program in locked-down processes.

The calling process holds the traces and never runs the program. Each episode runs in its own child
process, forked from a server that has loaded only the modules that programs may import
(:mod:`autotts_gym.sandbox.forkserver`). Several episodes run in parallel, and a compiled loop
answers their actions (:mod:`autotts_gym.sandbox.event_loop`). Data from a program is read as
numbers and text only; nothing is unpickled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from types import TracebackType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.mdp.batch import Batch
from autotts_gym.mdp.state import Records
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.limits import TIME_LIMIT
from autotts_gym.sandbox import lockdown
from autotts_gym.sandbox.answer_texts import encode_answers
from autotts_gym.sandbox.episode_scheduler import EpisodeScheduler
from autotts_gym.sandbox.event_loop import EventLoop
from autotts_gym.sandbox.launcher import Launcher
from autotts_gym.sandbox.lockdown import Limits
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.shared_memory import SlotMemory
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent, load_untrusted
from autotts_gym.traces.store import TraceStore

#: Default number of parallel episodes: few enough that their states fit in the CPU cache, and
#: enough that there is always an action to answer.
PARALLEL_EPISODES: Final = 12

#: Default memory limit of a program, bytes.
MEMORY: Final = 512 << 20


#: Seconds of processor time after the limit at which the kernel ends a process by itself, if the
#: player does not end it first.
_CPU_RESERVE: Final = 5


class Sandbox(EpisodePlayer):
    """Plays one untrusted program on one trace store.

    Results equal those of a :class:`~autotts_gym.rollout.rollout.Rollout` in plain Python.

    Args:
        agent: the program, or the path of its file. It never runs in this process.
        store: the traces.
        config: configuration of the episodes.
        settle: compute the settled tokens of every episode.
        parallel_episodes: number of episodes that run at the same time.
        time_limit: processor time after which an episode is killed, seconds. It counts the
            program's own work only, so that results do not depend on the load of the machine.
        memory: memory limit of a program, bytes of address space in addition to the template's.
        weaker_sandbox: play even if this machine lacks a protection.

    Raises:
        AgentError: the file defines no controller.
        MissingProtectionError: the machine lacks a protection, see
            :func:`autotts_gym.sandbox.lockdown.missing`.
        ValueError: the configuration does not fit the store, ``parallel_episodes`` is below 1, or
            the platform cannot fork.

    Attributes:
        agent: the program.
        path: ``"sandbox"``.
        logs: actions of the episodes of the latest call; a sandbox always keeps them.
    """

    def __init__(
        self,
        agent: UntrustedAgent | str | os.PathLike[str],
        store: TraceStore | str | os.PathLike[str],
        config: EpisodeConfig,
        *,
        settle: bool = False,
        parallel_episodes: int = PARALLEL_EPISODES,
        time_limit: float = TIME_LIMIT,
        memory: int = MEMORY,
        weaker_sandbox: bool = False,
    ) -> None:
        if not hasattr(os, "fork"):
            raise ValueError("a sandbox needs a Unix system, which can fork and lock processes")
        self.agent = agent if isinstance(agent, UntrustedAgent) else load_untrusted(agent)
        lockdown.check(weaker_sandbox or self.agent.weaker_sandbox)
        super().__init__(store, config, settle)
        if parallel_episodes < 1:
            raise ValueError(f"parallel_episodes must be at least 1, got {parallel_episodes}")
        self.path, self.reason = "sandbox", "untrusted"
        self.batch_size = 0
        self._time_limit = time_limit
        self._limits = Limits(memory, int(np.ceil(time_limit)) + _CPU_RESERVE)
        texts = encode_answers(self._dataset)
        layout = Layout(
            config.max_branches,
            self._dataset.depth,
            self._dataset.has_confidences,
            self._dataset.has_generation_confidences,
        )
        self._memory = SlotMemory(layout, parallel_episodes)
        self._batch = Batch(
            self._dataset,
            config,
            num_envs=parallel_episodes,
            max_depth=1,  # unused without planes
            max_classes=self._dataset.classes + 1,
            plane=False,
            invalid_penalty=0.0,
        )
        self._event_loop = EventLoop(self._batch, self._memory, texts)
        self._launcher: Launcher | None = None
        order = np.arange(config.max_branches)
        self._settled_tokens(0, order, self._batch.branches[0], ())  # compile now

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End all processes. The sandbox cannot play afterwards."""
        self._stop()
        self._memory.close()

    def _stop(self) -> None:
        if self._launcher is not None:
            self._launcher.close()
            self._launcher = None

    def play_remaining(
        self,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: Records,
        played: NDArray[np.int64],
        fail: Callable[[int, str], None],
    ) -> None:
        """See :meth:`autotts_gym.rollout.episode_player.EpisodePlayer.play_remaining`.

        Raises:
            GivenUpError: the program cannot be loaded, or too many consecutive episodes were
                killed.
        """
        if self._launcher is None:
            self._launcher = Launcher(self.agent, self._memory.layout, self._limits)
        scheduler = EpisodeScheduler(
            self._batch,
            self._memory,
            self._event_loop,
            self._launcher,
            questions=questions,
            orders=orders,
            beta=beta,
            results=results,
            played=played,
            fail=fail,
            settle=self._settle,
            settled_tokens=self._settled_tokens,
            time_limit=self._time_limit,
        )
        try:
            scheduler.run()
        except BaseException:
            self._stop()  # ends the episodes that still run
            raise
        finally:
            empty = np.empty(0, np.int32)
            self.logs = [scheduler.logs.get(k, empty) for k in range(len(questions))]
            self.killed = len(scheduler.killed)
