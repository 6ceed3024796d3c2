"""Grading of rollouts in a JSONL file: rows of ``{gold, answer}`` or ``{gold, text}``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotts_gym.answers.answer_pairs import check_equality
from autotts_gym.answers.extraction import check_extractors
from autotts_gym.answers.grading import grade, grade_text


@dataclass
class GradingSummary:
    """Counts of graded rows.

    Attributes:
        rows: number of rows.
        equal: rows whose answer equals the gold answer.
        null: texts without an answer, by why there is none: ``No``, ``ERR`` or empty.
    """

    rows: int = 0
    equal: int = 0
    null: dict[str, int] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """Share of rows whose answer equals the gold answer; 0 without rows."""
        return self.equal / self.rows if self.rows else 0.0


def read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Read the rows of a JSONL file with their line numbers; blank lines are skipped.

    Raises:
        OSError: the file cannot be read.
        ValueError: a line is not a JSON object; the message names it.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise ValueError(f"{path}, line {number}: not JSON: {error}") from None
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise ValueError(f"{path}, line {number}: must be an object, not {kind}")
            yield number, row


def grade_row(
    row: dict[str, Any], extractors: Sequence[str] | None, summary: GradingSummary
) -> dict[str, Any]:
    """Grade a row, and count it.

    Args:
        row: has ``gold``, and ``answer`` or ``text``. Its own ``extractors``, a list, go before
            those of the argument. Its ``equality`` is ``"value"`` by default, or ``"form"``.
        extractors: extractors for ``text``; None if rows must have their own.
        summary: counts the row.

    Returns:
        The row with ``answer`` and ``equal``; for a text also with ``null``, whether it has no
        answer.

    Raises:
        ValueError: a field is missing or invalid.
    """
    gold = _text(row, "gold")
    equality = check_equality(row.get("equality", "value"))
    summary.rows += 1
    if "text" not in row:
        answer = _text(row, "answer")
        equal = grade(gold, answer, equality)
        summary.equal += equal
        return {**row, "answer": answer, "equal": equal}
    chosen = row.get("extractors", extractors)
    if chosen is None:
        raise ValueError(
            "a text needs extractors: pass --extractors boxed,number or --protocol NAME, or put "
            "extractors into the row"
        )
    if not isinstance(chosen, list | tuple):
        raise ValueError(f"extractors must be a list such as ['boxed'], got {chosen!r:.80}")
    check_extractors(chosen)
    graded = grade_text(gold, _text(row, "text"), chosen, equality)
    summary.equal += graded.equal
    if graded.null:
        summary.null[graded.answer] = summary.null.get(graded.answer, 0) + 1
    return {**row, "answer": graded.answer, "equal": graded.equal, "null": graded.null}


def _text(row: dict[str, Any], name: str) -> str:
    """A field as text; numbers count as they are written."""
    if name not in row:
        raise ValueError(f"no {name!r}; a row needs gold, and answer or text")
    value = row[name]
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int | float):
        return json.dumps(value)
    if not isinstance(value, str):
        raise ValueError(f"{name!r} must be a string or a number, got {value!r:.80}")
    return value
