"""The loop in which the template of a sandbox starts processes (Linux).

What the loop leaves in memory is inherited by the next process, where a program may find it, so it
must leave nothing that depends on the number of processes so far. Python code cannot promise that:
bytecode adapts to how often it runs, and dicts are numbered as they change. So the loop is a chain
of calls of C functions with prepared arguments, which ``map`` makes and ``any`` repeats, and it
runs many times before the first process, until everything has its place.

No process id gets into the memory that is inherited: the kernel writes it into a page that is
zeroed in the new process, and the result of the call is ignored.
"""

from __future__ import annotations

import ctypes
import itertools
import mmap
import operator
import os
import platform
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from typing import Any, Final

#: Descriptors of the template: the socket of starts, the pipe of reports, and the files of a start.
STARTS: Final = 3
REPORTS: Final = 4
FILES: Final = (5, 6, 7)

_CLONE: Final = {"x86_64": 56, "aarch64": 220}  # system calls
_CLONE_PARENT, _CLONE_PARENT_SETTID = 0x8000, 0x100000
_MADV_WIPEONFORK: Final = 18
_WARM_UPS, _MESSAGES = 20, 5
_SPARE: Final = 20  # a descriptor that is not used otherwise


class _Vector(ctypes.Structure):
    """``struct iovec``."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Message(ctypes.Structure):
    """``struct msghdr``."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_size", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


def is_available() -> bool:
    """Whether this machine can run the loop."""
    return sys.platform == "linux" and platform.machine() in _CLONE


class StartLoop:
    """Starts a copy of this process for every message in ``STARTS``: a zero byte and files.

    The files get the descriptors ``FILES``. The copies are siblings of this process, and their
    process ids are written to ``REPORTS``, as int32.
    """

    def __init__(self) -> None:
        libc = ctypes.PyDLL(None)
        self._byte = ctypes.create_string_buffer(1)
        self._control = ctypes.create_string_buffer(socket.CMSG_SPACE(4 * len(FILES)))
        self._vector = _Vector(ctypes.addressof(self._byte), 1)
        self._message = _Message(
            vectors=ctypes.addressof(self._vector),
            vector_count=1,
            control=ctypes.addressof(self._control),
        )
        # A byte that is 1 in this process and 0 in its copies; the process id follows.
        page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(_MADV_WIPEONFORK)
        page[0] = 1
        self._page = memoryview(page)
        self._pid_address = ctypes.addressof(ctypes.c_char.from_buffer(page)) + 4
        # Functions whose results are ignored, so that they do not become objects.
        libc.recvmsg.restype = libc.write.restype = libc.syscall.restype = None
        self._libc = libc
        self._warm_up()

    def _steps(self, number: int, source: int, target: int) -> tuple[Callable[[], Any], ...]:
        """The steps of the loop; one that returns something true ends it.

        Args:
            number: of the system call that starts a copy.
            source, target: descriptors to read starts from and to write process ids to.
        """
        libc = self._libc
        flags = _CLONE_PARENT | _CLONE_PARENT_SETTID | signal.SIGCHLD
        byte = memoryview(self._byte).cast("B")
        sizes = memoryview(self._message).cast("B").cast("Q")
        # Arguments in the form in which they are passed: others would allocate memory.
        long, pointer = ctypes.c_ulong.from_param, ctypes.c_void_p.from_param
        pid = pointer(self._pid_address)
        message = ctypes.byref(self._message)
        return (
            partial(sizes.__setitem__, _Message.control_size.offset // 8, len(self._control)),
            partial(byte.__setitem__, 0, 1),
            partial(libc.recvmsg, long(source), message, long(0)),
            partial(operator.eq, byte, b"\1"),  # nothing was received: the socket is closed
            partial(libc.syscall, long(number), long(flags), long(0), pid, long(0), long(0)),
            partial(operator.eq, self._page[:1], b"\0"),  # this is the copy
            partial(libc.write, long(target), pid, long(4)),
            *(partial(os.close, file) for file in FILES),
        )

    def run(self) -> bool:
        """Start copies until the socket closes; returns whether it returns in a copy."""
        # Kept: freeing its parts in every copy would copy the memory that they are in.
        self._loop = self._repeated(self._steps(_CLONE[platform.machine()], STARTS, REPORTS))
        any(self._loop)
        return not self._page[0]

    @staticmethod
    def _repeated(steps: tuple[Callable[[], Any], ...]) -> map[Any]:
        return map(operator.call, itertools.chain.from_iterable(itertools.repeat(steps)))

    def _warm_up(self) -> None:
        """Run the loop without starting anything."""
        steps = self._steps(-1, _SPARE, 1)  # no system call; standard output discards
        for _ in range(_WARM_UPS):
            ours, theirs = socket.socketpair()
            os.dup2(theirs.fileno(), _SPARE)
            for _ in range(_MESSAGES):
                socket.send_fds(ours, [b"\0"], [1] * len(FILES))
            ours.close()
            theirs.close()
            any(self._repeated(steps))
        os.close(_SPARE)
