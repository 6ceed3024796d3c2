"""The seccomp filter of the sandbox: a list of allowed system calls (Linux, x86-64 and ARM64)."""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from typing import Final

# Allowed system calls with their numbers on (x86_64, aarch64): those that computing needs. None of
# them opens, creates, connects, signals or starts anything.
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

# By machine: column in _ALLOWED, audit architecture, numbers of seccomp and clone3.
_MACHINES: Final = {
    "x86_64": (0, 0xC000003E, 317, 435),
    "aarch64": (1, 0xC00000B7, 277, 435),
}
_X32: Final = 0x40000000  # numbers from here on belong to another table of the same architecture

_EPERM, _ENOSYS = 1, 38
_RET_KILL, _RET_ERRNO, _RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_GET_ACTION_AVAIL: Final = 2


class SockFprog(ctypes.Structure):
    """``struct sock_fprog``: a BPF program, as ``prctl`` expects it."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def is_available() -> bool:
    """Whether this kernel supports the filter."""
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        return False
    number = _MACHINES[platform.machine()][2]
    action = ctypes.c_uint32(_RET_ERRNO)
    libc = ctypes.CDLL(None)
    return int(libc.syscall(number, _GET_ACTION_AVAIL, 0, ctypes.byref(action))) == 0


def build_filter() -> tuple[SockFprog, ctypes.Array[ctypes.c_char]]:
    """The filter, and the memory that it points to, which must outlive it."""
    column, architecture, _, clone3 = _MACHINES[platform.machine()]
    # Classic BPF: opcode, jump if true, jump if false, operand.
    load, jump_equal, jump_at_least, give = 0x20, 0x15, 0x35, 0x06
    program = [
        (load, 0, 0, 4),  # the architecture
        (jump_equal, 1, 0, architecture),
        (give, 0, 0, _RET_KILL),
        (load, 0, 0, 0),  # the number of the system call
        (jump_at_least, 0, 1, _X32),
        (give, 0, 0, _RET_KILL),
        (jump_equal, 0, 1, clone3),  # glibc then falls back to clone, which is refused
        (give, 0, 0, _RET_ERRNO | _ENOSYS),
    ]
    for numbers in _ALLOWED.values():
        number = numbers[column]
        if number is not None:
            program += [(jump_equal, 0, 1, number), (give, 0, 0, _RET_ALLOW)]
    program.append((give, 0, 0, _RET_ERRNO | _EPERM))
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    return SockFprog(len(program), ctypes.addressof(memory)), memory
