"""The settings of a gateway, and what comes of them in its log and its queue."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

import msgspec
import pytest

from autotts_gym.gateway.admission import Admission
from autotts_gym.gateway.api_errors import ApiError
from autotts_gym.gateway.gateway_settings import GatewaySettings
from autotts_gym.gateway.request_log import JsonFormatter

URL = "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"upstreams": ()}, "at least one base URL"),
        ({"upstreams": ("ftp://x",)}, "is not a base URL"),
        ({"timeout": 0}, "timeout must be a number of seconds above 0"),
        ({"stall": float("inf")}, "stall must be a number of seconds above 0"),
        ({"beta": 1.5}, "beta must be from 0 to 1"),
        ({"beta": 0.5, "max_beta": 0.4}, "beta 0.5 is above max_beta 0.4"),
        ({"timeout": 900.0}, "timeout 900 is above max_timeout 600"),
        ({"concurrency": 0}, "concurrency must be at least 1"),
        ({"max_token_budget": 0}, "max_token_budget must be at least 1"),
        ({"upstream_key_envs": ("A", "B")}, "one for each of the 1"),
        ({"api": "whole-chat", "interval": 5}, "the interval is the maximum length"),
    ],
)
def test_invalid_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GatewaySettings(**{"upstreams": (URL,), **changes})


def test_workers_read_the_same_settings() -> None:
    settings = GatewaySettings(upstreams=(URL,), controllers=("asc",), temperature=0.3)
    assert msgspec.json.decode(msgspec.json.encode(settings), type=GatewaySettings) == settings


def test_each_upstream_has_its_key() -> None:
    other = "http://127.0.0.1:8001/v1"
    settings = GatewaySettings(upstreams=(URL, f"{other}/"), upstream_key_envs=("", "KEY"))
    headers = settings.upstream_headers({"KEY": "k"})
    assert headers == {other: {"Authorization": "Bearer k"}}
    settings = GatewaySettings(upstreams=(URL, other), upstream_key_envs=("KEY",))
    assert settings.upstream_headers({"KEY": "k"}).keys() == {URL, other}


def test_log_lines_are_json_without_secrets() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 1, "Bearer %s", ("abcdefghij",), None)
    record.facts = {"status": 200, "text": "a\nb\ud800"}
    line = JsonFormatter().format(record)
    assert "\n" not in line
    content = json.loads(line)
    assert content["event"] == "Bearer ***"
    assert content["status"] == 200


def test_requests_are_admitted_in_order() -> None:
    async def main() -> list[int]:
        admission = Admission(1, 2)
        order: list[int] = []
        deadline = time.monotonic() + 600

        async def work(k: int) -> None:
            await admission.enter(deadline)
            order.append(k)
            await asyncio.sleep(0)
            admission.leave(4.0)

        tasks = [asyncio.ensure_future(work(k)) for k in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(ApiError) as busy:
            await admission.enter(deadline)
        assert busy.value.status == 429
        assert busy.value.headers == {"Retry-After": "3"}
        tasks[1].cancel()  # its place in the queue is free again
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (admission.running, admission.waiting) == (0, 0)
        await admission.enter(deadline)
        with pytest.raises(ApiError, match="up to its timeout"):
            await admission.enter(time.monotonic())
        return order

    assert asyncio.run(main()) == [0, 2]
