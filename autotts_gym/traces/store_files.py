"""The files of a trace store on disk.

A store is a folder::

    card.yaml          model, benchmark, sampling, Δ, counts, fingerprint
    questions.parquet  id, text, gold, answers (the answer classes), nulls (which are null answers)
                       [, raw (answers as they were written), raw_nulls]
    branches.parquet   question, probes (count), tokens, final (an answer code) [, flags]
                       [, raw_final (a code of a raw answer)]
    probes.parquet     answer (a code) [, confidence] [, tokens] [, raw], in the order of the
                       branches
    intervals.parquet  confidence_sum, confidence_tokens: n + 1 rows for a branch with n probes, in
                       the order of the branches; only if generation confidences were recorded
    texts.parquet      text of each branch; only if texts were recorded
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from autotts_gym.traces.card import CARD, Card
from autotts_gym.traces.exceptions import FrozenError, TraceError
from autotts_gym.traces.store_tables import RawAnswers, Tables
from autotts_gym.utils import parquet
from autotts_gym.utils.files import create_folder

if TYPE_CHECKING:
    import pyarrow as pa


@contextlib.contextmanager
def create_store_folder(target: Path) -> Iterator[Path]:
    """Create the folder of a store, or of a group of stores, atomically.

    The context is a temporary folder that becomes ``target`` on success. On an error, nothing is
    left behind.

    Raises:
        FrozenError: ``target`` exists at the start or at the end, or is inside a store.
    """
    with create_folder(target, lambda: _check_free(target)) as temporary:
        yield temporary


def _check_free(target: Path) -> None:
    if os.path.lexists(target):
        raise FrozenError(
            f"{target} exists already, and stores are frozen: choose another name, or remove it"
        )
    for parent in target.parents:
        if (parent / CARD).exists():
            raise FrozenError(f"{target} would lie inside the store {parent}, and that is frozen")


def write_tables(
    folder: Path,
    tables: Tables,
    flags: Sequence[str] | None,
    texts: Sequence[str | None] | None,
) -> None:
    """Write the Parquet files of a store.

    Args:
        folder: an existing folder.
        tables: the integer-coded content.
        flags: flags of each branch; None if there are none.
        texts: text of each branch; None if texts were not recorded.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    t = tables
    # pa.table keeps the dtypes of arrays. read_tables uses the same column names.
    files: dict[str, dict[str, Any]] = {
        "questions": {
            "id": pa.array(t.ids, pa.string()),
            "text": pa.array(t.texts, pa.string()),
            "gold": pa.array(t.golds, pa.string()),
            "answers": pa.array(t.answers, pa.list_(pa.string())),
            "nulls": pa.array(t.nulls, pa.list_(pa.bool_())),
        },
        "branches": {
            "question": np.repeat(np.arange(len(t.branch_counts), dtype=np.int32), t.branch_counts),
            "probes": t.lengths.astype(np.int32),
            "tokens": t.tokens,
            "final": t.finals,
        },
        "probes": {"answer": t.probes},
    }
    if t.raw is not None:
        files["questions"]["raw"] = pa.array(t.raw.texts, pa.list_(pa.string()))
        files["questions"]["raw_nulls"] = pa.array(t.raw.nulls, pa.list_(pa.bool_()))
        files["branches"]["raw_final"] = t.raw.finals
        files["probes"]["raw"] = t.raw.probes
    if t.confidences is not None:
        files["probes"]["confidence"] = t.confidences
    if t.probe_tokens is not None:
        files["probes"]["tokens"] = t.probe_tokens
    if t.confidence_sums is not None:
        files["intervals"] = {
            "confidence_sum": t.confidence_sums,
            "confidence_tokens": t.confidence_tokens,
        }
    if flags is not None:
        files["branches"]["flags"] = pa.array(flags, pa.string())
    if texts is not None:
        files["texts"] = {"text": pa.array(texts, pa.large_string())}
    for name, columns in files.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="zstd")


