"""Number of available cores, and termination of child processes with their parent."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading

if sys.platform == "linux":
    import fcntl

_PR_SET_PDEATHSIG = 1


def core_count() -> int:
    """Number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_can_spawn(activity: str, *, main_script: bool = True) -> None:
    """Check that this process can start others with ``multiprocessing``'s method ``spawn``.

    Args:
        activity: what needs them, for the message.
        main_script: whether they import the main script.

    Raises:
        RuntimeError: it is a daemon process, which may have no children, or its main script came
            from standard input, which children cannot read again.
    """
    if multiprocessing.current_process().daemon:
        raise RuntimeError(
            f"{activity} starts processes, but this is a daemon process of multiprocessing, which "
            "may not: call it in the main process, or in one with daemon=False"
        )
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    if main_script and main is not None and os.path.basename(main) == "<stdin>":
        raise RuntimeError(
            f"{activity} starts processes, which read the main script again, but it came from "
            "standard input: save it as a file"
        )


def end_with_parent(*, group: bool) -> None:
    """Terminate this ``multiprocessing`` child process when its parent ends.

    Does nothing in a process without a parent.

    Args:
        group: also kill everything in this process's process group, which it must lead.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        if group and hasattr(os, "killpg"):
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    # On Linux, the kernel sends a signal, which also works while extension code holds the GIL.
    if group and sys.platform == "linux":
        fcntl.fcntl(parent.sentinel, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(parent.sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(parent.sentinel, fcntl.F_SETFL, os.O_ASYNC)
    threading.Thread(target=wait, daemon=True).start()


def request_parent_death_signal(number: int = signal.SIGTERM) -> None:
    """Ask Linux to send this process a signal when its parent ends; elsewhere, do nothing.

    Suits ``preexec_fn`` of :class:`subprocess.Popen`.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
