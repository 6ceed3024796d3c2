"""Tests of the Claude Code proposer, with a scripted model.

The Claude Code executable of the SDK runs against a local server.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from proposals import BETTER, HISTORY
from scripted_server import Asked, ScriptedServer

from autotts_gym.discovery.proposal import ProposerError
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.claude_code import ClaudeProposer
from autotts_gym.discovery.proposers.claude_session import Session, denial_reason, sdk_options
from autotts_gym.discovery.workspace import Workspace

pytest.importorskip("claude_agent_sdk")

NEW = BETTER.replace("8", "9")
EVALUATION = "grep -c solve controller.py"


class Model:
    """Plays a list of steps, each with texts and uses of tools as (name, arguments)."""

    def __init__(self, *steps: list[Any]) -> None:
        self.steps, self.asked = list(steps), list[dict[str, Any]]()

    def __call__(self, asked: Asked) -> str:
        if not asked.body.get("tools"):  # a request besides the conversation
            return events(asked.body["model"], 0, ["ok"])
        self.asked.append(asked.body)
        number = min(len(self.asked), len(self.steps))
        return events(asked.body["model"], number, self.steps[number - 1])

    @property
    def results(self) -> list[str]:
        """Results of the uses of tools, in the order of the uses."""
        results = {
            part["tool_use_id"]: json.dumps(part["content"])
            for message in self.asked[-1]["messages"]
            for part in (message["content"] if isinstance(message["content"], list) else [])
            if part.get("type") == "tool_result"
        }
        return [results[name] for name in sorted(results)]


def events(model: str, number: int, step: list[Any]) -> str:
    """A response of the Messages API as server-sent events."""
    usage = {"input_tokens": 100, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": f"msg_{number}",
        "type": "message",
        "role": "assistant",
        "model": model,
    }
    message |= {"content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    sent: list[dict[str, Any]] = [{"type": "message_start", "message": message}]
    for index, part in enumerate(step):
        if isinstance(part, str):
            block: dict[str, Any] = {"type": "text", "text": ""}
            delta = {"type": "text_delta", "text": part}
        else:
            block = {"type": "tool_use", "id": f"toolu_{number}_{index}", "name": part[0]}
            block["input"] = {}
            delta = {"type": "input_json_delta", "partial_json": json.dumps(part[1])}
        sent.append({"type": "content_block_start", "index": index, "content_block": block})
        sent.append({"type": "content_block_delta", "index": index, "delta": delta})
        sent.append({"type": "content_block_stop", "index": index})
    reason = "end_turn" if all(isinstance(part, str) for part in step) else "tool_use"
    end = {"stop_reason": reason, "stop_sequence": None}
    sent.append({"type": "message_delta", "delta": end, "usage": {"output_tokens": 50}})
    sent.append({"type": "message_stop"})
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in sent)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedServer]:
    for name in os.environ:
        if name.startswith(("ANTHROPIC_", "CLAUDE")):
            monkeypatch.delenv(name)
    with ScriptedServer() as made:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", made.url.removesuffix("/v1"))
        monkeypatch.setenv("ANTHROPIC_API_KEY", "scripted")
        monkeypatch.setenv("CLAUDE_CODE_MAX_RETRIES", "1")
        monkeypatch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
        monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(tmp_path / "home" / ".claude"))
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        yield made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "work", evaluation=EVALUATION)


def write(folder: Path, name: str, text: str = NEW) -> tuple[str, dict[str, Any]]:
    return "Write", {"file_path": str(folder / name), "content": text}


@pytest.mark.slow
def test_session(server: ScriptedServer, workspace: Workspace, tmp_path: Path) -> None:
    folder = workspace.folder
    (tmp_path / "secret.txt").write_text("a secret")
    server.messages = model = Model(
        ["I read.", ("Read", {"file_path": str(folder / "README.md")})],
        [("Read", {"file_path": str(tmp_path / "secret.txt")})],
        [("Grep", {"pattern": "secret", "path": str(tmp_path)})],
        [("Glob", {"pattern": "seeds/*.py"})],
        [("Read", {"file_path": str(folder / "controller.py")})],
        [write(folder, "controller.py"), write(folder, "best.py"), write(tmp_path, "more.py")],
        [("Bash", {"command": EVALUATION}), ("Bash", {"command": f"{EVALUATION}; cat ../*.txt"})],
        ["Done."],
    )
    proposer = ClaudeProposer(workspace, model="claude-opus-4-5", max_turns=30)
    (proposal,) = proposer.propose(2, HISTORY)
    assert (proposal.name, proposal.source, proposal.error) == ("2-1", NEW, "")
    assert proposal.origin == "claude-opus-4-5"
    assert proposal.cost["prompt_tokens"] == 800
    assert proposal.cost["completion_tokens"] == 400
    assert proposal.cost["usd"] > 0
    assert {asked["model"] for asked in model.asked} == {"claude-opus-4-5"}
    tools = {tool["name"] for tool in model.asked[0]["tools"]}
    assert {"Read", "Write", "Bash"} <= tools
    assert not {"WebFetch", "WebSearch", "Task", "Agent"} & tools
    read, secret, grep, glob, _, written, best, more, ran, others = model.results
    assert "The task" in read
    assert "only files in" in secret
    assert "only files in" in grep
    assert "few.py" in glob
    assert "controller.py" in written
    assert "error" in best  # Claude Code does not overwrite a file that it has not read
    assert (folder / "best.py").read_text("utf-8") == BETTER
    assert "only controller.py may be written" in more
    assert ran.startswith('"1')
    assert f"the only command that may be run is: {EVALUATION}" in others
    assert not any("a secret" in result for result in model.results)
    assert not (tmp_path / "more.py").exists()
    log = (folder / "logs" / "2-1.log").read_text()
    assert "text: I read." in log
    assert [*proposer.propose(2, HISTORY)] == [proposal]
    assert len(model.asked) == 8


@pytest.mark.slow
def test_cost_limits(server: ScriptedServer, workspace: Workspace) -> None:
    """The limit of a session, and the remaining budget of the run."""
    folder = workspace.folder
    server.messages = Model([("Read", {"file_path": str(folder / "README.md")})])
    (proposal,) = ClaudeProposer(workspace, usd=0.002).propose(1, HISTORY)
    assert "budget" in proposal.error
    assert proposal.cost["usd"] > 0.002
    proposer = ClaudeProposer(workspace, attempts=3, budget=Budget(usd=0.004))
    first, second = proposer.propose(2, HISTORY)
    assert first.cost["usd"] < 0.004
    assert "of 0.004 dollars" in second.error


@pytest.mark.slow
def test_authentication_failure(server: ScriptedServer, workspace: Workspace) -> None:
    server.plan = lambda asked: "401"
    with pytest.raises(ProposerError, match=r"cannot propose anything: .*401"):
        list(ClaudeProposer(workspace).propose(1, HISTORY))


@pytest.mark.slow
def test_time_limit(server: ScriptedServer, workspace: Workspace) -> None:
    server.messages = Model([write(workspace.folder, "controller.py")])
    server.plan = lambda asked: "stall" if "messages" in asked.path else None
    (proposal,) = ClaudeProposer(workspace, time_limit=4).propose(1, HISTORY)
    assert proposal.error == "the command was ended after 4 s"


def test_invalid_executable(workspace: Workspace, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho what\nexit 3\n")
    other.chmod(0o755)
    (proposal,) = ClaudeProposer(workspace, cli=other).propose(1, HISTORY)
    assert "the command failed with status 1" in proposal.error
    with pytest.raises(ProposerError, match=r"executable .*none does not exist"):
        ClaudeProposer(workspace, cli=tmp_path / "none")


def test_sdk_not_installed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "claude_agent_sdk" else find(name)
    )
    with pytest.raises(ProposerError, match=r"pip install 'autotts-gym\[claude\]'"):
        ClaudeProposer(workspace)


@pytest.mark.parametrize(
    ("tool", "given", "allowed"),
    [
        ("Read", {"file_path": "history/1-1/feedback.md"}, True),
        ("Read", {"file_path": "../x"}, False),
        ("Read", {"file_path": "/etc/hostname"}, False),
        ("Read", {"file_path": "out/x"}, False),  # a symbolic link to a folder outside
        ("Grep", {"pattern": "a/../b"}, True),
        ("Grep", {"pattern": "a", "glob": "../*"}, False),
        ("Glob", {"pattern": "/etc/*"}, False),
        ("Glob", {"pattern": "~/*"}, False),
        ("Edit", {"file_path": "./controller.py"}, True),
        ("Write", {"file_path": "history/controller.py"}, False),
        ("Write", {}, False),
        ("Bash", {"command": f" {EVALUATION}\n"}, True),
        ("Bash", {"command": EVALUATION, "run_in_background": True}, False),
        ("Bash", {"command": f"{EVALUATION} && id"}, False),
        ("WebFetch", {"url": "http://a"}, False),
    ],
)
def test_denial_reason(tool: str, given: dict[str, Any], allowed: bool, tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/etc")
    reason = denial_reason(tool, given, tmp_path, EVALUATION)
    assert (reason == "") == allowed
    assert denial_reason("Bash", {"command": ""}, tmp_path, "") == "Bash may not be used here"


def test_sdk_options(tmp_path: Path) -> None:
    made = sdk_options(Session(usd=2.0, max_turns=7, model="m"), tmp_path, 0.5)
    assert (made.max_budget_usd, made.max_turns, made.model) == (0.5, 7, "m")
    assert made.tools == ["Read", "Grep", "Glob", "Edit", "Write"]
    assert (made.setting_sources, made.permission_mode) == ([], "dontAsk")
    assert sdk_options(Session(evaluation="x"), tmp_path).max_budget_usd is None


def test_arguments_out_of_range(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="max_turns must be"):
        ClaudeProposer(workspace, max_turns=0)
    with pytest.raises(ValueError, match="usd must be"):
        ClaudeProposer(workspace, usd=0)


@pytest.mark.parametrize(
    ("evaluation", "allowed"),
    [
        ("autotts benchmark ./controller.py --seeds 0", False),
        ("cd . && autotts benchmark controller.py", False),
        ("python -m autotts_gym play controller.py", False),
        ("autotts benchmark controller.py --untrusted --seeds 0", True),
        ("autotts judge controller.py", True),
    ],
)
def test_an_evaluation_outside_a_sandbox_is_refused(
    tmp_path: Path, evaluation: str, allowed: bool
) -> None:
    workspace = Workspace(tmp_path / "work", evaluation=evaluation)
    if allowed:
        ClaudeProposer(workspace)
    else:
        with pytest.raises(ValueError, match="outside a sandbox: add --untrusted"):
            ClaudeProposer(workspace)


def test_the_documented_example_is_safe() -> None:
    text = (Path(__file__).parents[3] / "docs/proposers.md").read_text("utf-8")
    (evaluation,) = re.findall(r"^evaluation = '(.*)'$", text, re.MULTILINE)
    words = shlex.split(evaluation)
    assert words[:2] == ["env", "-i"]
    assert "--untrusted" in words
