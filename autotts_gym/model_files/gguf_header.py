"""The header of a GGUF file: its metadata and the table of its tensors.

The format is described in ``docs/gguf.md`` of ggml. Versions 2 and 3 in little-endian byte order
are read. Files may come from strangers: every count and offset is checked against the size of the
file before it is used.
"""

from __future__ import annotations

import errno
import math
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.utils.bounded_files import check_regular

MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
#: Largest size of a file, bytes.
_MAX_FILE: Final = 1 << 40
#: Limits of a header. Vocabularies have some 300,000 tokens and as many merges.
_MAX_ENTRIES: Final = 1 << 16
_MAX_ARRAY: Final = 1 << 22
_MAX_STRING: Final = 1 << 24
_MAX_DIMENSIONS: Final = 4
_DEFAULT_ALIGNMENT: Final = 32

#: Formats of scalars by the type number of metadata values.
_SCALARS: Final = {
    **{0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?"},
    **{10: "Q", 11: "q", 12: "d"},
}
_STRING: Final = 8
_ARRAY: Final = 9


class GgufError(ValueError):
    """A GGUF file is damaged, or its model is not supported. The message names the file."""


class TensorInfo(NamedTuple):
    """A tensor of a GGUF file.

    Attributes:
        shape: as in numpy, the slowest dimension first.
        kind: number of its ggml type, such as 0 for float32.
        offset: position of its data in the file, bytes.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


@dataclass(frozen=True)
class GgufHeader:
    """The header of a GGUF file.

    Attributes:
        path: the file.
        metadata: values by key; arrays are lists.
        tensors: the tensors by name, in the order of the file.
        size: size of the file, bytes.
    """

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, TensorInfo]
    size: int

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """Return a metadata value, or the default if the file does not have it.

        Args:
            key: key of the value.
            kind: ``int`` (at least 0), ``float`` (an integer will do), ``str`` or ``list``.
            default: the value of a missing key.

        Raises:
            GgufError: the value has another type.
        """
        value = self.metadata.get(key)
        if value is None:
            return default
        valid = type(value) in ((int, float) if kind is float else (kind,))
        if not valid or (kind is int and value < 0) or (kind is float and not math.isfinite(value)):
            shown = f"{value!r:.60}"
            raise GgufError(f"{self.path}: {key} must be of type {kind.__name__}, got {shown}")
        return value

    def require(self, key: str, kind: type) -> Any:
        """Return a metadata value; see :meth:`get`.

        Raises:
            GgufError: the file does not have it, or it has another type.
        """
        value = self.get(key, kind)
        if value is None:
            raise GgufError(f"{self.path}: its metadata has no {key}")
        return value


def read_header(path: str | os.PathLike[str]) -> GgufHeader:
    """Read the header of a GGUF file.

    Raises:
        GgufError: it is not a GGUF file, is truncated, or has an invalid or unsupported header.
        OSError: the file cannot be read.
    """
    path = Path(path)
    size = check_regular(path, _MAX_FILE)
    try:
        with _map(path, size) as data:
            return _parse(path, data, size)
    except GgufError as error:
        raise GgufError(f"{path}: {error}") from None


@contextmanager
def _map(path: Path, size: int) -> Iterator[mmap.mmap]:
    if not size:
        raise GgufError("is empty; expected a GGUF file")
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as error:
            raise OSError(error.errno or errno.EIO, error.strerror, str(path)) from error
        with mapped:
            yield mapped


def _parse(path: Path, data: mmap.mmap, size: int) -> GgufHeader:
    cursor = _Cursor(data, size)
    if data[: len(MAGIC)] != MAGIC:
        raise GgufError(f"is not a GGUF file: it starts with {data[: len(MAGIC)]!r}, not {MAGIC!r}")
    cursor.position = len(MAGIC)
    version = cursor.scalar("I")
    if version not in _VERSIONS:
        swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
        found = "big-endian byte order" if swapped in _VERSIONS else f"version {version}"
        raise GgufError(f"has {found}; versions 2 and 3 in little-endian byte order are read")
    tensor_count = cursor.count("tensors", _MAX_ENTRIES)
    metadata: dict[str, Any] = {}
    for _ in range(cursor.count("metadata entries", _MAX_ENTRIES)):
        key = cursor.string()
        if key in metadata:
            raise GgufError(f"its metadata has {key!r:.80} twice")
        metadata[key] = cursor.value(cursor.scalar("I"), key)
    tensors: dict[str, TensorInfo] = {}
    for _ in range(tensor_count):
        name = cursor.string()
        if name in tensors:
            raise GgufError(f"has the tensor {name!r:.80} twice")
        tensors[name] = cursor.tensor(name)
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if type(alignment) is not int or not 0 < alignment <= 1 << 20:
        raise GgufError(f"general.alignment must be an integer above 0, got {alignment!r:.60}")
    start = -(-cursor.position // alignment) * alignment
    placed = {k: t._replace(offset=start + t.offset) for k, t in tensors.items()}
    return GgufHeader(path, metadata, placed, size)


class _Cursor:
    """Reads values one after another, and never beyond the end of the file."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self.position = 0
        self._data = data
        self._size = size

    def take(self, count: int) -> bytes:
        end = self.position + count
        if end > self._size:
            raise GgufError(
                f"is truncated: its header continues at byte {self.position:,}, and the file has "
                f"{self._size:,}"
            )
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def scalar(self, form: str) -> Any:
        return struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))[0]

    def count(self, what: str, limit: int) -> int:
        count: int = self.scalar("Q")
        if count > limit:
            raise GgufError(f"has {count:,} {what}; at most {limit:,} are read")
        return count

    def string(self) -> str:
        text = self.take(self.count("bytes in a string", _MAX_STRING))
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise GgufError(f"has a string that is not UTF-8: {text[:40]!r}") from error

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        if kind == _ARRAY:
            return self._array(key)
        raise GgufError(f"{key!r:.80} has the unknown type {kind}")

    def _array(self, key: str) -> list[Any]:
        kind = self.scalar("I")
        count = self.count(f"values in {key!r:.80}", _MAX_ARRAY)
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        if kind not in _SCALARS:
            raise GgufError(f"{key!r:.80} is an array of type {kind}, which is not supported")
        form = f"<{count}{_SCALARS[kind]}"
        return list(struct.unpack(form, self.take(struct.calcsize(form))))

    def tensor(self, name: str) -> TensorInfo:
        dimensions = self.scalar("I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise GgufError(f"tensor {name!r:.80} has {dimensions} dimensions; expected 1 to 4")
        shape = tuple(reversed([self.scalar("Q") for _ in range(dimensions)]))
        return TensorInfo(shape, self.scalar("I"), self.scalar("Q"))
