"""Fixtures of live episodes on a scripted server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer

from autotts_gym.inference import request_retries

WIDTH = 6


@pytest.fixture(autouse=True)
def short_backoff(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_retries, "_FIRST_PAUSE", 0.002)
    monkeypatch.setattr(request_retries, "_LONGEST_PAUSE", 0.02)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


@pytest.fixture
def options(tmp_path: Path) -> dict[str, Any]:
    """Temperature 0, so that episodes are deterministic."""
    return {
        "protocol": scripted_server.protocol_file(tmp_path),
        "interval": 8,
        "max_tokens": 120,
        "sampling": {"temperature": 0.0},
        "max_branches": WIDTH,
    }
