"""The process that episodes' processes are forked from.

Run as a program, in an interpreter of its own: it has loaded what programs may import, and has
never had a trace in its memory. It runs nothing of the program itself. What it is told comes
through a socket: first what to play, then *orders*, four bytes each:

- a slot, with the ends of two pipes: end what runs in that slot, and start an episode there;
- ``~slot``: end what runs in that slot, and reply how it ended, a wait status of four bytes.

It ends, with all that it started, when the socket closes.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import struct
import sys
from types import ModuleType

if __name__ == "__main__":
    # The package, but not what its own __init__ loads.
    sys.path += [path for path in sys.argv[2:] if path not in sys.path]
    _package = ModuleType("autotts_gym")
    _package.__path__ = [os.path.join(sys.argv[2], "autotts_gym")]
    sys.modules["autotts_gym"] = _package

import ctypes
import gc
import mmap
from typing import Any, Final

from autotts_gym.controllers.errors import failure_message
from autotts_gym.sandbox import guest
from autotts_gym.sandbox.lockdown import Limits, Lock
from autotts_gym.sandbox.memory_layout import Layout

#: Files that are open here besides the slots.
_FILES: Final = 16

ORDER: Final = 4


class Zygote:
    """Starts and ends processes.

    Args:
        told: the socket.
    """

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        size = struct.unpack("=q", _receive(told, 8))[0]
        order = json.loads(_receive(told, size))
        self._layout = Layout(**order["layout"])
        self._facts: dict[str, Any] = order["agent"]
        self._slots: list[int] = []
        while len(self._slots) < order["slots"]:
            _, found, _, _ = socket.recv_fds(told, 1, 64)
            self._slots += found
        path, text = order["path"], order["text"].encode("latin-1")
        self._code = compile(text, path, "exec", dont_inherit=True)
        self._name = order["name"]
        self._running = [0] * len(self._slots)
        for library in (*guest.LIBRARIES, *guest.PROTOCOL):
            # What is not there need not be copied for every process.
            if library.rpartition(".")[2].encode() in text or library in guest.ALWAYS:
                importlib.import_module(library)
        self._builtins = guest.builtins_of_programs()
        self._lock = Lock(Limits(**order["limits"]))
        self._lock.prepare(len(self._slots) + _FILES)
        # As os.fork, but without what modules want done after it: it would take longer than an
        # episode. There is one thread, and random numbers are to be the same every time.
        self._fork = ctypes.PyDLL(None).fork
        self._pid = os.getpid()

    def serve(self) -> None:
        gc.collect()
        gc.freeze()
        while True:
            try:
                data, pipes, _, _ = socket.recv_fds(self._told, ORDER, 2)
            except InterruptedError:
                continue
            if len(data) < ORDER:
                break
            (slot,) = struct.unpack("=i", data)
            if slot < 0:
                self._told.sendall(struct.pack("=i", self._end(~slot)))
                continue
            self._end(slot)
            pid = self._fork()
            if not pid:
                self._play(slot, *pipes)
                os._exit(0)
            self._running[slot] = pid
            for pipe in pipes:
                os.close(pipe)
        for slot in range(len(self._running)):
            self._end(slot)

    def _end(self, slot: int) -> int:
        pid, self._running[slot] = self._running[slot], 0
        if pid <= 0:
            return 0
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]

    def _play(self, slot: int, listening: int, telling: int) -> None:
        """What a new process does."""
        try:
            os.setsid()
            memory = mmap.mmap(
                self._slots[slot], self._layout.size, mmap.MAP_SHARED, mmap.PROT_READ
            )
            low, high = sorted((listening, telling))
            os.closerange(3, low)
            os.closerange(low + 1, high)
            os.closerange(high + 1, len(self._slots) + _FILES)
            remote = guest.Remote(self._layout, memoryview(memory), listening, telling)
            module = ModuleType(self._name)
            module.__dict__["__builtins__"] = self._builtins
            guest.play(remote, self._code, module, lambda: self._lock.close(self._pid), self._facts)
        finally:
            os._exit(0)


def _receive(told: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = told.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def main() -> None:
    """Say whether there is something to play (an empty line, or what is wrong); then serve."""
    # To the lowest number: processes close what lies below a limit.
    told = socket.socket(fileno=os.dup(int(sys.argv[1])))
    os.close(int(sys.argv[1]))
    os.environ.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who started it decides
    try:
        zygote = Zygote(told)
    except EOFError:
        return
    except BaseException as error:
        told.sendall(f"{failure_message(error)}\n".encode())
        return
    told.sendall(b"\n")
    zygote.serve()


if __name__ == "__main__":
    main()
