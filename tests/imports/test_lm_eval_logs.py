"""Logs of lm-evaluation-harness: chats, older logs, and invalid lines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.imports.completions import Completion, ReadingOptions
from autotts_gym.imports.lm_eval_logs import read_lm_eval
from autotts_gym.traces.store import TraceError

ROW: dict[str, Any] = {
    "doc_id": 0,
    "doc": {"question": "1 + 1?"},
    "target": "2",
    "arguments": {"gen_args_0": {"arg_0": "Q: 1 + 1?", "arg_1": {"until": ["Q:"]}}},
    "resps": [["2"]],
    "filtered_resps": ["2"],
    "filter": "none",
    "metrics": ["exact_match"],
    "exact_match": 1.0,
}


def read(folder: Path, *rows: dict[str, Any]) -> list[Completion]:
    path = folder / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return [completion for _, completion in read_lm_eval(path, ReadingOptions())]


def test_rows(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "Add."}, {"role": "user", "content": "1 + 1?"}]
    chat = {"gen_args_0": {"arg_0": [json.dumps(messages)]}}
    older = {key: value for key, value in ROW.items() if key not in ("filter", "metrics")}
    assert read(tmp_path, ROW, ROW | {"doc_id": 1, "arguments": chat, "exact_match": 0}) == [
        Completion("Q: 1 + 1?", "2", "2", id="0", right=True),
        Completion("1 + 1?", "2", "2", id="1", right=False),
    ]
    assert (
        read(tmp_path, older, older | {"target": 2, "exact_match": float("nan")})
        == [Completion("Q: 1 + 1?", "2", "2", id="0")] * 2
    )


def test_only_the_first_filter_is_read(tmp_path: Path) -> None:
    rows = [ROW | {"filter": name} for name in ("strict", "flexible", "strict")]
    assert len(read(tmp_path, *rows)) == 2


def test_the_score_of_several_texts_is_not_that_of_each(tmp_path: Path) -> None:
    found = read(tmp_path, ROW | {"resps": [["2", "3"]]})
    assert [(completion.text, completion.right) for completion in found] == [
        ("2", None),
        ("3", None),
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resps": [["2"], ["3"]]}, "'resps' must be one list of texts, got [['2'], ['3']]; only"),
        ({"resps": [[["-1.5", "False"]]]}, "'resps' must be one list of texts, got [[['-1.5', 'F"),
        ({"resps": None}, "lacks 'resps', which must be a list"),
        ({"doc_id": None}, "'doc_id' must be a string or a number, got None"),
        ({"target": ["2"]}, "'target' must be a string or a number, got ['2']"),
        ({"arguments": {}}, "lacks 'arguments.gen_args_0', which must be an object"),
        ({"arguments": []}, "'arguments' must be an object, got []"),
        ({"arguments": {"gen_args_0": {}}}, "the prompt must be a text or messages, got None"),
        (
            {"arguments": {"gen_args_0": {"arg_0": ["[{"]}}},
            "'arguments.gen_args_0.arg_0' is not a chat: Expecting property name",
        ),
        ({"filter": 3}, "'filter' must be a string, got 3"),
    ],
)
def test_invalid_lines(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read(tmp_path, ROW, ROW | changes)
    assert str(caught.value).startswith(f"line 2: {message}")
