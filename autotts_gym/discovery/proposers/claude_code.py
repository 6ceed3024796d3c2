"""Claude Code as a proposer, through the ``claude-agent-sdk`` package (the extra ``claude``).

It works in the workspace's folder: it may read what is there, write ``controller.py``, and run the
one command that scores it; what else it tries is denied. Each session runs in a process of its own,
as any command does (:mod:`autotts_gym.discovery.proposers.command`), which is this module's
:func:`main`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import math
import os
import signal
import sys
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from autotts_gym.discovery.proposal import ProposerError
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.command import COST, HOPELESS, CommandProposer
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.utils.files import write_text

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, HookContext, HookInput
    from claude_agent_sdk.types import SyncHookJSONOutput

_MISSING: Final = (
    "Claude Code needs the claude-agent-sdk package: pip install 'autotts-gym[claude]'"
)

#: Failures that another session would meet as well.
_HOPELESS: Final = ("authentication_failed", "billing_error")

_PROMPT: Final = """Read README.md in this folder, then results.md, and the feedback of the best and
the latest programs under history/. Work out why the best program loses what it loses. Then write a
program that does better to controller.py. Leave nothing but the program there when you are done."""


@dataclass(frozen=True)
class Session:
    """How one session is held.

    Attributes:
        model: that is asked for; Claude Code's own choice by default.
        cli: the Claude Code executable; the SDK's own by default.
        turns: most turns; None for no limit.
        usd: dollars of one session at most; None for no limit.
        evaluation: the command that it may run; empty for none.
    """

    model: str | None = None
    cli: str | None = None
    turns: int | None = None
    usd: float | None = None
    evaluation: str = ""


class ClaudeProposer(CommandProposer):
    """Holds a session with Claude Code for every proposal, one at a time.

    Args:
        workspace: where it works; its evaluation is the command that may be run.
        model, cli, turns: see :class:`Session`.
        attempts: proposals a round.
        time_limit: seconds of a session, after which it is ended.
        usd: dollars of a session at most.
        budget: limits of everything that is spent; Claude Code itself says what it cost.
        known: names of proposals that are on record, and are not asked for.

    Raises:
        ProposerError: the SDK is not installed, or the executable does not exist.
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        workspace: Workspace,
        *,
        model: str | None = None,
        cli: str | Path | None = None,
        turns: int | None = None,
        attempts: int = 1,
        time_limit: float = 1800.0,
        usd: float | None = None,
        budget: Budget | None = None,
        known: Container[str] = (),
    ) -> None:
        if importlib.util.find_spec("claude_agent_sdk") is None:
            raise ProposerError(_MISSING)
        if cli is not None and not os.access(cli, os.X_OK):
            raise ProposerError(f"{cli}: there is no such executable of Claude Code")
        if turns is not None and turns < 1:
            raise ValueError(f"turns must be at least 1, got {turns!r}")
        if usd is not None and not 0 < usd < math.inf:
            raise ValueError(f"usd must be above 0, got {usd!r}")
        path = None if cli is None else str(Path(cli).absolute())
        session = Session(model, path, turns, usd, workspace.evaluation)
        # -P: modules are not looked for in the folder that it works in.
        command = [sys.executable, "-P", "-m", __name__, json.dumps(asdict(session))]
        super().__init__(
            command,
            workspace,
            attempts=attempts,
            time_limit=time_limit,
            budget=budget,
            known=known,
        )
        self._model = model or "claude"

    @property
    def how(self) -> str:
        return self._model


# --- what it may do ------------------------------------------------------------------------------


def denied(tool: str, given: Mapping[str, Any], folder: Path, evaluation: str) -> str:
    """Why a tool may not be used so; empty if it may.

    Args:
        tool: its name.
        given: its arguments.
        folder: that it works in.
        evaluation: the command that it may run; empty for none.
    """
    folder = folder.resolve()

    def place(name: str) -> Path:
        return (folder / str(given.get(name) or ".")).resolve()

    if tool in ("Read", "Grep", "Glob"):
        at = place("file_path" if tool == "Read" else "path")
        pattern = str(given.get("glob" if tool == "Grep" else "pattern") or "")
        patterns = [] if tool == "Read" else [pattern]
        if at.is_relative_to(folder) and not any(map(_leads_out, patterns)):
            return ""
        return f"only what is below {folder} may be read"
    if tool in ("Edit", "MultiEdit", "Write"):
        at = place("file_path")
        return "" if at == folder / "controller.py" else "only controller.py may be written"
    if tool == "Bash" and evaluation:
        if given.get("run_in_background"):
            return "commands must not run in the background"
        same = str(given.get("command", "")).strip() == evaluation.strip()
        return "" if same else f"the only command that may be run is: {evaluation}"
    return f"{tool} may not be used here"


def _leads_out(pattern: str) -> bool:
    return pattern.startswith(("/", "~")) or ".." in pattern


