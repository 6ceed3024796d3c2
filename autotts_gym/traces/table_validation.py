"""Validation of the tables of a store before compiled code, which trusts them, reads them."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.exceptions import TraceError
from autotts_gym.traces.store_tables import RawAnswers, Tables

#: Number of answer classes of a question.
MAX_CLASSES: Final = int(np.iinfo(np.int16).max)
#: Tokens of a branch, and of a probe.
MAX_TOKENS: Final = int(np.iinfo(np.int32).max)
#: Observations contain confidences, so they need a bound.
MAX_CONFIDENCE: Final = 1e6


def validate(tables: Tables, interval: int) -> None:
    """Check every value of the tables.

    Args:
        tables: the tables.
        interval: Δ, tokens.

    Raises:
        TraceError: names the question, branch or probe, the invalid value, and what is valid.
    """
    t = tables
    _check_questions(t)
    _check_lengths(t)
    classes = np.array([len(answers) for answers in t.answers], np.int64)
    _check_range("tokens", t.tokens, 1, MAX_TOKENS, "branch")
    _check_codes("final answer", t.finals, t.branch_counts, classes)
    starts = np.cumsum(t.branch_counts) - t.branch_counts
    _check_codes("probe", t.probes, np.add.reduceat(t.lengths, starts), classes)
    for name, values, maximum in (
        ("confidence", t.confidences, MAX_CONFIDENCE),
        ("tokens", t.probe_tokens, MAX_TOKENS),
    ):
        if values is None:
            continue
        if len(values) != len(t.probes):
            raise TraceError(f"{len(values):,} values of {name} for {len(t.probes):,} probes")
        _check_range(name, values, 0, maximum, "probe")
    if t.raw is not None:
        _check_raw(t, t.raw)
    _check_generation_confidences(t, interval)


def _check_raw(t: Tables, raw: RawAnswers) -> None:
    """Check the raw answers: their lists, and that every code names one of its question."""
    lists = len(raw.texts), len(raw.nulls), len(raw.finals), len(raw.probes)
    if lists != (len(t.ids), len(t.ids), len(t.finals), len(t.probes)):
        raise TraceError("the raw answers have other numbers of questions, branches or probes")
    for row, (texts, nulls) in enumerate(zip(raw.texts, raw.nulls, strict=True)):
        strings = isinstance(texts, list) and all(isinstance(text, str) for text in texts)
        flags = isinstance(nulls, list) and all(isinstance(null, bool) for null in nulls)
        if not strings or not flags or len(texts) != len(nulls):
            raise TraceError(f"question {row}: raw answers must be strings, each with a null flag")
    classes = np.array([len(texts) for texts in raw.texts], np.int64)
    question = np.repeat(np.arange(len(t.ids)), t.branch_counts)
    for name, codes, owner in (
        ("raw final answer", raw.finals, question),
        ("raw probe", raw.probes, np.repeat(question, t.lengths)),
    ):
        wrong = np.flatnonzero((codes < 0) | (codes >= classes[owner]))
        if len(wrong):
            at = int(wrong[0])
            raise TraceError(f"{name} {at}: code {codes[at]} names no raw answer of its question")


def _check_generation_confidences(t: Tables, interval: int) -> None:
    """Check that an interval has no more confidences than tokens, and that they are in range."""
    sums, counts = t.confidence_sums, t.confidence_tokens
    if sums is None and counts is None:
        return
    if sums is None or counts is None:
        raise TraceError("confidence_sums and confidence_tokens must both be there, or neither")
    most = t.tokens_per_interval(interval)
    for name, values in (("confidence_sums", sums), ("confidence_tokens", counts)):
        if len(values) != len(most):
            raise TraceError(f"{len(values):,} {name} for {len(most):,} intervals")
    _check_limits(t, "confidence_tokens", counts, most)
    # Rounded as the sums are: they were float64 when the encoder compared them.
    _check_limits(t, "confidence_sums", sums, (counts * MAX_CONFIDENCE).astype(np.float32))


def _check_limits(t: Tables, name: str, values: NDArray[Any], most: NDArray[Any]) -> None:
    """Check that the value of each interval is at least 0 and at most ``most``."""
    wrong = np.flatnonzero(~((values >= 0) & (values <= most)))  # a NaN is neither
    if not len(wrong):
        return
    at = int(wrong[0])
    ends = np.cumsum(t.lengths + 1)
    branch = int(np.searchsorted(ends, at, "right"))
    depth = at - int(ends[branch] - t.lengths[branch]) + 2
    raise TraceError(
        f"branch {branch}, interval {depth}: {name} must be at least 0 and at most "
        f"{most[at]:,.0f}, got {values[at]}"
    )


def _check_questions(t: Tables) -> None:
    count = len(t.ids)
    columns: dict[str, list[Any]] = {
        "id": t.ids, "text": t.texts, "gold": t.golds, "answers": t.answers, "nulls": t.nulls,
    }  # fmt: skip
    for name, values in columns.items():
        if len(values) != count:
            raise TraceError(f"{len(values)} values of {name} for {count} questions")
        kind = str if name in ("id", "text", "gold") else list
        for row, value in enumerate(values):
            if not isinstance(value, kind):
                raise TraceError(f"question {row}: {name} must be a {kind.__name__}, got {value!r}")
    for row, (answers, nulls) in enumerate(zip(t.answers, t.nulls, strict=True)):
        if not 0 < len(answers) <= MAX_CLASSES:
            raise TraceError(
                f"question {row}: {len(answers)} answers; it must have 1 to {MAX_CLASSES}"
            )
        if not all(isinstance(answer, str) for answer in answers):
            raise TraceError(f"question {row}: answers must be strings")
        if len(nulls) != len(answers) or not all(isinstance(null, bool) for null in nulls):
            raise TraceError(f"question {row}: nulls must be {len(answers)} truth values")
        # A null answer may have the text of a real one.
        if len(set(zip(answers, nulls, strict=True))) < len(answers):
            raise TraceError(f"question {row}: the same answer occurs twice among its answers")


def _check_lengths(t: Tables) -> None:
    if len(t.branch_counts) != len(t.ids):
        raise TraceError(f"branches of {len(t.branch_counts)} questions for {len(t.ids)} questions")
    _check_range("branches", t.branch_counts, 1, len(t.lengths), "question")
    _check_range("probes", t.lengths, 0, len(t.probes), "branch")
    for name, values in (("tokens", t.tokens), ("final", t.finals), ("question", t.lengths)):
        if len(values) != int(t.branch_counts.sum()):
            raise TraceError(
                f"{len(values):,} values of {name} for {int(t.branch_counts.sum()):,} branches"
            )
    if int(t.lengths.sum()) != len(t.probes):
        raise TraceError(
            f"the branches have {int(t.lengths.sum()):,} probes, but there are {len(t.probes):,}"
        )


def _check_codes(
    name: str, codes: NDArray[np.int16], counts: NDArray[np.int64], classes: NDArray[np.int64]
) -> None:
    """Check that answer codes, ``counts`` of them per question, name classes of their question."""
    rows = np.flatnonzero(counts)
    if not len(rows):
        return
    starts = np.cumsum(counts)[rows] - counts[rows]
    # Negative codes are large as unsigned ones, so one pass finds both kinds.
    largest = np.maximum.reduceat(codes.view(np.uint16), starts)
    wrong = np.flatnonzero(largest >= classes[rows])
    if not len(wrong):
        return
    row, start = rows[wrong[0]], starts[wrong[0]]
    part = codes[start : start + counts[row]]
    at = int(np.flatnonzero((part < 0) | (part >= classes[row]))[0])
    raise TraceError(
        f"question {row}, {name} {at}: answer code {part[at]}; the question has the codes 0 to "
        f"{classes[row] - 1}"
    )


def _check_range(name: str, values: NDArray[Any], low: int, high: float, what: str) -> None:
    # A NaN is neither at least low nor at most high; min and max return it.
    if not len(values) or (values.min() >= low and values.max() <= high):
        return
    at = int(np.flatnonzero(~((values >= low) & (values <= high)))[0])
    raise TraceError(
        f"{what} {at}: {name} must be at least {low} and at most {high:,.0f}, got {values[at]}"
    )
