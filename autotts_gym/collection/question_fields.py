"""Conversion of table rows to questions: field names, ids, texts and gold answers."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import Any, Final

from autotts_gym.answers.answer_pairs import check_equality
from autotts_gym.answers.grading import gold_answer
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.choice_options import (
    OPTION_FIELDS,
    find_options,
    gold_letter,
    with_options,
)
from autotts_gym.collection.table_readers import NumberedRow
from autotts_gym.traces.store import TraceError

#: Common names of these fields, the most likely first; case does not matter.
ID_FIELDS: Final = ("id", "unique_id", "problem_id", "question_id")
QUESTION_FIELDS: Final = ("question", "problem", "prompt", "text")
ANSWER_FIELDS: Final = (
    *("answer", "gold_answer", "final_answer", "expected_answer", "gold", "target", "solution"),
    *("answerkey", "correct answer", "answer_index", "answer_idx"),
)

#: Field that says whether answers must be written like the gold answer.
EQUALITY_FIELD: Final = "equality"


def rows_to_questions(
    rows: Sequence[NumberedRow],
    unit: str,
    *,
    id_field: str,
    question_field: str,
    answer_field: str,
    options_field: str = OPTION_FIELDS[0],
) -> list[AskedQuestion]:
    """Convert rows to questions; see :func:`autotts_gym.collection.question_files.read_questions`.

    Args:
        rows: the rows with their numbers.
        unit: what the numbers count, for messages: ``"line"`` or ``"row"``.
        id_field, question_field, answer_field, options_field: names of the fields. The defaults
            ``id``, ``question``, ``answer`` and ``options`` also match other common names.

    Raises:
        TraceError: there are no rows, or a field is missing or invalid; the message names the row.
    """
    if not rows:
        raise TraceError("contains no questions; at least one is needed")
    fields = list(dict.fromkeys(field for _, row in rows for field in row))
    id_name = find_field(id_field, ID_FIELDS, fields)
    answer_name = find_field(answer_field, ANSWER_FIELDS, fields)
    question_name = find_field(question_field, QUESTION_FIELDS, fields)
    options_name = find_field(options_field, OPTION_FIELDS, fields)
    if question_name is None:
        raise TraceError(
            f"no question field ({', '.join(QUESTION_FIELDS)}); the fields are {', '.join(fields)}"
        )
    questions: list[AskedQuestion] = []
    numbers: dict[str, int] = {}  # row number of each id
    for count, (number, row) in enumerate(rows):
        where = f"{unit} {number}"
        identity = str(count)
        if id_name is not None:
            identity = _read_scalar(row, id_name, f"{where}: id")
        if identity in numbers:
            raise TraceError(
                f"{where}: duplicate id {reprlib.repr(identity)}, first used in {unit} "
                f"{numbers[identity]}"
            )
        numbers[identity] = number
        text, history = _read_prompt(row, question_name, f"{where}: question")
        gold = ""
        try:
            options = find_options(row, options_name, text)
            if options is not None:
                text = with_options(text, options)
                gold = gold_letter(row.get(answer_name) if answer_name else None, options)
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None
        if options is None and answer_name is not None and row.get(answer_name) not in (None, ""):
            gold = gold_answer(_read_scalar(row, answer_name, f"{where}: answer"))
        try:
            equality = check_equality(row.get(EQUALITY_FIELD) or "value")
        except ValueError as error:
            raise TraceError(f"{where}: {error}") from None
        questions.append(AskedQuestion(identity, text, gold, history, equality))
    return questions


def _read_prompt(
    row: dict[str, Any], field: str, what: str
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The text of a question, and the messages before it where it is a list of messages."""
    value = row.get(field)
    if not isinstance(value, list):
        return _read_string(row, field, what, "a string or a list of messages"), ()
    messages = []
    for number, message in enumerate(value):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise TraceError(
                f"{what} ({field!r}): message {number} must have a role and a content, got "
                f"{reprlib.repr(message)}"
            )
        content = _read_string(message, "content", f"{what}: message {number}", "a string")
        messages.append((message["role"], content))
    if not messages or messages[-1][0] != "user":
        raise TraceError(f"{what} ({field!r}): the last message must have the role 'user'")
    return messages[-1][1], tuple(messages[:-1])


def find_field(name: str, common: tuple[str, ...], fields: list[str]) -> str | None:
    """The field called ``name``, or by a common name if ``name`` is the default; else None."""
    if name in fields:
        return name
    if name != common[0]:  # chosen by the caller: no other field will do
        raise TraceError(f"no field {name!r}; the fields are {', '.join(fields)}")
    by_name = {field.lower(): field for field in reversed(fields)}
    return next((by_name[name] for name in common if name in by_name), None)


def _read_scalar(row: dict[str, Any], field: str, what: str) -> str:
    """An id or an answer: a stripped string, or a number."""
    value: Any = row.get(field)
    if type(value) in (int, float) and math.isfinite(value):
        return str(value)
    return _read_string(row, field, what, "a string or a number").strip()


def _read_string(row: dict[str, Any], field: str, what: str, expected: str) -> str:
    """A field as a string that is not blank and can be encoded."""
    if field not in row:
        raise TraceError(f"{what} is missing: no {field!r} among {', '.join(row) or 'no fields'}")
    value = row[field]
    if not isinstance(value, str):
        raise TraceError(f"{what} ({field!r}) must be {expected}, got {reprlib.repr(value)}")
    if not value.strip():
        raise TraceError(f"{what} ({field!r}) is empty; expected {expected}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TraceError(
            f"{what} ({field!r}) is not valid Unicode: lone surrogate "
            f"{value[error.start]!r} at character {error.start}"
        ) from None
    return value
