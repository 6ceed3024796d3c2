"""Processor time of another process: what limits of running time are counted in.

A limit in wall time depends on the load of the machine. These clocks do not: processor time is the
process's own, and the time that it waited for a processor can be told from the time that it slept.

Imports nothing heavy: the processes of the sandbox use it too.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

_CPUCLOCK_SCHED = 2  # linux/posix-timers.h: user and system time, as the scheduler counts it


def process_cpu_time(pid: int) -> float | None:
    """Processor time that all threads of a process have used, seconds.

    Args:
        pid: the process, one of the caller's pid namespace.

    Returns:
        The time; None if there is no such process, or the platform cannot tell.
    """
    if sys.platform != "linux":
        return None
    try:
        return time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED)
    except OSError:
        return None


def is_asleep(pid: int) -> bool | None:
    """Whether all threads of a process sleep, rather than run or wait for a processor or a disk.

    Args:
        pid: the process, one of the caller's pid namespace.

    Returns:
        The answer; None if there is no such process, or the platform cannot tell.
    """
    try:
        threads = list(Path(f"/proc/{pid}/task").iterdir())
        states = [(thread / "stat").read_text("utf-8", "replace") for thread in threads]
    except (OSError, IndexError):
        return None
    # The state comes after the name, which may contain anything, in parentheses.
    return all(state.rpartition(")")[2].split()[0] == "S" for state in states)


class OwnTime:
    """Stopwatch of another process: runs while the process computes or sleeps.

    It stands still while the process waits for a processor, and while this process is suspended.
    On a platform that cannot tell, it counts wall time.

    Args:
        pid: the process.
        max_gap: seconds; more between two calls of :meth:`read` means that this process was
            suspended.
    """

    def __init__(self, pid: int, max_gap: float) -> None:
        self._pid, self._max_gap = pid, max_gap
        self.reset()

    def reset(self) -> None:
        """Start again at 0."""
        self._slept, self._last_read = 0.0, time.monotonic()
        self._cpu_at_start = process_cpu_time(self._pid) or 0.0

    def read(self) -> float:
        """Seconds since the latest :meth:`reset`.

        Sleep is sampled: the time since the previous call counts as sleep if the process sleeps
        now. Call it often, for example every tenth of a second.
        """
        now = time.monotonic()
        if is_asleep(self._pid) is not False:
            self._slept += min(now - self._last_read, self._max_gap)
        self._last_read = now
        cpu = process_cpu_time(self._pid) or self._cpu_at_start
        return self._slept + cpu - self._cpu_at_start
