"""Many requests: the queue, clients that go away, deadlines, keys, the log and the end."""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import json
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from running_gateway import PATIENCE, Gateway, running, wait_until
from scripted_server import ScriptedServer

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.deployment.solver import Solution, SolveThread
from autotts_gym.gateway.answering import RunningEpisode
from autotts_gym.gateway.episode_plan import EpisodePlan
from autotts_gym.gateway.gateway_settings import GatewaySettings
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv
from autotts_gym.live.live_branches import LiveBranches

Settings = Callable[..., GatewaySettings]
EPISODE_TYPES = (
    AskedQuestion,
    EpisodePlan,
    RunningEpisode,
    SolveThread,
    Solution,
    AutoTTSLiveEnv,
    LiveBranches,
)
ENDLESS = {"model": "scripted:self_consistency", "max_tokens": 5000}


def test_concurrent_requests(gateway: Gateway) -> None:
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        replies = list(pool.map(lambda k: gateway.chat(f"plain {k}", seed=k), range(16)))
    assert [reply.status_code for reply in replies] == [200] * 16
    assert len({reply.json()["id"] for reply in replies}) == 16
    alone = gateway.chat("plain 11", seed=11).json()
    assert replies[11].json()["autotts"]["answer"] == alone["autotts"]["answer"]


def test_a_full_queue_refuses(server: ScriptedServer, settings: Settings) -> None:
    server.pace = 0.05
    limits = {"concurrency": 1, "queue": 1, "max_tokens": 5000, "max_branches": 1}
    with contextlib.ExitStack() as stack:
        gateway = stack.enter_context(running(settings(server.url, **limits)))
        clients = [
            stack.enter_context(httpx.Client(base_url=gateway.url, timeout=60)) for _ in range(2)
        ]
        body = {**ENDLESS, "stream": True, "messages": [{"role": "user", "content": "never 1"}]}
        with clients[0].stream("POST", "/chat/completions", json=body):
            assert wait_until(lambda: gateway.metric("autotts_running_requests") == 1)
            waiting = threading.Thread(
                target=lambda: clients[1].post(
                    "/chat/completions",
                    json={**body, "stream": False, "autotts": {"timeout": 30}},
                )
            )
            waiting.start()
            assert wait_until(lambda: gateway.metric("autotts_queued_requests") == 1)
            response = gateway.chat("plain 1")
            assert response.status_code == 429
            assert 1 <= int(response.headers["retry-after"]) <= 60
            error = response.json()["error"]
            assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
            busy = gateway.metric("autotts_requests_total", controller="cmc", outcome="busy")
            assert busy == 1
            server.pace = 0.0
        waiting.join(60)
        assert not waiting.is_alive()
        response = gateway.chat("plain 1")
        assert response.status_code == 200, response.text


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_aborts_its_branches(
    server: ScriptedServer, settings: Settings, stream: bool, logged: Callable[[], list[Any]]
) -> None:
    """While the controller waits for a probe, which would take minutes."""
    server.pace = 0.2
    with running(settings(server.url, max_tokens=5000, interval=4000)) as gateway:
        message = {"role": "user", "content": "never 1"}
        body = {**ENDLESS, "stream": stream, "messages": [message]}
        client = httpx.Client(base_url=gateway.url, timeout=httpx.Timeout(10, read=1.0))
        if stream:
            with client.stream("POST", "/chat/completions", json=body):
                # The first token of each branch was sent.
                assert wait_until(lambda: sum(server.paid.values()) > 4)
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post("/chat/completions", json=body)
        client.close()
        assert wait_until(lambda: server.under_way == 0)
        assert server.left == 4
        assert wait_until(lambda: gateway.metric("autotts_running_requests") == 0)
        cancelled = gateway.metric(
            "autotts_requests_total", controller="self_consistency", outcome="cancelled"
        )
        assert cancelled == 1
    request = next(entry.facts for entry in logged() if entry.event == "request")
    assert request["status"] == 499
    assert request["generated_tokens"] > 0


