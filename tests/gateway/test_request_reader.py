"""Requests: what is refused, and how, and what is read from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from running_gateway import Gateway
from scripted_server import ScriptedServer

USER = {"role": "user", "content": "plain 1"}


@pytest.mark.parametrize(
    ("fields", "param", "message"),
    [
        ({"n": 2}, "n", "cannot be honoured"),
        ({"tools": [{"type": "function"}]}, "tools", "cannot be honoured"),
        ({"tool_choice": "required"}, "tool_choice", "cannot be honoured"),
        ({"response_format": {"type": "json_object"}}, "response_format", "cannot be honoured"),
        ({"logprobs": True}, "logprobs", "cannot be honoured"),
        ({"stop": ["x"]}, "stop", "cannot be honoured"),
        ({"presence_penalty": 0.5}, "presence_penalty", "cannot be honoured"),
        ({"reasoning_effort": "high"}, "reasoning_effort", "unknown field"),
        ({"surprise": 1}, "surprise", "unknown field"),
        ({"temperature": 3}, "temperature", "less than or equal to 2"),
        ({"temperature": "0.5"}, "temperature", "valid number"),
        ({"temperature": float("nan")}, "temperature", "finite number"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        ({"max_tokens": 1.5}, "max_tokens", "valid integer"),
        ({"seed": 2**70}, "seed", "less than"),
        ({"stream": "yes"}, "stream", "valid boolean"),
        ({"messages": []}, "messages", "at least 1 item"),
        ({"messages": "hello"}, "messages", "valid list"),
        ({"messages": [USER] * 1025}, "messages", "at most 1024"),
        ({"messages": [{"role": "user", "content": " "}]}, "messages", "question is empty"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "content is missing"),
        ({"messages": [{"role": "tool", "content": "1"}]}, "messages[0].role", "role must be"),
        ({"messages": [{"role": "user", "content": "\udc80"}]}, "messages", "not valid Unicode"),
        (
            {"messages": [USER, {"role": "assistant", "content": "x"}]},
            "messages",
            "the last message must be the user's",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "messages[0].content[0]",
            "only parts of text",
        ),
        ({"messages": [{**USER, "name": "Ada"}]}, "messages[0].name", "cannot be honoured"),
        (
            {"messages": [{"role": "system", "content": "Be brief."}, USER]},
            "messages",
            "takes one question",
        ),
        ({"model": "scripted:nothing"}, "model", "there are cmc, self_consistency"),
        ({"model": "scripted:../../etc/passwd"}, "model", "there are cmc, self_consistency"),
        ({"model": "scripted:cmc@2"}, "model", "β, behind @"),
        ({"model": "scripted:cmc@nan"}, "model", "β, behind @"),
        ({"model": "scripted:cmc@0.9"}, "model", "at most 0.8 is allowed"),
        ({"autotts": {"controller": "no"}}, "autotts.controller", "there are cmc"),
        ({"autotts": {"beta": 1.5}}, "autotts.beta", "less than or equal to 1"),
        ({"autotts": {"beta": 0.9}}, "autotts.beta", "at most 0.8 is allowed"),
        ({"autotts": {"beta": True}}, "autotts.beta", "valid number"),
        ({"autotts": {"token_budget": 60_000}}, "autotts.token_budget", "at most 50000"),
        ({"autotts": {"token_budget": 5}}, "autotts.token_budget", "one interval of 8 tokens"),
        ({"autotts": {"timeout": 400}}, "autotts.timeout", "at most 300 s"),
        ({"autotts": {"timeout": 0}}, "autotts.timeout", "greater than 0"),
        ({"autotts": {"protocol": "/etc/passwd"}}, "autotts.protocol", "there are scripted, none"),
        ({"autotts": {"path": "x"}}, "autotts.path", "Extra inputs are not permitted"),
        (
            {"autotts": {"protocol": "none", "controller": "cmc"}},
            "autotts.protocol",
            "a controller needs a protocol",
        ),
        (
            {"model": "scripted:cmc", "autotts": {"controller": "self_consistency"}},
            "autotts.controller",
            "differ",
        ),
    ],
)
def test_invalid_requests_are_refused(
    gateway: Gateway, fields: dict[str, Any], param: str, message: str
) -> None:
    body = json.dumps({"model": "scripted", "messages": [USER], **fields})
    response = gateway.client.post(
        "/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["param"] == param
    assert message in error["message"]


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([1, 2], "prompt must be one text"),
        (["a", "b"], "prompt must be one text"),
        ("", "the question is empty"),
        (5, "valid string"),
    ],
)
def test_invalid_prompts_are_refused(gateway: Gateway, prompt: Any, message: str) -> None:
    response = gateway.client.post("/completions", json={"model": "scripted", "prompt": prompt})
    assert response.status_code == 400
    assert message in response.json()["error"]["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"model": "scripted", "messages": [], "\\ud800": 1}',
        b'{"model": ',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"model": 1' + b"0" * 9000,
    ],
)
def test_bodies_that_are_no_request(gateway: Gateway, body: bytes) -> None:
    response = gateway.client.post(
        "/chat/completions", content=body, headers={"Content-Type": "application/json"}
    )
    assert response.status_code == 400
    assert response.json()["error"]["type"] == "invalid_request_error"


def test_a_body_that_is_too_large(gateway: Gateway) -> None:
    question = "plain " + "x" * (1 << 20)
    response = gateway.chat(question)
    assert response.status_code == 413
    assert response.json()["error"]["code"] == "request_too_large"

    def parts() -> Any:  # without a content-length
        for _ in range(40):
            yield b"x" * (1 << 16)

    response = gateway.client.post("/chat/completions", content=parts())
    assert response.status_code == 413


def test_unknown_models_and_paths(gateway: Gateway) -> None:
    response = gateway.chat("plain 1", model="gpt-5")
    assert response.status_code == 404
    error = response.json()["error"]
    assert error["code"] == "model_not_found"
    assert "scripted:self_consistency" in error["message"]
    assert gateway.client.get("/models/gpt-5").status_code == 404
    for method, path, status in (("GET", "/nothing", 404), ("GET", "/completions", 405)):
        response = gateway.client.request(method, path)
        assert response.status_code == status
        assert response.json()["error"]["type"] == "invalid_request_error"


def test_fields_without_an_effect_are_accepted(gateway: Gateway) -> None:
    neutral = {
        "n": 1,
        "tools": [],
        "tool_choice": "auto",
        "response_format": {"type": "text"},
        "logprobs": False,
        "stop": None,
        "presence_penalty": 0,
        "logit_bias": {},
        "user": "user-17",
        "metadata": {"a": "b"},
        "store": False,
    }
    response = gateway.chat("plain 1", **neutral)
    assert response.status_code == 200, response.text


def test_a_reply_can_be_sent_back(gateway: Gateway) -> None:
    """Text in several parts, and empty fields that clients send with earlier replies."""
    parts = [{"type": "text", "text": "plain 7"}]
    message = {"role": "user", "content": parts, "refusal": None, "tool_calls": []}
    response = gateway.chat("", messages=[message])
    assert response.status_code == 200
    assert (
        response.json()["autotts"]["answer"] == gateway.chat("plain 7").json()["autotts"]["answer"]
    )


def test_ids_of_requests(gateway: Gateway, shared_server: ScriptedServer) -> None:
    body = {"model": "scripted", "messages": [USER]}
    response = gateway.client.post(
        "/chat/completions", json=body, headers={"X-Request-Id": "mine-1"}
    )
    assert response.headers["x-request-id"] == "mine-1"
    assert response.json()["id"] == "chatcmpl-mine-1"
    sent = [name for name in shared_server.request_ids if name.startswith("mine-1-")]
    assert len(sent) == len(set(sent)) > 1
    for bad in ("a b", "x" * 65, "a\tb", "é"):
        response = gateway.client.post(
            "/chat/completions", json=body, headers={"X-Request-Id": bad.encode()}
        )
        assert len(response.headers["x-request-id"]) == 32
