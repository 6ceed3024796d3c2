"""The launcher: starts the fork server, and has it start and end the processes of episodes."""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

import autotts_gym
from autotts_gym.controllers.errors import GivenUpError
from autotts_gym.rollout.limits import START_TIMEOUT
from autotts_gym.sandbox import forkserver, namespaces
from autotts_gym.sandbox.lockdown import Limits
from autotts_gym.sandbox.memory_layout import Layout
from autotts_gym.sandbox.supervisor import ORDER, REPLY
from autotts_gym.sandbox.untrusted_agent import UntrustedAgent

#: Environment of the fork server.
_ENVIRONMENT: Final = {
    "OPENBLAS_NUM_THREADS": "1",
    # Without a fixed seed, the order of a set of strings, and by it a result, could change from one
    # sandbox to the next.
    "PYTHONHASHSEED": "0",
    # Symbols are bound now, not in every process again.
    "LD_BIND_NOW": "1",
    # No restartable sequences: by them, the kernel would tell a program when it is preempted, and
    # so whether other episodes compute.
    "GLIBC_TUNABLES": "glibc.pthread.rseq=0",
}


class Launcher:
    """Controls a fork server (:mod:`autotts_gym.sandbox.forkserver`) from the player's process.

    It numbers the processes in the order of their start.

    Args:
        agent: the program.
        layout: of the slots.
        limits: of each episode's process.

    Raises:
        GivenUpError: the program cannot be compiled.
        RuntimeError: the fork server does not start.
    """

    def __init__(self, agent: UntrustedAgent, layout: Layout, limits: Limits) -> None:
        self._orders, orders_end = socket.socketpair()
        self._starts, starts_end = socket.socketpair()
        self._count = 0
        self._ending: deque[int] = deque()  # without a reply so far
        self._ended: dict[int, int] = {}  # wait statuses that were not asked for so far
        roots = [Path(module.__file__ or "").parents[1] for module in (autotts_gym, np)]
        with orders_end, starts_end, tempfile.TemporaryDirectory() as folder:
            # The working directory is empty, and removed before a program starts.
            ends = orders_end.fileno(), starts_end.fileno()
            separate = str(int(namespaces.are_available()))
            self._process = subprocess.Popen(
                # Not -I, which ignores the variables.
                [sys.executable, "-P", "-s", forkserver.__file__, *map(str, ends), separate]
                + [str(root) for root in roots],
                cwd=folder,
                env=_ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=ends,
                start_new_session=True,
            )
            for end in (orders_end, starts_end):
                end.close()  # so that this process notices when the others end
            try:
                problem = self._set_up(_setup(agent, layout, limits))
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

        self._start_in_vain()

    def _start_in_vain(self) -> None:
        """Start a process that ends at once, because it has no slot.

        It leaves the template as every later one does: the first episode must not differ.
        """
        nothing = os.open(os.devnull, os.O_RDONLY)
        number, *pipes = self.start(nothing)
        self.end(number)
        for descriptor in (nothing, *pipes):
            os.close(descriptor)

    @property
    def pid(self) -> int:
        """Process id of the first process of the fork server, with which all others end."""
        return self._process.pid

    def _set_up(self, setup: dict[str, Any]) -> bytes:
        """Send what to play; returns the template's reply, a line."""
        starts = self._starts
        data = json.dumps(setup).encode()
        starts.settimeout(START_TIMEOUT)
        starts.sendall(struct.pack("=q", len(data)) + data)
        with starts.makefile("rb", buffering=0) as lines:
            reply = lines.readline()
        starts.settimeout(None)
        return reply

    def start(self, memory: int) -> tuple[int, int, int]:
        """Start an episode's process.

        Args:
            memory: file descriptor of its slot.

        Returns:
            Its number, and two file descriptors, one to read its frames from and one to write
            outcomes to.
        """
        guest_input, our_output = os.pipe()
        our_input, guest_output = os.pipe()
        os.set_blocking(our_output, False)
        try:
            socket.send_fds(self._starts, [b"\0"], [memory, guest_input, guest_output])
        except BaseException:
            os.close(our_output)
            os.close(our_input)
            raise
        finally:
            os.close(guest_input)
            os.close(guest_output)
        self._count += 1
        return self._count - 1, our_input, our_output

    @property
    def replies(self) -> int:
        """File descriptor that can be read when :meth:`take_ended` has something."""
        return self._orders.fileno()

    def end(self, number: int) -> int:
        """End a process, once; returns its wait status.

        Raises:
            RuntimeError: the fork server has ended.
        """
        self.end_soon([number])
        self._await_endings()
        return self._ended.pop(number)

    def end_soon(self, numbers: Sequence[int]) -> None:
        """Start to end some processes, each of them once; see :meth:`take_ended`."""
        self._send(numbers)
        self._ending.extend(numbers)

    def take_ended(self, wait: bool = False) -> dict[int, int]:
        """Wait statuses, by number, of processes that have ended since they were last taken.

        Args:
            wait: until all have ended that shall.

        Raises:
            RuntimeError: the fork server has ended.
        """
        if wait:
            self._await_endings()
        elif self._ending:
            self._receive(len(self._ending), socket.MSG_DONTWAIT)
        ended, self._ended = self._ended, {}
        return ended

    def cpu_times(self, numbers: Sequence[int]) -> list[float]:
        """Processor time that some processes have used so far, seconds.

        Raises:
            RuntimeError: the fork server has ended.
        """
        self._send([~number for number in numbers])
        self._await_endings()  # the replies to earlier orders come first
        return [seconds for _, seconds in self._replies(len(numbers), socket.MSG_WAITALL)]

    def _send(self, orders: Sequence[int]) -> None:
        if orders:
            self._orders.sendall(b"".join(map(ORDER.pack, orders)))

    def _await_endings(self) -> None:
        self._receive(len(self._ending), socket.MSG_WAITALL)

    def _receive(self, count: int, flags: int) -> None:
        for status, _ in self._replies(count, flags):
            self._ended[self._ending.popleft()] = status

    def _replies(self, count: int, flags: int) -> list[tuple[int, float]]:
        """At most that many replies of the supervisor: all, unless ``flags`` says not to wait."""
        if not count:
            return []
        try:
            data = self._orders.recv(REPLY.size * count, flags)
        except BlockingIOError:
            return []
        if rest := len(data) % REPLY.size:
            data += self._orders.recv(REPLY.size - rest, socket.MSG_WAITALL)
        if not data or len(data) % REPLY.size:
            raise RuntimeError("the fork server of the sandbox has ended")
        return list(REPLY.iter_unpack(data))

    def close(self) -> None:
        """End the fork server, and with it all processes of episodes."""
        self._orders.close()
        self._starts.close()
        try:
            self._process.wait(5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _setup(agent: UntrustedAgent, layout: Layout, limits: Limits) -> dict[str, Any]:
    """The first message to the template."""
    return {
        "layout": layout.asdict(),
        "limits": {"memory": limits.memory, "seconds": limits.seconds},
        "path": str(agent.path),
        "name": f"autotts_agent_{agent.path.stem}_{agent.digest[:12]}",
        "source": agent.text,
        "agent": {
            "takes_beta": agent.takes_beta,
            "published": agent.published,
            "program": agent.program,
        },
    }
