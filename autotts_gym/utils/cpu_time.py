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


def waited_for_cpu(pid: int) -> float | None:
    """Time that the main thread of a process could have run, but waited for a processor, seconds.

    The rest of its wall time is processor time (:func:`process_cpu_time`) and sleep.

    Args:
        pid: the process, one of the caller's pid namespace.

    Returns:
        The time; None if there is no such process, or the platform cannot tell.
    """
    try:
        fields = Path(f"/proc/{pid}/schedstat").read_text("ascii").split()
        return int(fields[1]) / 1e9
    except (OSError, ValueError, IndexError):
        return None
