"""Proposer that runs Claude Code, through the ``claude-agent-sdk`` package (the extra ``claude``).

Claude Code works in the folder of the workspace. It may read files in the folder, write
``controller.py``, and run the command that scores it; everything else is denied. Each session runs
in its own process, like any command (:mod:`autotts_gym.discovery.proposers.command`); the process
executes :mod:`autotts_gym.discovery.proposers.claude_session`.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import re
import sys
from collections.abc import Container
from dataclasses import asdict
from pathlib import Path

from autotts_gym.discovery.proposal import ProposerError
from autotts_gym.discovery.proposers import claude_session
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.claude_session import SDK_MISSING, Session
from autotts_gym.discovery.proposers.command import CommandProposer
from autotts_gym.discovery.workspace import Workspace


class ClaudeProposer(CommandProposer):
    """Runs a session with Claude Code for every proposal, one at a time.

    Args:
        workspace: the working folder; its evaluation is the only command that may be run. The
            command runs what the session has written, so it must play it in a sandbox, as
            ``autotts judge`` and ``autotts benchmark --untrusted`` do.
        model: name of the model; Claude Code's default if None.
        cli: path of the Claude Code executable; the one of the SDK if None.
        max_turns: maximum number of turns of a session; None for no limit.
        attempts: number of proposals per round.
        time_limit: seconds after which a session is ended.
        usd: limit of the cost of a session, US dollars; None for no limit.
        budget: spending limits of the run; Claude Code reports the cost.
        recorded: names of recorded proposals, which are skipped.

    Raises:
        ProposerError: the SDK is not installed, or the executable does not exist.
        ValueError: an argument is out of range, or the evaluation plays the program outside a
            sandbox.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        model: str | None = None,
        cli: str | os.PathLike[str] | None = None,
        max_turns: int | None = None,
        attempts: int = 1,
        time_limit: float = 1800.0,
        usd: float | None = None,
        budget: Budget | None = None,
        recorded: Container[str] = (),
    ) -> None:
        if importlib.util.find_spec("claude_agent_sdk") is None:
            raise ProposerError(SDK_MISSING)
        if cli is not None and not os.access(cli, os.X_OK):
            raise ProposerError(f"the Claude Code executable {cli} does not exist")
        if max_turns is not None and max_turns < 1:
            raise ValueError(f"max_turns must be at least 1, got {max_turns!r}")
        if usd is not None and not 0 < usd < math.inf:
            raise ValueError(f"usd must be above 0, got {usd!r}")
        if _plays_unprotected(workspace.evaluation):
            raise ValueError(
                f"the evaluation {workspace.evaluation!r} would run the session's program outside "
                "a sandbox: add --untrusted, or use autotts judge"
            )
        path = None if cli is None else str(Path(cli).absolute())
        session = Session(model, path, max_turns, usd, workspace.evaluation)
        # -P: do not import modules from the working folder.
        module = claude_session.__name__
        command = [sys.executable, "-P", "-m", module, json.dumps(asdict(session))]
        super().__init__(
            command,
            workspace,
            attempts=attempts,
            time_limit=time_limit,
            budget=budget,
            recorded=recorded,
        )
        self._model = model or "claude"

    @property
    def origin(self) -> str:
        """Origin of the proposals: the name of the model."""
        return self._model


def _plays_unprotected(evaluation: str) -> bool:
    """Whether a shell command runs a program with ``autotts`` outside a sandbox."""
    words = re.split(r"[\s;|&()'\"`]+", evaluation)
    starts = any(word.rpartition("/")[2] in ("autotts", "autotts_gym") for word in words)
    plays = starts and any(name in words for name in ("benchmark", "play", "solve"))
    return plays and "--untrusted" not in words
