"""Playing untrusted programs: this process holds the traces, others hold the programs.

Every episode has a process of its own, forked from one that has loaded what programs may import and
nothing else (:mod:`autotts_gym.sandbox.forkserver`). Some of them run side by side, and are served by a
compiled loop (:mod:`autotts_gym.sandbox.event_loop`); here episodes begin and end.
Nothing that comes from a program is taken for more than a number or a text.
"""

from __future__ import annotations

import os
import signal
import struct
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.errors import MAX_MESSAGE_LENGTH, GivenUpError, IllegalActionError
from autotts_gym.mdp import actions
from autotts_gym.mdp.batch import TRUNCATED, Batch, EpisodeStart
from autotts_gym.mdp.state import Records
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.episode_player import EpisodePlayer
from autotts_gym.rollout.episode_results import answered_row, failed_row
from autotts_gym.rollout.limits import MAX_CHECK_GAP, MAX_CONSECUTIVE_KILLS, TIME_LIMIT
from autotts_gym.sandbox import guest
from autotts_gym.sandbox.event_loop import ANSWERS, NEWS, NOTHING, REFUSED, Service
from autotts_gym.sandbox.launcher import Starter
from autotts_gym.sandbox.lockdown import Limits
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.shared_memory import Memory, encoded
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent, load_untrusted
from autotts_gym.traces.store import TraceStore

#: Episodes side by side: few enough that what they work with stays in a processor's cache, and
#: enough that there is always one that can go on.
ABREAST: Final = 12

#: Bytes that a program may take beyond what it starts with.
MEMORY: Final = 512 << 20

#: Seconds between two looks at the clock.
_LOOK: Final = 0.5


