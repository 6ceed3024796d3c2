"""Servers of chat completions that cannot continue a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_server import PROTOCOL, piece, trace
from text_server import TextServer

from autotts_gym.deployment.solver import Solution, solve

CHAT = {**PROTOCOL, "prompt": {"messages": [{"role": "user", "content": "q:{question}"}]}}


@pytest.fixture
def server() -> Iterator[TextServer]:
    with TextServer() as made:
        made.whole, made.top_tokens = True, 20
        yield made


@pytest.fixture
def options(tmp_path: Path, server: TextServer) -> dict[str, Any]:
    path = tmp_path / "protocol.yaml"
    path.write_text(json.dumps(CHAT), "utf-8")
    return {
        "base_url": server.url,
        "api": "whole-chat",
        "protocol": str(path),
        "max_tokens": 300,
        "sampling": {"temperature": 0.0},
        "max_branches": 4,
    }


def ask(question: str, options: dict[str, Any], controller: str = "self_consistency") -> Solution:
    return solve(question, controller, **options)


def test_a_branch_is_one_completion(server: TextServer, options: dict[str, Any]) -> None:
    solution = ask("plain 1", options)
    assert solution.error == ""
    written = "".join(map(piece, trace("plain 1", 300)))
    assert f"{solution.reasoning}</think>{solution.text}<end>" == written
    assert solution.branches == len(server.bodies) == 4
    assert solution.votes == {solution.answer: 4}
    assert solution.text.startswith(f"answer:{solution.answer}")
    assert not solution.is_cut


@pytest.mark.parametrize("question", ["never 1", "plain 1"])
def test_a_branch_that_is_cut_has_no_answer(options: dict[str, Any], question: str) -> None:
    solution = ask(question, {**options, "max_tokens": 10})
    assert solution.error == ""
    assert solution.answer == "No"
    assert solution.is_cut
    assert len(solution.reasoning) == 10
    assert solution.tokens == 40


def test_a_stream_that_breaks_off_starts_again(server: TextServer, options: dict[str, Any]) -> None:
    whole = ask("plain 1", {**options, "max_branches": 1})
    server.bodies.clear()
    server.break_after = 5
    again = ask("plain 1", {**options, "max_branches": 1})
    assert len(server.bodies) == 2
    assert (again.answer, again.text, again.tokens) == (whole.answer, whole.text, whole.tokens)
    assert again.generated_tokens == whole.generated_tokens + 5


def test_generation_confidence(options: dict[str, Any]) -> None:
    solution = ask("plain 1", options, "deepconf_offline")
    assert solution.error == ""
    assert solution.answer
