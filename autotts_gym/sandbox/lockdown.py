"""What keeps an untrusted program in: resource limits, seccomp, landlock, a user without rights.

A process locks itself down for good before it runs the program. What can be had differs from
platform to platform; :func:`protections` says what there is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
from dataclasses import dataclass
from typing import Final

if sys.platform != "win32":
    import resource

#: Who a root process becomes; nobody, by convention.
_NOBODY: Final = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER: Final = 2

# System calls that computing takes, by (x86_64, aarch64); everything else is refused. None of them
# opens, creates, connects, signals, or starts anything.
_ALLOWED: Final = {
    "read": (0, 63),
    "write": (1, 64),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sched_yield": (24, 124),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "nanosleep": (35, 101),
    "getpid": (39, 172),
    "exit": (60, 93),
    "gettimeofday": (96, 169),
    "getrusage": (98, 165),
    "times": (100, 153),
    "sigaltstack": (131, 132),
    "gettid": (186, 178),
    "time": (201, None),
    "futex": (202, 98),
    "sched_getaffinity": (204, 123),
    "restart_syscall": (219, 128),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "exit_group": (231, 94),
    "getrandom": (318, 278),
    "membarrier": (324, 283),
    "rseq": (334, 293),
}

# By machine: column of the table, the audit architecture, the numbers of seccomp and clone3.
_MACHINES: Final = {
    "x86_64": (0, 0xC000003E, 317, 435),
    "aarch64": (1, 0xC00000B7, 277, 435),
}
_X32: Final = 0x40000000  # another table of calls, by the same architecture

_EPERM, _ENOSYS = 1, 38
_RET_KILL, _RET_ERRNO, _RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_GET_ACTION_AVAIL: Final = 2

_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446
_LANDLOCK_VERSION: Final = 1


class LockDownError(RuntimeError):
    """A protection that the platform has could not be switched on."""


@dataclass(frozen=True)
class Limits:
    """What a process may use.

    Attributes:
        memory: bytes of address space, beyond what there is when it is locked down.
        seconds: of processor time.
    """

    memory: int
    seconds: int


def protections() -> tuple[str, ...]:
    """What is on where a program is played here, in words."""
    found = ["a process for every episode", "resource limits"]
    if _seccomp_there():
        found.append("seccomp")
    abi = _landlock_abi()
    if abi:
        found.append(f"landlock {abi}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        found.append("no root")
    return tuple(found)


class Lock:
    """Locks processes down: in part the one that starts them, which they inherit, then each.

    Args:
        limits: what a process may use.
    """

    def __init__(self, limits: Limits) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._linux = sys.platform == "linux"
        if self._linux:
            self._libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
        self._filter = _filter() if _seccomp_there() else None
        self._memory = limits.memory
        self._own = [
            (resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1)),
            (resource.RLIMIT_NPROC, (0, 0)),
        ]

    def prepare(self, files: int) -> None:
        """Lock down the process that starts others, as far as it can then still do so.

        Args:
            files: that it may have open.

        Raises:
            LockDownError: what could not be switched on.
        """
        limits = {
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: files,
        }
        if self._linux:
            with open("/proc/self/statm", encoding="ascii") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            limits[resource.RLIMIT_AS] = size + self._memory
            limits[resource.RLIMIT_MEMLOCK] = limits[resource.RLIMIT_MSGQUEUE] = 0
        else:
            limits[resource.RLIMIT_DATA] = self._memory
        for which, limit in limits.items():
            with contextlib.suppress(ValueError):  # it may have been lowered before
                resource.setrlimit(which, (limit, limit))
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        if not self._linux:
            return
        self._prctl(_PR_SET_DUMPABLE, 0)
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1)
        ruleset = _ruleset(_landlock_abi())
        if ruleset:
            attributes = ctypes.c_char_p(ruleset)
            rules = self._libc.syscall(_LANDLOCK_CREATE, attributes, len(ruleset), 0)
            if rules < 0 or self._libc.syscall(_LANDLOCK_RESTRICT, rules, 0):
                raise LockDownError(f"landlock: {os.strerror(ctypes.get_errno())}")
            os.close(rules)

    def close(self, parent: int) -> None:
        """Lock down a process that was started; it cannot be undone.

        Args:
            parent: the process that started it, with which it ends.

        Raises:
            LockDownError: what could not be switched on.
        """
        for which, limit in self._own:
            resource.setrlimit(which, limit)
        if not self._linux:
            return
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        if self._filter is not None:
            program = ctypes.addressof(self._filter[0])
            self._prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program)

    def _prctl(self, option: int, first: int, second: int = 0) -> None:
        if self._libc.prctl(option, first, second, 0, 0):
            raise LockDownError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")


# --- seccomp -------------------------------------------------------------------------------------


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _seccomp_there() -> bool:
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    number = _MACHINES[platform.machine()][2]
    action = ctypes.c_uint32(_RET_ERRNO)
    libc = ctypes.CDLL(None)
    return int(libc.syscall(number, _GET_ACTION_AVAIL, 0, ctypes.byref(action))) == 0


def _filter() -> tuple[_Program, ctypes.Array[ctypes.c_char]]:
    """The filter, and the memory that it stands in."""
    column, architecture, _, clone3 = _MACHINES[platform.machine()]
    # A classic BPF program: code, jump if true, jump if false, operand.
    load, jump_equal, jump_at_least, give = 0x20, 0x15, 0x35, 0x06
    program = [
        (load, 0, 0, 4),  # the architecture
        (jump_equal, 1, 0, architecture),
        (give, 0, 0, _RET_KILL),
        (load, 0, 0, 0),  # the number of the call
        (jump_at_least, 0, 1, _X32),
        (give, 0, 0, _RET_KILL),
        (jump_equal, 0, 1, clone3),  # glibc goes on to ask for clone, and is told
        (give, 0, 0, _RET_ERRNO | _ENOSYS),
    ]
    for numbers in _ALLOWED.values():
        number = numbers[column]
        if number is not None:
            program += [(jump_equal, 0, 1, number), (give, 0, 0, _RET_ALLOW)]
    program.append((give, 0, 0, _RET_ERRNO | _EPERM))
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    return _Program(len(program), ctypes.addressof(memory)), memory


# --- landlock ------------------------------------------------------------------------------------


def _landlock_abi() -> int:
    """The version of landlock that the kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None)
    return max(0, int(libc.syscall(_LANDLOCK_CREATE, None, 0, _LANDLOCK_VERSION)))


def _ruleset(abi: int) -> bytes:
    """``struct landlock_ruleset_attr`` that forbids all that this version can; empty for none."""
    if not abi:
        return b""
    files = {1: 13, 2: 14, 3: 15, 4: 15}.get(abi, 16)  # rights that each version knows
    ruleset = struct.pack("=Q", (1 << files) - 1)
    if abi >= 4:
        ruleset += struct.pack("=Q", 0b11)  # to bind and to connect TCP
    if abi >= 6:
        ruleset += struct.pack("=Q", 0b11)  # abstract sockets and signals, to those outside
    return ruleset
