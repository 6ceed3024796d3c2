"""The landlock ruleset of the sandbox: no file system, no TCP, no signals (Linux 5.13 or later)."""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from typing import Final

_CREATE_RULESET, _RESTRICT_SELF = 444, 446  # system calls
_CREATE_RULESET_VERSION: Final = 1


def abi_version() -> int:
    """Version of landlock in this kernel; 0 if it has none."""
    if sys.platform != "linux":
        return 0
    libc = ctypes.CDLL(None)
    return max(0, int(libc.syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)))


def restrict_self() -> None:
    """Forbid this process and its children all that this kernel's landlock can forbid.

    Without landlock, nothing happens.

    Raises:
        OSError: the kernel refuses the ruleset.
    """
    ruleset = _ruleset(abi_version())
    if not ruleset:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.syscall(_CREATE_RULESET, ctypes.c_char_p(ruleset), len(ruleset), 0)
    if descriptor < 0 or libc.syscall(_RESTRICT_SELF, descriptor, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.close(descriptor)


def _ruleset(version: int) -> bytes:
    """``struct landlock_ruleset_attr`` with all rights of a version; empty for version 0."""
    if not version:
        return b""
    rights = {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)  # number of file system rights
    ruleset = struct.pack("=Q", (1 << rights) - 1)
    if version >= 4:
        ruleset += struct.pack("=Q", 0b11)  # bind and connect TCP
    if version >= 6:
        ruleset += struct.pack("=Q", 0b11)  # abstract sockets and signals outside the domain
    return ruleset
