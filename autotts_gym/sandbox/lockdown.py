"""Process lockdown: resource limits, seccomp, landlock, no clocks, and an unprivileged user.

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

from autotts_gym.sandbox import clock_access, landlock, namespaces, seccomp

if sys.platform != "win32":
    import resource

#: User id of programs if the player runs as root: by convention, a user without privileges.
_UNPRIVILEGED_USER: Final = 65534

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 4, 22, 38
_SECCOMP_MODE_FILTER: Final = 2
_MADV_POPULATE_READ: Final = 22  # Linux 5.14


class LockdownError(RuntimeError):
    """A protection that the platform has could not be enabled."""


class MissingProtectionError(ValueError):
    """The machine lacks a protection, and the user has not accepted a weaker sandbox."""


@dataclass(frozen=True)
class Limits:
    """Resource limits of an episode's process.

    Attributes:
        memory: address space beyond the template's own, bytes.
        seconds: processor time.
    """

    memory: int
    seconds: int


def protections() -> tuple[str, ...]:
    """Names of the protections that are active on this machine."""
    return ("a process for every episode", "resource limits", *_optional()[0])


def missing() -> tuple[str, ...]:
    """Names of the protections that this machine lacks; empty if it has all."""
    return _optional()[1]


def check(weaker: bool) -> None:
    """Refuse a machine on which programs are not contained.

    Args:
        weaker: accept any machine.

    Raises:
        MissingProtectionError: a protection is missing, and that is not accepted.
    """
    if lacking := () if weaker else missing():
        raise MissingProtectionError(
            f"the sandbox of this machine lacks {', '.join(lacking)}: programs could read more"
            " than their episode shows, or tell each other; to run them anyway, pass "
            "--weaker-sandbox (in Python: weaker_sandbox=True)"
        )


def _optional() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the protections that not every machine has: the active and the missing ones."""
    version = landlock.abi_version()
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    found = {
        "seccomp": seccomp.is_available(),
        f"landlock {version}" if version else "landlock": version > 0,
        "namespaces": namespaces.are_available(),
        "no clocks": clock_access.can_disable(),
    }
    active = [name for name, has in found.items() if has]
    return (
        (*active, "no root") if root else tuple(active),
        tuple(name for name, has in found.items() if not has),
    )


def drop_privileges() -> None:
    """Make this process an unprivileged one, which ends with its parent."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(_UNPRIVILEGED_USER)
        os.setuid(_UNPRIVILEGED_USER)
    if sys.platform == "linux":
        namespaces.drop_capabilities()
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Lockdown:
    """Locks down the template, whose copies inherit it, and then each of its copies.

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

    def restrict_template(self, files: int, slot_size: int) -> None:
        """Lock down this process as far as it can still start others afterwards.

        Args:
            files: maximum number of open files.
            slot_size: size of the memory that each copy maps, bytes.

        Raises:
            LockdownError: a protection could not be enabled.
        """
        limits = {
            resource.RLIMIT_FSIZE: 0,
            resource.RLIMIT_CORE: 0,
            resource.RLIMIT_NOFILE: files,
        }
        if self._linux:
            _load_files()
            with open("/proc/self/statm", encoding="ascii") as file:
                size = int(file.read().split()[0]) * resource.getpagesize()
            limits[resource.RLIMIT_AS] = size + slot_size + self._memory
            limits[resource.RLIMIT_MEMLOCK] = limits[resource.RLIMIT_MSGQUEUE] = 0
            clock_access.disable()
        else:
            limits[resource.RLIMIT_DATA] = self._memory
        for which, limit in limits.items():
            with contextlib.suppress(ValueError):  # the limit is already lower
                resource.setrlimit(which, (limit, limit))
        with contextlib.suppress(PermissionError):  # needs root, or a user namespace
            os.chroot(".")
        drop_privileges()
        if not self._linux:
            return
        self._prctl(_PR_SET_NO_NEW_PRIVS, 1)
        try:
            landlock.restrict_self()
        except OSError as error:
            raise LockdownError(f"landlock: {error.strerror}") from error

    def restrict_guest(self, parent: int) -> None:
        """Lock down this process, a copy of the template, for good.

        Args:
            parent: process id of its parent, with which it ends.

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


def _load_files() -> None:
    """Load all pages of the files that this process maps, such as libraries.

    Otherwise, a process that reads one that was not read before could tell others by that.
    """
    libc = ctypes.CDLL(None)
    with open("/proc/self/maps", encoding="utf-8", errors="replace") as file:
        for line in file:
            addresses, rights, _, _, inode = line.split()[:5]
            if inode != "0" and rights[0] == "r":
                start, end = (int(part, 16) for part in addresses.split("-"))
                libc.madvise(
                    ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_POPULATE_READ
                )
