"""The questions that a collection asks, read from a file or from a Hugging Face data set."""

from __future__ import annotations

import csv
import hashlib
import importlib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from reprlib import repr as _short  # values in messages: never long, never deep
from typing import Any, Final

from autotts_gym.inference.answer_extraction import find
from autotts_gym.traces.store import NULL_ANSWERS, TraceError
from autotts_gym.traces.strict_json import parse

#: Names that data sets give to these fields, the likeliest first; case does not matter.
_ID_FIELDS: Final = ("id", "unique_id", "problem_id", "question_id")
_QUESTION_FIELDS: Final = ("question", "problem", "prompt", "text")
_ANSWER_FIELDS: Final = (
    *("answer", "gold_answer", "final_answer", "expected_answer", "gold", "target", "solution"),
)

_HUB: Final = "hf:"
_HUB_NAME: Final = re.compile(r"[\w.-]+/[\w.-]+(?::[\w.-]+)?")


@dataclass(frozen=True)
class AskedQuestion:
    """A question to ask.

    Attributes:
        id: what it is called, unique among those that are asked together.
        text: what is asked, as it was found.
        gold: its answer, as it was found (see :func:`read_questions`); empty where there is none.
    """

    id: str
    text: str
    gold: str = ""


def read_questions(
    source: str | Path,
    *,
    id_field: str = "id",
    question_field: str = "question",
    answer_field: str = "answer",
    split: str | None = None,
) -> list[AskedQuestion]:
    r"""Read questions, in the order in which they stand.

    A field that is left at its default need not be called so: ``problem``, ``Answer`` and the like
    are found as well. Without a field of ids, questions are called by their rows, counted from 0.
    Without a field of answers there are no gold answers. A gold answer that is a whole solution
    is cut down to what stands in its last ``\boxed{...}``, or behind its last ``####``.

    Args:
        source: a file (``.jsonl``, ``.json`` with a list, ``.csv`` or ``.parquet``, rows being
            questions and UTF-8 their encoding), or the name of a Hugging Face data set:
            ``org/name``, ``org/name:configuration``, or either behind ``hf:``.
        id_field, question_field, answer_field: what the fields are called.
        split: which part of a data set; not needed where there is one.

    Raises:
        TraceError: names the file and the line or row that is wrong, and what would be right; or
            says why a data set cannot be had.
    """
    name = _hub_name(source)
    if name is not None:
        where, unit, rows = f"data set {name}", "row", list(enumerate(_load(name, split)))
    else:
        path = Path(source)
        reader = _READERS.get(path.suffix.lower())
        if reader is None:
            raise TraceError(
                f"{path}: not a file of questions; that ends in {', '.join(_READERS)}, and a "
                "Hugging Face data set is called org/name or hf:name"
            )
        if split is not None:
            raise TraceError(f"{path}: a file has no split {split!r}; only data sets have them")
        where, (read, unit) = str(path), reader
        try:
            rows = list(read(path))
        except OSError as error:
            raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
        except RecursionError:
            raise TraceError(f"{path}: JSON nested too deeply; a question is one object") from None
        except TraceError as error:
            raise TraceError(f"{path}: {error}") from None
    try:
        return _questions(rows, unit, (id_field, question_field, answer_field))
    except TraceError as error:
        raise TraceError(f"{where}: {error}") from None


def digest(questions: Sequence[AskedQuestion]) -> str:
    """sha256 over ids, texts and gold answers, in order: what is asked, wherever it was read."""
    hashed = hashlib.sha256(f"autotts-questions {len(questions)}\n".encode())
    for question in questions:
        for text in (question.id, question.text, question.gold):
            encoded = text.encode()
            # Lengths first, so that no two lists of questions can read the same.
            hashed.update(len(encoded).to_bytes(8, "little") + encoded)
    return hashed.hexdigest()


# --- rows to questions ---------------------------------------------------------------------------

#: A row, and the number by which its file calls it.
_Row = tuple[int, dict[str, Any]]


def _questions(
    rows: Sequence[_Row], unit: str, fields: tuple[str, str, str]
) -> list[AskedQuestion]:
    if not rows:
        raise TraceError("holds no questions; at least one is needed")
    there = list(dict.fromkeys(field for _, row in rows for field in row))
    id_field = _field(fields[0], _ID_FIELDS, there)
    answer_field = _field(fields[2], _ANSWER_FIELDS, there)
    question_field = _field(fields[1], _QUESTION_FIELDS, there)
    if question_field is None:
        known = ", ".join(_QUESTION_FIELDS)
        raise TraceError(f"no field of questions ({known}); there are {', '.join(there)}")
    questions: list[AskedQuestion] = []
    named: dict[str, int] = {}
    for count, (number, row) in enumerate(rows):
        where = f"{unit} {number}"
        identity = str(count)
        if id_field is not None:
            identity = _text(row, id_field, f"{where}: its id")
        if identity in named:
            raise TraceError(
                f"{where}: its id is {_short(identity)}, as that of {unit} {named[identity]}; "
                "ids must be unique"
            )
        named[identity] = number
        text = _text(row, question_field, f"{where}: its question", whole=False)
        gold = ""
        if answer_field is not None and row.get(answer_field) not in (None, ""):
            gold = _gold(_text(row, answer_field, f"{where}: its answer"))
        questions.append(AskedQuestion(identity, text, gold))
    return questions


def _field(wanted: str, known: tuple[str, ...], there: list[str]) -> str | None:
    """The field that holds what is wanted; None if that was left open and nothing is like it."""
    if wanted in there:
        return wanted
    if wanted != known[0]:  # asked for by name, so nothing else will do
        raise TraceError(f"no field {wanted!r}; there are {', '.join(there)}")
    by_name = {field.lower(): field for field in reversed(there)}
    return next((by_name[name] for name in known if name in by_name), None)


