"""Logs of Inspect: forms of samples, and damaged or hostile archives."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.imports import inspect_logs
from autotts_gym.imports.completions import Completion, ReadingOptions
from autotts_gym.imports.inspect_logs import FAILED, SEVERAL_TURNS, read_inspect
from autotts_gym.traces.store import TraceError

FILES = Path(__file__).parents[1] / "fixtures/rollouts"
SAMPLE: dict[str, Any] = {
    "id": "a",
    "epoch": 1,
    "input": "1 + 1?",
    "target": "2",
    "messages": [
        {"role": "system", "content": "Add."},
        {"role": "user", "content": "1 + 1?"},
        {"role": "assistant", "content": "2"},
    ],
    "output": {
        "model": "m",
        "choices": [{"message": {"role": "assistant", "content": "2"}, "stop_reason": "stop"}],
        "usage": {"input_tokens": 9, "output_tokens": 4},
    },
    "scores": {"match": {"value": "C"}},
}
FOUND = Completion("1 + 1?", "2", "2", 4, "a", right=True, model="org/m")


def read(path: Path) -> tuple[list[Completion], dict[str, int]]:
    options = ReadingOptions()
    return [each for _, each in read_inspect(path, options)], dict(options.left_out)


def read_samples(folder: Path, *samples: Any) -> tuple[list[Completion], dict[str, int]]:
    path = folder / "log.json"
    log = {"version": 2, "eval": {"model": "org/m"}, "samples": list(samples)}
    path.write_text(json.dumps(log), "utf-8")
    return read(path)


def archive(folder: Path, members: dict[str, Any], **options: Any) -> Path:
    path = folder / "log.eval"
    with zipfile.ZipFile(path, "w", **options) as made:
        for name, value in members.items():
            made.writestr(name, value if isinstance(value, bytes) else json.dumps(value))
    return path


def test_samples(tmp_path: Path) -> None:
    output = SAMPLE["output"]
    (choice,) = output["choices"]
    found, left_out = read_samples(
        tmp_path,
        SAMPLE,
        SAMPLE | {"id": 3, "target": ["2", "two"], "scores": None, "messages": []},
        SAMPLE | {"output": output | {"choices": [choice | {"stop_reason": "max_tokens"}] * 2}},
        SAMPLE | {"scores": {"match": {"value": "I"}}},
        SAMPLE | {"scores": {"judge": {"value": "P"}}},
        SAMPLE | {"error": {"message": "x"}},
        SAMPLE | {"output": {"choices": []}},
        SAMPLE | {"messages": SAMPLE["messages"] * 2},
    )
    cut = Completion("1 + 1?", "2", "2", None, "a", True, True, "org/m")
    assert found == [
        FOUND,
        Completion("1 + 1?", "2", "2", 4, "3", model="org/m"),
        cut,
        cut,
        Completion("1 + 1?", "2", "2", 4, "a", right=False, model="org/m"),
        Completion("1 + 1?", "2", "2", 4, "a", model="org/m"),
    ]
    assert left_out == {FAILED: 2, SEVERAL_TURNS: 1}


def test_attachments_and_parts(tmp_path: Path) -> None:
    parts = [
        {"type": "reasoning", "reasoning": "xyz", "redacted": True, "summary": "one"},
        {"type": "text", "text": "attachment://k1"},
    ]
    choice = {"message": {"role": "assistant", "content": parts}}
    sample = SAMPLE | {
        "attachments": {"k1": "2"},
        "output": SAMPLE["output"] | {"choices": [choice]},
    }
    ((found,), _) = read_samples(tmp_path, sample)
    assert found.text == "<think>\none\n</think>\n\n2"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": None}, "'id' must be a string or a number, got None"),
        ({"target": {"a": 1}}, "'target' must be a string or a number, got {'a': 1}"),
        ({"messages": 3}, "'messages' must be a list, got 3"),
        ({"messages": [], "input": 3}, "the prompt must be a text or messages, got 3"),
        ({"output": {"choices": [{}]}}, "lacks 'message', which must be an object"),
        (
            {"output": SAMPLE["output"] | {"usage": {"output_tokens": "4"}}},
            "'output.usage.output_tokens' must be a number of tokens below 2**31, got '4'",
        ),
        ({"scores": {"match": 3}}, "scores[0] must be an object, got 3"),
    ],
)
def test_invalid_samples(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read_samples(tmp_path, SAMPLE, SAMPLE | changes)
    assert str(caught.value) == f"sample 1: {message}"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_archives(tmp_path: Path, method: int) -> None:
    members = {f"samples/{n}_epoch_1.json": SAMPLE | {"id": n} for n in (10, 9, 1)}
    header = {"eval": {"model": "org/m"}}
    path = archive(tmp_path, {**members, "header.json": header}, compression=method)
    found, _ = read(path)
    assert [completion.id for completion in found] == ["1", "9", "10"]
    assert {completion.model for completion in found} == {"org/m"}


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"header.json": {}}, "has no members samples/*.json: not a log of Inspect"),
        ({"samples/a.json": b"[]"}, "samples/a.json: must be a JSON object"),
        ({"samples/a.json": b"{"}, "samples/a.json: malformed JSON at line 1, column 2"),
        ({"samples/a.json": b"\xff"}, "samples/a.json: not UTF-8 at offset 0"),
    ],
)
def test_invalid_archives(tmp_path: Path, members: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        read(archive(tmp_path, members))
    assert str(caught.value).startswith(message)


def test_archives_that_expand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_logs, "_MAX_DOCUMENT", 10_000)
    members = {"samples/a.json": b" " * 10_001}
    path = archive(tmp_path, members, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(TraceError, match=r"a\.json: 10,001 bytes; at most 10,000 are read"):
        read(path)
    monkeypatch.setattr(inspect_logs, "_MAX_ARCHIVE", 10_000)
    with pytest.raises(TraceError, match="1 members of 10,001 bytes; at most"):
        read(path)


def zstd_archive(folder: Path, content: bytes, size: int) -> Path:
    """An archive with a zstd member whose directory says it has ``size`` bytes."""
    compressed = pa.Codec("zstd").compress(content, asbytes=True)
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as made:
        made.writestr("samples/a.json", compressed)
    data = bytearray(memory.getvalue())
    start = data.rfind(b"PK\x01\x02")
    data[start + 10 : start + 12] = (93).to_bytes(2, "little")
    data[start + 24 : start + 28] = size.to_bytes(4, "little")
    path = folder / "log.eval"
    path.write_bytes(bytes(data))
    return path


def test_members_compressed_with_zstd(tmp_path: Path) -> None:
    content = json.dumps(SAMPLE).encode()
    found, _ = read(zstd_archive(tmp_path, content, len(content)))
    assert [completion.text for completion in found] == ["2"]
    with pytest.raises(TraceError, match=r"samples/a\.json: damaged: "):
        read(zstd_archive(tmp_path, content, len(content) - 1))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.binary(max_size=6), st.integers(0, 40), st.booleans())
def test_damaged_archives(
    tmp_path_factory: Any, place: int, new: bytes, cut: int, rest: bool
) -> None:
    content = (FILES / "inspect_choices.eval").read_bytes()
    at = place % (len(content) + 1)
    path = tmp_path_factory.mktemp("log") / "log.eval"
    path.write_bytes(content[:at] + new + (content[at + cut :] if rest else b""))
    try:
        completions, left_out = read(path)
    except (TraceError, RecursionError):
        return
    assert all(isinstance(completion.text, str) for completion in completions)
    assert all(count > 0 for count in left_out.values())
