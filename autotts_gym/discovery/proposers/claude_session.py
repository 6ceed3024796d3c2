"""One session with Claude Code, in its own process: permissions, options, and the main function.

:class:`~autotts_gym.discovery.proposers.claude_code.ClaudeProposer` runs this module as a command.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from autotts_gym.discovery.proposers.command import CANNOT_PROPOSE, COST_FILE
from autotts_gym.utils.files import write_text

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, HookContext, HookInput
    from claude_agent_sdk.types import SyncHookJSONOutput

#: Error message if the SDK is not installed.
SDK_MISSING: Final = (
    "Claude Code needs the claude-agent-sdk package: pip install 'autotts-gym[claude]'"
)

#: Errors of the SDK that every further session would meet too.
_PERMANENT_ERRORS: Final = ("authentication_failed", "billing_error")

_PROMPT: Final = """Read README.md in this folder, then results.md, and the feedback.md of the best
and the latest program under history/. Find out where the best program loses correct answers or
spends tokens without need. Then write a better program to controller.py. When you are done,
controller.py must contain the program only."""


@dataclass(frozen=True)
class Session:
    """Options of a session.

    Attributes:
        model: name of the model; Claude Code's default if None.
        cli: path of the Claude Code executable; the one of the SDK if None.
        max_turns: maximum number of turns; None for no limit.
        usd: limit of the cost of a session, US dollars; None for no limit.
        evaluation: the shell command that the session may run; empty for none.
    """

    model: str | None = None
    cli: str | None = None
    max_turns: int | None = None
    usd: float | None = None
    evaluation: str = ""


def denial_reason(tool: str, arguments: Mapping[str, Any], folder: Path, evaluation: str) -> str:
    """Why a use of a tool is denied; empty if it is allowed.

    Args:
        tool: name of the tool.
        arguments: arguments of the tool.
        folder: the working folder.
        evaluation: the shell command that may be run; empty for none.
    """
    folder = folder.resolve()

    def resolve(argument: str) -> Path:
        return (folder / str(arguments.get(argument) or ".")).resolve()

    if tool in ("Read", "Grep", "Glob"):
        path = resolve("file_path" if tool == "Read" else "path")
        pattern = str(arguments.get("glob" if tool == "Grep" else "pattern") or "")
        patterns = [] if tool == "Read" else [pattern]
        if path.is_relative_to(folder) and not any(map(_leaves_folder, patterns)):
            return ""
        return f"only files in {folder} may be read"
    if tool in ("Edit", "MultiEdit", "Write"):
        path = resolve("file_path")
        return "" if path == folder / "controller.py" else "only controller.py may be written"
    if tool == "Bash" and evaluation:
        if arguments.get("run_in_background"):
            return "commands must not run in the background"
        equal = str(arguments.get("command", "")).strip() == evaluation.strip()
        return "" if equal else f"the only command that may be run is: {evaluation}"
    return f"{tool} may not be used here"


def _leaves_folder(pattern: str) -> bool:
    return pattern.startswith(("/", "~")) or ".." in pattern


def sdk_options(session: Session, folder: Path, usd: float | None = None) -> ClaudeAgentOptions:
    """Options of the SDK for a session.

    Args:
        session: options of the session.
        folder: the working folder.
        usd: remaining budget of the run, US dollars; None for no limit.
    """
    from claude_agent_sdk import ClaudeAgentOptions, HookMatcher

    async def before_tool(given: HookInput, _: str | None, __: HookContext) -> SyncHookJSONOutput:
        call: Mapping[str, Any] = given  # the hook receives PreToolUse events only
        reason = denial_reason(call["tool_name"], call["tool_input"], folder, session.evaluation)
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
        # Tools that no hook has allowed are denied without a question to the user.
        permission_mode="dontAsk",
        max_turns=session.max_turns,
        max_budget_usd=max(min(limits), 0.0) if limits else None,
        # Neither the user's settings nor files in the folder can change the permissions.
        setting_sources=[],
        strict_mcp_config=True,
    )


def main() -> int:
    """Run one session in the current folder and return the exit status.

    ``sys.argv[1]`` is a :class:`Session` as JSON. Messages and uses of tools are printed. The cost
    is written to ``cost.json`` after every message.
    """
    session = Session(**json.loads(sys.argv[1]))
    usd = os.environ.get("AUTOTTS_USD")
    try:
        asyncio.run(_run(session, Path.cwd(), None if usd is None else float(usd)))
    except _SessionError as error:
        print(error, flush=True)
        return CANNOT_PROPOSE if error.permanent else 1
    return 0


class _SessionError(Exception):
    """A session failed.

    Args:
        message: description of the failure.
        permanent: whether every further session would fail in the same way.
    """

    def __init__(self, message: str, *, permanent: bool = False) -> None:
        super().__init__(message)
        self.permanent = permanent


async def _run(session: Session, folder: Path, usd: float | None) -> None:
    try:
        import claude_agent_sdk as sdk
    except ImportError:
        raise _SessionError(SDK_MISSING, permanent=True) from None
    # On SIGTERM, cancel this task: the SDK then ends the Claude Code process.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    usage: dict[str, Mapping[str, Any]] = {}
    failure, permanent = "the session ended without a result", False
    try:
        messages = sdk.query(prompt=_PROMPT, options=sdk_options(session, folder, usd))
        async with contextlib.aclosing(messages) as stream:  # type: ignore[type-var]
            async for message in stream:
                if isinstance(message, sdk.AssistantMessage):
                    _print_content(message.content)
                    permanent = permanent or message.error in _PERMANENT_ERRORS
                    usage[message.message_id or ""] = message.usage or {}
                    _write_cost(folder, _count_tokens(*usage.values()))
                elif isinstance(message, sdk.ResultMessage):
                    cost = _count_tokens(message.usage or {}) or _count_tokens(*usage.values())
                    if message.total_cost_usd is not None:
                        cost["usd"] = message.total_cost_usd
                    _write_cost(folder, cost)
                    text = message.result or "; ".join(message.errors or []) or message.subtype
                    failure = text if message.is_error else ""
    except sdk.CLINotFoundError as error:
        reason = " ".join(str(error).split())
        raise _SessionError(f"Claude Code cannot be found: {reason}", permanent=True) from None
    except sdk.ClaudeSDKError as error:
        failure = failure or f"{type(error).__name__}: {' '.join(str(error).split())}"
    except Exception as error:  # the SDK raises errors of the executable as plain exceptions
        if type(error) is not Exception:
            raise
        failure = failure or str(error)
    if failure:
        raise _SessionError(failure, permanent=permanent)


def _print_content(content: Any) -> None:
    for block in content:
        for name in ("text", "thinking", "name"):
            if hasattr(block, name):
                print(f"{name}: {getattr(block, name)}", getattr(block, "input", ""), flush=True)


def _count_tokens(*usages: Mapping[str, Any]) -> dict[str, float]:
    """Tokens by unit; prompt tokens include those read from a cache or written to one."""
    total = {"prompt_tokens": 0.0, "completion_tokens": 0.0}
    for usage in usages:
        for name, value in usage.items():
            if name.endswith("input_tokens") and isinstance(value, int):
                total["prompt_tokens"] += value
        total["completion_tokens"] += usage.get("output_tokens") or 0
    return total if any(total.values()) else {}


def _write_cost(folder: Path, cost: Mapping[str, float]) -> None:
    write_text(folder / COST_FILE, json.dumps(dict(cost)))


if __name__ == "__main__":
    sys.exit(main())
