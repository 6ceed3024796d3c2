"""The seccomp filter of the sandbox (Linux, x86-64 and ARM64).

It lists the allowed system calls and, where a call could also reach something shared, the allowed
arguments. What is allowed computes, handles the process's own memory and signals, and reads and
writes the episode's two pipes. Nothing that is allowed opens, creates, connects, signals, starts,
sleeps, tells the time, or names another process.
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys
from typing import Final, NamedTuple

from autotts_gym.sandbox.pipe_protocol import INPUT, OUTPUT


class Condition(NamedTuple):
    """A condition on the lower 32 bits of an argument: ``argument & mask == value``.

    The kernel reads no more of the arguments that are listed here.
    """

    argument: int
    mask: int
    value: int


class Call(NamedTuple):
    """An allowed system call.

    Attributes:
        x86_64, aarch64: its numbers.
        alternatives: it is allowed if all conditions of one alternative hold.
    """

    x86_64: int
    aarch64: int
    alternatives: tuple[tuple[Condition, ...], ...] = ((),)


_ALL: Final = 0xFFFFFFFF


def _one_of(argument: int, *values: int) -> tuple[tuple[Condition, ...], ...]:
    return tuple((Condition(argument, _ALL, value),) for value in values)


# Values of arguments, from linux/mman.h and linux/futex.h.
_PROT_EXEC = 4
_MAP_TYPE, _MAP_PRIVATE, _MAP_ANONYMOUS, _MAP_LOCKED, _MAP_HUGETLB = 0xF, 2, 0x20, 0x2000, 0x40000
_MADV_DONTNEED, _MADV_FREE, _MADV_HUGEPAGE, _MADV_NOHUGEPAGE = 4, 8, 14, 15
_FUTEX_WAKE, _FUTEX_PRIVATE = 1, 128
_GRND_NONBLOCK = 1

_NO_CODE: Final = Condition(2, _PROT_EXEC, 0)

#: Allowed system calls.
ALLOWED: Final = {
    # Standard input is empty; output is discarded. The other two are the pipes.
    "read": Call(0, 63, _one_of(0, 0, INPUT)),
    "write": Call(1, 64, _one_of(0, 1, 2, OUTPUT)),
    # Memory of its own: no files, nothing shared, locked or from the pool of huge pages, no code.
    "mmap": Call(
        *(9, 222),
        (
            (
                _NO_CODE,
                Condition(
                    3,
                    _MAP_TYPE | _MAP_ANONYMOUS | _MAP_LOCKED | _MAP_HUGETLB,
                    _MAP_PRIVATE | _MAP_ANONYMOUS,
                ),
            ),
        ),
    ),
    "mprotect": Call(10, 226, ((_NO_CODE,),)),
    "munmap": Call(11, 215),
    "brk": Call(12, 214),
    "mremap": Call(25, 216),
    # Not those that merge equal pages of processes, or evict or load pages of shared files.
    "madvise": Call(
        28, 233, _one_of(2, _MADV_DONTNEED, _MADV_FREE, _MADV_HUGEPAGE, _MADV_NOHUGEPAGE)
    ),
    "rt_sigaction": Call(13, 134),
    "rt_sigprocmask": Call(14, 135),
    "rt_sigreturn": Call(15, 139),
    "sigaltstack": Call(131, 132),
    # Waiting is of no use to a process with one thread. A futex that is not private can be shared
    # through a page of any file that two processes map, such as the text of a library.
    "futex": Call(202, 98, _one_of(1, _FUTEX_WAKE | _FUTEX_PRIVATE)),
    "getrandom": Call(318, 278, ((Condition(2, _ALL ^ _GRND_NONBLOCK, 0),),)),
    "exit": Call(60, 93),
    "exit_group": Call(231, 94),
}

# By machine: field of Call, audit architecture, numbers of seccomp and clone3.
_MACHINES: Final = {
    "x86_64": ("x86_64", 0xC000003E, 317, 435),
    "aarch64": ("aarch64", 0xC00000B7, 277, 435),
}
_X32: Final = 0x40000000  # numbers from here on belong to another table of the same architecture

_EPERM, _ENOSYS = 1, 38
_RET_KILL, _RET_ERRNO, _RET_ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_GET_ACTION_AVAIL: Final = 2

# Classic BPF: opcodes, and offsets in ``struct seccomp_data``.
_LOAD, _AND, _JUMP_EQUAL, _JUMP_AT_LEAST, _GIVE = 0x20, 0x54, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16

_Instruction = tuple[int, int, int, int]  # opcode, jump if true, jump if false, operand


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
    """The filter of this machine, and the memory that it points to, which must outlive it."""
    program = filter_program(platform.machine())
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    memory = ctypes.create_string_buffer(code, len(code))
    return SockFprog(len(program), ctypes.addressof(memory)), memory


def filter_program(machine: str) -> list[_Instruction]:
    """The instructions of the filter of a machine, ``"x86_64"`` or ``"aarch64"``."""
    column, architecture, _, clone3 = _MACHINES[machine]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 1, 0, architecture),
        (_GIVE, 0, 0, _RET_KILL),
        (_LOAD, 0, 0, _NUMBER),
        (_JUMP_AT_LEAST, 0, 1, _X32),
        (_GIVE, 0, 0, _RET_KILL),
        (_JUMP_EQUAL, 0, 1, clone3),  # glibc then falls back to clone, which is refused
        (_GIVE, 0, 0, _RET_ERRNO | _ENOSYS),
    ]
    for call in ALLOWED.values():
        body = [one for rule in call.alternatives for one in _alternative(rule)]
        if () not in call.alternatives:
            body.append((_GIVE, 0, 0, _RET_ERRNO | _EPERM))
        program += [(_JUMP_EQUAL, 0, len(body), getattr(call, column)), *body]
    program.append((_GIVE, 0, 0, _RET_ERRNO | _EPERM))
    return program


def _alternative(conditions: tuple[Condition, ...]) -> list[_Instruction]:
    """Allow the call if the conditions hold, otherwise go on after these instructions."""
    checks: list[_Instruction] = []
    remaining = 3 * len(conditions) + 1
    for argument, mask, value in conditions:
        # Both machines are little-endian: the lower half of an argument comes first.
        checks += [(_LOAD, 0, 0, _ARGUMENTS + 8 * argument), (_AND, 0, 0, mask)]
        remaining -= 3
        checks.append((_JUMP_EQUAL, 0, remaining, value))
    return [*checks, (_GIVE, 0, 0, _RET_ALLOW)]
