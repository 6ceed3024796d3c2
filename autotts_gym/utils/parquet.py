"""Reading and atomic writing of Parquet files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from autotts_gym.utils.files import write_atomically

if TYPE_CHECKING:
    import pyarrow as pa


def read_table(path: str | os.PathLike[str]) -> pa.Table:
    """Read a Parquet file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not a Parquet file.
    """
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read()


def write_table(table: pa.Table, path: str | os.PathLike[str]) -> None:
    """Write a Parquet file atomically, compressed with zstd.

    Raises:
        OSError: the file cannot be written; the error names ``path``.
    """
    import pyarrow.parquet as pq

    write_atomically(
        Path(path), lambda temporary: pq.write_table(table, temporary, compression="zstd")
    )
