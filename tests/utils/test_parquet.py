"""Parquet files of unknown origin are decoded within bounds."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autotts_gym.utils import parquet
from autotts_gym.utils.parquet import (
    DamagedError,
    ParquetError,
    RowCountError,
    column_names,
    iterate_tables,
    read_table,
)


def written(path: Path, table: Any, **options: Any) -> Path:
    pq.write_table(table, path, compression="zstd", **options)
    return path


@pytest.mark.parametrize("row_group_size", [1, 2, 100])
def test_all_types(tmp_path: Path, row_group_size: int) -> None:
    table = pa.table(
        {
            "string": pa.array(["x", "y", None, "x"]),
            "large": pa.array(["x", "y", None, ""], pa.large_string()),
            "bytes": [b"\xff", b"", None, b"x"],
            "list": pa.array([["a", "a"], [], None, [None]], pa.list_(pa.string())),
            "deep": [[["a"]], [], None, [[]]],
            "struct": [{"a": "x", "b": [1]}, None, {"a": "y", "b": []}, {"a": None, "b": None}],
            "number": [1.5, 2, None, 3],
            "truth": [True, False, None, True],
        }
    )
    path = written(tmp_path / "all.parquet", table, row_group_size=row_group_size)
    assert read_table(path).to_pylist() == table.to_pylist()
    assert read_table(path).schema == table.schema
    chosen = read_table(path, ["list"], rows=4, optional=["number", "no"])
    assert chosen.column_names == ["list", "number"]


def test_lists_with_more_distinct_strings_than_a_dictionary_holds(tmp_path: Path) -> None:
    source = random.Random(0)
    rows = [[f"{source.random()}" for _ in range(5)] for _ in range(3000)]
    table = pa.table({"a": rows})
    path = written(tmp_path / "a.parquet", table, dictionary_pagesize_limit=1000)
    assert read_table(path).to_pylist() == table.to_pylist()


def repeated(text: str, count: int) -> Any:
    indices = pa.array(np.zeros(count, np.int32))
    return pa.DictionaryArray.from_arrays(indices, pa.array([text]))


@pytest.mark.parametrize("kind", ["dictionary", "plain", "numbers"])
def test_files_that_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(parquet, "_FREE_BYTES", 1 << 20)
    column = {
        "dictionary": lambda: repeated("a" * 100_000, 100_000),  # 10 GB
        "plain": lambda: pa.array(["a" * 10_000] * 2000),
        "numbers": lambda: pa.array(np.zeros(10_000_000, np.int16)),
    }[kind]()
    options = {"use_dictionary": kind == "dictionary"} if kind != "numbers" else {}
    path = written(tmp_path / "bomb.parquet", pa.table({"a": column, "b": column}), **options)
    assert path.stat().st_size < 200_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(ParquetError, match="which is more than"):
        read_table(path)
    assert pa.default_memory_pool().max_memory() - before < 100 << 20


@pytest.mark.parametrize("row_group_size", [1, 3, 100])
def test_part_by_part(tmp_path: Path, row_group_size: int) -> None:
    table = pa.table({"a": [[1.5], [], [2.5]] * 3, "b": [*"xyzxyzxyz"], "c": [0] * 9})
    path = written(tmp_path / "a.parquet", table, row_group_size=row_group_size)
    parts = list(iterate_tables(path, ["b"], optional=["a", "d"]))
    assert len(parts) == -(-9 // row_group_size)
    assert pa.concat_tables(parts).to_pylist() == table.select(["b", "a"]).to_pylist()
    assert column_names(path) == ["a", "b", "c"]
    with pytest.raises(ParquetError, match="lacks the column d"):
        next(iter(iterate_tables(path, ["d"])))


def test_parts_that_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "_FREE_BYTES", 1 << 20)
    rows = repeated("a" * 100_000, 100_000)  # 10 GB
    path = written(tmp_path / "bomb.parquet", pa.table({"a": rows}), row_group_size=1000)
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(ParquetError, match="which is more than"):
        list(iterate_tables(path, ["a"]))
    assert pa.default_memory_pool().max_memory() - before < 100 << 20
    # One part may be no larger than the bound of parts, however large the file.
    monkeypatch.setattr(parquet, "_FREE_BYTES", 1 << 40)
    monkeypatch.setattr(parquet, "_MAX_PART", 1 << 16)
    path = written(tmp_path / "wide.parquet", pa.table({"a": np.arange(100_000)}))
    with pytest.raises(ParquetError, match="more than the 65,536"):
        list(iterate_tables(path, ["a"]))


def test_columns_that_are_not_wanted_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "_FREE_BYTES", 1 << 20)
    table = pa.table({"a": np.zeros(100_000, np.int16), "b": repeated("a" * 100_000, 100_000)})
    path = written(tmp_path / "bomb.parquet", table)
    assert read_table(path, ["a"]).column_names == ["a"]


@pytest.mark.parametrize("rows", [0, 3])
def test_no_rows_or_columns(tmp_path: Path, rows: int) -> None:
    table = pa.table({"a": pa.array(range(rows), "int64"), "b": pa.array(["x"] * rows, "string")})
    path = written(tmp_path / "a.parquet", table)
    assert read_table(path, rows=rows).equals(table)
    assert read_table(path, [], optional=["c"]).column_names == []


def test_unsuitable_files(tmp_path: Path) -> None:
    path = written(tmp_path / "a.parquet", pa.table({"a": [1, 2]}))
    with pytest.raises(RowCountError, match="has 2 rows; expected 3"):
        read_table(path, rows=3)
    with pytest.raises(ParquetError, match="lacks the column b; it has a"):
        read_table(path, ["b"])
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(ParquetError, match="occurs twice"):
        read_table(written(tmp_path / "twice.parquet", twice))
    (tmp_path / "text.parquet").write_text("x" * 100)
    with pytest.raises(DamagedError, match="Parquet"):
        read_table(tmp_path / "text.parquet")
    os.mkfifo(tmp_path / "pipe.parquet")
    with pytest.raises(OSError, match="not a regular file"):
        read_table(tmp_path / "pipe.parquet")


@pytest.mark.parametrize(
    ("intact", "damaged"),
    [
        pytest.param(b"\x19\x26\x0a\x14", b"\x19\x16\x0a\x14", id="histogram"),
        pytest.param(b"\x18\x07element", b"\x18\x07elem\xecnt", id="name"),
        pytest.param(b"\x25\x02\x18\x01n", b"\x26\x02\x18\x01n", id="type"),
    ],
)
def test_damaged_metadata(tmp_path: Path, intact: bytes, damaged: bytes) -> None:
    """Damage that ends the process in ``RowGroupMetaData.column``, or is no Arrow error."""
    table = pa.table({"n": pa.array([1, 2, None] * 5), "l": pa.array([["x"], [], None] * 5)})
    path = written(tmp_path / "a.parquet", table)
    content = path.read_bytes()
    assert intact in content
    path.write_bytes(content.replace(intact, damaged))
    for read in (read_table, lambda path: list(iterate_tables(path, ["n", "l"]))):
        with pytest.raises(DamagedError):
            read(path)
