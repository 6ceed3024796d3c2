"""The published traces of MARS (arXiv 2606.12935): Parquet files with a row for each trace.

The columns, as its repository documents them (``docs/data_format.md``, ``mars/parquet_loader.py``):
``qid``, ``trace_idx``, ``ground_truth``, ``extracted_answer`` (null if the trace never finished),
``confs`` (the confidence of each token, as DeepConf defines it: it is taken to be of the 20
likeliest tokens, as in that paper) and ``probes`` (a list of ``position``, ``answer``,
``is_correct``, ``raw_text``, ``avg_conf``). Probes stand at the multiples of 2,048 tokens, which
all traces share, and at ends of traces, which are not used here. Neither the questions nor the
texts of the traces are part of the files.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.plan import probe_positions
from autotts_gym.imports.json_fields import objects, optional, required
from autotts_gym.imports.question_groups import with_file
from autotts_gym.inference.token_confidence import interval_counts
from autotts_gym.traces.store import Branch, Question, TraceError
from autotts_gym.traces.table_validation import MAX_CONFIDENCE
from autotts_gym.utils.parquet import iterate_tables

if TYPE_CHECKING:
    import pyarrow as pa

#: Δ of the published files, tokens.
INTERVAL: Final = 2048
COLUMNS: Final = ("qid", "trace_idx", "ground_truth", "extracted_answer", "confs", "probes")


class _Trace(NamedTuple):
    """A row of a file: ``qid``, ``trace_idx``, ``ground_truth``, and its branch."""

    where: str
    question: int
    number: int
    gold: str
    branch: Branch


def read_mars(
    paths: Sequence[Path], asked: Sequence[AskedQuestion], interval: int = INTERVAL
) -> list[Question]:
    """Read the questions of files; their answers are as they were written.

    Args:
        paths: the files.
        asked: questions with their texts, whose ids are values of ``qid``; may be empty.
        interval: Δ: every trace must have a probe at each multiple of it below its length.

    Returns:
        The questions by ``qid``, with branches by ``trace_idx``.

    Raises:
        TraceError: a value is invalid, or a probe is missing; the message names file and row.
    """
    traces: dict[int, dict[int, _Trace]] = {}
    for path in paths:
        with_file(path, lambda path: _add(traces, path, interval))
    if not traces:
        raise TraceError(f"{', '.join(map(str, paths))}: no traces")
    texts = {question.id: question.text for question in asked}
    branches = [trace.branch for rows in traces.values() for trace in rows.values()]
    complete = all(branch.confidences is not None for branch in branches)
    return [
        Question(
            texts.get(str(question), ""),
            next(iter(rows.values())).gold,
            [_kept(rows[number].branch, complete) for number in sorted(rows)],
            str(question),
        )
        for question, rows in sorted(traces.items())
    ]


def _kept(branch: Branch, confidences: bool) -> Branch:
    """The branch, without confidences unless all probes of all traces have one."""
    return branch if confidences else replace(branch, confidences=None)


def _add(traces: dict[int, dict[int, _Trace]], path: Path, interval: int) -> None:
    for trace in _read(path, interval):
        rows = traces.setdefault(trace.question, {})
        if trace.number in rows:
            raise TraceError(
                f"{trace.where}: a second trace {trace.number} of question {trace.question}"
            )
        if any(row.gold != trace.gold for row in list(rows.values())[:1]):
            raise TraceError(
                f"{trace.where}: another 'ground_truth' than before for question {trace.question}"
            )
        rows[trace.number] = trace


def _read(path: Path, interval: int) -> Iterator[_Trace]:
    row = 0
    try:
        for table in iterate_tables(path, COLUMNS):
            confidences = _per_row(table["confs"])
            rows = table.drop_columns(["confs"]).to_pylist()
            for values, of_tokens in zip(rows, confidences, strict=True):
                try:
                    yield _trace(f"row {row}", values, of_tokens, interval)
                except TraceError as error:
                    raise TraceError(f"row {row}: {error}") from None
                row += 1
    except TraceError:
        raise
    except (ValueError, TypeError, NotImplementedError) as error:
        raise TraceError(f"not a table of MARS: {error}") from error


def _per_row(column: pa.ChunkedArray) -> Iterator[NDArray[np.float64]]:
    """The numbers of each row of a column of lists; none for a row that is null."""
    import pyarrow as pa

    if not pa.types.is_list(column.type) and not pa.types.is_large_list(column.type):
        raise TypeError(f"confs must be lists of numbers, not {column.type}")
    for chunk in column.chunks:
        values = np.asarray(chunk.values.to_numpy(zero_copy_only=False), np.float64)
        ends = chunk.offsets.to_numpy()
        valid = chunk.is_valid().to_numpy(zero_copy_only=False)
        for start, stop, is_valid in zip(ends[:-1], ends[1:], valid, strict=True):
            yield values[start : stop if is_valid else start]


def _trace(
    where: str, row: dict[str, Any], of_tokens: NDArray[np.float64], interval: int
) -> _Trace:
    length = len(of_tokens)
    # A NaN, also used for a missing number, is neither at least 0 nor at most the limit.
    if not length or not (of_tokens.min() >= 0 and of_tokens.max() <= MAX_CONFIDENCE):
        raise TraceError("'confs' must have a number of at least 0 for each token of the trace")
    probes = {
        required(probe, "position", int): probe
        for probe in objects(optional(row, "probes", list) or [], "probes")
    }
    cuts = probe_positions(length, interval)
    missing = [cut for cut in cuts if cut not in probes]
    if missing:
        raise TraceError(
            f"a trace of {length:,} tokens without a probe at token {missing[0]:,}; its probes "
            f"are at {reprlib.repr(sorted(probes))}: give the tokens between two with --interval"
        )
    answers = [optional(probes[cut], "answer", str) for cut in cuts]
    answers.append(optional(row, "extracted_answer", str))
    nulls = [answer is None or not answer.strip() for answer in answers]
    texts = ["No" if null else str(answer) for answer, null in zip(answers, nulls, strict=True)]
    branch = Branch(
        probes=texts[:-1],
        tokens=length,
        final=texts[-1],
        confidences=_confidences([probes[cut].get("avg_conf") for cut in cuts]),
        flags="unanswered" if nulls[-1] else "",
        nulls=nulls,
        raw=texts,
        confidence_sums=[float(x) for x in np.add.reduceat(of_tokens, [0, *cuts])],
        confidence_tokens=interval_counts(length, interval),
    )
    question, number = required(row, "qid", int), required(row, "trace_idx", int)
    return _Trace(where, question, number, required(row, "ground_truth", str), branch)


def _confidences(values: list[Any]) -> list[float] | None:
    """Confidences of the probes; None if one is missing."""
    if any(value is None for value in values):
        return None
    return [float(value) for value in values]
