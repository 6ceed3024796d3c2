"""The published traces of MARS (arXiv 2606.12935): Parquet files with a row for each trace.

The columns, as its repository documents them (``docs/data_format.md``, ``mars/parquet_loader.py``):
``qid``, ``trace_idx``, ``ground_truth``, ``extracted_answer`` (null if the trace never finished),
``confs`` (a number for each token, so that its length is that of the trace) and ``probes`` (a list
of ``position``, ``answer``, ``is_correct``, ``raw_text``, ``avg_conf``). Probes stand at the
multiples of 2,048 tokens, which all traces share, and at ends of traces, which are not used here.
Neither the questions nor the texts of the traces are part of the files.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.plan import probe_positions
from autotts_gym.imports.json_fields import objects, optional, required, token_count
from autotts_gym.imports.question_groups import with_file
from autotts_gym.traces.store import Branch, Question, TraceError
from autotts_gym.utils.parquet import iterate_tables

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
    import pyarrow.compute as pc

    row = 0
    try:
        for table in iterate_tables(path, COLUMNS):
            lengths = pc.list_value_length(table["confs"]).to_pylist()
            rows = table.drop_columns(["confs"]).to_pylist()
            for values, length in zip(rows, lengths, strict=True):
                try:
                    yield _trace(f"row {row}", values, length, interval)
                except TraceError as error:
                    raise TraceError(f"row {row}: {error}") from None
                row += 1
    except TraceError:
        raise
    except (ValueError, TypeError, NotImplementedError) as error:
        raise TraceError(f"not a table of MARS: {error}") from error


def _trace(where: str, row: dict[str, Any], length: int | None, interval: int) -> _Trace:
    if not length:
        raise TraceError("'confs' must have a number for each token of the trace, got none")
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
        tokens=token_count(length, "confs") or 1,
        final=texts[-1],
        confidences=_confidences([probes[cut].get("avg_conf") for cut in cuts]),
        flags="unanswered" if nulls[-1] else "",
        nulls=nulls,
        raw=texts,
    )
    question, number = required(row, "qid", int), required(row, "trace_idx", int)
    return _Trace(where, question, number, required(row, "ground_truth", str), branch)


def _confidences(values: list[Any]) -> list[float] | None:
    """Confidences of the probes; None if one is missing."""
    if any(value is None for value in values):
        return None
    return [float(value) for value in values]
