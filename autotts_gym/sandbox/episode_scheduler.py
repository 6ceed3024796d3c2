"""Scheduling of episodes in a sandbox: starts them in free slots, and records how they end."""

from __future__ import annotations

import os
import signal
import struct
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.controllers.errors import MAX_MESSAGE_LENGTH, GivenUpError, IllegalActionError
from autotts_gym.mdp import actions
from autotts_gym.mdp.batch import TRUNCATED, Batch, EpisodeStart
from autotts_gym.mdp.state import Records
from autotts_gym.rollout.episode_results import answered_row, failed_row
from autotts_gym.rollout.limits import MAX_CONSECUTIVE_KILLS
from autotts_gym.sandbox.event_loop import MESSAGES, NO_MESSAGE, REFUSED, EventLoop
from autotts_gym.sandbox.launcher import Launcher
from autotts_gym.sandbox.own_time_limits import OwnTimeLimits
from autotts_gym.sandbox.pipe_protocol import DONE, FAILED, UNLOADED
from autotts_gym.sandbox.shared_memory import SlotMemory


class _Running(NamedTuple):
    """A running episode.

    Attributes:
        slot: its slot.
        k: its index among the episodes of the call.
        place: its place in the order of starts.
        number: of its process, see :class:`~autotts_gym.sandbox.launcher.Launcher`.
        input_pipe, output_pipe: this process's file descriptors.
    """

    slot: int
    k: int
    place: int
    number: int
    input_pipe: int
    output_pipe: int


