"""Traces of MARS, in files made from the documented schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import autotts_gym
from autotts_gym.traces.store import TraceError, TraceStore

PROBE = pa.struct(
    {
        "position": pa.int64(),
        "answer": pa.string(),
        "is_correct": pa.bool_(),
        "raw_text": pa.string(),
        "avg_conf": pa.float64(),
    }
)
SCHEMA = pa.schema(
    {
        "qid": pa.int64(),
        "trace_idx": pa.int64(),
        "ground_truth": pa.string(),
        "extracted_answer": pa.string(),
        "confs": pa.list_(pa.float16()),
        "probes": pa.list_(PROBE),
    }
)


def trace(
    qid: int, number: int, length: int, answers: list[str | None], final: str | None, **more: Any
) -> dict[str, Any]:
    """A row with probes at the multiples of 2,048 tokens and at the end."""
    places = [*range(2048, length, 2048), length]
    probes = [
        {
            "position": at,
            "answer": answer,
            "is_correct": answer == "7",
            "raw_text": f"{answer}}}",
            "avg_conf": 10.0 + at / 4096,
        }
        for at, answer in zip(places, [*answers, final], strict=True)
    ]
    return {
        "qid": qid,
        "trace_idx": number,
        "ground_truth": "7" if not qid else "8",
        "extracted_answer": final,
        "confs": np.linspace(5, 15, length).astype(np.float16),
        "probes": probes,
        **more,
    }


ROWS = [
    trace(1, 0, 100, [], "8.0"),
    trace(0, 1, 5000, [None, "7"], "7"),
    trace(0, 0, 2048, [], "9"),
    trace(0, 2, 6145, ["9", "9", "9"], None),
]


def write(path: Path, rows: list[dict[str, Any]], **options: Any) -> Path:
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), path, compression="zstd", **options)
    return path


def imported(path: Path, name: str = "mars", **options: Any) -> TraceStore:
    return autotts_gym.import_rollouts(path, name, to=path.parent, **options)


@pytest.mark.parametrize("group", [1, 1000])
def test_traces(tmp_path: Path, group: int) -> None:
    store = imported(write(tmp_path / "pool.parquet", ROWS, row_group_size=group))
    assert store.card.interval == 2048
    assert store.card.details["imported"]["format"] == "mars"
    assert store.card.details["imported"]["unanswered"] == 1
    assert store.tables.ids == ["0", "1"]
    assert store.tables.golds == ["7", "8"]
    first, second, third = store[0].branches
    assert (first.probes, first.tokens, first.final) == ([], 2048, "9")
    assert (second.probes, second.tokens, second.final) == (["No", "7"], 5000, "7")
    assert store.tables.nulls[0] == [answer == "No" for answer in store.tables.answers[0]]
    assert second.confidences == [10.5, 11.0]
    assert (third.probes, third.final, third.flags) == (["9"] * 3, "No", "unanswered")
    # Equal answers are one class; they are kept as they were written.
    (other,) = store[1].branches
    assert (other.final, other.raw) == ("8", ["8.0"])


def test_generation_confidence(tmp_path: Path) -> None:
    """The sums over intervals of the confidences of tokens, which are the same by any interval."""
    path = write(tmp_path / "pool.parquet", ROWS, row_group_size=2)
    store, wide = imported(path), imported(path, "wide", interval=4096)
    assert store.card.details["generation_confidence"] == {"top_tokens": 20}
    for row, number, branch in ((1, 1, store[0].branches[1]), (3, 2, store[0].branches[2])):
        tokens = np.asarray(ROWS[row]["confs"], np.float64)
        parts = np.split(tokens, range(2048, len(tokens), 2048))
        assert branch.confidence_tokens == [len(part) for part in parts]
        assert branch.confidence_sums == pytest.approx([part.sum() for part in parts], rel=1e-6)
        whole = wide[0].branches[number].confidence_sums or ()
        assert sum(whole) == pytest.approx(tokens.sum(), rel=1e-6)


def test_questions(tmp_path: Path) -> None:
    asked = tmp_path / "asked.jsonl"
    asked.write_text('{"question": "Which?", "answer": "7"}\n', "utf-8")
    store = imported(write(tmp_path / "pool.parquet", ROWS), questions=asked)
    assert store.tables.texts == ["Which?", ""]


def test_confidences_of_all_probes_or_none(tmp_path: Path) -> None:
    probes = [{**probe, "avg_conf": None} for probe in ROWS[1]["probes"]]
    rows = [*ROWS[:1], {**ROWS[1], "probes": probes}, *ROWS[2:]]
    assert imported(write(tmp_path / "pool.parquet", rows)).tables.confidences is None


def test_several_files(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{k}.parquet", [row]) for k, row in enumerate(ROWS)]
    together = autotts_gym.import_rollouts(paths, "many", to=tmp_path)
    one = imported(write(tmp_path / "pool.parquet", ROWS))
    assert together.card.fingerprint == one.card.fingerprint


def test_another_interval(tmp_path: Path) -> None:
    path = write(tmp_path / "pool.parquet", ROWS)
    assert imported(path, "wide", interval=4096)[0].branches[1].probes == ["7"]
    with pytest.raises(TraceError) as caught:
        imported(path, "narrow", interval=1024)
    assert (
        f"{path}: row 1: a trace of 5,000 tokens without a probe at token 1,024; its probes are "
        "at [2048, 4096, 5000]: give the tokens between two with --interval"
    ) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"confs": []}, "row 4: 'confs' must have a number of at least 0 for each token of the"),
        ({"confs": None}, "row 4: 'confs' must have a number of at least 0 for each token"),
        ({"confs": [1.0, None]}, "row 4: 'confs' must have a number of at least 0 for each token"),
        ({"confs": [1.0, -1.0]}, "row 4: 'confs' must have a number of at least 0 for each token"),
        ({"confs": [float("inf")]}, "row 4: 'confs' must have a number of at least 0 for each"),
        ({"qid": None}, "row 4: lacks 'qid', which must be an integer"),
        ({"ground_truth": None}, "row 4: lacks 'ground_truth', which must be a string"),
        ({"ground_truth": "6"}, "row 4: another 'ground_truth' than before for question 0"),
        ({"trace_idx": 2}, "row 4: a second trace 2 of question 0"),
        ({"probes": None}, "row 4: a trace of 4,000 tokens without a probe at token 2,048"),
    ],
)
def test_invalid_rows(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    bad = {**trace(0, 3, 4000, ["7"], "7"), **changes}
    path = write(tmp_path / "pool.parquet", [*ROWS, bad])
    with pytest.raises(TraceError) as caught:
        imported(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert not (tmp_path / "mars").exists()


def test_columns_of_other_types(tmp_path: Path) -> None:
    table = pa.table({name: ["x"] for name in SCHEMA.names})
    pq.write_table(table, tmp_path / "pool.parquet")
    with pytest.raises(TraceError, match="not a table of MARS"):
        imported(tmp_path / "pool.parquet")