class Sandbox(EpisodePlayer):
    """An untrusted program on one store under given terms; plays the episodes of a ``Rollout``.

    Args:
        agent: the program, or the path of its file; it is never run in this process.
        store, terms: what is played, as for :class:`~autotts_gym.rollout.rollout.Rollout`.
        settle: find the settled tokens of every episode.
        abreast: episodes that are played side by side.
        time_limit: seconds after which an episode is ended.
        memory: bytes that a program may take beyond what it starts with.

    Raises:
        AgentError: the file offers nothing that can be played.
        ValueError: the terms do not fit the store, or the platform has no processes to fork.

    Attributes:
        path: ``"sandbox"``.
        logs: always kept.
    """

    def __init__(
        self,
        agent: UntrustedAgent | str,
        store: TraceStore,
        config: EpisodeConfig,
        *,
        settle: bool = False,
        abreast: int = ABREAST,
        time_limit: float = TIME_LIMIT,
        memory: int = MEMORY,
    ) -> None:
        if not hasattr(os, "fork"):
            raise ValueError("a sandbox takes a Unix: processes are forked, and locked down")
        super().__init__(store, config, settle)
        if abreast < 1:
            raise ValueError(f"abreast must be at least 1, got {abreast}")
        self.agent = load_untrusted(agent) if isinstance(agent, str) else agent
        self.path, self.reason = "sandbox", "untrusted"
        self._time_limit = time_limit
        self._limits = Limits(memory, int(np.ceil(time_limit)) + 1)
        texts = [sum(len(encoded(a)) for a in some) for some in store.tables.answers]
        layout = Layout(
            config.max_branches,
            self._dataset.classes,
            max(texts, default=0),
            self._dataset.has_confidences,
        )
        self._slots = Memory(layout, abreast)
        self._batch = Batch(
            self._dataset, config, abreast, 1, layout.classes + 1, False, 0.0, self._slots.view
        )
        self._service = Service(self._batch, self._slots)
        self._zygote: Starter | None = None
        order = np.arange(config.max_branches)
        self._settled_tokens(0, order, self._batch.branches[0], ())  # compiles

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
        """End every process; nothing can be played any more."""
        self._stop()
        self._slots.close()

    def _stop(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None

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
            GivenUpError: the program cannot be loaded, or its episodes have to be ended from
                outside, one after the other.
        """
        if self._zygote is None:
            self._zygote = Starter(self.agent, self._slots, self._limits)
        game = _Game(self, self._zygote, questions, orders, beta, results, played, fail)
        try:
            game.play()
        except BaseException:
            self._stop()  # and with it whatever still runs
            raise
        finally:
            none = np.empty(0, np.int32)
            self.logs = [game.logs.get(k, none) for k in range(len(questions))]
            self.killed = len(game.ended)


class _Game:
    """The episodes of one call, see :class:`Sandbox`."""

    def __init__(
        self,
        box: Sandbox,
        starter: Starter,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: Records,
        played: NDArray[np.int64],
        fail: Callable[[int, str], None],
    ) -> None:
        self._box, self._zygote, self._batch, self._slots = box, starter, box._batch, box._slots
        self._service = box._service
        self._questions, self._orders, self._beta = questions, orders, float(beta)
        self._results, self._played, self._fail = results, played, fail
        self._failures: dict[int, str] = {}
        self._over: set[int] = set()
        self._next = int(played[0])
        self._running: dict[int, _Process] = {}  # by slot
        self._free = list(range(self._slots.count))[::-1]
        self._used: set[int] = set()
        self._clock = 0.0  # seconds that this process has looked
        self.logs: dict[int, NDArray[np.int32]] = {}
        self.ended: set[int] = set()

    def play(self) -> None:
        looked = time.monotonic()
        try:
            self._start()
            while self._running:
                oldest = min(one.started for one in self._running.values())
                left = oldest + self._box._time_limit - self._clock
                bits = self._service.serve(min(max(0.0, left), _LOOK))
                now = time.monotonic()
                self._clock += min(now - looked, MAX_CHECK_GAP)
                looked = now
                if bits & ANSWERS:
                    self._slots.reveal(self._batch)
                if bits & NEWS:
                    self._hear()
                if self._clock - oldest > self._box._time_limit:
                    self._end_late()
                self._start()
        finally:
            for one in list(self._running.values()):
                self._leave(one)
            self._zygote.end(sorted(self._used))  # a program may go on after its last word

    def _start(self) -> None:
        """Start episodes where there is room."""
        count = min(len(self._free), len(self._questions) - self._next)
        if count <= 0:
            return
        chosen = [self._free.pop() for _ in range(count)]
        some = range(self._next, self._next + count)
        self._next += count
        self._used.update(chosen)
        draws = [EpisodeStart(int(self._questions[k]), self._beta, self._orders[k]) for k in some]
        self._batch.reset(chosen, draws)
        self._slots.begin(chosen, self._batch.ledger)
        for slot, k in zip(chosen, some, strict=True):
            pipes = self._zygote.start(slot)
            self._running[slot] = _Process(slot, k, *pipes, self._clock)
            self._service.begin(slot, *pipes)

    def _hear(self) -> None:
        """See to what is not just actions: episodes that end."""
        traffic = self._service.traffic
        for slot in np.flatnonzero(traffic.sizes != NOTHING).tolist():
            size, one = int(traffic.sizes[slot]), self._running[slot]
            if size == 0:
                self._died(one)
            elif size == REFUSED:
                self._refuse(one)
            else:
                self._last_word(one, traffic.queues[slot].tobytes()[:size])

    def _refuse(self, one: _Process) -> None:
        """An action that the handle would not have let through."""
        traffic, width = self._service.traffic, self._box._config.max_branches
        action = int(traffic.queues[one.slot, traffic.counts[one.slot]])
        name = f"action {action}"
        if 0 <= action < actions.count(width):
            name = str(actions.decode(action, width))
        ended = self._batch.ledger["ended"][one.slot]
        why = "the episode has ended" if ended else "see 'Action Space' of AutoTTS-v0"
        self._failed(one, f"{IllegalActionError.__name__}: {name} is illegal here: {why}")

    def _last_word(self, one: _Process, frame: bytes) -> None:
        word = struct.unpack_from("=i", frame)[0] if len(frame) >= 4 else 0
        text = frame[4:].decode("utf-8", "replace")[:MAX_MESSAGE_LENGTH]
        if word == guest.DONE and len(frame) == 4:
            if self._batch.ledger["ended"][one.slot]:
                self._done(one)
            else:
                self._failed(one, "NoAnswerError: solve returned without episode.answer()")
        elif word == guest.FAILED:
            self._failed(one, text)
        elif word == guest.UNLOADED:
            self._failed(one, f"cannot be loaded: {text}", outside=True)
        else:
            self._failed(one, "ProtocolError: what the program wrote is no action", outside=True)

    def _died(self, one: _Process) -> None:
        (status,) = self._zygote.end([one.slot])
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            how = f"ended with signal {number} ({signal.Signals(number).name})"
        else:
            how = f"ended with exit code {os.WEXITSTATUS(status)}"
        self._failed(one, f"ProcessError: the process of the episode {how}", outside=True)

    def _end_late(self) -> None:
        limit = self._box._time_limit
        for one in list(self._running.values()):
            if self._clock - one.started > limit:
                self._failed(one, f"TimeLimitError: no end after {limit:g} s", outside=True)

    # --- endings ---------------------------------------------------------------------------------

    def _done(self, one: _Process) -> None:
        batch, box = self._batch, self._box
        if batch.outcomes[one.slot] & TRUNCATED:
            row = failed_row(batch.ledger[one.slot], box._settle)
        else:
            row = answered_row(batch, one.slot)
            row["settled_tokens"] = box._settled_tokens(
                int(self._questions[one.k]),
                self._orders[one.k],
                batch.branches[one.slot],
                self._service.log(one.slot),
            )
        self._finish(one, row)

    def _failed(self, one: _Process, message: str, outside: bool = False) -> None:
        self._failures[one.k] = message
        if outside:
            self._zygote.end([one.slot])
            self.ended.add(one.k)
        self._finish(one, failed_row(self._batch.ledger[one.slot], self._box._settle))
        if outside:
            self._despair(one.k, message)

    def _despair(self, k: int, message: str) -> None:
        """Give the program up once so many episodes in a row were ended from outside."""
        first = last = k
        while first - 1 in self.ended:
            first -= 1
        while last + 1 in self.ended:
            last += 1
        if last - first + 1 >= MAX_CONSECUTIVE_KILLS:
            question = int(self._questions[k])
            where = f"question {question}, {MAX_CONSECUTIVE_KILLS} times in a row"
            raise GivenUpError(f"{message} ({where})")

    def _finish(self, one: _Process, row: Records) -> None:
        """Write an episode's row; those before it are counted as soon as none is missing."""
        self._results[one.k] = row
        self.logs[one.k] = self._service.log(one.slot)
        self._leave(one)
        self._over.add(one.k)
        while (k := int(self._played[0])) in self._over:
            self._over.discard(k)
            if k in self._failures:
                self._fail(k, self._failures.pop(k))
            self._played[0] += 1

    def _leave(self, one: _Process) -> None:
        self._batch.ledger["ended"][one.slot] = 1
        self._service.leave(one.slot)
        del self._running[one.slot]
        os.close(one.hearing)
        os.close(one.telling)
        self._free.append(one.slot)


class _Process(NamedTuple):
    """A running episode.

    Attributes:
        slot, k: where it is shown, and which of the episodes it is.
        hearing, telling: this side's ends of its pipes.
        started: by the game's clock, seconds.
    """

    slot: int
    k: int
    hearing: int
    telling: int
    started: float
