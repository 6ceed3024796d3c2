"""Any program as a proposer: it runs in the workspace and leaves ``controller.py`` there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Final

from autotts_gym.discovery.proposal import Candidate, Proposal, ProposerError
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.response_cache import Answers, read_costs
from autotts_gym.discovery.workspace import Workspace

#: Status of a command that says that it is no use to run it again (EX_CONFIG of sysexits.h).
HOPELESS: Final = 78

COST: Final = "cost.json"
#: Characters of a command's last words that are told.
_SAID: Final = 300
#: Seconds from being asked to end to being ended.
_GRACE: Final = 2.0


class CommandProposer:
    """Runs a command for every proposal, one at a time.

    It runs in the workspace's folder, in a process group of its own, with nothing to read on its
    standard input, the caller's environment and

    - ``AUTOTTS_PROPOSAL``: the proposal's name;
    - ``AUTOTTS_ROUND``, ``AUTOTTS_ATTEMPT``: the round, and the attempt within it, from 1;
    - ``AUTOTTS_USD``: the dollars that are left to it, where they are limited.

    What it prints goes to ``logs/NAME.log`` of the workspace. What it costs can be left in
    ``cost.json``: an object of numbers, as ``{"usd": 0.12, "prompt_tokens": 4000}``. When it ends,
    or takes too long, all of its process group is ended. Status 78 says that it is no use to run it
    again, as where a key is missing; any other but 0, that this proposal has failed.

    Args:
        command: a line for the shell, or the program and its arguments.
        workspace: where it runs.
        attempts: proposals a round.
        time_limit: seconds after which it is ended.
        budget: limits of everything that is spent.
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
        budget: Budget | None = None,
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
        self._time_limit, self._budget = time_limit, budget or Budget()
        self._answers = Answers(workspace.folder / "answers")

    @property
    def how(self) -> str:
        """What its proposals are said to come from: the program's name."""
        words = self._command.split() if isinstance(self._command, str) else self._command
        return Path(words[0]).name

    def propose(self, number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """See :class:`~autotts_gym.discovery.proposal.Proposer`.

        Raises:
            ProposerError: the command cannot be started, says that it is no use, or another run
                works in the folder.
        """
        for attempt in range(1, self._attempts + 1):
            name = f"{number}-{attempt}"
            if name in self._known:
                continue
            kept = self._answers.proposal(name)
            if kept is None and (reason := self._budget.over(self._answers.spent())):
                yield Proposal(name, "", self.how, error=reason)
                return  # the others would get the same
            yield kept or self._ask(name, number, attempt, history)

    def _ask(self, name: str, number: int, attempt: int, history: Sequence[Candidate]) -> Proposal:
        folder = self._workspace.folder
        folder.mkdir(parents=True, exist_ok=True)
        told = {"PROPOSAL": name, "ROUND": str(number), "ATTEMPT": str(attempt)}
        if self._budget.usd is not None:
            told["USD"] = str(self._budget.usd - self._answers.spent().get("usd", 0.0))
        with _alone(folder) as lock:
            start = self._workspace.write(history)
            # What one that was cut off has cost was paid for.
            cost = Counter(self._answers.cost(name))
            cost.update(read_costs(folder / COST))
            if cost:
                self._answers.write(name, {}, cost)
            (folder / COST).unlink(missing_ok=True)
            begun = time.monotonic()
            trouble = self._run(name, {f"AUTOTTS_{key}": told[key] for key in told}, lock)
            cost.update(
                {**read_costs(folder / COST), "seconds": round(time.monotonic() - begun, 3)}
            )
            source, missing = self._workspace.read_program(start)
            trouble = trouble or missing
            # What a command that failed has left is not what it meant to.
            proposal = Proposal(
                name, "" if trouble else source, self.how, error=trouble, cost=dict(cost)
            )
            self._answers.keep(proposal)
            (folder / COST).unlink(missing_ok=True)
        return proposal

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
                    # Before the command does anything: this process may be killed at any time.
                    preexec_fn=lambda: os.pwrite(lock, f"{os.getpid():<12}".encode(), 0),
                )
            except OSError as error:
                raise ProposerError(
                    f"the command cannot be started: {error.filename or self._command}: "
                    f"{error.strerror or error}"
                ) from error
            try:
                code = process.wait(self._time_limit)
            except subprocess.TimeoutExpired:
                return f"the command was ended after {self._time_limit:g} s"
            finally:
                _end(process.pid, process)
        if not code:
            return ""
        said = _last_line(logs / f"{name}.log")
        said = f": {said}" if said else ""
        if code == HOPELESS:
            raise ProposerError(f"the command cannot propose anything{said}")
        if code < 0:
            return f"the command was ended by signal {-code}{said}"
        return f"the command failed with status {code}{said}"


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return last if len(last) <= _SAID else f"{last[:_SAID]}..."


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
