"""Upstreams: several, failing ones, and requests that are passed through."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_gateway import running, wait_until
from scripted_server import PROTOCOL, ScriptedServer
from text_server import TextServer

from autotts_gym.controllers.errors import AgentError
from autotts_gym.gateway.gateway_app import create_app
from autotts_gym.gateway.gateway_settings import GatewaySettings

Settings = Callable[..., GatewaySettings]


@pytest.fixture
def second() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


def test_the_branches_of_a_dead_upstream_go_on_elsewhere(
    server: ScriptedServer, second: ScriptedServer, settings: Settings
) -> None:
    """They are continued from their last token: none is generated twice, but for those lost."""
    alone = settings(second.url, max_branches=4)
    with running(alone) as gateway:
        expected = gateway.chat("plain 21", model="scripted:self_consistency").json()
    before = second.paid.copy()

    server.pace = second.pace = 0.1
    with running(settings(server.url, second.url)) as gateway, ThreadPoolExecutor(1) as pool:
        asking = pool.submit(gateway.chat, "plain 21", model="scripted:self_consistency")
        assert wait_until(lambda: sum(server.paid.values()) > 10)
        server.die()
        second.pace = 0.0
        reply = asking.result(60)
        assert reply.status_code == 200, reply.text
        assert wait_until(lambda: gateway.metric("autotts_upstream_up", upstream=server.url) == 0.0)
        assert gateway.metric("autotts_upstream_up", upstream=second.url) == 1.0
        health = gateway.client.get(gateway.url.removesuffix("/v1") + "/health")
        assert health.json()["upstreams_up"] == 1
        assert gateway.chat("plain 22").status_code == 200
    assert reply.json()["autotts"]["answer"] == expected["autotts"]["answer"]
    assert reply.json()["choices"][0]["message"] == expected["choices"][0]["message"]
    assert server.paid
    assert second.paid != before


def test_without_upstreams(server: ScriptedServer, settings: Settings) -> None:
    with running(settings(server.url, patience=0.5)) as gateway:
        server.die()
        response = gateway.chat("plain 1")
        assert response.status_code == 502
        assert response.json()["error"]["type"] == "server_error"
        assert server.url not in response.text
        url = gateway.url.removesuffix("/v1") + "/health"
        assert wait_until(lambda: gateway.client.get(url).status_code == 503)
        response = gateway.chat("plain 1", autotts={"timeout": 0.3})
        assert response.status_code in (502, 504)


@pytest.mark.parametrize("fault", ["429", "503", "drop", "drop-mid", "error-chunk"])
def test_temporary_failures_are_retried(
    server: ScriptedServer, settings: Settings, fault: str
) -> None:
    faults = iter([fault] * 3)
    server.plan = lambda asked: next(faults, None) if asked.kind == "trace" else None
    with running(settings(server.url)) as gateway:
        response = gateway.chat("plain 1")
        assert response.status_code == 200, response.text
        assert response.json()["autotts"]["error"] == ""
        assert wait_until(lambda: gateway.metric("autotts_upstream_retries_total") >= 3)


def test_a_prompt_that_is_too_long(settings: Settings) -> None:
    with (
        ScriptedServer(longest=100) as server,
        running(settings(server.url, max_tokens=50)) as gateway,
    ):
        response = gateway.chat("plain " + "1" * 200)
    assert response.status_code == 400
    assert response.json()["error"]["code"] == "context_length_exceeded"


# --- other upstreams -----------------------------------------------------------------------------


def test_conversations_and_chats_that_cannot_be_continued(
    settings: Settings, tmp_path: Path
) -> None:
    """System prompts, earlier messages and text in parts come to the server unchanged."""
    content = {**PROTOCOL, "prompt": {"messages": [{"role": "user", "content": "{question}"}]}}
    protocol = tmp_path / "chat.yaml"
    protocol.write_text(json.dumps(content))
    history = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "plain"},
        {"role": "assistant", "content": "1", "reasoning_content": "as it was"},
    ]
    changes = {"api": "whole-chat", "interval": None, "protocols": (str(protocol),)}
    with TextServer() as server:
        server.whole, server.top_tokens = True, 20
        with running(settings(server.url, **changes)) as gateway:
            assert "self_consistency" in gateway.client.get("/models").text
            last = {"role": "user", "content": [{"type": "text", "text": " 5"}]}
            response = gateway.chat("", messages=[*history, last])
        assert response.status_code == 200, response.text
        sent = [{k: v for k, v in m.items() if k != "reasoning_content"} for m in history]
        assert server.bodies[0]["messages"] == [*sent, {"role": "user", "content": " 5"}]
        assert len(server.bodies) == 4
        message = response.json()["choices"][0]["message"]
        assert message["content"].startswith("answer:")
        assert message["reasoning_content"]
        inside = settings(server.url, controllers=("cmc", "asc"), **changes)
        with pytest.raises(AgentError, match=r"cmc: probes .* whole branches: asc, .*esc"):
            create_app(inside)


# --- requests that are passed through ------------------------------------------------------------


def test_the_protocol_none_passes_requests_through(
    server: ScriptedServer, settings: Settings
) -> None:
    answer = {"choices": [{"message": {"content": "Once"}}], "usage": {"total_tokens": 3}}
    server.chat = lambda asked: answer
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
        "tools": [{"type": "function"}],
        "n": 2,
        "surprise": {"a": [1, 2.5, None]},
    }
    with running(settings(server.url, served_model="mine")) as gateway:
        body = {**fields, "model": "mine", "autotts": {"protocol": "none"}}
        response = gateway.client.post("/chat/completions", json=body)
        passed = gateway.metric("autotts_requests_total", controller="none", outcome="passed")
    assert response.status_code == 200
    assert response.headers["x-autotts-protocol"] == "none"
    assert response.json() == answer
    assert server.asked[-1].path == "/v1/chat/completions" or passed
    sent = next(a.body for a in reversed(server.asked) if a.path == "/v1/chat/completions")
    assert sent == {**fields, "model": "scripted"}
    assert passed == 1


def test_numbers_that_json_does_not_have_are_not_passed_through(
    server: ScriptedServer, settings: Settings
) -> None:
    with running(settings(server.url)) as gateway:
        body = '{"model": "scripted", "messages": [{"role": "user", "content": "x"}], "a": NaN, '
        body += '"autotts": {"protocol": "none"}}'
        headers = {"Content-Type": "application/json"}
        response = gateway.client.post("/chat/completions", content=body, headers=headers)
    assert response.status_code == 400
    assert "not valid JSON" in response.json()["error"]["message"]


def test_none_as_the_default_protocol(server: ScriptedServer, settings: Settings) -> None:
    with running(settings(server.url, protocols=("none",))) as gateway:
        prompt = [ord(letter) for letter in "q:plain 1\n"]
        body = {
            "model": "scripted",
            "prompt": prompt,
            "max_tokens": 5,
            "temperature": 0,
            "stream": True,
        }
        with gateway.client.stream("POST", "/completions", json=body) as response:
            assert response.headers["content-type"] == "text/event-stream"
            lines = [line for line in response.iter_lines() if line]
    assert lines[-1] == "data: [DONE]"
    tokens = [json.loads(x[6:])["choices"][0]["token_ids"] for x in lines[:-1]]
    assert sum(map(len, tokens)) == 5


def test_passing_through_tries_other_upstreams(
    server: ScriptedServer, second: ScriptedServer, settings: Settings
) -> None:
    second.chat = lambda asked: {"choices": []}
    with running(settings(server.url, second.url, protocols=("none",))) as gateway:
        server.die()
        replies = [gateway.chat("hello") for _ in range(3)]
        assert [reply.status_code for reply in replies] == [200] * 3
        second.plan = lambda asked: "503" if asked.path == "/v1/chat/completions" else None
        refused = gateway.chat("hello", autotts={"timeout": 1.5})
        assert refused.status_code in (502, 503)


def test_a_client_that_leaves_ends_what_is_passed_through(
    server: ScriptedServer, settings: Settings
) -> None:
    server.pace = 0.2
    with running(settings(server.url, protocols=("none",))) as gateway:
        prompt = [ord(letter) for letter in "q:never 1\n"]
        body = {"model": "scripted", "prompt": prompt, "max_tokens": 5000, "temperature": 0}
        client = httpx.Client(base_url=gateway.url, timeout=10)
        with client.stream("POST", "/completions", json={**body, "stream": True}):
            assert wait_until(lambda: server.under_way == 1)
        client.close()
        assert wait_until(lambda: server.under_way == 0)
    assert server.left == 1
