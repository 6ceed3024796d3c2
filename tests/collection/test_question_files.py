"""Reading questions from files and datasets, and the error messages of invalid ones."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.collection.asked_question import AskedQuestion, questions_digest
from autotts_gym.collection.question_files import read_questions
from autotts_gym.traces.store import TraceError

ROWS: list[dict[str, Any]] = [
    {"id": "a", "question": "1 + 1,\n“½”?", "answer": "2"},
    {"id": "b", "question": "2 + 2?", "answer": ""},
]
ASKED = [AskedQuestion("a", "1 + 1,\n“½”?", "2"), AskedQuestion("b", "2 + 2?")]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows to a file, in the format of its suffix."""
    match path.suffix:
        case ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        case ".json":
            path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), "utf-8")
        case ".csv":
            quoted = [[f'"{value}"' for value in row.values()] for row in rows]
            lines = [",".join(line) for line in [list(rows[0]), *quoted]]
            path.write_text("\n".join(lines), "utf-8")
        case _:
            pq.write_table(pa.Table.from_pylist(rows), path)
    return path


FILE_NAMES = ["x.jsonl", "x.json", "x.csv", "x.parquet", "X.JSONL"]


@pytest.mark.parametrize("name", FILE_NAMES[:4])
def test_file_formats(name: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / name, ROWS)
    assert read_questions(path) == read_questions(str(path)) == ASKED
    renamed = [{"Q": r["question"], "A": r["answer"], "N": r["id"]} for r in ROWS]
    names = {"id_field": "N", "question_field": "Q", "answer_field": "A"}
    assert read_questions(write_rows(tmp_path / name, renamed), **names) == ASKED


def test_common_field_names(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "x.jsonl", [{"Problem": "1?", "ID": 60, "Solution": 25, "url": ""}]
    )
    assert read_questions(path) == [AskedQuestion("60", "1?", "25")]
    path = write_rows(tmp_path / "x.jsonl", [{"prompt": "1?"}, {"prompt": "2?"}])
    assert read_questions(path) == [AskedQuestion("0", "1?"), AskedQuestion("1", "2?")]
    # The default name takes precedence over other common names.
    path = write_rows(tmp_path / "x.jsonl", [{"problem": "no", "question": "1?", "gold": 1.5}])
    assert read_questions(path) == [AskedQuestion("0", "1?", "1.5")]


def test_equality(tmp_path: Path) -> None:
    rows = [{"question": f"{k}?", "equality": value} for k, value in enumerate(["form", "", None])]
    questions = read_questions(write_rows(tmp_path / "x.jsonl", rows))
    assert [question.equality for question in questions] == ["form", "value", "value"]
    assert questions_digest(questions) != questions_digest(
        [replace(question, equality="value") for question in questions]
    )
    path = write_rows(tmp_path / "bad.jsonl", [{"question": "1?", "equality": "exact"}])
    with pytest.raises(TraceError, match="line 1: equality must be 'value' or 'form', got 'exact'"):
        read_questions(path)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        (" 025 ", "025"),
        ("No", "No"),
        (r"Since ..., it is \boxed{\dfrac{1}{2}}.", r"\dfrac{1}{2}"),
        (r"\boxed{", r"\boxed{"),
        ("48/2 = <<48/2=24>>24\n#### 72", "72"),
        (None, ""),
    ],
)
def test_gold_answers(answer: str | None, gold: str, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", [{"question": "?", "answer": answer}])
    assert read_questions(path) == [AskedQuestion("0", "?", gold)]


def test_byte_order_marks_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"question": "1?"}\r\n\r\n  \n{"question": "2\xe2\x80\xa8?"}')
    assert [q.text for q in read_questions(path)] == ["1?", "2\u2028?"]
    path = tmp_path / "x.csv"
    path.write_bytes(b'\xef\xbb\xbfquestion,answer\r\n"1, ""2""?",1\r\n\r\n')
    assert read_questions(path) == [AskedQuestion("0", '1, "2"?', "1")]


def test_published_traces_as_question_file(tmp_path: Path) -> None:
    path = write_rows(
        tmp_path / "x.json", [{"question": "1?", "gold_answer": "1", "each_branch": []}]
    )
    assert read_questions(path) == [AskedQuestion("0", "1?", "1")]


