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
        RuntimeError: processes end before they start a comparison.
    """
    remaining = deque(numbers)
    known: defaultdict[int, dict[Operation, Verdict]] = defaultdict(dict)
    processes: list[_Process] = []
    idle_exits = 0

    def assign(process: _Process, number: int) -> None:
        process.send(number, groups[number], known[number])

    try:
        for _ in range(min(workers, len(remaining))):
            processes.append(_Process(timeout))
            assign(processes[-1], remaining.popleft())
        last_check = time.monotonic()
        while processes:
            ready = wait([process.pipe for process in processes], _POLL_INTERVAL)
            now = time.monotonic()
            elapsed, last_check = min(now - last_check, 2 * _POLL_INTERVAL), now
            for process in list(processes):
                if process.pipe in ready:
                    message = process.receive()
                elif process.operation and process.seconds + elapsed > WALL_TIME_FACTOR * timeout:
                    message = ("ended",)
                else:
                    process.seconds += elapsed
                    continue
                number = process.number
                match message:
                    case ("started",):
                        process.started = True
                    case ("begin", operation):
                        process.operation = operation
                    case ("result", operation, verdict):
                        known[number][operation] = verdict
                        idle_exits = 0
                    case ("merged", mapping):
                        del known[number]
                        if remaining:
                            assign(process, remaining.popleft())
                        else:
                            process.stop()
                            processes.remove(process)
                        yield number, mapping
                    case _:
                        process.stop()
                        processes.remove(process)
                        if process.operation:
                            known[number][process.operation] = None
                        else:
                            idle_exits += 1
                        if not process.started or idle_exits > _MAX_IDLE_EXITS:
                            raise RuntimeError(
                                "a process that compares answers ended before it started a "
                                "comparison; see its error output (a script that calls this "
                                "needs `if __name__ == '__main__':`)"
                            )
                        processes.append(_Process(timeout))
                        assign(processes[-1], number)
    finally:
        for process in processes:
            process.stop()
