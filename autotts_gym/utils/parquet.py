"""Reading of Parquet files within bounds of memory, and their atomic writing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from autotts_gym.utils.bounded_files import ANY_SIZE, check_regular
from autotts_gym.utils.files import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

#: Decoded bytes that a file of any size may have, and that it may have for each of its own bytes:
#: a few hundred bytes can describe billions of equal values.
_FREE_BYTES: Final = 1 << 27
_MAX_EXPANSION: Final = 200
#: Decoded bytes that no file may exceed, that a part of a file may not exceed, and values of a
#: column.
_MAX_BYTES: Final = 1 << 33
_MAX_PART: Final = 1 << 30
_MAX_VALUES: Final = 1 << 30
_MAX_COLUMNS: Final = 1000
#: Bytes per value of a string column while it is read: an index into the distinct strings.
_INDEX_BYTES: Final = 4
#: Rows that are decoded at a time where strings cannot be decoded to indices.
_BATCH_ROWS: Final = 64
#: Size of a file, bytes, above which several threads decode it.
_THREADED_SIZE: Final = 1 << 20


class ParquetError(ValueError):
    """A file that is not Parquet, lacks a column, or would not fit in memory."""


class DamagedError(ParquetError):
    """A file that is not a Parquet file, or a damaged one."""


class RowCountError(ParquetError):
    """A file with another number of rows than expected."""


@contextlib.contextmanager
def memory_returned() -> Iterator[None]:
    """Allocate with malloc: pyarrow's own allocator keeps tens of MB after it has read a file."""
    import pyarrow as pa

    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)


def read_table(
    path: str | os.PathLike[str],
    columns: Sequence[str] | None = None,
    *,
    rows: int | None = None,
    optional: Sequence[str] = (),
) -> pa.Table:
    """Read a Parquet file; its decoded size is bounded before and while it is decoded.

    Args:
        path: the file.
        columns: names of the columns to read; all by default. The others are not decoded.
        rows: number of rows that the file must have; any number by default.
        optional: names of columns to read if the file has them, beside ``columns``.

    Raises:
        OSError: the file cannot be read, or is not a regular file.
        ParquetError: it lacks a column or expands too far; ``DamagedError`` if it is not a
            Parquet file, ``RowCountError`` if it has another number of rows.
    """
    import pyarrow as pa

    size = check_regular(path)
    limit = min(_FREE_BYTES + _MAX_EXPANSION * size, _MAX_BYTES)
    with _damage_named():
        # pq.read_table would import the code for partitioned data sets, which is slow.
        with _open(path) as file:
            schema = file.schema_arrow
            names = _chosen_columns(schema, columns, optional)
            strings = _string_leaves(file, names)
            _check_metadata(file, names, strings, rows, limit)
        plain = pa.schema([schema.field(name) for name in names])
        if not strings:
            with _open(path) as file:
                return file.read(columns=names, use_threads=size > _THREADED_SIZE)
        return pa.concat_tables(
            [pa.Table.from_batches([], plain), *_decoded_parts(path, names, strings, plain, limit)]
        )


def column_names(path: str | os.PathLike[str]) -> list[str]:
    """Return the names of the columns of a Parquet file, without reading them.

    Raises:
        OSError, ParquetError: as for :func:`read_table`.
    """
    check_regular(path, ANY_SIZE)
    with _damage_named(), _open(path) as file:
        return _chosen_columns(file.schema_arrow, None, ())


def iterate_tables(
    path: str | os.PathLike[str], columns: Sequence[str], *, optional: Sequence[str] = ()
) -> Iterator[pa.Table]:
    """Read columns of a Parquet file part by part, for files that do not fit in memory.

    Args:
        path: the file.
        columns, optional: as for :func:`read_table`.

    Yields:
        The rows of the file in order, in tables of at most 1 GiB. All of them together are bounded
        by the size of the file.

    Raises:
        OSError, ParquetError: as for :func:`read_table`.
    """
    import pyarrow as pa

    left = _FREE_BYTES + _MAX_EXPANSION * check_regular(path, ANY_SIZE)
    with _damage_named():
        with _open(path) as file:
            schema = file.schema_arrow
            names = _chosen_columns(schema, columns, optional)
            strings = _string_leaves(file, names)
            groups = range(file.num_row_groups)
            for group in groups:
                _check_metadata(file, names, strings, None, min(left, _MAX_PART), [group])
        plain = pa.schema([schema.field(name) for name in names])
        for group in groups:
            limit = min(left, _MAX_PART)
            for part in _decoded_parts(path, names, strings, plain, limit, [group]):
                left -= part.nbytes
                yield part


def _open(path: str | os.PathLike[str], read_dictionary: Sequence[str] = ()) -> pq.ParquetFile:
    """Open a file; a small one is read without pyarrow's threads, each of which keeps memory."""
    import pyarrow.parquet as pq

    large = os.path.getsize(path) > _THREADED_SIZE
    return pq.ParquetFile(path, read_dictionary=read_dictionary, pre_buffer=large)


