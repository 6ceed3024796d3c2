"""Rollouts of verifiers and prime-rl: the forms of a line, and what has no single text."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.imports.completions import Completion, ReadingOptions
from autotts_gym.imports.verifiers_rollouts import FAILED, SEVERAL_TURNS, read_verifiers
from autotts_gym.traces.store import TraceError

#: A line of ``rollouts/step_N/train_rollouts.jsonl`` of prime-rl, by its documented schema: a trace
#: of verifiers, with ``info.prime_rl``.
TRACE: dict[str, Any] = {
    "id": "5f0c",
    "task": {"type": "MathTask", "data": {"idx": 3, "prompt": "1 + 1?", "answer": "2"}},
    "nodes": [
        {
            "parent": None,
            "message": {"role": "system", "content": "Add."},
            "sampled": False,
            "token_ids": [1, 2],
            "mask": [False, False],
        },
        {
            "parent": 0,
            "message": {"role": "user", "content": "1 + 1?"},
            "sampled": False,
            "token_ids": [3],
            "mask": [False],
        },
        {
            "parent": 1,
            "message": {"role": "assistant", "content": "So 2.", "reasoning_content": "1, 2"},
            "sampled": True,
            "token_ids": [4, 5, 6, 7],
            "mask": [False, True, True, True],
            "logprobs": [-0.1, -0.2, -0.3],
            "finish_reason": "stop",
        },
    ],
    "rewards": {"right": 1.0},
    "info": {"prime_rl": {"env_name": "math", "step": 12}},
    "is_completed": True,
    "errors": [],
}
#: A line of ``results.jsonl`` of verifiers 0.1.
ROW: dict[str, Any] = {
    "example_id": 0,
    "prompt": [{"role": "user", "content": "1 + 1?"}],
    "completion": [{"role": "assistant", "content": "2"}],
    "answer": "2",
    "reward": 1.0,
    "error": None,
    "is_truncated": False,
    "token_usage": {"input_tokens": 9.0, "output_tokens": 4.0},
}
TEXT = "<think>\n1, 2\n</think>\n\nSo 2."


def read(
    folder: Path, *rows: dict[str, Any], **options: Any
) -> tuple[list[Completion], dict[str, int]]:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    reading = ReadingOptions(**options)
    return [each for _, each in read_verifiers(path, reading)], dict(reading.left_out)


def changed(row: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A copy of a row; ``a__b=1`` changes the field ``b`` of its field ``a``."""
    made = copy.deepcopy(row)
    for path, value in changes.items():
        *parents, last = [int(part) if part.isdigit() else part for part in path.split("__")]
        place = made
        for parent in parents:
            place = place[parent]  # type: ignore[index]
        place[last] = value  # type: ignore[index]
    return made


def test_traces_of_prime_rl(tmp_path: Path) -> None:
    found, left_out = read(tmp_path, TRACE)
    assert found == [Completion("1 + 1?", "2", TEXT, 3)]
    assert not left_out


def test_calls_have_usage_and_reasons(tmp_path: Path) -> None:
    call = {"node": 2, "model": "m", "finish_reason": "length"}
    call["usage"] = {"prompt_tokens": 3, "completion_tokens": 9}
    found, _ = read(tmp_path, changed(TRACE, calls=[{"node": 1}, call]))
    assert found == [Completion("1 + 1?", "2", TEXT, 9, cut=True, model="m")]


def test_episodes_have_several_traces(tmp_path: Path) -> None:
    episode = {"id": "e", "task": TRACE["task"], "traces": [TRACE, TRACE]}
    assert read(tmp_path, episode)[0] == [Completion("1 + 1?", "2", TEXT, 3)] * 2


def test_rows_of_version_01(tmp_path: Path) -> None:
    texts = changed(ROW, prompt="1 + 1?", completion="2", is_truncated=True, token_usage=None)
    found, _ = read(tmp_path, ROW, texts)
    assert found == [
        Completion("1 + 1?", "2", "2", 4),
        Completion("1 + 1?", "2", "2", None, cut=True),
    ]


def test_what_has_no_single_text_is_left_out(tmp_path: Path) -> None:
    said = {"role": "assistant", "content": "2"}
    tool = {**said, "tool_calls": [{"id": "1"}]}
    found, left_out = read(
        tmp_path,
        changed(ROW, completion=[said, {"role": "user", "content": "Sure?"}, said]),
        changed(ROW, completion=[tool]),
        changed(ROW, completion=[]),
        changed(ROW, error={"error": "ModelError"}),
        changed(TRACE, nodes__2__message=tool),
        changed(TRACE, nodes__1__sampled=True),
        changed(TRACE, errors=[{"type": "ProviderError"}]),
        changed(TRACE, ok=False),
        {"task": {}, "traces": []},
        ROW,
    )
    assert len(found) == 1
    assert left_out == {SEVERAL_TURNS: 5, FAILED: 4}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            changed(ROW, answer=None),
            "lacks the gold answer 'answer'; name its field with --answer-field: example_id,",
        ),
        (
            changed(TRACE, task__data={"idx": 3, "target": "2"}),
            "lacks the gold answer 'task.data.answer'; name its field with --answer-field: idx, ta",
        ),
        (changed(ROW, completion=7), "'completion' must be a text or messages"),
        (changed(ROW, completion=[7]), "completion[0] must be an object, got 7"),
        (changed(ROW, prompt=[{"role": "system", "content": "x"}]), "no message with the role 'us"),
        (
            changed(ROW, token_usage={"output_tokens": -1}),
            "'token_usage.output_tokens' must be a number of tokens below 2**31, got -1",
        ),
        (changed(TRACE, nodes={}), "'nodes' must be a list, got {}"),
        (changed(TRACE, nodes__2__sampled="yes"), "'sampled' must be true or false, got 'yes'"),
        (changed(TRACE, task={"type": "x"}), "lacks 'task.data', which must be an object"),
        (changed(TRACE, calls=3), "'calls' must be a list, got 3"),
    ],
)
def test_invalid_lines(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path, ROW, row)
    assert str(caught.value).startswith("line 2: ")
    assert message in str(caught.value)


def test_another_field_of_gold_answers(tmp_path: Path) -> None:
    row = changed(TRACE, task__data={"idx": 3, "target": 2})
    assert read(tmp_path, row, answer_field="target")[0][0].gold == "2"
