"""``source.json``: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from autotts_gym.model_files.model_source import dump, read_source
from autotts_gym.traces.exceptions import TraceError


def test_reads_what_was_written(tmp_path: Path) -> None:
    entries = {"name": "Größe", "sha256": "ab" * 32, "tensors": {"F32": 3}, "licence": None}
    path = tmp_path / "source.json"
    path.write_text(dump(entries), "utf-8")
    assert read_source(path) == entries


def test_a_model_without_the_file(tmp_path: Path) -> None:
    assert read_source(tmp_path / "source.json") is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "cannot be read"),
        (b"[1]", "must be a JSON object"),
        (b'{"a": 1, "a": 2}', "has the key 'a' twice"),
        (b'{"a": NaN}', "NaN is not a JSON value"),
        (b'{"a": ' + b"[" * 100 + b"]" * 100 + b"}", "cannot be read"),
        (b'{"a": ' + b"[" * 8000 + b"]" * 8000 + b"}", "cannot be read"),
        (b'"' + b"a" * 20_000 + b'"', "at most 16,384 are read"),
        (b"\xff", "cannot be read"),
    ],
)
def test_refuses_other_files(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "source.json"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=f"{path}: ") as refused:
        read_source(path)
    assert expected in str(refused.value)