def test_a_timeout_gives_the_best_answer(server: ScriptedServer, settings: Settings) -> None:
    server.pace = 0.01
    with running(settings(server.url, max_tokens=5000)) as gateway:
        for timeout in (1.0, 5.0, 25.0):  # a busy machine takes a while for the first answer
            options = {"timeout": timeout}
            reply = gateway.chat("never 1", model="scripted:cmc@1", autotts=options)
            if reply.status_code == 200:
                break
        assert reply.status_code == 200, reply.text
        assert reply.json()["autotts"]["timed_out"]
        assert reply.json()["choices"][0]["finish_reason"] == "length"
        server.pace = 5.0
        reply = gateway.chat("never 1", autotts={"timeout": 0.2})
        assert reply.status_code == 504
        assert reply.json()["error"]["code"] == "timeout"
        reply = gateway.chat("never 1", autotts={"timeout": 0.2}, stream=True)
        assert reply.status_code == 200  # the stream has begun
        assert '"code":"timeout"' in reply.text


def test_a_controller_that_computes_does_not_stall_others(
    server: ScriptedServer, settings: Settings, tmp_path: Path
) -> None:
    slow = tmp_path / "slow.py"
    begun, release = tmp_path / "begun", tmp_path / "release"
    slow.write_text(
        "import pathlib\n"
        "def solve(episode):\n"
        "    i = episode.branch()\n"
        "    episode.probe(i)\n"
        "    if episode.interval == 8:\n"
        f"        pathlib.Path({str(begun)!r}).touch()\n"
        f"        while not pathlib.Path({str(release)!r}).exists():\n"
        "            pass\n"
        "    episode.answer(i)\n"
    )
    chosen = {"controllers": ("cmc", str(slow))}
    with running(settings(server.url, **chosen)) as gateway:
        assert "scripted:slow" in gateway.client.get("/models").text
        # It answers after its timeout, when the client has its error already.
        timeout = {"timeout": 0.5}
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            late = pool.submit(gateway.chat, "plain 1", model="scripted:slow", autotts=timeout)
            assert wait_until(lambda: begun.exists() or late.done())
            assert gateway.chat("plain 1").status_code == 200
            assert late.result(60).status_code == 504
        if begun.exists():
            assert gateway.metric("autotts_running_requests") == 1
        release.touch()
        assert wait_until(lambda: gateway.metric("autotts_running_requests") == 0)
        assert gateway.chat("plain 1", model="scripted:slow").status_code == 200


def test_a_controller_that_fails(
    server: ScriptedServer, settings: Settings, tmp_path: Path, logged: Callable[[], list[Any]]
) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(
        "def solve(episode):\n"
        "    i = episode.branch()\n"
        "    episode.probe(i)\n"
        "    if episode.interval == 8:\n"
        "        raise RuntimeError('a detail')\n"
        "    episode.answer(i)\n"
    )
    with running(settings(server.url, controllers=(str(broken),))) as gateway:
        response = gateway.chat("plain 1")
    assert response.status_code == 500
    assert "broken failed (RuntimeError)" in response.json()["error"]["message"]
    assert "a detail" not in response.text
    assert "a detail" in str([entry.facts for entry in logged()])


# --- keys and the log ----------------------------------------------------------------------------


