"""Tables of completions: columns, shapes of rows, and messages about invalid ones."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.imports.completion_tables import read_completions
from autotts_gym.imports.completions import Completion, ReadingOptions
from autotts_gym.traces.store import TraceError


def write(folder: Path, rows: list[dict[str, Any]], suffix: str = ".jsonl") -> Path:
    path = folder / f"table{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".csv":
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif suffix == ".json":
        path.write_text(json.dumps(rows), "utf-8")
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def read(path: Path, **options: Any) -> list[Completion]:
    return [completion for _, completion in read_completions(path, ReadingOptions(**options))]


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
def test_all_completions_in_a_row(tmp_path: Path, suffix: str) -> None:
    rows = [
        {
            "question": "1 + 1?",
            "answer": "2",
            "completions": ["so 2", "so 3"],
            "tokens": [4, 5],
            "finish_reason": ["stop", "length"],
        }
    ]
    assert read(write(tmp_path, rows, suffix)) == [
        Completion("1 + 1?", "2", "so 2", 4),
        Completion("1 + 1?", "2", "so 3", 5, cut=True),
    ]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_one_completion_in_a_row_with_named_columns(tmp_path: Path, suffix: str) -> None:
    rows = [
        {"key": "a", "ask": "1 + 1?", "right": "2", "said": text, "length": len(text)}
        for text in ("so 2", "so it is 3")
    ]
    names = {
        "id_field": "key",
        "question_field": "ask",
        "answer_field": "right",
        "completion_field": "said",
        "tokens_field": "length",
    }
    assert read(write(tmp_path, rows, suffix), **names) == [
        Completion("1 + 1?", "2", "so 2", 4, "a"),
        Completion("1 + 1?", "2", "so it is 3", 10, "a"),
    ]


def test_chats(tmp_path: Path) -> None:
    user = {"role": "user", "content": [{"type": "text", "text": "1 + 1?"}]}
    said = {"role": "assistant", "content": "2", "reasoning_content": "one and one\n"}
    rows = [
        {"prompt": [{"role": "system", "content": "Add."}, user], "responses": [[said], [said]]},
        {"prompt": "1 + 1?", "responses": [user, said]},
    ]
    text = "<think>\none and one\n</think>\n\n2"
    assert read(write(tmp_path, rows)) == [Completion("1 + 1?", "", text)] * 3


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_texts_are_kept_as_they_are(tmp_path_factory: Any, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("table")
    path = write(folder, [{"question": "?", "completions": texts}])
    assert [completion.text for completion in read(path)] == texts


ROW: dict[str, Any] = {"question": "?", "answer": "1", "completions": ["1", "2"], "tokens": [1, 2]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"completions": 3}, "line 2: the completions ('completions') must be a string, or a list"),
        ({"completions": []}, "line 2: the completions ('completions') must be a string, or a"),
        ({"completions": ["1", None]}, "completion 1 ('completions') must be a string, got None"),
        ({"tokens": [1]}, "'tokens' must have a value for each of the 2 completions, got [1]"),
        ({"tokens": 3}, "'tokens' must have a value for each of the 2 completions, got 3"),
        ({"tokens": [1, -2]}, "'tokens' must be a number of tokens below 2**31, got -2"),
        ({"tokens": [1, 2.5]}, "'tokens' must be a number of tokens below 2**31, got 2.5"),
        ({"tokens": [1, 2**31]}, "'tokens' must be a number of tokens below 2**31, got 2147483648"),
        ({"question": " "}, "the question ('question') is empty"),
        ({"question": None}, "the prompt must be a text or messages, got None"),
        ({"question": []}, "the prompt has no message with the role 'user'"),
        ({"answer": ["1"]}, "'answer' must be a string or a number, got ['1']"),
        (
            {"question": [{"role": "user", "content": [{"type": "image_url"}]}]},
            "content of the type 'image_url'; only texts can be imported",
        ),
        (
            {"completions": [{"role": "assistant", "content": "1", "tool_calls": [{}]}]},
            "'completions' must have one message of the assistant, without tools",
        ),
    ],
)
def test_invalid_rows(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write(tmp_path, [ROW, ROW | changes])
    with pytest.raises(TraceError) as caught:
        read(path)
    assert str(caught.value).startswith("line 2: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ([{"answer": "1", "completions": ["1"]}], {}, "no question field (question, problem,"),
        ([{"question": "?", "text": "1"}], {}, "no completion field (completions, completion,"),
        ([ROW], {"completion_field": "said"}, "no field 'said'; the fields are question, answer"),
        ([ROW], {"tokens_field": "length"}, "no field 'length'; the fields are question, answer"),
        ([], {}, "contains no rows; at least one is needed"),
    ],
)
def test_invalid_columns(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, str], message: str
) -> None:
    with pytest.raises(TraceError) as caught:
        read(write(tmp_path, rows), **options)
    assert message in str(caught.value)


def test_a_file_of_another_type(tmp_path: Path) -> None:
    (tmp_path / "table.txt").touch()
    with pytest.raises(TraceError, match=r"unknown type of table; expected \.jsonl, \.json, \.csv"):
        read(tmp_path / "table.txt")
