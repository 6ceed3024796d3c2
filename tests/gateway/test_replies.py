"""Replies: the text of the answering branch, the bill, and streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import scripted_server
from running_gateway import Gateway, running
from scripted_server import ScriptedServer

from autotts_gym.gateway.gateway_settings import GatewaySettings


def events(text: str) -> list[Any]:
    """The contents of server-sent events."""
    lines = [line for line in text.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_the_reply_is_the_text_of_the_branch(gateway: Gateway) -> None:
    response = gateway.chat("plain 1", model="scripted:self_consistency")
    assert response.status_code == 200, response.text
    assert response.headers["x-autotts-protocol"] == "scripted"
    reply = response.json()
    text = "".join(map(scripted_server.piece, scripted_server.trace("plain 1", 160)))
    reasoning, content = text.removesuffix("<end>").split("</think>")
    message = reply["choices"][0]["message"]
    assert message["reasoning_content"] == reasoning
    assert message["content"] == content
    assert reply["choices"][0]["finish_reason"] == "stop"
    answer = content.removeprefix("answer:").partition(".")[0]
    assert reply["autotts"]["answer"] == answer
    assert reply["autotts"]["votes"] == {answer: 4}
    assert reply["autotts"]["controller"] == "self_consistency"


def test_the_answer_of_a_probe_ends_the_reply(gateway: Gateway) -> None:
    """Endless branches: the answer is that of the probe that closes one."""
    reply = gateway.chat("never 1", model="scripted:self_consistency").json()
    message = reply["choices"][0]["message"]
    assert len(message["reasoning_content"]) == 160
    assert message["content"] == f"answer:{reply['autotts']['answer']}"
    assert reply["choices"][0]["finish_reason"] == "length"


def test_a_question_without_an_answer(gateway: Gateway) -> None:
    reply = gateway.chat("silent 1").json()
    assert reply["autotts"]["confidence"] == 0 or reply["autotts"]["answer"] in ("", "No")
    assert reply["choices"][0]["message"]["content"] is not None


@pytest.mark.parametrize("controller", ["cmc", "self_consistency"])
def test_usage_has_every_generated_token(
    server: ScriptedServer, settings: Callable[..., GatewaySettings], controller: str
) -> None:
    with running(settings(server.url, temperature=0.8)) as gateway:
        reply = gateway.chat("plain 3", model=f"scripted:{controller}@0.2", seed=3).json()
    usage = reply["usage"]
    paid, lost = sum(server.paid.values()), sum(server.lost.values())
    assert paid - lost <= usage["completion_tokens"] <= paid
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] == len("q:plain 3\n")
    bill = reply["autotts"]
    assert usage["completion_tokens"] == bill["generated_tokens"] + bill["probe_tokens"]


def test_savings_against_self_consistency(
    shared_server: ScriptedServer, settings: Callable[..., GatewaySettings]
) -> None:
    with running(settings(shared_server.url, reference="tinylm/medium/chain")) as gateway:
        bill = gateway.chat("plain 4").json()["autotts"]
        saved = gateway.metric("autotts_saved_tokens", controller="cmc")
    assert bill["self_consistency_tokens"] > 0
    assert bill["saved_tokens"] == bill["self_consistency_tokens"] - bill["tokens"] == saved


def test_a_stream_has_progress_and_then_the_reply(gateway: Gateway) -> None:
    whole = gateway.chat("plain 5", seed=1).json()
    options = {"stream": True, "stream_options": {"include_usage": True}}
    response = gateway.chat("plain 5", seed=1, **options)
    assert response.headers["content-type"].startswith("text/event-stream")
    chunks = events(response.text)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant"}
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks if chunk["choices"]]
    message = whole["choices"][0]["message"]
    for name in ("content", "reasoning_content"):
        assert "".join(delta.get(name, "") for delta in deltas) == message[name]
    progress = [c["autotts"]["progress"] for c in chunks if "progress" in c.get("autotts", {})]
    assert progress
    assert progress[-1].keys() == {"branches", "generated_tokens", "seconds", "votes"}
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"
    assert chunks[-2]["autotts"]["answer"] == whole["autotts"]["answer"]
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["total_tokens"] > 0


def test_completions(gateway: Gateway) -> None:
    body = {"model": "scripted", "prompt": "plain 6", "seed": 1}
    reply = gateway.client.post("/completions", json=body).json()
    assert reply["object"] == "text_completion"
    text = reply["choices"][0]["text"]
    assert text.startswith(f"answer:{reply['autotts']['answer']}")
    response = gateway.client.post("/completions", json={**body, "stream": True})
    chunks = events(response.text)
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == text
    assert all("usage" not in chunk for chunk in chunks)


def test_limits_of_a_request(gateway: Gateway, shared_server: ScriptedServer) -> None:
    reply = gateway.chat("never 2", max_tokens=24).json()
    assert len(reply["choices"][0]["message"]["reasoning_content"]) == 24
    reply = gateway.chat("never 3", autotts={"token_budget": 100, "beta": 0.1}).json()
    assert reply["autotts"]["tokens"] <= 100
    assert reply["autotts"]["beta"] == 0.1
    gateway.chat("plain 8", temperature=0.9, top_p=0.5, top_k=7, seed=5)
    body = next(a.body for a in reversed(shared_server.asked) if a.kind == "trace")
    assert (body["temperature"], body["top_p"], body["top_k"]) == (0.9, 0.5, 7)
    assert "seed" in body


def test_models(gateway: Gateway) -> None:
    names = [model["id"] for model in gateway.client.get("/models").json()["data"]]
    assert names == ["scripted", "scripted:cmc", "scripted:self_consistency"]
    card = gateway.client.get("/models/scripted:cmc").json()
    assert card["root"] == "scripted"
    assert card["max_model_len"] == 10_000
