"""The files of a trace store on disk.

A store is a folder::

    card.yaml          model, benchmark, sampling, Δ, counts, fingerprint
    questions.parquet  id, text, gold, answers (the answer classes), nulls (which are null answers)
    branches.parquet   question, probes (count), tokens, final (an answer code) [, flags]
    probes.parquet     answer (a code) [, confidence] [, tokens], in the order of the branches
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

from autotts_gym.traces.card import CARD
from autotts_gym.traces.exceptions import FrozenError, TraceError
from autotts_gym.traces.store_tables import Tables
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
    if t.confidences is not None:
        files["probes"]["confidence"] = t.confidences
    if t.probe_tokens is not None:
        files["probes"]["tokens"] = t.probe_tokens
    if flags is not None:
        files["branches"]["flags"] = pa.array(flags, pa.string())
    if texts is not None:
        files["texts"] = {"text": pa.array(texts, pa.large_string())}
    for name, columns in files.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet", compression="zstd")


def read_tables(folder: Path) -> Tables:
    """Read the Parquet files of a store.

    Raises:
        TraceError: a file cannot be read.
        KeyError, ValueError, TypeError, NotImplementedError: a column is missing or invalid.
    """
    questions = read_table(folder, "questions")
    branches = read_table(folder, "branches")
    probes = read_table(folder, "probes")
    return Tables(
        ids=questions["id"].to_pylist(),
        texts=questions["text"].to_pylist(),
        golds=questions["gold"].to_pylist(),
        answers=questions["answers"].to_pylist(),
        nulls=questions["nulls"].to_pylist(),
        branch_counts=np.bincount(
            _column(branches, "question", "int64"), minlength=len(questions)
        ).astype(np.int64),
        lengths=_column(branches, "probes", "int64"),
        tokens=_column(branches, "tokens", "int64"),
        finals=_column(branches, "final", "int16"),
        probes=_column(probes, "answer", "int16"),
        confidences=_optional_column(probes, "confidence", "float32"),
        probe_tokens=_optional_column(probes, "tokens", "int32"),
    )


def read_table(folder: Path, name: str) -> pa.Table:
    """Read ``<name>.parquet``; raises ``TraceError`` if it cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{name}.parquet"
    try:
        # pq.read_table would import the code for partitioned data sets, which is slow.
        return pq.ParquetFile(path, memory_map=True).read()
    except (OSError, pa.ArrowException) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error


def read_texts(folder: Path) -> list[str | None] | None:
    """Read the text of each branch; None if texts were not recorded."""
    if not (folder / "texts.parquet").exists():
        return None
    texts: list[str | None] = read_table(folder, "texts")["text"].to_pylist()
    return texts


def read_flags(folder: Path) -> list[str] | None:
    """Read the flags of each branch; None if no branch has any."""
    table = read_table(folder, "branches")
    if "flags" not in table.column_names:
        return None
    flags: list[str] = table["flags"].to_pylist()
    return flags


def _column(table: pa.Table, name: str, kind: str) -> NDArray[Any]:
    """Return a column as ``kind``; raises ``ValueError`` if that changes or loses a value."""
    column = table[name].cast(kind)
    if column.null_count:
        raise ValueError(f"{name} has gaps")
    # Not to_numpy, which imports pandas if it is installed; that is slow.
    array: NDArray[Any] = np.from_dlpack(column.combine_chunks())
    return array


def _optional_column(table: pa.Table, name: str, kind: str) -> NDArray[Any] | None:
    return _column(table, name, kind) if name in table.column_names else None
