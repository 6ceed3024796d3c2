"""Questions of multiple choice, and questions that are lists of messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.collection.choice_options import Options, gold_letter, with_options
from autotts_gym.collection.question_files import read_questions
from autotts_gym.traces.store import TraceError

COLOURS = ["red", "green", "blue", "2"]
TEXT = "Which?\n\nA) red\nB) green\nC) blue\nD) 2"


def read(folder: Path, *rows: dict[str, Any], **options: Any) -> list[tuple[str, str]]:
    path = folder / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return [(question.text, question.gold) for question in read_questions(path, **options)]


@pytest.mark.parametrize(
    "row",
    [
        {"question": "Which?", "choices": COLOURS, "answer": 2},  # MMLU
        {"question": "Which?", "choices": COLOURS, "answer": "C"},
        {"question": "Which?", "options": COLOURS, "answer": "(C)", "answer_index": 2},  # MMLU-Pro
        {"question": "Which?", "options": COLOURS, "answer": "blue"},
        {"question": "Which?", "options": json.dumps(COLOURS), "answer": r"\boxed{C}"},
        {"question": "Which?", "choices": dict(zip("ABCD", COLOURS, strict=True)), "answer": "C"},
        {
            "question": "Which?",
            "choices": {"text": COLOURS, "label": ["1", "2", "3", "4"]},
            "answerKey": "3",
        },  # ARC
        {"question": "Which?", **dict(zip("ABCD", COLOURS, strict=True)), "answer": "C"},
        {"question": "Which?", "options": COLOURS, "answer": "C) blue"},
    ],
)
def test_options(tmp_path: Path, row: dict[str, Any]) -> None:
    assert read(tmp_path, row) == [(TEXT, "C")]


def test_an_option_that_is_a_number(tmp_path: Path) -> None:
    """An answer's text goes before its index."""
    rows = [{"question": "Which?", "options": COLOURS, "answer": answer} for answer in ("2", 2)]
    assert [gold for _, gold in read(tmp_path, *rows)] == ["D", "C"]


def test_correct_and_incorrect_answers(tmp_path: Path) -> None:
    rows = [
        {
            "Question": f"Which {k}?",
            "Correct Answer": "right ",
            **{f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)},
        }
        for k in range(40)
    ]  # GPQA
    found = read(tmp_path, *rows)
    assert found == read(tmp_path, *rows)
    for text, gold in found:
        assert f"{gold}) right" in text.splitlines()
        assert text.count(") wrong") == 3
    assert {gold for _, gold in found} == set("ABCD")


def test_options_that_the_question_lists_already(tmp_path: Path) -> None:
    row = {"question": TEXT.replace(") ", ". "), "options": COLOURS, "answer": "B"}
    assert read(tmp_path, row) == [(row["question"], "B")]


def test_another_field(tmp_path: Path) -> None:
    row = {"question": "Which?", "endings": COLOURS, "label": 0}
    found = read(tmp_path, row, options_field="endings", answer_field="label")
    assert found == [(TEXT, "A")]


def test_questions_without_options(tmp_path: Path) -> None:
    rows = [{"question": "1?", "options": None, "answer": "7"}, {"question": "2?", "options": []}]
    assert read(tmp_path, *rows) == [("1?", "7"), ("2?", "")]
    assert read(tmp_path, {"question": "Which?", "options": COLOURS})[0][1] == ""


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"options": COLOURS, "answer": "pink"}, "line 1: answer 'pink' is none of its 4 options"),
        ({"options": COLOURS, "answer": 4}, "answer 4 is none of its 4 options"),
        ({"options": COLOURS, "answer": -1}, "answer -1 is none"),
        ({"options": COLOURS, "answer": "E"}, "answer 'E' is none"),
        ({"options": "red, green"}, "options must be a list of at least two texts"),
        ({"options": ["red"]}, "has 1 options; from 2 to 10 are possible"),
        ({"options": [str(k) for k in range(11)]}, "has 11 options"),
        ({"options": ["red", ""]}, "options must be a list of at least two texts"),
        ({"options": ["red", None]}, "options must be a list of at least two texts"),
        ({"options": {"text": COLOURS, "label": ["A"]}}, "has 4 options and 1 labels"),
        ({"options": {"text": "red"}}, "options must be a list"),
        ({"options": 3}, "options must be a list"),
    ],
)
def test_malformed_options(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        read(tmp_path, {"question": "Which?", **row})


@given(
    st.lists(
        st.text("abc xyz", min_size=1).filter(str.strip).map(str.strip),
        min_size=2,
        max_size=10,
        unique=True,
    ),
    st.data(),
)
def test_every_way_to_name_an_option(texts: list[str], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(texts) - 1))
    letter = "ABCDEFGHIJ"[index]
    options = Options(texts)
    assert gold_letter(index, options) == letter
    assert gold_letter(texts[index], options) == letter
    assert with_options("?", options).splitlines()[2 + index] == f"{letter}) {texts[index]}"


# --- messages ------------------------------------------------------------------------------------

MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "1 + 1?"},
    {"role": "assistant", "content": "2"},
    {"role": "user", "content": "2 + 2?"},
]


def test_messages(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": MESSAGES, "answer": 4}), "utf-8")
    (question,) = read_questions(path)
    assert (question.text, question.gold) == ("2 + 2?", "4")
    assert question.history == (("system", "Be brief."), ("user", "1 + 1?"), ("assistant", "2"))


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "the last message must have the role 'user'"),
        (MESSAGES[:3], "the last message must have the role 'user'"),
        (["text"], "message 0 must have a role and a content"),
        ([{"content": "x"}], "message 0 must have a role and a content"),
        ([{"role": "user"}], "message 0 is missing"),
        ([{"role": "user", "content": [{"type": "text"}]}], "must be a string"),
    ],
)
def test_malformed_messages(tmp_path: Path, prompt: Any, message: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"prompt": prompt}), "utf-8")
    with pytest.raises(TraceError, match=message):
        read_questions(path)