class EpisodeScheduler:
    """Plays the episodes of one call of a :class:`~autotts_gym.sandbox.player.Sandbox`.

    They start in a random order, which their processes do not know: a program that finds out how
    many others have started before it learns nothing about its question.

    Args:
        batch, memory, event_loop, launcher: of the sandbox.
        questions, orders, beta, results, played, fail: see
            :meth:`autotts_gym.rollout.episode_player.EpisodePlayer.play_remaining`.
        settle: whether settled tokens are computed.
        settled_tokens: computes them from question, order, branches and actions.
        time_limit: processor time after which an episode is killed, seconds.

    Attributes:
        logs: int32 arrays, the actions of the finished episodes, by index.
        killed: indices of the episodes that were killed by a limit, or crashed.
    """

    def __init__(
        self,
        batch: Batch,
        memory: SlotMemory,
        event_loop: EventLoop,
        launcher: Launcher,
        *,
        questions: NDArray[np.int64],
        orders: NDArray[np.int64],
        beta: float,
        results: Records,
        played: NDArray[np.int64],
        fail: Callable[[int, str], None],
        settle: bool,
        settled_tokens: Callable[..., int],
        time_limit: float,
    ) -> None:
        self._batch, self._memory = batch, memory
        self._event_loop, self._launcher = event_loop, launcher
        self._questions, self._orders, self._beta = questions, orders, float(beta)
        self._results, self._played, self._fail = results, played, fail
        self._settle, self._settled_tokens = settle, settled_tokens
        self._failures: dict[int, str] = {}
        self._finished: set[int] = set()  # not yet counted in played
        first = int(played[0])
        order = np.random.default_rng().permutation(len(questions) - first)
        self._order: list[int] = (first + order).tolist()
        self._next = 0  # in the order
        self._running: dict[int, _Running] = {}  # by slot
        self._free = list(range(memory.count))[::-1]
        # By number of the process: slots that are not used again before it has ended.
        self._ending: dict[int, int] = {}
        self._to_end: list[int] = []  # numbers, of which the launcher does not know yet
        self._limits = OwnTimeLimits(launcher.cpu_times, time_limit)
        self.logs: dict[int, NDArray[np.int32]] = {}
        self.killed: set[int] = set()
        self._killed_places: set[int] = set()

    def run(self) -> None:
        """Play all episodes.

        Raises:
            GivenUpError: too many consecutive episodes were killed.
        """
        try:
            self._event_loop.watch(self._launcher.replies)
            self._start_episodes()
            while self._running or self._ending:
                if self._event_loop.run(self._limits.until_check()) & MESSAGES:
                    self._handle_messages()
                self._kill_late_episodes()
                self._reclaim_slots()
                self._start_episodes()
        finally:
            self._event_loop.watch(-1)
            for episode in list(self._running.values()):
                self._free_slot(episode)
            self._reclaim_slots(wait=True)

    def _start_episodes(self) -> None:
        """Start episodes in the free slots."""
        count = min(len(self._free), len(self._order) - self._next)
        if count <= 0:
            return
        slots = [self._free.pop() for _ in range(count)]
        places = range(self._next, self._next + count)
        self._next += count
        indices = self._order[places.start : places.stop]
        starts = [
            EpisodeStart(int(self._questions[k]), self._beta, self._orders[k]) for k in indices
        ]
        self._batch.reset(slots, starts)
        self._memory.begin(slots, self._batch.ledger)
        self._event_loop.publish(slots)
        for slot, k, place in zip(slots, indices, places, strict=True):
            number, *pipes = self._launcher.start(self._memory.readers[slot])
            self._running[slot] = _Running(slot, k, place, number, *pipes)
            self._limits.add(number)
            self._event_loop.add(slot, *pipes)

    # --- messages --------------------------------------------------------------------------------

    def _handle_messages(self) -> None:
        """Handle everything but legal actions: these episodes end."""
        pipes = self._event_loop.pipes
        for slot in np.flatnonzero(pipes.sizes != NO_MESSAGE).tolist():
            size, episode = int(pipes.sizes[slot]), self._running[slot]
            if size == 0:
                self._handle_exit(episode)
            elif size == REFUSED:
                self._handle_illegal_action(episode)
            else:
                self._handle_last_frame(episode, pipes.queues[slot].tobytes()[:size])

    def _handle_illegal_action(self, episode: _Running) -> None:
        """Fail an episode for an action that its process should have refused itself."""
        pipes, width = self._event_loop.pipes, self._orders.shape[1]
        action = int(pipes.queues[episode.slot, pipes.counts[episode.slot]])
        name = f"action {action}"
        if 0 <= action < actions.count(width):
            name = str(actions.decode(action, width))
        ended = self._batch.ledger["ended"][episode.slot]
        why = "the episode has ended" if ended else "see 'Action Space' of AutoTTS-v0"
        self._record_failure(
            episode, f"{IllegalActionError.__name__}: {name} is illegal here: {why}"
        )

    def _handle_last_frame(self, episode: _Running, frame: bytes) -> None:
        code = struct.unpack_from("=i", frame)[0] if len(frame) >= 4 else 0
        text = frame[4:].decode("utf-8", "replace")[:MAX_MESSAGE_LENGTH]
        if code == DONE and len(frame) == 4:
            if self._batch.ledger["ended"][episode.slot]:
                self._record_result(episode)
            else:
                message = "NoAnswerError: solve returned without episode.answer()"
                self._record_failure(episode, message)
        elif code == FAILED:
            self._record_failure(episode, text)
        elif code == UNLOADED:
            self._record_kill(episode, f"cannot be loaded: {text}")
        else:
            self._record_kill(episode, "ProtocolError: the program wrote an invalid message")

    def _handle_exit(self, episode: _Running) -> None:
        self._limits.remove(episode.number)
        status = self._launcher.end(episode.number)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            how = f"ended with signal {number} ({signal.Signals(number).name})"
        else:
            how = f"ended with exit code {os.WEXITSTATUS(status)}"
        self._record_kill(episode, f"ProcessError: the process of the episode {how}")

    def _kill_late_episodes(self) -> None:
        late = self._limits.late()
        for episode in list(self._running.values()):
            if episode.number in late:
                limit = self._limits.limit
                self._record_kill(episode, f"TimeLimitError: no end after {limit:g} s")

    # --- results ---------------------------------------------------------------------------------

    def _record_result(self, episode: _Running) -> None:
        """Record an episode that ended as it should; truncation is one way to."""
        batch, slot = self._batch, episode.slot
        if batch.outcomes[slot] & TRUNCATED:
            row = failed_row(batch.ledger[slot], self._settle)
        else:
            row = answered_row(batch, slot)
            row["settled_tokens"] = self._settled_tokens(
                int(self._questions[episode.k]),
                self._orders[episode.k],
                batch.branches[slot],
                self._event_loop.log(slot),
            )
        self._finish(episode, row)

    def _record_failure(self, episode: _Running, message: str) -> None:
        """Record an episode that ended with an error."""
        self._failures[episode.k] = message
        self._finish(episode, failed_row(self._batch.ledger[episode.slot], self._settle))

    def _record_kill(self, episode: _Running, message: str) -> None:
        """Kill an episode's process, and record the failure.

        Raises:
            GivenUpError: too many consecutive episodes were killed.
        """
        self.killed.add(episode.k)
        self._killed_places.add(episode.place)
        self._record_failure(episode, message)
        first = last = episode.place
        while first - 1 in self._killed_places:
            first -= 1
        while last + 1 in self._killed_places:
            last += 1
        if last - first + 1 >= MAX_CONSECUTIVE_KILLS:
            question = int(self._questions[episode.k])
            where = f"question {question}, {MAX_CONSECUTIVE_KILLS} times in a row"
            raise GivenUpError(f"{message} ({where})")

    def _finish(self, episode: _Running, row: Records) -> None:
        """Write an episode's result row, and count the episodes up to the first unfinished one."""
        self._results[episode.k] = row
        self.logs[episode.k] = self._event_loop.log(episode.slot)
        self._free_slot(episode)
        self._finished.add(episode.k)
        while (k := int(self._played[0])) in self._finished:
            self._finished.discard(k)
            if k in self._failures:
                self._fail(k, self._failures.pop(k))
            self._played[0] += 1

    def _free_slot(self, episode: _Running) -> None:
        """Stop serving an episode, and have its process ended, if it was not."""
        self._batch.ledger["ended"][episode.slot] = 1
        self._event_loop.remove(episode.slot)
        del self._running[episode.slot]
        os.close(episode.input_pipe)
        os.close(episode.output_pipe)
        if self._limits.remove(episode.number):
            self._ending[episode.number] = episode.slot
            self._to_end.append(episode.number)
        else:
            self._free.append(episode.slot)

    def _reclaim_slots(self, wait: bool = False) -> None:
        """Free the slots whose processes have ended, and with them their access to it."""
        self._launcher.end_soon(self._to_end)
        self._to_end.clear()
        if self._ending:
            for number in self._launcher.take_ended(wait):
                self._free.append(self._ending.pop(number))
