"""Tables of completions: JSON Lines, JSON, CSV or Parquet, with columns that options name.

A row has a question and its gold answer, and either all completions of the question (``["...",
"..."]``, with lists beside it for tokens and reasons of their ends) or one of them.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.collection.question_fields import (
    ANSWER_FIELDS,
    ID_FIELDS,
    QUESTION_FIELDS,
    find_field,
)
from autotts_gym.collection.table_readers import READERS, read_jsonl
from autotts_gym.imports.completions import Completion, NumberedCompletion, ReadingOptions
from autotts_gym.imports.json_fields import objects, scalar_text, token_count
from autotts_gym.imports.message_texts import completion_text, prompt_text
from autotts_gym.traces.store import TraceError
from autotts_gym.utils.bounded_files import LARGE_FILE

#: Common names of these columns, the most likely first; case does not matter.
COMPLETION_FIELDS: Final = (
    *("completions", "completion", "responses", "response", "generations", "generation"),
    *("outputs", "output", "samples", "model_output"),
)
_TOKENS_FIELDS: Final = (
    *("tokens", "completion_tokens", "num_tokens", "output_tokens", "token_counts"),
)
_FINISH_FIELDS: Final = ("finish_reason", "finish_reasons", "finish", "stop_reason")
#: Reasons of an end at a maximum length.
_CUT: Final = ("length", "max_tokens")


class _Columns(NamedTuple):
    question: str
    completion: str
    id: str | None
    answer: str | None
    tokens: str | None
    finish: str | None


def read_completions(path: Path, options: ReadingOptions) -> Iterator[NumberedCompletion]:
    """Read a table; see :data:`~autotts_gym.imports.completions.CompletionReader`."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise TraceError(f"unknown type of table; expected {', '.join(READERS)}")
    rows = list(
        read_jsonl(path, limit=LARGE_FILE) if path.suffix.lower() == ".jsonl" else reader.read(path)
    )
    columns = _columns(list(dict.fromkeys(name for _, row in rows for name in row)), options)
    for number, row in rows:
        where = f"{reader.unit} {number}"
        try:
            for completion in _completions(row, columns):
                yield NumberedCompletion(where, completion)
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None


def _columns(names: list[str], options: ReadingOptions) -> _Columns:
    if not names:
        raise TraceError("contains no rows; at least one is needed")
    question = find_field(options.question_field, QUESTION_FIELDS, names)
    completion = find_field(options.completion_field, COMPLETION_FIELDS, names)
    for found, what, option, common in (
        (question, "question", "--question-field", QUESTION_FIELDS),
        (completion, "completion", "--completion-field", COMPLETION_FIELDS),
    ):
        if found is None:
            raise TraceError(
                f"no {what} field ({', '.join(common)}); name it with {option}: {', '.join(names)}"
            )
    return _Columns(
        str(question),
        str(completion),
        find_field(options.id_field, ID_FIELDS, names),
        find_field(options.answer_field, ANSWER_FIELDS, names),
        find_field(options.tokens_field, _TOKENS_FIELDS, names),
        find_field(_FINISH_FIELDS[0], _FINISH_FIELDS, names),
    )


def _completions(row: dict[str, Any], columns: _Columns) -> Iterator[Completion]:
    value = row.get(columns.completion)
    texts = _texts(value, columns.completion)
    many = isinstance(value, list) and not _is_chat(value)
    counts = _beside(row, columns.tokens, len(texts), many)
    reasons = _beside(row, columns.finish, len(texts), many)
    question = prompt_text(row.get(columns.question))
    if not question.strip():
        raise TraceError(f"the question ({columns.question!r}) is empty")
    gold, name = "", ""
    if columns.answer is not None and row.get(columns.answer) is not None:
        gold = scalar_text(row[columns.answer], columns.answer)
    if columns.id is not None and row.get(columns.id) is not None:
        name = scalar_text(row[columns.id], columns.id).strip()
    for text, count, reason in zip(texts, counts, reasons, strict=True):
        tokens = token_count(_number(count), columns.tokens or "")
        yield Completion(question, gold, text, tokens, name, cut=reason in _CUT)


def _number(value: object) -> object:
    """A number, also of a CSV file."""
    if isinstance(value, str):
        return int(value) if value.isdecimal() and len(value) < 20 else value.strip() or None
    return value


def _is_chat(values: list[Any]) -> bool:
    return bool(values) and all(isinstance(v, dict) and "role" in v for v in values)


def _texts(value: object, column: str) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        if _is_chat(value):
            return [_chat_text(value, column)]
        texts = [_chat_text(each, column) if isinstance(each, list) else each for each in value]
        for index, text in enumerate(texts):
            if not isinstance(text, str):
                raise TraceError(
                    f"completion {index} ({column!r}) must be a string, got {reprlib.repr(text)}"
                )
        if texts:
            return texts
    raise TraceError(
        f"the completions ({column!r}) must be a string, or a list of at least one, got "
        f"{reprlib.repr(value)}"
    )


def _chat_text(messages: list[Any], column: str) -> str:
    written = [m for m in objects(messages, column) if m.get("role") == "assistant"]
    if len(written) != 1 or written[0].get("tool_calls"):
        raise TraceError(f"{column!r} must have one message of the assistant, without tools")
    return completion_text(written[0])


def _beside(row: dict[str, Any], column: str | None, count: int, many: bool) -> list[Any]:
    """The values that belong to the completions of a row."""
    value = None if column is None else row.get(column)
    if value is None:
        return [None] * count
    values = value if isinstance(value, list) else [value]
    if len(values) != count or isinstance(value, list) != many:
        raise TraceError(
            f"{column!r} must have a value for each of the {count} completions, got "
            f"{reprlib.repr(value)}"
        )
    return values
