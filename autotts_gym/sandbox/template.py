"""The template of a sandbox: the process that is copied for every episode.

An episode's process starts with a copy of its memory, in which a program may look around. So it
must be the same for all episodes: this process gets no numbers, keeps no counts, and never learns
the process ids of its copies (on Linux; elsewhere, it learns the latest one).

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
import platform
import signal
import socket
import struct
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from autotts_gym.controllers.errors import failure_message
from autotts_gym.sandbox import guest
from autotts_gym.sandbox.guest_env import GuestEnv
from autotts_gym.sandbox.lockdown import Limits, Lockdown
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.pipe_protocol import INPUT, OUTPUT

#: Descriptors of this process, all below this number.
_MAX_FILES: Final = 32

_CLONE: Final = {"x86_64": 56, "aarch64": 220}  # system calls
_CLONE_PARENT, _CLONE_PARENT_SETTID = 0x8000, 0x100000
_MADV_WIPEONFORK: Final = 18
_RUNNING: Final = 1


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
        self._builtins = guest.program_builtins()
        self._lockdown = Lockdown(Limits(**setup["limits"]))
        self._fork, self._parent = _fork_function(reports)
        self._lockdown.restrict_template(_MAX_FILES, self._layout.size)

    def serve(self) -> None:
        """Start processes until the socket closes."""
        gc.collect()
        gc.freeze()
        gc.disable()  # it would count the episodes
        while True:
            try:
                data, files, _, _ = socket.recv_fds(self._starts, 1, 3)
            except InterruptedError:
                continue
            if not data:
                return
            if self._fork():
                self._run_guest(*files)
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


def _fork_function(reports: int) -> tuple[Callable[[], bool], int]:
    """A function that starts a copy of this process, and the process id of the copies' parent.

    The function returns whether it returns in the copy. It runs no at-fork hooks of modules, which
    take longer than an episode: there is only one thread, and random numbers shall be the same in
    every process.
    """
    libc = ctypes.PyDLL(None)
    number = _CLONE.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that ended processes disappear

        def fork() -> bool:
            pid = libc.fork()
            if pid:
                os.write(reports, struct.pack("=i", pid))
            return not pid

        return fork, os.getpid()

    # The kernel writes the process id into this page, which is zeroed in the copy.
    page = mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    page.madvise(_MADV_WIPEONFORK)
    page[0] = _RUNNING
    state = memoryview(page)
    pid_bytes = state[4:8]
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    # Siblings of this process rather than children: the supervisor ends and awaits them.
    arguments = (
        ctypes.c_long(number),
        ctypes.c_ulong(_CLONE_PARENT | _CLONE_PARENT_SETTID | signal.SIGCHLD),
        ctypes.c_ulong(0),
        ctypes.c_void_p(address + 4),
        ctypes.c_ulong(0),
        ctypes.c_ulong(0),
    )
    clone = libc.syscall
    clone.restype = None  # an integer object would leave the process id in freed memory
    write = os.write

    def start() -> bool:
        pid_bytes[:] = b"\0\0\0\0"
        clone(*arguments)
        if not state[0]:
            return True
        write(reports, pid_bytes)
        return False

    return start, os.getppid()


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
