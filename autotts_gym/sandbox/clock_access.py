"""Takes a process's clocks away (Linux), so that it cannot measure how long anything takes.

Clocks are read in three ways. The seccomp filter refuses the system calls. The C library reads the
kernel's clocks without one, from pages that the kernel maps into every process (``[vvar]``): empty
pages replace them, by which it finds no clock there, and makes the system call. The processor's own
counter is disabled: by ``PR_SET_TSC`` on x86-64, and on ARM64 from Linux 6.12 on; a process that
reads it ends with ``SIGSEGV``.

On x86-64, the code page of the kernel (``[vdso]``) also tells a process on which processor it runs,
and so when it is moved because others compute: the instructions that read it are replaced.

Python copes with a clock that fails: locks, for example, read it, and take it for 0.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import sys
from pathlib import Path
from typing import Final

_PR_GET_TSC, _PR_SET_TSC = 25, 26
_PR_TSC_SIGSEGV: Final = 2
_MAP_FIXED: Final = 0x10

#: Instructions that read the number of the processor (``rdpid %rax`` and ``lsl %eax, %eax``), and
#: ones of the same size that give 0 (``xor %eax, %eax``, ``nop``).
_PROCESSOR_NUMBER: Final = {
    b"\xf3\x0f\xc7\xf8": b"\x31\xc0\x90\x90",
    b"\x0f\x03\xc0": b"\x31\xc0\x90",
}


def can_disable() -> bool:
    """Whether this machine's counter can be disabled."""
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        return False
    mode = ctypes.c_int()
    return int(ctypes.CDLL(None).prctl(_PR_GET_TSC, ctypes.byref(mode), 0, 0, 0)) == 0


def disable() -> None:
    """Disable the clocks of this process and its children for good, as far as possible."""
    libc = ctypes.CDLL(None)
    libc.mmap.restype = ctypes.c_void_p
    for line in Path("/proc/self/maps").read_text("ascii", "replace").splitlines():
        if "[vvar" in line:
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            libc.mmap(
                ctypes.c_void_p(start),
                ctypes.c_size_t(end - start),
                mmap.PROT_READ,
                mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED,
                -1,
                ctypes.c_long(0),
            )
        elif "[vdso]" in line and platform.machine() == "x86_64":
            _hide_processor(*(int(part, 16) for part in line.split()[0].split("-")))
    libc.prctl(_PR_SET_TSC, _PR_TSC_SIGSEGV, 0, 0, 0)


def _hide_processor(start: int, end: int) -> None:
    """Replace the instructions in a range of code that read the number of the processor."""
    libc = ctypes.CDLL(None)
    place, size = ctypes.c_void_p(start), ctypes.c_size_t(end - start)
    code = ctypes.string_at(start, end - start)
    for instruction, replacement in _PROCESSOR_NUMBER.items():
        code = code.replace(instruction, replacement)
    # The range is written while nothing runs in it: this process has one thread.
    if libc.mprotect(place, size, mmap.PROT_READ | mmap.PROT_WRITE) == 0:
        ctypes.memmove(start, code, len(code))
        libc.mprotect(place, size, mmap.PROT_READ | mmap.PROT_EXEC)
