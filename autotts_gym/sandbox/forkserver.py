"""The fork server: forks one process per episode from an interpreter that never held traces.

It runs as a program in an interpreter of its own, and loads what programs may import, but runs
nothing of the program itself. The launcher (:mod:`autotts_gym.sandbox.launcher`) sends it, through
a socket, first what to play, then *orders* of four bytes:

- a slot, with the ends of two pipes: end the process of that slot, and start an episode there;
- ``~slot``: end the process of that slot, and reply its wait status, four bytes.

When the socket closes, it ends with all its processes.
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
    # Make the package importable without running its __init__.
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
from autotts_gym.sandbox.guest_env import GuestEnv
from autotts_gym.sandbox.lockdown import Limits, Lockdown
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.pipe_protocol import ORDER_SIZE

#: Number of files open here besides the slots.
_OTHER_FILES: Final = 16


class ForkServer:
    """Starts and ends the processes of episodes.

    Args:
        connection: the socket to the launcher.

    Raises:
        EOFError: the launcher has closed the socket.
        Exception: the program cannot be compiled, or a library not be imported.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        size = struct.unpack("=q", _receive(connection, 8))[0]
        setup = json.loads(_receive(connection, size))
        self._layout = Layout(**setup["layout"])
        self._facts: dict[str, Any] = setup["agent"]
        self._slots: list[int] = []
        while len(self._slots) < setup["slots"]:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 64)
            self._slots += descriptors
        path, source = setup["path"], setup["source"].encode("latin-1")
        self._code = compile(source, path, "exec", dont_inherit=True)
        self._name = setup["name"]
        self._pids = [0] * len(self._slots)
        for library in (*guest.LIBRARIES, *guest.CONTROLLER_MODULES):
            # Every loaded module makes forks slower.
            if library.rpartition(".")[2].encode() in source or library in guest.ALWAYS_LOADED:
                importlib.import_module(library)
        self._builtins = guest.program_builtins()
        self._lockdown = Lockdown(Limits(**setup["limits"]))
        self._lockdown.restrict_forkserver(len(self._slots) + _OTHER_FILES)
        # Like os.fork, but without the modules' at-fork hooks, which take longer than an episode.
        # There is only one thread, and random numbers shall be the same in every process.
        self._fork = ctypes.PyDLL(None).fork
        self._pid = os.getpid()

    def serve(self) -> None:
        """Execute orders until the socket closes."""
        gc.collect()
        gc.freeze()
        while True:
            try:
                data, pipes, _, _ = socket.recv_fds(self._connection, ORDER_SIZE, 2)
            except InterruptedError:
                continue
            if len(data) < ORDER_SIZE:
                break
            (slot,) = struct.unpack("=i", data)
            if slot < 0:
                self._connection.sendall(struct.pack("=i", self._end(~slot)))
                continue
            self._end(slot)
            pid = self._fork()
            if not pid:
                self._run_guest(slot, *pipes)
                os._exit(0)
            self._pids[slot] = pid
            for pipe in pipes:
                os.close(pipe)
        for slot in range(len(self._pids)):
            self._end(slot)

    def _end(self, slot: int) -> int:
        """Kill the process of a slot, if there is one; returns its wait status."""
        pid, self._pids[slot] = self._pids[slot], 0
        if pid <= 0:
            return 0
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return os.waitpid(pid, 0)[1]

    def _run_guest(self, slot: int, input_pipe: int, output_pipe: int) -> None:
        """Play an episode in a newly forked process; does not return."""
        try:
            os.setsid()
            memory = mmap.mmap(
                self._slots[slot], self._layout.size, mmap.MAP_SHARED, mmap.PROT_READ
            )
            low, high = sorted((input_pipe, output_pipe))
            os.closerange(3, low)
            os.closerange(low + 1, high)
            os.closerange(high + 1, len(self._slots) + _OTHER_FILES)
            env = GuestEnv(self._layout, memoryview(memory), input_pipe, output_pipe)
            module = ModuleType(self._name)
            module.__dict__["__builtins__"] = self._builtins

            def lock() -> None:
                self._lockdown.restrict_guest(self._pid)

            guest.play(env, self._code, module, lock, self._facts)
        finally:
            os._exit(0)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def main() -> None:
    """Report readiness (an empty line, or an error message), then serve."""
    # Use the lowest free descriptor: the processes close all descriptors below a limit.
    connection = socket.socket(fileno=os.dup(int(sys.argv[1])))
    os.close(int(sys.argv[1]))
    os.environ.clear()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the player's to handle
    try:
        server = ForkServer(connection)
    except EOFError:
        return
    except BaseException as error:
        connection.sendall(f"{failure_message(error)}\n".encode())
        return
    connection.sendall(b"\n")
    server.serve()


if __name__ == "__main__":
    main()
