"""Namespaces of the sandbox (Linux): its processes see no others, no network and no shared IPC.

Root creates them directly; another user does so in a user namespace, if the system allows it.
Run as a program, this file tries it, and exits with 0 if that is possible.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Final

_NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x08000000, 0x10000000, 0x20000000, 0x40000000
_SEPARATE: Final = _NEWPID | _NEWNET | _NEWIPC
_CAPABILITY_VERSION_3: Final = 0x20080522


@functools.cache
def are_available() -> bool:
    """Whether this user can create them here; tried in another process."""
    if sys.platform != "linux":
        return False
    command = [sys.executable, "-I", "-S", __file__]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    return done.returncode == 0


def enter() -> bool:
    """Create the namespaces, and move this process into them.

    The first child becomes process 1 of the pid namespace: when it ends, so do all others.

    Returns:
        Whether it succeeded; if not, nothing has changed.
    """
    if sys.platform != "linux":
        return False
    unshare = ctypes.CDLL(None, use_errno=True).unshare
    if os.geteuid() == 0:
        return int(unshare(_SEPARATE)) == 0
    user, group = os.geteuid(), os.getegid()
    if unshare(_NEWUSER | _SEPARATE):
        return False
    # Without these entries, the process would have no user of its own.
    with contextlib.suppress(OSError):
        Path("/proc/self/setgroups").write_bytes(b"deny")
        Path("/proc/self/uid_map").write_bytes(f"{user} {user} 1".encode())
        Path("/proc/self/gid_map").write_bytes(f"{group} {group} 1".encode())
    return True


def drop_capabilities() -> None:
    """Give up all capabilities, such as those over a new user namespace."""
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    if libc.capset(header, ctypes.create_string_buffer(24)):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    if not enter():
        sys.exit(1)
    # A system can allow user namespaces without granting rights in them.
    pid = os.fork()
    if not pid:
        os._exit(0 if os.getpid() == 1 else 1)
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
