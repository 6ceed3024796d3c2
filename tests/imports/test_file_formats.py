"""How formats are recognised."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from autotts_gym.imports.file_formats import COMPLETION_FORMATS, FORMATS, recognise
from autotts_gym.traces.store import TraceError

JSONL = {
    "lm-eval": {"doc_id": 0, "doc": {}, "resps": [["x"]], "filter": "none"},
    "batch": {"id": "b", "custom_id": "q", "response": None, "error": None},
    "verifiers": {"example_id": 0, "prompt": [], "completion": [], "answer": "1"},
    "completions": {"question": "?", "completions": ["1"]},
}


@pytest.mark.parametrize("name", JSONL)
def test_json_lines(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n" + json.dumps(JSONL[name]) + "\n{", "utf-8")
    assert recognise(path) == name


@pytest.mark.parametrize("row", [{"task": {}, "nodes": []}, {"task": {}, "traces": []}])
def test_traces_of_verifiers(tmp_path: Path, row: dict[str, object]) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row), "utf-8")
    assert recognise(tmp_path / "rows.jsonl") == "verifiers"


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ('{"version": 2, "status": "success"}', "inspect"),
        ('[{"question": "?", "each_branch": []}]', "published"),
        (' [{"question": "?", "completions": []}]', "completions"),
        ("[]", "published"),
        ("", "published"),
    ],
)
def test_json(tmp_path: Path, content: str, name: str) -> None:
    (tmp_path / "log.json").write_text(content, "utf-8")
    assert recognise(tmp_path / "log.json") == name


def test_parquet(tmp_path: Path) -> None:
    names = ["qid", "trace_idx", "ground_truth", "extracted_answer", "confs", "probes"]
    for columns, name in ((names, "mars"), (names[:-1], "completions")):
        pq.write_table(pa.table({column: [1] for column in columns}), tmp_path / "t.parquet")
        assert recognise(tmp_path / "t.parquet") == name
    (tmp_path / "t.parquet").write_bytes(b"PAR1")
    with pytest.raises(TraceError, match="cannot be read as Parquet"):
        recognise(tmp_path / "t.parquet")


def test_others(tmp_path: Path) -> None:
    assert recognise(tmp_path) == "published"
    (tmp_path / "a.csv").touch()
    assert recognise(tmp_path / "a.csv") == "completions"
    (tmp_path / "a.zip").write_bytes(b"PK\x03\x04")
    assert recognise(tmp_path / "a.zip") == "inspect"
    (tmp_path / "a.pkl").write_bytes(b"\x80\x04.")
    with pytest.raises(TraceError) as caught:
        recognise(tmp_path / "a.pkl")
    assert str(caught.value).startswith("the format of a file '.pkl' is not known: expected .jsonl")
    assert set(COMPLETION_FORMATS) | {"published", "mars"} == set(FORMATS)
