"""Headers of GGUF files: what is read, and what damaged and hostile files get."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from gguf_files import random_model, vocabulary, write_gguf
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.model_files.gguf_header import GgufError, read_header


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", random_model("qwen2"))


def header_of(*entries: bytes, tensors: int = 0, count: int | None = None) -> bytes:
    """A header with the given metadata entries."""
    count = len(entries) if count is None else count
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, count) + b"".join(entries)


def string(text: bytes, length: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if length is None else length) + text


def refusal(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(GgufError) as refused:
        read_header(path)
    assert str(refused.value).startswith(f"{path}: ")
    return str(refused.value)


def test_reads_what_the_gguf_package_wrote(gguf_file: Path) -> None:
    from gguf import GGUFReader

    header, theirs = read_header(gguf_file), GGUFReader(gguf_file)
    assert header.metadata["tokenizer.ggml.tokens"] == list(vocabulary()[0])
    for key, field in theirs.fields.items():
        if not key.startswith("GGUF."):
            assert header.metadata[key] == field.contents(), key
    assert list(header.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        ours = header.tensors[tensor.name]
        assert ours.shape == tuple(int(size) for size in reversed(tensor.shape))
        assert (ours.kind, ours.offset) == (tensor.tensor_type, tensor.data_offset)
    assert header.size == gguf_file.stat().st_size


def test_every_shorter_header_is_truncated(gguf_file: Path, tmp_path: Path) -> None:
    content = gguf_file.read_bytes()
    end = min(tensor.offset for tensor in read_header(gguf_file).tensors.values())
    short = tmp_path / "short.gguf"
    lengths = [*range(5, 400), *range(400, end - 64, 997)]
    for length in lengths:
        assert "is truncated: its header continues at byte" in refusal(short, content[:length])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is empty"),
        (b"GGU", "is not a GGUF file"),
        (b"PK\x03\x04 a zip file", "is not a GGUF file: it starts with b'PK"),
        (b"GGUF" + struct.pack("<I", 1), "has version 1; versions 2 and 3"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "has big-endian byte order"),
        (header_of(count=1 << 60), "has 1,152,921,504,606,846,976 metadata entries"),
        (header_of(tensors=1 << 60), "has 1,152,921,504,606,846,976 tensors"),
        (header_of(string(b"a", 1 << 62)), "bytes in a string"),
        (header_of(string(b"a") + struct.pack("<I", 77)), "'a' has the unknown type 77"),
        (header_of(string(b"a") + struct.pack("<IIQ", 9, 0, 1 << 61)), "values in 'a'"),
        (header_of(string(b"a") + struct.pack("<IIQ", 9, 9, 1)), "'a' is an array of type 9"),
        (header_of(string(b"\xff\xfe")), "not UTF-8"),
        (header_of(*[string(b"a") + struct.pack("<II", 4, 1)] * 2), "has 'a' twice"),
        (
            header_of(string(b"general.alignment") + struct.pack("<II", 4, 0)),
            "general.alignment must be an integer above 0",
        ),
        (
            header_of(tensors=1) + string(b"t") + struct.pack("<I", 1 << 30),
            "tensor 't' has 1073741824 dimensions",
        ),
        (
            header_of(tensors=2) + (string(b"t") + struct.pack("<IQIQ", 1, 4, 0, 0)) * 2,
            "has the tensor 't' twice",
        ),
    ],
)
def test_says_what_is_wrong(tmp_path: Path, content: bytes, expected: str) -> None:
    assert expected in refusal(tmp_path / "bad.gguf", content)


def test_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, expected in (
        ("missing", "No such file"),
        ("pipe", "is not a regular file"),
        (".", "Is a directory"),
    ):
        with pytest.raises(OSError, match=expected):
            read_header(tmp_path / name)


@settings(max_examples=300)
@given(changes=st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=8))
def test_changed_bytes_end_in_an_error_or_a_header(
    gguf_file: Path, changes: list[tuple[int, int]]
) -> None:
    content = bytearray(gguf_file.read_bytes())
    for position, byte in changes:
        content[position] = byte
    path = gguf_file.with_name("changed.gguf")
    path.write_bytes(content)
    try:
        header = read_header(path)
    except GgufError:
        return
    assert header.size == len(content)


def test_values_of_another_type_are_refused(gguf_file: Path) -> None:
    header = read_header(gguf_file)
    assert header.get("qwen2.block_count", int) == 3
    assert header.get("qwen2.block_count", float) == 3
    assert header.get("no.such.key", int, 7) == 7
    for key, kind in (("general.name", int), ("qwen2.block_count", str), ("general.name", list)):
        with pytest.raises(GgufError, match=f"{key} must be of type {kind.__name__}"):
            header.get(key, kind)
    with pytest.raises(GgufError, match=r"its metadata has no no\.such\.key"):
        header.require("no.such.key", int)
