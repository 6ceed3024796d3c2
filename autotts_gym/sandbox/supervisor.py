"""The supervisor of a sandbox: the parent of the episodes' processes.

It executes *orders* of four bytes from a socket. The processes are numbered in the order of their
start:

- ``number``: end that process; the reply is its wait status.
- ``~number``: the reply is the processor time that it has used so far.

Every reply is ``REPLY``, a status and seconds. When the socket closes, all processes end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
from typing import Final

from autotts_gym.utils.cpu_time import process_cpu_time

ORDER: Final = struct.Struct("=i")
REPLY: Final = struct.Struct("=id")

#: What the template reports of each process that it has started: its process id.
REPORT: Final = struct.Struct("=i")


class Supervisor:
    """Measures and ends the processes that a template starts.

    Args:
        orders: the socket to the launcher.
        reports: a file descriptor, from which the template's reports are read.
    """

    def __init__(self, orders: socket.socket, reports: int) -> None:
        self._orders, self._reports = orders, reports
        self._pids: dict[int, int] = {}  # of processes that were not ended, by number
        self._started = 0

    def serve(self) -> None:
        """Execute orders until the socket closes, or the template has ended."""
        while data := self._orders.recv(ORDER.size, socket.MSG_WAITALL):
            (number,) = ORDER.unpack(data)
            while self._started <= max(number, ~number):
                report = os.read(self._reports, REPORT.size)
                if not report:
                    return
                (self._pids[self._started],) = REPORT.unpack(report)
                self._started += 1
            if number >= 0:
                reply = REPLY.pack(_end(self._pids.pop(number)), 0.0)
            else:
                reply = REPLY.pack(0, process_cpu_time(self._pids[~number]) or 0.0)
            self._orders.sendall(reply)
        for pid in self._pids.values():
            _end(pid)


def _end(pid: int) -> int:
    """Kill a process; returns its wait status, 0 if it is not a child of this one."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(pid, 0)[1]
    return 0
