"""Proposer that runs a command in the workspace; the command writes ``controller.py``."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import Final

from autotts_gym.discovery.proposal import Candidate, Proposal, ProposerError
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.folder_lock import end_process_group, lock_folder
from autotts_gym.discovery.proposers.response_cache import ResponseCache, read_costs
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.utils.redaction import redact

#: Exit status of a command that would fail again, EX_CONFIG of sysexits.h.
CANNOT_PROPOSE: Final = 78
#: File in which a command reports its cost.
COST_FILE: Final = "cost.json"
_ASSIGNMENT: Final = re.compile(r"[A-Za-z_]\w*=")
#: Maximum length of the last output line in an error message, characters.
_MAX_OUTPUT: Final = 300


class CommandProposer:
    """Runs a command for every proposal, one at a time.

    The command runs in the folder of the workspace, in its own process group, with an empty
    standard input and the environment of the caller. These variables are added:

    - ``AUTOTTS_PROPOSAL``: name of the proposal;
    - ``AUTOTTS_ROUND``, ``AUTOTTS_ATTEMPT``: number of the round, and of the attempt within the
      round, from 1;
    - ``AUTOTTS_USD``: remaining budget in US dollars, if there is a limit.

    Output is written to ``logs/NAME.log`` in the workspace. The command may report its cost in
    ``cost.json`` as an object of numbers, such as ``{"usd": 0.12, "prompt_tokens": 4000}``. When
    the command ends or exceeds the time limit, its whole process group is ended. Exit status 78
    means that the command cannot propose anything, for example because a key is missing, and ends
    the search; any other status except 0 means that this proposal has failed.

    Args:
        command: a shell command, or a program and its arguments.
        workspace: the workspace in which the command runs.
        attempts: number of proposals per round.
        time_limit: seconds after which the command is ended.
        budget: spending limits of the run.
        recorded: names of recorded proposals, which are skipped.

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
        recorded: Container[str] = (),
    ) -> None:
        if not command or (isinstance(command, str) and not command.strip()):
            raise ValueError("the command is empty: give one such as 'python propose.py'")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, got {attempts!r}")
        if not time_limit > 0:
            raise ValueError(f"time_limit must be above 0 seconds, got {time_limit!r}")
        self._command = command if isinstance(command, str) else list(command)
        self._workspace, self._attempts, self._recorded = workspace, attempts, recorded
        self._time_limit, self._budget = time_limit, budget or Budget()
        self._cache = ResponseCache(workspace.folder / "answers")

    @property
    def origin(self) -> str:
        """Origin of the proposals: the name of the program."""
        words = self._command.split() if isinstance(self._command, str) else self._command
        # Variables before a program may hold secrets.
        program = next((word for word in words if not _ASSIGNMENT.match(word)), "command")
        return redact(Path(program).name)

    def _redact(self, text: str) -> str:
        """A text without the secrets in the command, which the command may have printed."""
        command = self._command if isinstance(self._command, str) else shlex.join(self._command)
        return redact(text, command)

    def propose(self, round_number: int, history: Sequence[Candidate]) -> Iterator[Proposal]:
        """See :class:`~autotts_gym.discovery.proposal.Proposer`.

        Raises:
            ProposerError: the command cannot be started or exits with status 78, or another run
                uses the workspace.
        """
        for attempt in range(1, self._attempts + 1):
            name = f"{round_number}-{attempt}"
            if name in self._recorded:
                continue
            cached = self._cache.read_proposal(name)
            if cached is None and (reason := self._budget.exhausted(self._cache.total_cost())):
                yield Proposal(name, "", self.origin, error=reason)
                return  # further attempts would fail in the same way
            yield cached or self._request(name, round_number, attempt, history)

    def _request(
        self, name: str, round_number: int, attempt: int, history: Sequence[Candidate]
    ) -> Proposal:
        """Run the command for one proposal, and cache the proposal."""
        folder = self._workspace.folder
        folder.mkdir(parents=True, exist_ok=True)
        variables = {
            "AUTOTTS_PROPOSAL": name,
            "AUTOTTS_ROUND": str(round_number),
            "AUTOTTS_ATTEMPT": str(attempt),
        }
        if self._budget.usd is not None:
            remaining = self._budget.usd - self._cache.total_cost().get("usd", 0.0)
            variables["AUTOTTS_USD"] = str(remaining)
        with lock_folder(folder) as lock:
            start = self._workspace.write(history)
            # An interrupted command has left its cost in the file.
            cost = Counter(self._cache.cost(name))
            cost.update(read_costs(folder / COST_FILE))
            if cost:
                self._cache.write(name, {}, cost)
            (folder / COST_FILE).unlink(missing_ok=True)
            began = time.monotonic()
            error = self._run(name, variables, lock)
            seconds = round(time.monotonic() - began, 3)
            cost.update({**read_costs(folder / COST_FILE), "seconds": seconds})
            source, file_error = self._workspace.read_program(start)
            error = error or file_error
            # A failed command may have left an unfinished program.
            source = "" if error else source
            proposal = Proposal(name, source, self.origin, error=error, cost=dict(cost))
            self._cache.write_proposal(proposal)
            (folder / COST_FILE).unlink(missing_ok=True)
        return proposal

    def _run(self, name: str, variables: dict[str, str], lock: int) -> str:
        """Run the command until it ends; return the error, empty if there is none."""
        logs = self._workspace.folder / "logs"
        logs.mkdir(exist_ok=True)
        with (logs / f"{name}.log").open("wb") as log:
            try:
                process = subprocess.Popen(
                    self._command,
                    shell=isinstance(self._command, str),
                    cwd=self._workspace.folder,
                    env={**os.environ, **variables},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(lock,),
                    # Before the command is executed, because this process may be killed any time.
                    preexec_fn=lambda: os.pwrite(lock, f"{os.getpid():<12}".encode(), 0),
                )
            except OSError as error:
                message = f"{error.filename or self._command}: {error.strerror or error}"
                raise ProposerError(
                    f"the command cannot be started: {self._redact(message)}"
                ) from None
            try:
                status = process.wait(self._time_limit)
            except subprocess.TimeoutExpired:
                return f"the command was ended after {self._time_limit:g} s"
            finally:
                end_process_group(process.pid, process)
        if not status:
            return ""
        output = self._redact(_last_line(logs / f"{name}.log"))
        output = f": {output}" if output else ""
        if status == CANNOT_PROPOSE:
            raise ProposerError(f"the command cannot propose anything{output}")
        if status < 0:
            return f"the command was ended by signal {-status}{output}"
        return f"the command failed with status {status}{output}"


def _last_line(log: Path) -> str:
    """The last line of a log that is not blank, truncated."""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        lines = file.read().decode(errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return last if len(last) <= _MAX_OUTPUT else f"{last[:_MAX_OUTPUT]}..."