def test_keys(
    settings: Settings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[[], list[Any]],
) -> None:
    monkeypatch.setenv("UPSTREAM_KEY", "upstream-secret-1")
    monkeypatch.setenv("AUTOTTS_API_KEY", "client-secret-1, client-secret-2")
    keys = tmp_path / "keys"
    keys.write_text("# a comment\nclient-secret-3\n")
    changes = {"upstream_key_envs": ("UPSTREAM_KEY",), "api_key_file": str(keys)}
    with (
        ScriptedServer(api_key="upstream-secret-1") as server,
        running(settings(server.url, **changes)) as gateway,
    ):
        for shown in ("", "Bearer wrong", "Basic client-secret-1", "client-secret-1", "Bearer"):
            headers = {"Authorization": shown} if shown else {}
            response = gateway.client.get("/models", headers=headers)
            assert response.status_code == 401
            assert response.json()["error"]["code"] == "invalid_api_key"
        for key in ("client-secret-1", "client-secret-2", "client-secret-3"):
            gateway.client.headers["Authorization"] = f"Bearer {key}"
            assert gateway.chat("plain 1").status_code == 200
        assert server.headers["authorization"] == "Bearer upstream-secret-1"
        health = httpx.get(gateway.url.removesuffix("/v1") + "/health", timeout=PATIENCE)
        assert health.json() == {"status": "ok", "upstreams": 1, "upstreams_up": 1}
    assert "secret" not in json.dumps([entry.facts for entry in logged()])


def test_missing_keys(settings: Settings, tmp_path: Path) -> None:
    made = settings("http://127.0.0.1:1/v1", upstream_key_envs=("NO_SUCH_VARIABLE",))
    with pytest.raises(ValueError, match="NO_SUCH_VARIABLE"):
        made.upstream_headers({})
    (tmp_path / "empty").write_text("\n")
    made = settings("http://127.0.0.1:1/v1", api_key_file=str(tmp_path / "empty"))
    with pytest.raises(ValueError, match="holds no key"):
        made.client_keys({})


def test_one_line_for_each_request(gateway: Gateway, logged: Callable[[], list[Any]]) -> None:
    reply = gateway.chat("plain 9", model="scripted:cmc@0.25").json()
    assert gateway.chat("plain 9", n=3).status_code == 400
    answered, refused = [e for e in logged() if e.event in ("request", "refused")]
    expected = {
        "request_id": reply["id"].removeprefix("chatcmpl-"),
        "model": "scripted:cmc@0.25",
        "controller": "cmc",
        "beta": 0.25,
        "status": 200,
        "outcome": "answered",
        "tokens": reply["autotts"]["tokens"],
        "probes": reply["autotts"]["probes"],
    }
    assert expected.items() <= answered.facts.items()
    assert "plain 9" not in json.dumps(answered.facts)
    assert refused.facts["status"] == 400


# --- the end -------------------------------------------------------------------------------------


def test_running_requests_end_before_the_shutdown(
    server: ScriptedServer, settings: Settings
) -> None:
    server.pace = 0.05
    replies: list[httpx.Response] = []
    with running(settings(server.url, concurrency=1)) as gateway:
        threads = [
            threading.Thread(target=lambda k=k: replies.append(gateway.chat(f"plain {k}")))  # type: ignore[misc]
            for k in range(2)  # one of them waits in the queue
        ]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: server.under_way > 0)
        gateway.server.should_exit = True
        for thread in threads:
            thread.join(60)
        gateway.thread.join(60)
        assert not gateway.thread.is_alive()
    assert [reply.status_code for reply in replies] == [200, 200]


@pytest.mark.parametrize("controller", ["self_consistency", "cmc"])
@pytest.mark.parametrize("stream", [False, True])
def test_requests_leave_nothing_to_a_garbage_collection(
    gateway: Gateway, controller: str, stream: bool
) -> None:
    """It would stop all other requests."""

    def remaining() -> Counter[str]:
        # The objects of an episode. What is cancelled, such as a pruned branch, may leave frames.
        counts = Counter(map(type, gc.get_objects()))
        return Counter({kind.__name__: counts[kind] for kind in EPISODE_TYPES})

    def ask(seed: int) -> int:
        model = f"scripted:{controller}"
        return gateway.chat("plain 1", model=model, stream=stream, seed=seed).status_code

    assert ask(0) == 200
    gc.collect()
    before = remaining()
    gc.disable()
    try:
        assert {ask(seed) for seed in range(1, 9)} == {200}
        # The last request is recorded after its reply.
        assert wait_until(lambda: remaining() <= before), remaining() - before
    finally:
        gc.enable()
