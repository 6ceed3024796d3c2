"""Fixtures of gateways in front of scripted model servers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import scripted_server
from running_gateway import Gateway, running
from scripted_server import ScriptedServer

from autotts_gym.gateway.gateway_settings import GatewaySettings
from autotts_gym.inference import request_retries


@pytest.fixture(scope="module", autouse=True)
def short_backoff() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_retries, "_FIRST_PAUSE", 0.002)
        patch.setattr(request_retries, "_LONGEST_PAUSE", 0.02)
        yield


@pytest.fixture(scope="module")
def protocol(tmp_path_factory: pytest.TempPathFactory) -> str:
    return scripted_server.protocol_file(tmp_path_factory.mktemp("protocol"))


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture(scope="module")
def settings(protocol: str) -> Callable[..., GatewaySettings]:
    """Returns a function that makes settings, with temperature 0 and narrow episodes."""

    def make(*upstreams: str, **changes: Any) -> GatewaySettings:
        options: dict[str, Any] = {
            "protocols": (protocol,),
            "interval": 8,
            "max_tokens": 160,
            "temperature": 0.0,
            "max_branches": 4,
            "health_interval": 0.2,
            "patience": 20.0,
        }
        return GatewaySettings(upstreams=upstreams, **{**options, **changes})

    return make


@pytest.fixture(scope="module")
def gateway(
    shared_server: ScriptedServer, settings: Callable[..., GatewaySettings]
) -> Iterator[Gateway]:
    """A gateway in front of a healthy server, for tests that change neither."""
    limits = {"max_beta": 0.8, "max_token_budget": 50_000, "max_timeout": 300.0}
    with running(settings(shared_server.url, **limits)) as made:
        yield made


class Logged(NamedTuple):
    """A logged event and its facts."""

    event: str
    facts: dict[str, Any]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Logged]]:
    """Returns a function that returns what gateways have logged."""
    caplog.set_level(logging.INFO, logger="autotts_gym.gateway")

    def read() -> list[Logged]:
        records = [r for r in caplog.records if r.name == "autotts_gym.gateway"]
        return [Logged(r.getMessage(), getattr(r, "facts", {})) for r in records]

    return read
