"""``LiveModel``: prompts that are rendered before their episodes start."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from scripted_server import ScriptedServer

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.deployment.solver import solve
from autotts_gym.inference.engine import EngineError
from autotts_gym.live.connection import connect

#: Seconds for which a test waits.
PATIENCE = 60


def rendered(server: ScriptedServer) -> int:
    """How often the server has tokenized the prompt of the question."""
    return sum("plain 1" in asked.body.get("prompt", "") for asked in tokenized(server))


def tokenized(server: ScriptedServer) -> list[Any]:
    return [asked for asked in server.asked if asked.path == "/tokenize"]


def test_a_prompt_is_rendered_once(server: ScriptedServer, options: dict[str, Any]) -> None:
    question = AskedQuestion("q", "plain 1")
    width = options.pop("max_branches")
    with connect(server.url, **options) as live:
        live.prefetch(question)
        live.prompt(AskedQuestion("other", "plain 2")).result()
        assert rendered(server) == 1
        expected = solve(question, "cmc", live=live, max_branches=width)
        assert expected.answer
        assert rendered(server) == 1
        # A prompt is for one episode, and does not go to models with another protocol.
        live.prefetch(question)
        found = solve(question, "cmc", live=live.derive(), max_branches=width)
        assert replace(found, wall_seconds=expected.wall_seconds) == expected
        assert rendered(server) == 3


def test_a_prompt_goes_with_its_question(server: ScriptedServer, options: dict[str, Any]) -> None:
    options.pop("max_branches")
    with connect(server.url, **options) as live:
        question = AskedQuestion("q", "plain 1")
        live.prefetch(question)
        assert len(live._prompts) == 1
        del question
        end = time.monotonic() + PATIENCE
        while live._prompts and time.monotonic() < end:  # until it is rendered
            time.sleep(0.01)
        assert not live._prompts


def test_a_failure_reaches_the_episode(server: ScriptedServer, options: dict[str, Any]) -> None:
    width = options.pop("max_branches")
    with connect(server.url, patience=0.2, **options) as live:
        server.plan = lambda asked: "500" if asked.path == "/tokenize" else None
        question = AskedQuestion("q", "plain 1")
        live.prefetch(question)
        with pytest.raises(EngineError, match="status 500"):
            solve(question, "cmc", live=live, max_branches=width)