@contextlib.contextmanager
def _damage_named() -> Iterator[None]:
    """Turn pyarrow's errors for damaged files into ``DamagedError``."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise DamagedError(str(error)) from error
    except OSError as error:
        if error.errno is not None:  # of the file system
            raise
        raise DamagedError(str(error)) from error


def _chosen_columns(
    schema: pa.Schema, columns: Sequence[str] | None, optional: Sequence[str]
) -> list[str]:
    if len(schema.names) > _MAX_COLUMNS:
        raise ParquetError(f"{len(schema.names)} columns; at most {_MAX_COLUMNS} are read")
    duplicates = sorted({name for name in schema.names if schema.names.count(name) > 1})
    if duplicates:
        raise ParquetError(f"the column {duplicates[0]!r:.80} occurs twice")
    if columns is None:
        return list(schema.names)
    missing = [name for name in columns if name not in schema.names]
    if missing:
        present = ", ".join(schema.names)
        raise ParquetError(f"lacks the column {', '.join(missing)}; it has {present:.200}")
    return [*columns, *(name for name in optional if name in schema.names)]


def _leaves(file: pq.ParquetFile, names: Sequence[str]) -> list[int]:
    """Indices of the primitive columns below top-level columns."""
    chosen = set(names)
    return [
        index
        for index in range(len(file.schema))
        if file.schema.column(index).path.partition(".")[0] in chosen
        or file.schema.column(index).path in chosen
    ]


def _string_leaves(file: pq.ParquetFile, names: Sequence[str]) -> list[str]:
    return [
        file.schema.column(index).path
        for index in _leaves(file, names)
        if file.schema.column(index).physical_type == "BYTE_ARRAY"
    ]


def _check_metadata(
    file: pq.ParquetFile,
    names: Sequence[str],
    strings: Sequence[str],
    rows: int | None,
    limit: int,
    groups: Sequence[int] | None = None,
) -> None:
    """Bound what reading takes: values of every column, and distinct strings.

    ``groups`` are the row groups to count, all by default.
    """
    metadata = file.metadata
    if rows is not None and metadata.num_rows != rows:
        raise RowCountError(f"has {metadata.num_rows:,} rows; expected {rows:,}")
    if groups is None:
        groups = range(metadata.num_row_groups)
    leaves = _leaves(file, names)
    _check_columns(file, groups, leaves)
    total = 0
    for index in leaves:
        column = file.schema.column(index)
        widths = {"BOOLEAN": 1, "INT32": 4, "FLOAT": 4, "INT96": 12, "BYTE_ARRAY": _INDEX_BYTES}
        width = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8
        width = widths.get(column.physical_type, width)
        for group in groups:
            chunk = metadata.row_group(group).column(index)
            values = max(chunk.num_values, metadata.row_group(group).num_rows)
            if values > _MAX_VALUES:
                raise ParquetError(f"a column of {values:,} values; at most {_MAX_VALUES:,} fit")
            total += values * width
            if column.path in strings:
                total += chunk.total_uncompressed_size
            _check_size(total, limit)


def _check_columns(file: pq.ParquetFile, groups: Sequence[int], leaves: Sequence[int]) -> None:
    """Raise pyarrow's error for damaged metadata of columns.

    ``RowGroupMetaData.column`` of pyarrow 26 ends the process instead. A reader of batches of 0
    rows reads the same metadata, and decodes nothing; of no columns, it divides by zero.
    """
    if not leaves:
        return
    for group in groups:
        list(file.reader.iter_batches(0, row_groups=[group], column_indices=leaves))


def _decoded_parts(
    path: str | os.PathLike[str],
    names: Sequence[str],
    strings: Sequence[str],
    schema: pa.Schema,
    limit: int,
    groups: Sequence[int] | None = None,
) -> Iterator[pa.Table]:
    """Decode a file with string columns part by part, at most ``limit`` bytes in all.

    ``groups`` are the row groups to decode, all by default.
    """
    import pyarrow as pa

    total = 0
    # Strings are decoded to indices first, because equal ones take no space in the file.
    threads = os.path.getsize(path) > _THREADED_SIZE
    with _open(path, read_dictionary=strings) as indexed, _open(path) as file:
        for group in range(file.num_row_groups) if groups is None else groups:
            parts: Iterable[pa.Table]
            try:
                parts = [indexed.read_row_group(group, columns=names, use_threads=threads)]
            except NotImplementedError:  # lists whose strings are partly stored without indices
                batches = file.iter_batches(_BATCH_ROWS, [group], columns=names)
                parts = (pa.Table.from_batches([batch]) for batch in batches)
            for part in parts:
                total += part.nbytes + sum(
                    _expanded_bytes(chunk) for column in part.columns for chunk in column.chunks
                )
                _check_size(total, limit)
                yield part.cast(schema)


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise ParquetError(
            f"its content takes {size:,} bytes, which is more than the {limit:,} that a file of "
            "its size may take"
        )


def _expanded_bytes(array: pa.Array) -> int:
    """Bytes of the strings of an array in which equal strings are stored once."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_dictionary(array.type):
        lengths = pc.binary_length(array.dictionary).cast("int64")
        return int(pc.sum(pc.take(lengths, array.indices)).as_py() or 0)
    if pa.types.is_struct(array.type):
        return sum(_expanded_bytes(array.field(i)) for i in range(array.type.num_fields))
    if pa.types.is_list(array.type) or pa.types.is_large_list(array.type):
        return _expanded_bytes(array.values)
    if pa.types.is_map(array.type):
        return _expanded_bytes(array.keys) + _expanded_bytes(array.items)
    return 0


def write_table(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a Parquet file atomically, compressed with zstd.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    import pyarrow.parquet as pq

    write_atomically(
        Path(path), lambda temporary: pq.write_table(table, temporary, compression="zstd")
    )