@parquet.memory_returned()
def read_tables(folder: Path, card: Card) -> Tables:
    """Read the Parquet files of a store; they must have as many rows as its card says.

    Raises:
        TraceError: a file cannot be read, or is not a table of this store.
    """
    names = ["id", "text", "gold", "answers", "nulls"]
    optional = ["raw", "raw_nulls"]
    questions = read_table(folder, "questions", names, rows=card.questions, optional=optional)
    names = ["question", "probes", "tokens", "final"]
    optional = ["raw_final"]
    branches = read_table(folder, "branches", names, rows=card.branches, optional=optional)
    optional = ["confidence", "tokens", "raw"]
    probes = read_table(folder, "probes", ["answer"], rows=card.probes, optional=optional)
    intervals = _read_intervals(folder, card)
    try:
        return Tables(
            ids=questions["id"].to_pylist(),
            texts=questions["text"].to_pylist(),
            golds=questions["gold"].to_pylist(),
            answers=questions["answers"].to_pylist(),
            nulls=questions["nulls"].to_pylist(),
            branch_counts=_branch_counts(_column(branches, "question", "int64"), len(questions)),
            lengths=_column(branches, "probes", "int64"),
            tokens=_column(branches, "tokens", "int64"),
            finals=_column(branches, "final", "int16"),
            probes=_column(probes, "answer", "int16"),
            confidences=_optional_column(probes, "confidence", "float32"),
            probe_tokens=_optional_column(probes, "tokens", "int32"),
            raw=_read_raw(questions, branches, probes),
            confidence_sums=_optional_column(intervals, "confidence_sum", "float32"),
            confidence_tokens=_optional_column(intervals, "confidence_tokens", "int32"),
        )
    except (KeyError, ValueError, TypeError, NotImplementedError) as error:
        raise TraceError(f"{folder}: its tables are not a trace store's: {error}") from error


def _read_raw(questions: pa.Table, branches: pa.Table, probes: pa.Table) -> RawAnswers | None:
    if "raw" not in questions.column_names:
        return None
    return RawAnswers(
        texts=questions["raw"].to_pylist(),
        nulls=questions["raw_nulls"].to_pylist(),
        finals=_column(branches, "raw_final", "int32"),
        probes=_column(probes, "raw", "int32"),
    )


def _read_intervals(folder: Path, card: Card) -> pa.Table | None:
    if not os.path.lexists(folder / "intervals.parquet"):
        return None
    names = ["confidence_sum", "confidence_tokens"]
    return read_table(folder, "intervals", names, rows=card.probes + card.branches)


def _branch_counts(questions: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Branches of each question; raises ``ValueError`` unless they are sorted by question."""
    if len(questions) and not (questions.min() >= 0 and questions.max() < count):
        raise ValueError(f"a branch's question is not one of 0 to {count - 1}")
    if (np.diff(questions) < 0).any():
        raise ValueError("the branches are not sorted by question")
    return np.bincount(questions, minlength=count).astype(np.int64)


def read_table(
    folder: Path,
    name: str,
    columns: Sequence[str],
    *,
    rows: int,
    optional: Sequence[str] = (),
) -> pa.Table:
    """Read columns of ``<name>.parquet``, which must have ``rows`` rows.

    Raises:
        TraceError: it cannot be read, or it is not a table of a store with this card.
    """
    path = folder / f"{name}.parquet"
    try:
        return parquet.read_table(path, columns, rows=rows, optional=optional)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except parquet.DamagedError as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
    except parquet.RowCountError as error:
        counts = {"texts": ["branches"], "intervals": ["probes", "branches"]}
        raise TraceError(mismatch(folder, counts.get(name, [name]))) from error
    except ValueError as error:
        raise TraceError(
            f"{folder}: its tables are not a trace store's: {path.name}: {error}"
        ) from error


def mismatch(folder: Path | None, entries: Sequence[str]) -> str:
    """The message about tables that differ from entries of the card."""
    return (
        f"{folder}: its tables do not match the {', '.join(entries)} of its {CARD}; "
        "a store is frozen, so collect or import it again under a new name"
    )


def read_texts(folder: Path, branches: int) -> list[str | None] | None:
    """Read the text of each of the branches; None if texts were not recorded."""
    if not os.path.lexists(folder / "texts.parquet"):
        return None
    return _strings(read_table(folder, "texts", ["text"], rows=branches), "text")


def read_flags(folder: Path, branches: int) -> list[str] | None:
    """Read the flags of each of the branches; None if no branch has any."""
    table = read_table(folder, "branches", [], rows=branches, optional=["flags"])
    if "flags" not in table.column_names:
        return None
    return [flags or "" for flags in _strings(table, "flags")]


def _strings(table: pa.Table, name: str) -> list[str | None]:
    values: list[Any] = table[name].to_pylist()
    if not all(value is None or isinstance(value, str) for value in values):
        raise TraceError(f"{name} must be strings")
    return values


def _column(table: pa.Table, name: str, kind: str) -> NDArray[Any]:
    """Return a column as ``kind``; raises ``ValueError`` if that changes or loses a value."""
    column = table[name].cast(kind)
    if column.null_count:
        raise ValueError(f"{name} has gaps")
    # Not to_numpy, which imports pandas if it is installed; that is slow.
    array: NDArray[Any] = np.from_dlpack(column.combine_chunks())
    return array


def _optional_column(table: pa.Table | None, name: str, kind: str) -> NDArray[Any] | None:
    if table is None or name not in table.column_names:
        return None
    return _column(table, name, kind)