# --- invalid files -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b"", r"x.jsonl: contains no questions; at least one"),
        ("x.json", b"[]", r"x.json: contains no questions"),
        ("x.csv", b"question\n", r"x.csv: contains no questions"),
        ("x.jsonl", b'{"question": "1?"}\n{"question": ', r"line 2: malformed JSON at column 14"),
        ("x.jsonl", b'{"question": "1?"}\n[1]', r"line 2: must be an object .* got \[1\]"),
        ("x.jsonl", b'\n{"question": "1?", "id": NaN}', r"line 2: malformed JSON: NaN is not"),
        ("x.jsonl", b'{"id": ' + b"1" * 5000 + b"}", r"line 1: an integer of 5000 digits"),
        (
            "x.jsonl",
            b'{"question": "1?"}\n{"question": "\xe9"}',
            r"line 2: not UTF-8: byte 0xe9 at",
        ),
        ("x.jsonl", b'{"question": "\\ud800"}', r"line 1: question .*lone surrogate '\\ud800'"),
        ("x.jsonl", b'{"question": " "}', r"line 1: question \('question'\) is empty"),
        ("x.jsonl", b'{"question": 5}', r"line 1: question .* a list of messages, got 5"),
        ("x.jsonl", b'{"question": "1?"}\n\n{"answer": 1}', r"line 3: question is missing: no"),
        ("x.jsonl", b'{"text": "1?"}\n{}', r"line 2: question .* 'text' among no fields"),
        (
            "x.jsonl",
            b'{"q": "1?", "a": 1}',
            r"no question field \(question, .*; the fields are q, a",
        ),
        ("x.jsonl", b'{"question": "1?", "id": ""}', r"line 1: id \('id'\) is empty"),
        ("x.jsonl", b'{"question": "1?", "id": null}', r"line 1: id .* a number, got None"),
        ("x.jsonl", b'{"question": "1?", "id": true}', r"line 1: id .* a number, got True"),
        (
            "x.jsonl",
            b'{"question": "1?", "id": 1}\n\n{"question": "2?", "id": "1"}',
            r"line 3: duplicate id '1', first used in line 1",
        ),
        ("x.jsonl", b'{"question": "1?", "answer": [2]}', r"line 1: answer .* got \[2\]"),
        ("x.json", b'{"question": "1?"}', r"must be a list of objects, got \{'question"),
        ("x.json", b'[{"question": "1?"}, 2]', r"row 1: must be an object"),
        ("x.json", b'[{"question":\n]', r"malformed JSON at line 2, column 1"),
        ("x.json", b"{}\n{}", r"line 2, column 1: Extra data; .* object per line .jsonl"),
        (
            "x.jsonl",
            b'{"question": "1?", "answer": 1, "answer": 2}',
            r"line 1: an object has the key 'answer' twice",
        ),
        ("x.json", b"[" * 100_000, r"x.json: JSON nested too deeply"),
        (
            "x.csv",
            b"question,answer\n1, 2?,3\n",
            r"line 2: 3 columns, but 2 in line 1; quote values",
        ),
        ("x.csv", b"question,answer\n1?,1\n2?\n", r"line 3: 1 columns, but 2"),
        (
            "x.csv",
            b"question,question\n1?,1\n",
            r"line 1: duplicate column name: question, question",
        ),
        ("x.csv", b'question\n"1?\n', r"line 2: malformed CSV: unexpected end"),
        ("x.csv", b"question\n" + b"1" * 200_000, r"line 2: malformed CSV: field larger"),
        ("x.parquet", b"PAR1", r"x.parquet: cannot be read as Parquet"),
        (
            "x.txt",
            b"1?",
            r"x.txt: unknown type of question file; expected .jsonl, .json, .csv, .parq",
        ),
    ],
)
def test_invalid_files(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TraceError, match=message) as error:
        read_questions(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.parametrize("name", FILE_NAMES)
def test_missing_files(name: str, tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"cannot be read: .*[Nn]o such file"):
        read_questions(tmp_path / name)


def test_a_named_field_is_not_guessed(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "x.jsonl", ROWS)
    for field in ("id_field", "question_field", "answer_field"):
        with pytest.raises(TraceError, match="no field 'Q'; the fields are id, question, answer"):
            read_questions(path, **{field: "Q"})


def test_a_file_has_no_splits(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match="a file has no split 'test'"):
        read_questions(write_rows(tmp_path / "x.jsonl", ROWS), split="test")


# --- Hugging Face datasets -----------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Replaces the Hugging Face library; returns the datasets that were requested."""
    asked: list[tuple[Any, ...]] = []
    splits = {"math-ai/one": ["test"], "two": ["train", "test"]}

    def load_dataset(path: str, configuration: str | None, split: str | None) -> Any:
        asked.append((path, configuration, split))
        if path not in splits:
            raise ConnectionError("no network")
        return dict.fromkeys(splits[path], ROWS) if split is None else ROWS

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    return asked


def test_datasets(hub: list[tuple[Any, ...]]) -> None:
    assert read_questions("math-ai/one") == ASKED
    assert read_questions("hf:math-ai/one:main", split="test") == ASKED
    assert read_questions("hf:two", split="train") == ASKED
    assert hub == [
        ("math-ai/one", None, None),
        ("math-ai/one", "main", "test"),
        ("two", None, "train"),
    ]


@pytest.mark.usefixtures("hub")
def test_datasets_that_cannot_be_loaded() -> None:
    with pytest.raises(
        TraceError, match="dataset two: has several splits, choose one: train, test"
    ):
        read_questions("hf:two")
    with pytest.raises(TraceError, match=r"dataset no/such: cannot be loaded .*: no network"):
        read_questions("no/such")
    with pytest.raises(TraceError, match="dataset math-ai/one: no field 'Q'"):
        read_questions("math-ai/one", question_field="Q")


def test_without_the_package_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        TraceError, match=r"math-ai/one: .* needs the package datasets: pip install"
    ):
        read_questions("math-ai/one")


@pytest.mark.usefixtures("hub")
def test_a_path_may_look_like_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "math-ai").mkdir()
    write_rows(tmp_path / "math-ai/x.jsonl", ROWS)
    assert read_questions("math-ai/x.jsonl") == ASKED
    with pytest.raises(TraceError, match="cannot be read"):
        read_questions("math-ai/y.jsonl")


# --- digest --------------------------------------------------------------------------------------


def test_digest_is_independent_of_the_file_format(tmp_path: Path) -> None:
    digests = {
        questions_digest(read_questions(write_rows(tmp_path / name, ROWS)))
        for name in FILE_NAMES[:4]
    }
    # Stored in journals and cards, so it must not change between versions.
    assert digests == {"3b9f1cfadddeea0ca309820e4e93634995e3278f9ba3b01fe6a5179e0964cc92"}


questions = st.lists(st.builds(AskedQuestion, *[st.text("ab", max_size=2)] * 3), max_size=3)


@given(questions, questions)
def test_digests_differ_for_different_questions(
    some: list[AskedQuestion], others: list[AskedQuestion]
) -> None:
    assert (questions_digest(some) == questions_digest(others)) == (some == others)
