"""Tests of the chat proposer: requests, failures, costs and budgets."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from proposals import BETTER, HISTORY, WORSE
from scripted_server import Asked, ScriptedServer

from autotts_gym.discovery.proposal import ProposerError
from autotts_gym.discovery.proposers.budget import Budget
from autotts_gym.discovery.proposers.openai_chat import ChatProposer
from autotts_gym.discovery.proposers.response_cache import ResponseCache
from autotts_gym.discovery.workspace import Workspace
from autotts_gym.inference import request_retries

NEW = BETTER.replace("8", "9")
WHOLE = f"It waits.\n```python\n{NEW}```"
CHANGE = """<<<<<<< SEARCH
    read(episode, 0, 2 + int(8 * beta))
=======
    read(episode, 0, 2 + int(9 * beta))
>>>>>>> REPLACE
"""
PRICED = Budget(prompt_usd=1.0, completion_usd=10.0)


def answer(text: Any, finish: str = "stop", **message: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, **message}
    usage = {"prompt_tokens": 1000, "completion_tokens": 500}
    return {"choices": [{"message": message, "finish_reason": finish}], "usage": usage}


class Model:
    """Gives the responses in order, and repeats the last one."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), list[dict[str, Any]]()

    def __call__(self, asked: Asked) -> Any:
        self.asked.append(asked.body)
        return self.answers[min(len(self.asked), len(self.answers)) - 1]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_retries, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(request_retries, "_LONGEST_PAUSE", 0.02)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as made:
        yield made


Made = Callable[..., ChatProposer]


@pytest.fixture
def proposer(server: ScriptedServer, tmp_path: Path) -> Made:
    def make(**options: Any) -> ChatProposer:
        workspace = options.pop("workspace", Workspace(tmp_path))
        return ChatProposer(server.url, "scripted", workspace, **options)

    return make


@pytest.mark.parametrize("text", [WHOLE, CHANGE, [{"type": "text", "text": WHOLE}]])
def test_proposal(server: ScriptedServer, proposer: Made, text: Any) -> None:
    server.chat = model = Model(answer(text))
    (proposal,) = proposer(budget=PRICED, options={"temperature": 0.5}).propose(2, HISTORY)
    assert (proposal.name, proposal.source, proposal.error) == ("2-1", NEW, "")
    assert (proposal.origin, proposal.parents) == ("scripted", ("1-1", "1-2"))
    assert proposal.cost == {"prompt_tokens": 1000, "completion_tokens": 500, "usd": 0.006}
    (asked,) = model.asked
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("scripted", 0.5, 16384)
    system, user = (message["content"] for message in asked["messages"])
    assert "`episode.branch() -> int`" in system
    assert BETTER.rstrip() in user
    assert WORSE.rstrip() in user
    assert "It waits too long." in user
    assert "β spans 1.0 times" in user
    assert "| 0-few | seed |" in user


def test_options_of_the_workspace_and_empty_history(
    server: ScriptedServer, proposer: Made, tmp_path: Path
) -> None:
    server.chat = model = Model(answer(WHOLE))
    workspace = Workspace(tmp_path, diagnostics=False, knob=False)
    list(proposer(workspace=workspace).propose(1, []))
    list(proposer(workspace=workspace).propose(2, HISTORY))
    first, second = (json.dumps(asked, ensure_ascii=False) for asked in model.asked)
    assert "No program has been evaluated so far" in first
    assert "One knob" not in first
    assert "It waits too long" not in second


@pytest.mark.parametrize("fault", ["429", "503", "drop", "not-json", "stall"])
def test_temporary_failures_are_retried(server: ScriptedServer, proposer: Made, fault: str) -> None:
    server.chat = Model(answer(WHOLE))
    server.plan = lambda asked: fault if asked.number < 2 else None
    (proposal,) = proposer(stall=0.3).propose(2, HISTORY)
    assert proposal.source == NEW
    assert server.faults[fault] == 2
    assert proposal.cost["prompt_tokens"] == 1000


def test_permanent_server_failure(server: ScriptedServer, proposer: Made) -> None:
    server.chat = Model({"choices": []})
    (proposal,) = proposer(patience=0.1).propose(2, HISTORY)
    assert "answered no message" in proposal.error
    assert (proposal.source, proposal.cost) == ("", {})


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (answer("I'd rather not."), "neither a program nor changes"),
        (answer(f"```python\n{NEW}"), "is not closed"),
        (answer(WHOLE, "length"), "cut off"),
        (answer(None, refusal="No."), "the model refused: No."),
        (answer("", "content_filter"), "the model refused: filtered"),
        (answer(None), "is empty"),
        (answer(CHANGE.replace("8 *", "7 *")), "does not occur in the program"),
    ],
)
def test_response_without_a_program_is_retried_once(
    server: ScriptedServer, proposer: Made, bad: Any, reason: str
) -> None:
    server.chat = model = Model(bad, answer(WHOLE), bad)
    first, second = proposer(attempts=2).propose(2, HISTORY)
    assert (first.source, first.error) == (NEW, "")
    assert first.cost["completion_tokens"] == 1000
    assert second.source == ""
    assert reason in second.error
    assert len(model.asked) == 4
    assert reason in model.asked[1]["messages"][-1]["content"]


