"""Warnings of a collection, its estimate of the time left, and what it shows while it fails."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import scripted_server
from scripted_server import ScriptedServer

from autotts_gym.cli import collection_display
from autotts_gym.cli.collection_display import CollectionDisplay
from autotts_gym.cli.console import SafeConsole
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_warnings import (
    FALLBACK,
    answer_warnings,
    misses_first_extractor,
    question_warnings,
)
from autotts_gym.collection.collector import CollectionProgress
from autotts_gym.inference.protocol import Protocol, find_protocol

CHAT, CHOICE, ANSWER = (find_protocol(name, "") for name in ("chat", "choice", "answer"))


def asked(*golds: str) -> list[AskedQuestion]:
    return [AskedQuestion(str(k), "?", gold) for k, gold in enumerate(golds)]


def test_missing_gold_answers() -> None:
    (message,) = question_warnings(asked("1", "", ""), CHAT)
    assert message.startswith("2 of 3 questions have no gold answer")
    assert question_warnings(asked("1", "2"), CHAT) == []


def test_gold_answers_that_are_no_letters() -> None:
    (message,) = question_warnings(asked("A", "(B)", "C) 12", "12"), CHOICE)
    assert message.startswith("1 of 4 gold answers are no letters")
    assert "question '3' has '12'" in message
    assert question_warnings(asked("12"), CHAT) == []


@pytest.mark.parametrize(
    ("text", "protocol", "misses"),
    [
        (r"So \boxed{5}", CHAT, False),
        (r"Put it in \boxed{}. It is 5.", CHAT, True),
        ("The answer is 5.", CHAT, True),
        ("The answer is 5.", ANSWER, False),
        (r"So \boxed{5}", ANSWER, True),
    ],
)
def test_the_first_extractor(text: str, protocol: Protocol, misses: bool) -> None:
    assert misses_first_extractor(text, protocol) is misses
    assert not protocol.final_answer(text).null


def test_traces_of_another_form() -> None:
    (message,) = answer_warnings({FALLBACK: 164, "traces": 192, "cut": 0, "empty": 0}, CHAT)
    assert message.startswith("164 of 192 traces never boxed an answer; what number found counts")
    assert "'chat' may not fit" in message
    (message,) = answer_warnings({FALLBACK: 164, "traces": 192, "cut": 0, "empty": 0}, ANSWER)
    assert message.startswith("164 of 192 traces never announced an answer")
    cut = {FALLBACK: 40, "traces": 192, "cut": 120, "empty": 2}
    (message,) = answer_warnings(cut, CHAT)
    assert message.startswith("40 of 70 traces that ended by themselves never boxed an answer")
    assert answer_warnings({FALLBACK: 28, "traces": 192, "cut": 0, "empty": 0}, CHAT) == []


def test_time_left() -> None:
    """Traces that are sampled and not yet probed are half of the work, not none of it."""
    state = CollectionProgress(total=960, sampled=960, probed=10, seconds=970.0)
    assert state.seconds_left == 950
    assert CollectionProgress(total=960, seconds=9.0).seconds_left == float("inf")
    resumed = CollectionProgress(100, 60, 50, 50, seconds=10.0, resumed_samples=50)
    assert resumed.seconds_left == 90


def test_failures_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(1000.0, 20.0)
    monkeypatch.setattr(collection_display.time, "monotonic", lambda: next(clock))
    console = SafeConsole(file=io.StringIO(), width=500, force_terminal=False)
    with CollectionDisplay(console) as show:
        for retries in (0, 1, 2, 3, 3):
            state = CollectionProgress(8, retries=retries, failure="u: status 429: wait\x1b[2J")
            state.silent_seconds = 20.0 * retries
            show.collected(state)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    retried = [line for line in lines if "the last after" in line]
    assert retried[0].startswith("collecting: 1 request sent again so far, the last after: u: ")
    assert len(retried) == 2  # not one line for every failure
    assert any("nothing received for 0:20" in line for line in lines)
    assert "\x1b" not in "".join(lines)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["429", "dead"])
def test_collect_shows_why_nothing_happens(
    autotts: Callable[..., Any], tmp_path: Path, fault: str
) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"question": "plain 1", "answer": "5"}), "utf-8")
    with ScriptedServer(lambda _: "429") as server:
        if fault == "dead":
            server.die()
        ended = autotts(
            *("collect", "--questions", questions, "--name", "n", "--base-url", server.url),
            *("--protocol", scripted_server.protocol_file(tmp_path), "--patience", 3),
        )
        url = server.url
    assert ended.code == 1
    reason = "status 429" if fault == "429" else "no connection"
    (shown,) = [line for line in ended.err.splitlines() if "sent again so far" in line]
    assert f"the last after: {url}/models: {reason}" in shown


def test_warnings_of_the_command(autotts: Callable[..., Any], tmp_path: Path) -> None:
    questions = tmp_path / "q.jsonl"
    questions.write_text(json.dumps({"question": "plain 1"}), "utf-8")
    content = {**scripted_server.PROTOCOL, "answers": ["boxed", "number"]}
    (tmp_path / "p.yaml").write_text(json.dumps(content), "utf-8")
    with ScriptedServer() as server:
        ended = autotts(
            *("collect", "--questions", questions, "--name", "n", "--base-url", server.url),
            *("--protocol", tmp_path / "p.yaml", "--branches", 2, "--temperature", 0),
        )
    assert ended.code == 0
    assert "warning: 1 of 1 questions have no gold answer" in ended.err
    assert "warning: 2 of 2 traces never boxed an answer; what number found counts" in ended.err
