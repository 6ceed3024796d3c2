"""Outputs of batches: kinds of responses, their questions, and invalid lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.imports.batch_outputs import FAILED, TOOLS, read_batch
from autotts_gym.imports.completions import Completion, ReadingOptions
from autotts_gym.traces.store import TraceError

QUESTIONS = [AskedQuestion("q1", "1 + 1?", "2"), AskedQuestion("q1-5", "2 + 2?", "4")]


def line(body: Any, name: str = "q1", status: int = 200, **more: Any) -> dict[str, Any]:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {"id": "b", "custom_id": name, "response": response, "error": None, **more}


def chat(*choices: dict[str, Any], tokens: int = 5) -> dict[str, Any]:
    return {
        "object": "chat.completion",
        "model": "org/m",
        "choices": [{"index": 0, "finish_reason": "stop", **choice} for choice in choices],
        "usage": {"prompt_tokens": 3, "completion_tokens": tokens},
    }


def said(content: str | None, **more: Any) -> dict[str, Any]:
    return {"message": {"role": "assistant", "content": content, **more}}


def read(folder: Path, *rows: dict[str, Any], **options: Any) -> tuple[list[Completion], Any]:
    path = folder / "out.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    reading = ReadingOptions(**{"questions": QUESTIONS, **options})
    return [each for _, each in read_batch(path, reading)], reading.left_out


def test_chat_completions(tmp_path: Path) -> None:
    counted = {**said("3"), "logprobs": {"content": [{"token": "3"}, {"token": "<end>"}]}}
    found, _ = read(
        tmp_path,
        line(chat(said("2", reasoning="one\n"))),
        line(chat({**said("2"), "finish_reason": "length"})),
        line(chat(counted, said("4"))),
    )
    model = {"id": "q1", "model": "org/m"}
    assert found == [
        Completion("1 + 1?", "2", "<think>\none\n</think>\n\n2", 5, **model),
        Completion("1 + 1?", "2", "2", 5, cut=True, **model),
        # Of several choices, the usage is the sum.
        Completion("1 + 1?", "2", "3", 2, **model),
        Completion("1 + 1?", "2", "4", None, **model),
    ]


def test_completions_and_responses(tmp_path: Path) -> None:
    completion = {"choices": [{"text": "2", "finish_reason": "length"}]}
    completion["usage"] = {"completion_tokens": 1}  # type: ignore[assignment]
    response = {
        "object": "response",
        "status": "completed",
        "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "one"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "2"}],
            },
        ],
        "usage": {"output_tokens": 7},
    }
    call = {"output": [{"type": "function_call", "name": "f"}]}
    found, left_out = read(tmp_path, line(completion), line(response), line(call))
    assert found == [
        Completion("1 + 1?", "2", "2", 1, "q1", cut=True),
        Completion("1 + 1?", "2", "<think>\none\n</think>\n\n2", 7, "q1"),
    ]
    assert left_out == {TOOLS: 1}


@pytest.mark.parametrize(
    ("name", "question"),
    [
        ("q1", "1 + 1?"),
        ("q1-0", "1 + 1?"),
        ("q1/12", "1 + 1?"),
        ("q1_sample3", "1 + 1?"),
        ("q1-5", "2 + 2?"),  # the id itself goes before an id with a number
        ("q1-5-1", "2 + 2?"),
        ("other", "2 + 2?"),  # by its prompt
    ],
)
def test_questions_of_requests(tmp_path: Path, name: str, question: str) -> None:
    requests = tmp_path / "in.jsonl"
    body = {"messages": [{"role": "user", "content": "2 + 2?\n"}]}
    requests.write_text(json.dumps({"custom_id": "other", "body": body}) + "\n", "utf-8")
    (found,), _ = read(tmp_path, line(chat(said("2")), name), requests=requests)
    assert found.question == question


def test_what_failed_is_left_out(tmp_path: Path) -> None:
    found, left_out = read(
        tmp_path,
        line(None, error={"code": "batch_expired"}),
        line({"error": {"message": "bad"}}, status=400),
        {"id": "b", "custom_id": "q1", "response": None, "error": None},
        line(chat(said(None, tool_calls=[{"id": "1"}]))),
    )
    assert not found
    assert left_out == {FAILED: 3, TOOLS: 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": {}}, "lacks 'custom_id', which must be a string"),
        (line("x"), "'response.body' must be an object, got 'x'"),
        (line({"choices": 3}), "'choices' must be a list, got 3"),
        (line({"choices": [3]}), "choices[0] must be an object, got 3"),
        (line({"choices": [{}]}), "lacks 'message', which must be an object"),
        (line({"choices": [{"text": 3}]}), "'text' must be a string, got 3"),
        (line(chat(said("2"), tokens=-1)), "'usage.completion_tokens' must be a number of tokens"),
        (line(chat(said(3))), "'content' must be a text or a list, got 3"),  # type: ignore[arg-type]
        (line(chat(said("2")), "q2"), "custom_id 'q2' fits no question of --questions: it must be"),
    ],
)
def test_invalid_lines(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path, line(chat(said("2"))), row)
    assert str(caught.value).startswith("line 2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("request_line", "message"),
    [
        ('{"custom_id": "a"}', "line 1: lacks 'body', which must be an object"),
        ('{"custom_id": "a", "body": {}}', "line 1: 'body' must have messages, a prompt or an inp"),
        ("{", "line 1: malformed JSON at column 2"),
    ],
)
def test_invalid_requests(tmp_path: Path, request_line: str, message: str) -> None:
    requests = tmp_path / "in.jsonl"
    requests.write_text(request_line + "\n", "utf-8")
    with pytest.raises(TraceError) as caught:
        read(tmp_path, line(chat(said("2"))), requests=requests)
    assert str(caught.value).startswith(f"requests {requests}: {message}")