def _text(row: dict[str, Any], field: str, what: str, *, whole: bool = True) -> str:
    """A field as text that can be written: numbers count as such if ``whole``, as in ids."""
    if field not in row:
        raise TraceError(f"{what} is missing: no {field!r} among {', '.join(row) or 'no fields'}")
    value = row[field]
    if whole and type(value) in (int, float) and math.isfinite(value):
        return str(value)
    wanted = "a string or a number" if whole else "a string"
    if not isinstance(value, str):
        raise TraceError(f"{what} ({field!r}) must be {wanted}, got {_short(value)}")
    if not value.strip():
        raise TraceError(f"{what} ({field!r}) is empty; it must be {wanted} that says something")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise TraceError(
            f"{what} ({field!r}) is not valid Unicode: lone surrogate "
            f"{value[error.start]!r} at character {error.start}"
        ) from None
    return value.strip() if whole else value


def _gold(answer: str) -> str:
    """The answer where a data set gives a solution."""
    _, mark, behind = answer.rpartition("####")  # GSM8K
    if mark:
        return behind.strip()
    boxed = find(answer, ["boxed"]).answer
    return answer if boxed in NULL_ANSWERS else boxed


# --- files ---------------------------------------------------------------------------------------


def _read_jsonl(path: Path) -> Iterable[_Row]:
    # Not splitlines: JSON strings may hold other characters that end lines.
    for number, line in enumerate(_decoded(path).split("\n"), 1):
        if line.strip():
            try:
                yield number, _object(_parsed(line))
            except json.JSONDecodeError as error:
                raise TraceError(
                    f"line {number}: malformed JSON at column {error.colno}: {error.msg}; "
                    "a line is one JSON object"
                ) from None
            except TraceError as error:
                raise TraceError(f"line {number}: {error}") from None


def _read_json(path: Path) -> Iterable[_Row]:
    try:
        entries = _parsed(_decoded(path))
    except json.JSONDecodeError as error:
        hint = "; a file of an object a line is called .jsonl" if error.msg == "Extra data" else ""
        at = f"line {error.lineno}, column {error.colno}"
        raise TraceError(f"malformed JSON at {at}: {error.msg}{hint}") from None
    if not isinstance(entries, list):
        raise TraceError(f"must be a list of objects, got {_short(entries)}")
    for number, entry in enumerate(entries):
        try:
            yield number, _object(entry)
        except TraceError as error:
            raise TraceError(f"row {number}: {error}") from None


def _read_csv(path: Path) -> Iterable[_Row]:
    reader = csv.DictReader(io.StringIO(_decoded(path), newline=""), strict=True)
    try:
        names = reader.fieldnames or []
        if len(set(names)) < len(names):
            raise TraceError(f"line 1: names a column twice: {', '.join(names)}")
        for row in reader:
            number = reader.line_num  # the last one of several
            if None in row or None in row.values():
                count = sum(value is not None for key, value in row.items() if key is not None)
                count += len(row.get(None) or ())
                raise TraceError(
                    f"line {number}: {count} columns, but {len(names)} in line 1; what holds a "
                    "comma must be quoted"
                )
            yield number, dict(row)
    except csv.Error as error:
        # Where the row begins: a quote that is never closed runs on to the end of the file.
        raise TraceError(f"line {reader.line_num + 1}: malformed CSV: {error}") from None


def _read_parquet(path: Path) -> Iterable[_Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(enumerate(pq.ParquetFile(path).read().to_pylist()))
    except (pa.ArrowException, ValueError) as error:
        raise TraceError(f"cannot be read as Parquet: {error}") from error


_READERS: Final[dict[str, tuple[Callable[[Path], Iterable[_Row]], str]]] = {
    ".jsonl": (_read_jsonl, "line"),
    ".json": (_read_json, "row"),
    ".csv": (_read_csv, "line"),
    ".parquet": (_read_parquet, "row"),
}


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        bad = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        raise TraceError(f"line {line}: not UTF-8: {bad}: {error.reason}") from None


def _parsed(text: str) -> Any:
    return parse(text, "write it as a string")


def _object(entry: object) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise TraceError(f"must be an object, a question with its fields, got {_short(entry)}")
    return entry


# --- data sets -----------------------------------------------------------------------------------


def _hub_name(source: str | Path) -> str | None:
    """The data set's name, where it is one."""
    if not isinstance(source, str):
        return None
    if source.startswith(_HUB):
        return source.removeprefix(_HUB)
    is_file = Path(source).suffix.lower() in _READERS or Path(source).exists()
    return source if _HUB_NAME.fullmatch(source) and not is_file else None


def _load(name: str, split: str | None) -> list[dict[str, Any]]:
    try:
        datasets = importlib.import_module("datasets")
    except ModuleNotFoundError:
        raise TraceError(
            f"data set {name}: reading from Hugging Face needs the package datasets: "
            "pip install datasets; or download its file of questions and name that"
        ) from None
    path, _, configuration = name.partition(":")
    try:
        loaded = datasets.load_dataset(path, configuration or None, split=split)
    except Exception as error:  # of many kinds, by way of several libraries
        kind = type(error).__name__
        raise TraceError(
            f"data set {name}: cannot be loaded from Hugging Face: {kind}: {error} "
            "(without a network, download its file of questions elsewhere and name that)"
        ) from error
    if isinstance(loaded, dict):
        if len(loaded) != 1:
            raise TraceError(f"data set {name}: has several splits, say which: {', '.join(loaded)}")
        (loaded,) = loaded.values()
    return [dict(row) for row in loaded]
