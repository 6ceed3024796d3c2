"""Starting and ending the processes of episodes."""

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

import numpy as np

import autotts_gym
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.rollout.limits import START_TIMEOUT
from autotts_gym.sandbox import forkserver
from autotts_gym.sandbox.lockdown import Limits
from autotts_gym.sandbox.shared_memory import Memory
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent


class Starter:
    """The player's side of :mod:`autotts_gym.sandbox.forkserver`.

    Raises:
        GivenUpError: the program cannot be compiled.
        RuntimeError: the process does not start.
    """

    def __init__(self, agent: UntrustedAgent, memory: Memory, limits: Limits) -> None:
        ours, theirs = socket.socketpair()
        roots = [Path(module.__file__ or "").parents[1] for module in (autotts_gym, np)]
        with theirs, tempfile.TemporaryDirectory() as folder:
            # An empty folder, which is gone by the time that a program starts.
            self._process = subprocess.Popen(
                [sys.executable, "-I", forkserver.__file__, str(theirs.fileno()), *map(str, roots)],
                cwd=folder,
                env={"OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
            self._told = ours
            text = agent.source
            order = {
                "layout": memory.layout.facts(),
                "slots": memory.count,
                "limits": {"memory": limits.memory, "seconds": limits.seconds},
                "path": str(agent.path),
                "name": f"autotts_agent_{agent.path.stem}_{agent.digest[:12]}",
                "text": text.decode("latin-1"),
                "agent": {
                    "takes_beta": agent.takes_beta,
                    "published": agent.published,
                    "program": agent.program,
                },
            }
            data = json.dumps(order).encode()
            try:
                ours.settimeout(START_TIMEOUT)
                ours.sendall(struct.pack("=q", len(data)) + data)
                for k in range(0, memory.count, 64):
                    socket.send_fds(ours, [b"\0"], memory.readers[k : k + 64])
                with ours.makefile("rb", buffering=0) as lines:
                    problem = lines.readline()
                ours.settimeout(None)
            except OSError as error:
                self.close()
                raise RuntimeError(f"the sandbox does not start: {error}") from error
            except BaseException:
                self.close()
                raise
        if problem != b"\n":
            self.close()
            told = problem.decode("utf-8", "replace").strip() or "its process ended"
            raise GivenUpError(f"{agent.path}: cannot be loaded: {told}")

    def start(self, slot: int) -> tuple[int, int]:
        """Start an episode's process; where it is heard, and where it is told."""
        listening, telling = os.pipe()
        hearing, speaking = os.pipe()
        os.set_blocking(telling, False)
        try:
            socket.send_fds(self._told, [struct.pack("=i", slot)], [listening, speaking])
        except BaseException:
            os.close(telling)
            os.close(hearing)
            raise
        finally:
            os.close(listening)
            os.close(speaking)
        return hearing, telling

    def end(self, slots: Sequence[int]) -> list[int]:
        """End what runs in some slots; their wait statuses."""
        count = len(slots)
        self._told.sendall(struct.pack(f"={count}i", *(~slot for slot in slots)))
        reply = self._told.recv(4 * count, socket.MSG_WAITALL) if count else b""
        if len(reply) < 4 * count:
            raise RuntimeError("the process that starts those of the episodes has ended")
        return list(struct.unpack(f"={count}i", reply))

    def close(self) -> None:
        self._told.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