@pytest.mark.parametrize("status", ["401", "402", "403", "404"])
def test_status_that_ends_the_search(server: ScriptedServer, proposer: Made, status: str) -> None:
    server.plan = lambda asked: status
    with pytest.raises(ProposerError, match=f"status {status}"):
        list(proposer().propose(2, HISTORY))


def test_status_that_fails_one_proposal(server: ScriptedServer, proposer: Made) -> None:
    server.plan = lambda asked: "400"
    (proposal,) = proposer().propose(2, HISTORY)
    assert "status 400" in proposal.error


def test_api_key_is_sent_but_not_written(
    server: ScriptedServer, proposer: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret-key")
    server.api_key = "secret-key"
    server.chat = Model(answer(WHOLE))
    assert [p.source for p in proposer().propose(2, HISTORY)] == [NEW]
    server.chat = Model({"error": {"message": "what is secret-key?"}})
    (proposal,) = proposer(patience=0.05).propose(3, HISTORY)
    assert "what is ***?" in proposal.error
    assert not any(b"secret-key" in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    with pytest.raises(ProposerError, match="status 401"):
        list(proposer(api_key="another").propose(4, HISTORY))


def test_newer_name_of_the_token_limit(server: ScriptedServer, proposer: Made) -> None:
    def chat(asked: Asked) -> Any:
        return answer(WHOLE)

    server.chat = chat
    server.plan = lambda asked: "400" if "max_tokens" in asked.body else None
    (proposal,) = proposer().propose(2, HISTORY)
    assert "status 400" in proposal.error  # the message does not name the field
    server.refusal = "'max_tokens' is not supported; use 'max_completion_tokens'"
    (proposal,) = proposer().propose(3, HISTORY)
    assert proposal.source == NEW


def test_cached_responses_are_not_requested_again(
    server: ScriptedServer, proposer: Made, tmp_path: Path
) -> None:
    """Interrupted after a response without a program, and after one that was not recorded."""
    server.chat = model = Model(answer("no"), answer(WHOLE))
    (whole,) = proposer().propose(2, HISTORY)
    cache = ResponseCache(tmp_path / "answers")
    cached = cache.read("2-1")
    cache.write("2-1", {"answers": cached["answers"][:1]}, cached["answers"][0]["cost"])
    assert [*proposer().propose(2, HISTORY)] == [whole]
    assert len(model.asked) == 3
    assert model.asked[2] == model.asked[1]
    assert [*proposer().propose(2, HISTORY)] == [whole]
    assert [*proposer(recorded={"2-1"}).propose(2, HISTORY)] == []
    assert len(model.asked) == 3
    assert cache.total_cost() == whole.cost


@pytest.mark.parametrize(
    ("budget", "message"),
    [
        (Budget(tokens=1500), "1,500 of 1,500 tokens"),
        (Budget(usd=0.006, prompt_usd=1.0, completion_usd=10.0), "0.0060 of 0.006 dollars"),
        (Budget(usd=0.007, prompt_usd=1.0, completion_usd=10.0), "completion tokens are left"),
        (Budget(tokens=3600), "completion tokens are left"),
    ],
)
def test_exhausted_budget(
    server: ScriptedServer, proposer: Made, budget: Budget, message: str, tmp_path: Path
) -> None:
    server.chat = model = Model(answer(WHOLE))
    workspace = Workspace(tmp_path)
    ResponseCache(workspace.folder / "answers").write(
        "1-1", {}, {"prompt_tokens": 1000.0, "completion_tokens": 500.0, "usd": 0.006}
    )
    proposals = list(proposer(attempts=3, budget=budget).propose(2, HISTORY))
    assert [p.name for p in proposals] == ["2-1"]
    assert message in proposals[0].error
    assert not model.asked


def test_budget_limits_completion_tokens(server: ScriptedServer, proposer: Made) -> None:
    server.chat = model = Model({**answer("no"), "usage": None})
    (proposal,) = proposer(budget=Budget(tokens=5000)).propose(2, HISTORY)
    size = proposal.cost["prompt_tokens"]  # an estimate, since the server reports no usage
    assert model.asked[0]["max_tokens"] == 5000 - size
    assert len(model.asked) == 1
    assert "then the budget is exhausted" in proposal.error


def test_arguments_out_of_range(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for url, options, reason in [
        ("nowhere", {}, "is not a base URL"),
        ("http://a/v1", {"attempts": 0}, "attempts must"),
        ("http://a/v1", {"max_tokens": 3}, "max_tokens must"),
        ("http://a/v1", {"stall": 0}, "stall must"),
        ("http://a/v1", {"budget": Budget(usd=1.0)}, "needs prices"),
    ]:
        with pytest.raises(ValueError, match=reason):
            ChatProposer(url, "model", workspace, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tokens must be at least 0"):
        Budget(tokens=-1)


@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_model_without_chat_template(vllm_url: str, tmp_path: Path) -> None:
    """vLLM rejects the requests: the error is recorded, and the search continues."""
    proposer = ChatProposer(vllm_url, "tinylm-medium", Workspace(tmp_path), attempts=2)
    proposals = list(proposer.propose(1, HISTORY))
    assert [proposal.name for proposal in proposals] == ["1-1", "1-2"]
    for proposal in proposals:
        assert not proposal.source
        assert "400" in proposal.error
