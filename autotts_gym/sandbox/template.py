"""The template of a sandbox: the process that is copied for every episode.

An episode's process starts with a copy of its memory, in which a program may look around. So it
must be the same for all episodes: this process gets no numbers, keeps no counts, and never learns
the process ids of its copies (:mod:`autotts_gym.sandbox.start_loop`).

For each byte that arrives through a socket, with three file descriptors (a slot's memory, and the
ends of two pipes), it starts a process and reports its process id to the supervisor.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import mmap
import os
import signal
import socket
import struct
from types import ModuleType
from typing import Any, Final

from autotts_gym.controllers.errors import failure_message
from autotts_gym.sandbox import guest, start_loop, warm_up
from autotts_gym.sandbox.guest_env import GuestEnv
from autotts_gym.sandbox.lockdown import Limits, Lockdown
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.pipe_protocol import INPUT, OUTPUT
from autotts_gym.sandbox.start_loop import FILES, REPORTS, STARTS, StartLoop

#: Descriptors of this process are below this number.
_MAX_FILES: Final = 32

#: Limit of open files. It also limits the files that the sandboxes of a user are sending.
_FILE_LIMIT: Final = 512


class Template:
    """Starts processes of episodes.

    Args:
        starts: the socket to the launcher, which sends first what to play.
        reports: file descriptor to report process ids to.

    Raises:
        EOFError: the launcher has closed the socket.
        Exception: the program cannot be compiled, or a library not be imported.
    """

    def __init__(self, starts: socket.socket, reports: int) -> None:
        self._starts, self._reports = starts, reports
        size = struct.unpack("=q", _receive(starts, 8))[0]
        setup = json.loads(_receive(starts, size))
        self._layout = Layout(**setup["layout"])
        self._facts: dict[str, Any] = setup["agent"]
        source = setup["source"]
        # A string: in bytes, Python would look for a declaration of another encoding.
        self._code = compile(source, setup["path"], "exec", dont_inherit=True)
        self._name = setup["name"]
        for library in (*guest.LIBRARIES, *guest.CONTROLLER_MODULES):
            # Every loaded module makes copies slower.
            if library.rpartition(".")[2] in source or library in guest.ALWAYS_LOADED:
                importlib.import_module(library)
        os.environ.clear()
        self._builtins = guest.program_builtins()
        warm_up.warm_up(self._layout)
        self._lockdown = Lockdown(Limits(**setup["limits"]))
        self._parent = os.getppid()
        self._lockdown.restrict_template(_FILE_LIMIT, self._layout.size)

    def serve(self) -> None:
        """Start processes until the socket closes."""
        # First beyond all that are used: each may have the number that the other gets.
        starts, reports = self._starts.detach(), self._reports
        os.dup2(starts, _MAX_FILES - 2)
        os.dup2(reports, _MAX_FILES - 1)
        os.dup2(_MAX_FILES - 2, STARTS)
        os.dup2(_MAX_FILES - 1, REPORTS)
        os.closerange(REPORTS + 1, _MAX_FILES)
        if not start_loop.is_available():
            self._serve_plainly()
            return
        gc.collect()
        gc.freeze()
        gc.disable()  # it would count the episodes
        loop = StartLoop()
        if loop.run():
            self._run_guest(*FILES)

    def _serve_plainly(self) -> None:
        """The same where the kernel cannot start siblings; it leaves traces of earlier episodes."""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that ended processes disappear
        self._parent = os.getpid()
        # Not os.fork, whose at-fork hooks of modules take longer than an episode. There is only
        # one thread, and random numbers shall be the same in every process.
        fork = ctypes.PyDLL(None).fork
        with socket.socket(fileno=STARTS) as starts:
            while True:
                data, files, _, _ = socket.recv_fds(starts, 1, len(FILES))
                if not data:
                    return
                pid = fork()
                if not pid:
                    self._run_guest(*files)
                os.write(REPORTS, struct.pack("=i", pid))
                for file in files:
                    os.close(file)

    def _run_guest(self, memory_file: int, input_pipe: int, output_pipe: int) -> None:
        """Play an episode in a newly started process; does not return."""
        try:
            memory = mmap.mmap(memory_file, self._layout.size, mmap.MAP_SHARED, mmap.PROT_READ)
            os.dup2(input_pipe, INPUT)
            os.dup2(output_pipe, OUTPUT)
            os.closerange(max(INPUT, OUTPUT) + 1, _MAX_FILES)
            gc.enable()
            env = GuestEnv(self._layout, memoryview(memory), INPUT, OUTPUT)
            module = ModuleType(self._name)
            module.__dict__["__builtins__"] = self._builtins

            def lock() -> None:
                self._lockdown.restrict_guest(self._parent)

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


def main(starts: socket.socket, reports: int) -> None:
    """Report readiness (an empty line, or an error message), then serve."""
    try:
        template = Template(starts, reports)
    except EOFError:
        return
    except BaseException as error:
        starts.sendall(f"{failure_message(error)}\n".encode())
        return
    starts.sendall(b"\n")
    template.serve()
