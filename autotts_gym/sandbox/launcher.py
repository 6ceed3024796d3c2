"""The launcher: starts the fork server, and has it start and end the processes of episodes."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import autotts_gym
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.rollout.limits import START_TIMEOUT
from autotts_gym.sandbox import forkserver
from autotts_gym.sandbox.lockdown import Limits
from autotts_gym.sandbox.shared_memory import SlotMemory
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent


class Launcher:
    """Controls a fork server (:mod:`autotts_gym.sandbox.forkserver`) from the player's process.

    Args:
        agent: the program.
        memory: the slots.
        limits: of each episode's process.

    Raises:
        GivenUpError: the program cannot be compiled.
        RuntimeError: the fork server does not start.
    """

    def __init__(self, agent: UntrustedAgent, memory: SlotMemory, limits: Limits) -> None:
        self._connection, remote_end = socket.socketpair()
        roots = [Path(module.__file__ or "").parents[1] for module in (autotts_gym, np)]
        with remote_end, tempfile.TemporaryDirectory() as folder:
            # The working directory is empty, and removed before a program starts.
            fd = remote_end.fileno()
            self._process = subprocess.Popen(
                [sys.executable, "-I", forkserver.__file__, str(fd), *map(str, roots)],
                cwd=folder,
                env={"OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[fd],
                start_new_session=True,
            )
            try:
                problem = self._set_up(_setup(agent, memory, limits), memory)
            except OSError as error:
                self.close()
                raise RuntimeError(f"the sandbox does not start: {error}") from error
            except BaseException:
                self.close()
                raise
        if problem != b"\n":
            self.close()
            reason = problem.decode("utf-8", "replace").strip() or "its process ended"
            raise GivenUpError(f"{agent.path}: cannot be loaded: {reason}")

    @property
    def pid(self) -> int:
        """Process id of the fork server."""
        return self._process.pid

    def _set_up(self, setup: dict[str, Any], memory: SlotMemory) -> bytes:
        """Send what to play; returns the fork server's reply, a line."""
        connection = self._connection
        data = json.dumps(setup).encode()
        connection.settimeout(START_TIMEOUT)
        connection.sendall(struct.pack("=q", len(data)) + data)
        for k in range(0, memory.count, 64):
            socket.send_fds(connection, [b"\0"], memory.readers[k : k + 64])
        with connection.makefile("rb", buffering=0) as lines:
            reply = lines.readline()
        connection.settimeout(None)
        return reply

    def start(self, slot: int) -> tuple[int, int]:
        """Start an episode's process.

        Returns:
            Two file descriptors, one to read its frames from and one to write outcomes to.
        """
        guest_input, our_output = os.pipe()
        our_input, guest_output = os.pipe()
        os.set_blocking(our_output, False)
        try:
            order = struct.pack("=i", slot)
            socket.send_fds(self._connection, [order], [guest_input, guest_output])
        except BaseException:
            os.close(our_output)
            os.close(our_input)
            raise
        finally:
            os.close(guest_input)
            os.close(guest_output)
        return our_input, our_output

    def end(self, slots: Sequence[int]) -> list[int]:
        """End the processes of some slots; returns their wait statuses.

        Raises:
            RuntimeError: the fork server has ended.
        """
        count = len(slots)
        self._connection.sendall(struct.pack(f"={count}i", *(~slot for slot in slots)))
        reply = self._connection.recv(4 * count, socket.MSG_WAITALL) if count else b""
        if len(reply) < 4 * count:
            raise RuntimeError("the fork server of the sandbox has ended")
        return list(struct.unpack(f"={count}i", reply))

    def close(self) -> None:
        """End the fork server, and with it all processes of episodes."""
        self._connection.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _setup(agent: UntrustedAgent, memory: SlotMemory, limits: Limits) -> dict[str, Any]:
    """The first message to the fork server."""
    return {
        "layout": memory.layout.asdict(),
        "slots": memory.count,
        "limits": {"memory": limits.memory, "seconds": limits.seconds},
        "path": str(agent.path),
        "name": f"autotts_agent_{agent.path.stem}_{agent.digest[:12]}",
        "source": agent.source.decode("latin-1"),
        "agent": {
            "takes_beta": agent.takes_beta,
            "published": agent.published,
            "program": agent.program,
        },
    }
