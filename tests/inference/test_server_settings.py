"""Servers: headers, proxies, certificates, connections, slow servers and messages."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import scripted_server
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import ScriptedServer

from autotts_gym.inference import request_retries
from autotts_gym.inference.engine import EngineError, Request
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.http_headers import check_headers, is_local, parse_headers
from autotts_gym.inference.http_responses import RefusedError, TransientError, stream_error
from autotts_gym.inference.stall_time import StallTime


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_retries, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(request_retries, "_LONGEST_PAUSE", 0.02)


def run(url: str, work: Callable[[ServerEngine], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        engine = ServerEngine(url, **{"patience": 5.0, **options})
        try:
            return await work(engine)
        finally:
            await engine.close()

    return asyncio.run(main())


async def describe(engine: ServerEngine) -> Any:
    return await engine.describe()


async def generate(engine: ServerEngine, question: str = "plain 1") -> list[int]:
    asked = Request(scripted_server.encode(f"q:{question}\n"), 120)
    return [token async for part in engine.stream(asked, 20) for token in part.tokens]


# --- headers -------------------------------------------------------------------------------------


def test_headers_are_sent(server: ScriptedServer) -> None:
    run(server.url, describe, api_key="key-1234", headers={"X-Team": "blue team"})
    assert server.headers["authorization"] == "Bearer key-1234"
    assert server.headers["x-team"] == "blue team"
    run(server.url, describe, api_key="key-1234", headers={"Authorization": "Basic abcd"})
    assert server.headers["authorization"] == "Basic abcd"


@pytest.mark.parametrize("status", ["403", "500"])
def test_values_of_headers_are_hidden(server: ScriptedServer, status: str) -> None:
    server.plan = lambda _: status
    server.refusal = "no access with s3cr3t-value or key-1234"
    secrets = {"api_key": "key-1234", "headers": {"X-Token-Of-Mine": "s3cr3t-value"}}
    with pytest.raises(EngineError, match="no access with ") as failure:
        run(server.url, describe, patience=0.1, **secrets)
    assert "s3cr3t" not in str(failure.value)
    assert "key-1234" not in str(failure.value)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"X Y": "a"}, "'X Y' is not a name of a header"),
        ({"": "a"}, "'' is not a name"),
        ({"X": "a\r\nY: b"}, "the value of the header X must be printable ASCII"),
        ({"X": "é"}, "the value of the header X"),
    ],
)
def test_invalid_headers(headers: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_headers(headers)
    with pytest.raises(ValueError, match=message):
        ServerEngine("http://127.0.0.1:9/v1", headers=headers)


def test_parsed_headers() -> None:
    parsed = parse_headers(["X-Key: a: b", "Y:", " Z :1"])
    assert parsed == {"X-Key": "a: b", "Y": "", "Z": "1"}
    with pytest.raises(ValueError, match="NAME: VALUE") as failure:
        parse_headers(["s3cr3t"])
    assert "s3cr3t" not in str(failure.value)


# --- proxies, certificates and connections -------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8000/v1", True),
        ("http://10.0.0.1:8000/v1", False),
        ("https://example.com/v1", False),
        ("https://localhost.example.com/v1", False),
    ],
)
def test_local_servers(url: str, local: bool) -> None:
    assert is_local(url) is local


def test_proxies_of_the_environment(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", server.url.removesuffix("/v1"))
    with pytest.raises(RefusedError):  # the scripted server is no proxy
        run("http://models.invalid/v1", describe)
    assert server.asked[-1].path == "http://models.invalid/v1/models"
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert run(server.url, describe)["model"] == "scripted"


class _Models(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        content = b'{"data": [{"id": "m"}]}'
        self.send_response(200)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(not shutil.which("openssl"), reason="makes a certificate with openssl")
def test_certificates_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with HTTPServer(("127.0.0.1", 0), _Models) as web:
        web.socket = context.wrap_socket(web.socket, server_side=True)
        thread = Thread(target=web.serve_forever, daemon=True)
        thread.start()
        url = f"https://localhost:{web.server_port}/v1"
        with pytest.raises(EngineError, match=r"(?i)certificate"):
            run(url, describe, patience=0.1)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        assert run(url, describe)["model"] == "m"
        web.shutdown()
        thread.join()


def test_connections_are_used_again(server: ScriptedServer) -> None:
    async def work(engine: ServerEngine) -> None:
        for number in range(10):
            await generate(engine, f"plain {number}")

    run(server.url, work, concurrency=1)
    assert server.connections == 1
    assert server.left == 0


# --- slow servers --------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.sampled_from(["stall", "wait", "success"]), st.floats(0, 500))))
def test_stall_time_stays_in_its_range(events: list[tuple[str, float]]) -> None:
    stalls, now = StallTime(2.0, 100.0), 0.0
    for kind, seconds in events:
        before, now = stalls.seconds, now + seconds
        if kind == "stall":
            stalls.record_stall(now - seconds, now)
            assert before <= stalls.seconds <= 2 * before
        elif kind == "wait":
            stalls.record_wait(seconds)
            assert stalls.seconds >= min(2 * seconds, 100.0)
        else:
            stalls.record_success()
        assert 2.0 <= stalls.seconds <= 100.0


def test_requests_that_stall_together_double_the_time_once() -> None:
    stalls = StallTime(1.0, 60.0)
    for _ in range(50):
        stalls.record_stall(0.0, 1.0)
    assert stalls.seconds == 2.0
    stalls.record_stall(1.0, 3.0)
    assert stalls.seconds == 4.0


@pytest.mark.slow
def test_a_slow_server_is_not_asked_again_and_again(server: ScriptedServer) -> None:
    """Its first part comes after 0.8 s, and a request stalls after 0.1 s."""
    server.pace = 0.8

    async def work(engine: ServerEngine) -> tuple[list[int], int]:
        return await generate(engine, "empty"), engine.retries

    tokens, retries = run(server.url, work, stall=0.1, patience=20.0)
    assert tokens == scripted_server.trace("empty", 120)
    assert 1 <= retries <= 4  # after 0.1, 0.2, 0.4 and perhaps 0.8 s
    assert server.paid.total() <= retries + 1


# --- messages ------------------------------------------------------------------------------------


def test_a_base_url_without_v1(server: ScriptedServer) -> None:
    with pytest.raises(RefusedError, match=r"/models: status 404: .*does the base URL end in /v1"):
        run(server.url.removesuffix("/v1"), describe)


def test_a_server_without_tokenize(server: ScriptedServer) -> None:
    server.plan = lambda asked: "404" if "tokenize" in asked.path else None
    with pytest.raises(RefusedError, match=r"/tokenize: status 404: .*only vLLM's server has it"):
        run(server.url, lambda engine: engine.encode("text"))
    with pytest.raises(RefusedError, match=r"/detokenize: status 404: .*only vLLM's server"):
        run(server.url, lambda engine: engine.decode([1]))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "too long", "code": 400}, RefusedError),
        ({"message": "busy", "code": 429}, TransientError),
        ({"message": "broken", "code": 500}, TransientError),
        ({"message": "no code"}, TransientError),
        ("text", TransientError),
    ],
)
def test_errors_within_a_stream(error: Any, kind: type[EngineError]) -> None:
    made = stream_error({"error": error}, "http://h/v1")
    assert type(made) is kind
    assert "http://h/v1: " in str(made)


def test_the_last_failure_is_known(server: ScriptedServer) -> None:
    server.plan = lambda asked: "503" if asked.number < 3 else None

    async def work(engine: ServerEngine) -> tuple[int, str]:
        await engine.describe()
        return engine.retries, engine.last_failure

    retries, failure = run(server.url, work)
    assert retries == 3
    assert "/models: status 503: scripted 503" in failure
