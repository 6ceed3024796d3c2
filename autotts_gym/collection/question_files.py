"""``read_questions``: questions from a file or a Hugging Face dataset."""

from __future__ import annotations

import os
from pathlib import Path

from autotts_gym.collection import hub_datasets
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.question_fields import rows_to_questions
from autotts_gym.collection.table_readers import READERS, NumberedRow
from autotts_gym.traces.store import TraceError


def read_questions(
    source: str | os.PathLike[str],
    *,
    id_field: str = "id",
    question_field: str = "question",
    answer_field: str = "answer",
    options_field: str = "options",
    split: str | None = None,
) -> list[AskedQuestion]:
    r"""Read questions, in the order of the file.

    Field names that are left at their default also match other common names, such as ``problem`` or
    ``Answer``. Without an id field, ids are row numbers from 0. Without an answer field, there are
    no gold answers. A gold answer that is a whole solution is reduced to the content of its last
    ``\boxed{...}``, or to the text after its last ``####``.

    Options of multiple choice (:mod:`autotts_gym.collection.choice_options`) are appended to the
    question as ``A) ...``, and the gold answer is the letter of the right one. A question may be a
    list of messages, each with a role and a content; the last is the user's. A field ``equality``
    with the value ``form`` says that answers must be written like the gold answer, as in "simplify
    the fraction".

    Args:
        source: a UTF-8 file with one question per row (``.jsonl``, ``.json`` with a list, ``.csv``
            or ``.parquet``), or the name of a Hugging Face dataset: ``org/name`` or
            ``org/name:configuration``, optionally with the prefix ``hf:``.
        id_field, question_field, answer_field, options_field: names of the fields.
        split: split of a Hugging Face dataset; optional if it has only one.

    Raises:
        TraceError: the source cannot be read; the message names the file, the line or row, and what
            would be valid.
    """
    if _is_hub_dataset(source):
        name = str(source).removeprefix(hub_datasets.HUB_PREFIX)
        where, unit = f"dataset {name}", "row"
        rows = list(enumerate(hub_datasets.load_rows(name, split)))
    else:
        where = str(Path(source))
        rows, unit = _read_file(Path(source), split)
    try:
        return rows_to_questions(
            rows,
            unit,
            id_field=id_field,
            question_field=question_field,
            answer_field=answer_field,
            options_field=options_field,
        )
    except TraceError as error:
        raise TraceError(f"{where}: {error}") from None


def _is_hub_dataset(source: str | os.PathLike[str]) -> bool:
    if not isinstance(source, str):
        return False
    if source.startswith(hub_datasets.HUB_PREFIX):
        return True
    path = Path(source)
    is_file = path.suffix.lower() in READERS or path.exists()
    return hub_datasets.is_hub_name(source) and not is_file


def _read_file(path: Path, split: str | None) -> tuple[list[NumberedRow], str]:
    """The rows of a file, and what their numbers count."""
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise TraceError(
            f"{path}: unknown type of question file; expected {', '.join(READERS)}, or a Hugging "
            "Face dataset as org/name or hf:name"
        )
    if split is not None:
        raise TraceError(f"{path}: a file has no split {split!r}; only datasets have splits")
    try:
        return list(reader.read(path)), reader.unit
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RecursionError:
        raise TraceError(f"{path}: JSON nested too deeply; a question is one flat object") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None