def options(session: Session, folder: Path, usd: float | None = None) -> ClaudeAgentOptions:
    """What the SDK is told.

    Args:
        session: how it is held.
        folder: that it works in.
        usd: dollars that are left in all; None for no limit.
    """
    from claude_agent_sdk import ClaudeAgentOptions, HookMatcher

    async def before_tool(given: HookInput, _: str | None, __: HookContext) -> SyncHookJSONOutput:
        call: Mapping[str, Any] = given  # of this event alone
        reason = denied(call["tool_name"], call["tool_input"], folder, session.evaluation)
        return {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "deny" if reason else "allow",
                "permissionDecisionReason": reason or "part of the task",
            }
        }

    limits = [limit for limit in (session.usd, usd) if limit is not None]
    return ClaudeAgentOptions(
        cwd=folder,
        model=session.model,
        cli_path=session.cli,
        system_prompt={"type": "preset", "preset": "claude_code"},
        tools=["Read", "Grep", "Glob", "Edit", "Write", *(["Bash"] if session.evaluation else [])],
        hooks={"PreToolUse": [HookMatcher(hooks=[before_tool])]},
        # What no hook has allowed is denied, and nobody is asked.
        permission_mode="dontAsk",
        max_turns=session.turns,
        max_budget_usd=max(min(limits), 0.0) if limits else None,
        # Neither this user's settings nor files of the folder change what it may do.
        setting_sources=[],
        strict_mcp_config=True,
    )


# --- a session, in a process of its own ----------------------------------------------------------


def main() -> int:
    """Hold one session in the present folder, as ``sys.argv[1]`` says; returns the exit status.

    What it says and does is printed; what it costs is kept in ``cost.json`` as it goes.
    """
    session = Session(**json.loads(sys.argv[1]))
    left = os.environ.get("AUTOTTS_USD")
    try:
        asyncio.run(_hold(session, Path.cwd(), None if left is None else float(left)))
    except _FailedError as error:
        print(error, flush=True)
        return HOPELESS if error.hopeless else 1
    return 0


class _FailedError(Exception):
    def __init__(self, message: str, *, hopeless: bool = False) -> None:
        super().__init__(message)
        self.hopeless = hopeless


async def _hold(session: Session, folder: Path, usd: float | None) -> None:
    try:
        import claude_agent_sdk as sdk
    except ImportError:
        raise _FailedError(_MISSING, hopeless=True) from None
    # Asked to end, the SDK takes Claude Code along.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    usage: dict[str, Mapping[str, Any]] = {}
    failed, hopeless = "no result came", False
    try:
        messages = sdk.query(prompt=_PROMPT, options=options(session, folder, usd))
        async with contextlib.aclosing(messages) as coming:  # type: ignore[type-var]
            async for message in coming:
                if isinstance(message, sdk.AssistantMessage):
                    _print(message.content)
                    hopeless = hopeless or message.error in _HOPELESS
                    usage[message.message_id or ""] = message.usage or {}
                    _write_cost(folder, _tokens(*usage.values()))
                elif isinstance(message, sdk.ResultMessage):
                    cost = _tokens(message.usage or {}) or _tokens(*usage.values())
                    if message.total_cost_usd is not None:
                        cost["usd"] = message.total_cost_usd
                    _write_cost(folder, cost)
                    told = message.result or "; ".join(message.errors or []) or message.subtype
                    failed = told if message.is_error else ""
    except sdk.CLINotFoundError as error:
        reason = " ".join(str(error).split())
        raise _FailedError(f"there is no Claude Code: {reason}", hopeless=True) from None
    except sdk.ClaudeSDKError as error:
        failed = failed or f"{type(error).__name__}: {' '.join(str(error).split())}"
    except Exception as error:  # the SDK raises what the executable says as a plain one
        if type(error) is not Exception:
            raise
        failed = failed or str(error)
    if failed:
        raise _FailedError(failed, hopeless=hopeless)


def _print(content: Any) -> None:
    for block in content:
        for name in ("text", "thinking", "name"):
            if hasattr(block, name):
                print(f"{name}: {getattr(block, name)}", getattr(block, "input", ""), flush=True)


def _tokens(*usages: Mapping[str, Any]) -> dict[str, float]:
    """Tokens by unit; those that were read from a cache, or written to one, are of the prompt."""
    total = {"prompt_tokens": 0.0, "completion_tokens": 0.0}
    for usage in usages:
        for name, value in usage.items():
            if name.endswith("input_tokens") and isinstance(value, int):
                total["prompt_tokens"] += value
        total["completion_tokens"] += usage.get("output_tokens") or 0
    return total if any(total.values()) else {}


def _write_cost(folder: Path, cost: Mapping[str, float]) -> None:
    write_text(folder / COST, json.dumps(dict(cost)))


if __name__ == "__main__":
    sys.exit(main())
