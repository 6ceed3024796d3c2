"""Any program as a proposer: it runs in the workspace and leaves ``controller.py`` there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Final

from autotts_gym.discovery.proposers.answers import Answers, ProposerError
from autotts_gym.discovery.proposing import Proposal, Tried
from autotts_gym.discovery.workspace import Workspace

#: Seconds from being asked to end to being ended.
_GRACE: Final = 2.0


class CommandProposer:
    """Runs a command for every proposal, one at a time.

    It runs in the workspace's folder, in a process group of its own, with nothing to read on its
    standard input, the caller's environment and

    - ``AUTOTTS_PROPOSAL``: the proposal's name;
    - ``AUTOTTS_ROUND``, ``AUTOTTS_ATTEMPT``: the round, and the attempt within it, from 1.

    What it prints goes to ``logs/NAME.log`` of the workspace. When it ends, or takes too long, all
    of its process group is ended.

    Args:
        command: a line for the shell, or the program and its arguments.
        workspace: where it runs.
        attempts: proposals a round.
        time_limit: seconds after which it is ended.
        known: names of proposals that are on record, and are not asked for.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        command: str | Sequence[str],
        workspace: Workspace,
        *,
        attempts: int = 1,
        time_limit: float = 1800.0,
        known: Container[str] = (),
    ) -> None:
        if not command or (isinstance(command, str) and not command.strip()):
            raise ValueError("give a command, as 'python propose.py'")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        if not time_limit > 0:
            raise ValueError(f"time_limit must be above 0 seconds, got {time_limit!r}")
        self._command = command if isinstance(command, str) else list(command)
        self._workspace, self._attempts, self._known = workspace, attempts, known
        self._time_limit = time_limit
        self._answers = Answers(workspace.folder / "answers")

    @property
    def how(self) -> str:
        """What its proposals are said to come from: the program's name."""
        words = self._command.split() if isinstance(self._command, str) else self._command
        return Path(words[0]).name

    def propose(self, number: int, history: Sequence[Tried]) -> Iterator[Proposal]:
        """See :class:`~autotts_gym.discovery.proposing.Proposer`.

        Raises:
            ProposerError: the command cannot be started, or another run works in the folder.
        """
        for attempt in range(1, self._attempts + 1):
            name = f"{number}-{attempt}"
            if name in self._known:
                continue
            kept = self._answers.proposal(name)
            yield kept or self._answers.keep(self._ask(name, number, attempt, history))

    def _ask(self, name: str, number: int, attempt: int, history: Sequence[Tried]) -> Proposal:
        self._workspace.folder.mkdir(parents=True, exist_ok=True)
        with _alone(self._workspace.folder) as lock:
            start = self._workspace.lay_out(history)
            told = {"PROPOSAL": name, "ROUND": str(number), "ATTEMPT": str(attempt)}
            begun = time.monotonic()
            trouble = self._run(name, {f"AUTOTTS_{key}": told[key] for key in told}, lock)
            seconds = time.monotonic() - begun
            source, missing = self._workspace.written(start)
        # What a command that failed has left is not what it meant to.
        trouble = trouble or missing
        cost = {"seconds": round(seconds, 3)}
        return Proposal(name, "" if trouble else source, self.how, trouble=trouble, cost=cost)

    def _run(self, name: str, told: dict[str, str], lock: int) -> str:
        """Run the command to its end; what went wrong, or nothing."""
        logs = self._workspace.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{name}.log").open("wb") as log:
            try:
                process = subprocess.Popen(
                    self._command,
                    shell=isinstance(self._command, str),
                    cwd=self._workspace.folder,
                    env={**os.environ, **told},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                )
            except OSError as error:
                raise ProposerError(
                    f"the command cannot be started: {error.filename or self._command}: "
                    f"{error.strerror or error}"
                ) from error
            try:
                os.pwrite(lock, f"{process.pid:<12}".encode(), 0)
                code = process.wait(self._time_limit)
            except subprocess.TimeoutExpired:
                return f"the command was ended after {self._time_limit:g} s"
            finally:
                _end(process.pid, process)
        if code < 0:
            return f"the command was ended by signal {-code}"
        return f"the command failed with status {code}; see logs/{name}.log" if code else ""


def _end(group: int, process: subprocess.Popen[bytes] | None = None) -> None:
    """End a process group, and reap its leader: ask, wait a little, and make it."""
    for signum in (signal.SIGTERM, signal.SIGKILL):
        until = time.monotonic() + _GRACE
        while time.monotonic() < until:
            if process is not None:
                process.poll()
            try:
                os.killpg(group, signum)
            except (ProcessLookupError, PermissionError):
                return
            time.sleep(0.02)


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """Hold a folder, and end what a run that was killed has left at work there.

    One lock is this process's; the other one is inherited by the command, which holds it for as
    long as it lives, whatever becomes of this process.

    Yields:
        The command's lock, a file descriptor; its process group is to be written there.

    Raises:
        ProposerError: another run holds the folder.
    """
    ours, path = _opened(folder / ".run.lock"), folder / ".command.lock"
    theirs = _opened(path)
    try:
        if not _locked(ours):
            raise ProposerError(f"another run works in {folder}: end it, or name another folder")
        if not _locked(theirs):
            group = os.pread(theirs, 12, 0).decode(errors="replace").strip()
            if group.isdecimal():
                _end(int(group))
            # What left its group, as daemons do, may hold the old lock for ever.
            path.unlink()
            os.close(theirs)
            theirs = _opened(path)
            _locked(theirs)
        os.ftruncate(theirs, 0)
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


def _opened(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
