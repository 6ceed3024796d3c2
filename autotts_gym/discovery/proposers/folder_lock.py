"""Exclusive use of a workspace by one run, and termination of process groups."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from autotts_gym.discovery.proposal import ProposerError

#: Seconds between SIGTERM and SIGKILL.
_GRACE_PERIOD: Final = 2.0


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[int]:
    """Lock a folder, and end the command that a killed run has left running there.

    There are two locks. This process holds the first one. The command inherits the second one and
    holds it as long as it runs, even if this process is killed.

    Yields:
        File descriptor of the command's lock. The process group of the command must be written to
        it.

    Raises:
        ProposerError: another run uses the folder.
    """
    run_lock, path = _open_lock(folder / ".run.lock"), folder / ".command.lock"
    command_lock = _open_lock(path)
    try:
        if not _acquire(run_lock):
            raise ProposerError(f"another run uses {folder}: end it, or choose another folder")
        if not _acquire(command_lock):
            group = os.pread(command_lock, 12, 0).decode(errors="replace").strip()
            if group.isdecimal():
                end_process_group(int(group))
            # Processes that have left the group, such as daemons, may hold the old lock forever.
            path.unlink()
            os.close(command_lock)
            command_lock = _open_lock(path)
            _acquire(command_lock)
        os.ftruncate(command_lock, 0)
        yield command_lock
    finally:
        os.close(run_lock)
        os.close(command_lock)


def _open_lock(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _acquire(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def end_process_group(group: int, leader: subprocess.Popen[bytes] | None = None) -> None:
    """End a process group with SIGTERM and, after a grace period, with SIGKILL.

    Args:
        group: ID of the process group.
        leader: leader of the group, if it is a child of this process; it is reaped.
    """
    for signum in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + _GRACE_PERIOD
        while time.monotonic() < until:
            if leader is not None:
                leader.poll()
            try:
                os.killpg(group, signum)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(0.02)
