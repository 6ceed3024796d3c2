"""Gateways that run in a thread of the test process."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import httpx
import uvicorn

from autotts_gym.gateway.gateway_app import create_app
from autotts_gym.gateway.gateway_settings import GatewaySettings

#: Seconds that a test waits for something that happens at once on an idle machine.
PATIENCE = 60.0


def wait_until(condition: Callable[[], object]) -> bool:
    """Wait until a condition holds; returns whether it does."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return bool(condition())


class Gateway(NamedTuple):
    """A running gateway.

    Attributes:
        url: base URL for clients.
        client: HTTP client with that base URL.
        server: its server.
        thread: the thread of the server.
    """

    url: str
    client: httpx.Client
    server: uvicorn.Server
    thread: threading.Thread

    def chat(self, question: str, **fields: Any) -> httpx.Response:
        """Ask a question."""
        body = {"model": "scripted", "messages": [{"role": "user", "content": question}], **fields}
        return self.client.post("/chat/completions", json=body)

    def metric(self, name: str, **labels: str) -> float:
        """The value of a metric; 0 if it has none."""
        shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
        wanted = f"{name}{{{shown}}} " if shown else f"{name} "
        text = self.client.get(self.url.removesuffix("/v1") + "/metrics").text
        lines = [line for line in text.splitlines() if line.startswith(wanted)]
        return float(lines[0].removeprefix(wanted)) if lines else 0.0


@contextlib.contextmanager
def running(settings: GatewaySettings) -> Iterator[Gateway]:
    """Run a gateway in a thread."""
    app = create_app(settings)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=int(settings.drain)
    )
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    assert wait_until(lambda: server.started or not thread.is_alive())
    assert server.started
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            yield Gateway(url, client, server, thread)
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listener.close()
