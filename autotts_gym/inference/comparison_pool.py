"""A pool of monitored processes that compare answers."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import defaultdict, deque
from collections.abc import Generator, Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any, Final

from autotts_gym.inference.answer_merging import AnswerGroup, Verdict
from autotts_gym.inference.math_comparison import WALL_TIME_FACTOR, Operation, serve
from autotts_gym.utils.processes import check_can_spawn

#: Consecutive processes that may end before they start a comparison.
_MAX_IDLE_EXITS: Final = 2

#: Seconds between checks of the processes. A longer pause counts at most twice: then this process
#: was suspended too, such as by Ctrl-Z.
_POLL_INTERVAL: Final = 0.25


class _Process:
    """A process that merges groups, with its current state.

    Attributes:
        pipe: receives its messages.
        started: whether it has started.
        number: number of its current group.
        operation: the comparison that it works on, if any.
        seconds: time since its last message.
    """

    def __init__(self, timeout: float) -> None:
        # Fork is unsafe in a process with threads.
        context = multiprocessing.get_context("spawn")
        self.pipe, child_pipe = context.Pipe()
        self._process = context.Process(target=serve, args=(child_pipe, timeout), daemon=True)
        self._process.start()
        child_pipe.close()
        self.started = False
        self.number = -1
        self.operation: Operation | None = None
        self.seconds = 0.0

    def send(self, number: int, group: AnswerGroup, known: Mapping[Operation, Verdict]) -> None:
        """Send a group to merge, with the known results of its operations."""
        self.number, self.operation = number, None
        with contextlib.suppress(OSError):  # the process has ended; receive reports it
            self.pipe.send((group.gold, dict(group.answers), dict(known)))

    def receive(self) -> tuple[Any, ...]:
        """Receive a message; ``("ended",)`` if the process has ended."""
        self.seconds = 0.0
        try:
            message: tuple[Any, ...] = self.pipe.recv()
        except (EOFError, OSError):
            return ("ended",)
        return message

    def stop(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def merge_in_processes(
    groups: Sequence[AnswerGroup], numbers: Sequence[int], workers: int, timeout: float
) -> Generator[tuple[int, dict[str, str]], None, None]:
    """Merge groups in processes; yields the number and the mapping of each finished group.

    A process that ends or exceeds the time limit is replaced. The new process continues with the
    group; the operation that ended the old one counts as undecided.

    Args:
        groups: all groups.
        numbers: numbers of the groups to merge.
        workers: maximum number of processes.
        timeout: CPU seconds of a comparison.

    Raises:
        RuntimeError: this process cannot start others, or they end before they start a comparison.
    """
    check_can_spawn("merging answers")
    pool = _Pool(groups, numbers, workers, timeout)
    try:
        yield from pool.results()
    finally:
        pool.stop()


class _Pool:
    """The processes of :func:`merge_in_processes`, with the groups that are left."""

    def __init__(
        self, groups: Sequence[AnswerGroup], numbers: Sequence[int], workers: int, timeout: float
    ) -> None:
        self._groups = groups
        self._remaining = deque(numbers)
        self._workers = workers
        self._timeout = timeout
        self._known: defaultdict[int, dict[Operation, Verdict]] = defaultdict(dict)
        self._processes: list[_Process] = []
        self._idle_exits = 0

    def results(self) -> Generator[tuple[int, dict[str, str]], None, None]:
        for _ in range(min(self._workers, len(self._remaining))):
            self._start(self._remaining.popleft())
        last_check = time.monotonic()
        while self._processes:
            ready = wait([process.pipe for process in self._processes], _POLL_INTERVAL)
            now = time.monotonic()
            elapsed, last_check = min(now - last_check, 2 * _POLL_INTERVAL), now
            for process in list(self._processes):
                if process.pipe in ready:
                    message = process.receive()
                elif process.operation and (
                    process.seconds + elapsed > WALL_TIME_FACTOR * self._timeout
                ):
                    message = ("ended",)
                else:
                    process.seconds += elapsed
                    continue
                number, mapping = process.number, self._handle(process, message)
                if mapping is not None:
                    yield number, mapping

    def stop(self) -> None:
        for process in self._processes:
            process.stop()

    def _handle(self, process: _Process, message: tuple[Any, ...]) -> dict[str, str] | None:
        """Handle a message of a process; returns the mapping of a group that it finished."""
        match message:
            case ("started",):
                process.started = True
            case ("begin", operation):
                process.operation = operation
            case ("result", operation, verdict):
                self._known[process.number][operation] = verdict
                self._idle_exits = 0
            case ("merged", mapping):
                del self._known[process.number]
                if self._remaining:
                    self._assign(process, self._remaining.popleft())
                else:
                    self._remove(process)
                return dict(mapping)
            case _:
                self._replace(process)
        return None

    def _start(self, number: int) -> None:
        self._processes.append(_Process(self._timeout))
        self._assign(self._processes[-1], number)

    def _assign(self, process: _Process, number: int) -> None:
        process.send(number, self._groups[number], self._known[number])

    def _remove(self, process: _Process) -> None:
        process.stop()
        self._processes.remove(process)

    def _replace(self, process: _Process) -> None:
        """Replace a process that has ended or exceeds its time limit."""
        self._remove(process)
        if process.operation:
            self._known[process.number][process.operation] = None
        else:
            self._idle_exits += 1
        if not process.started or self._idle_exits > _MAX_IDLE_EXITS:
            raise RuntimeError(
                "a process that compares answers ended before it started a comparison; see its "
                "error output (a script that calls this needs `if __name__ == '__main__':`)"
            )
        self._start(process.number)
