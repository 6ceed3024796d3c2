"""Process lockdown: resource limits, seccomp, landlock, and an unprivileged user.

A process is locked down irreversibly before it runs an untrusted program. The available protections
depend on the platform; :func:`protections` names them.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from dataclasses import dataclass
from typing import Final

from autotts_gym.sandbox import landlock, seccomp

if sys.platform != "win32":
    import resource

#: User id of programs if the player runs as root: by convention, a user without privileges.
_UNPRIVILEGED_USER: Final = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER: Final = 2


class LockdownError(RuntimeError):
    """A protection that the platform has could not be enabled."""


@dataclass(frozen=True)
class Limits:
    """Resource limits of an episode's process.

    Attributes:
        memory: address space beyond the fork server's own, bytes.
        seconds: processor time.
    """

    memory: int
    seconds: int


def protections() -> tuple[str, ...]:
    """Names of the protections that are active on this machine."""
    names = ["a process for every episode", "resource limits"]
    if seccomp.is_available():
        names.append("seccomp")
    version = landlock.abi_version()
    if version:
        names.append(f"landlock {version}")
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        names.append("no root")
    return tuple(names)


class Lockdown:
    """Locks down the fork server, whose children inherit it, and then each of its children.

    Args:
        limits: of each episode's process.
    """

    def __init__(self, limits: Limits) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._linux = sys.platform == "linux"
        if self._linux:
            self._libc.prctl.argtypes = (ctypes.c_int, *[ctypes.c_ulong] * 4)
        self._filter = seccomp.build_filter() if seccomp.is_available() else None
        self._memory = limits.memory
        self._guest_limits = [
            (resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1)),
            (resource.RLIMIT_NPROC, (0, 0)),
        ]

    def restrict_forkserver(self, files: int) -> None:
        """Lock down this process as far as it can still fork afterwards.

        Args:
            files: maximum number of open files.

        Raises:
            LockdownError: a protection could not be enabled.
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
            with contextlib.suppress(ValueError):  # the limit is already lower
                resource.setrlimit(which, (limit, limit))
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(_UNPRIVILEGED_USER)
            os.setuid(_UNPRIVILEGED_USER)
        if not self._linux:
            return
        self._prctl(_PR_SET_DUMPABLE, 0)
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1)
        try:
            landlock.restrict_self()
        except OSError as error:
            raise LockdownError(f"landlock: {error.strerror}") from error

    def restrict_guest(self, parent: int) -> None:
        """Lock down this process, a child of the fork server, for good.

        Args:
            parent: process id of the fork server, with which it ends.

        Raises:
            LockdownError: a protection could not be enabled.
        """
        for which, limit in self._guest_limits:
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
            raise LockdownError(f"prctl {option}: {os.strerror(ctypes.get_errno())}")
