"""``autotts grade`` and ``autotts regrade``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autotts_gym.answers.answer_pairs import RULES_VERSION
from autotts_gym.cli import main
from autotts_gym.traces.records import Branch, Question
from autotts_gym.traces.store import TraceStore


def _write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def _run(*arguments: object) -> int:
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_grade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"gold": r"\frac12", "answer": "0.5", "id": 7},
        {"gold": "(B)", "text": r"so \boxed{B}"},
        {"gold": 7, "text": "The answer is 7 (see step 3).", "extractors": ["answer"]},
        {"gold": "No", "text": "I cannot tell"},
    ]
    file, out = _write(tmp_path / "rows.jsonl", rows), tmp_path / "graded.jsonl"
    assert _run("grade", file, "--extractors", "boxed,number", "--out", out) == 0
    graded = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [(row["answer"], row["equal"]) for row in graded] == [
        *(("0.5", True), ("B", True), ("7", True), ("No", False)),
    ]
    assert graded[0]["id"] == 7
    assert graded[3]["null"]
    printed = capsys.readouterr().out
    assert "3 of 4 answers equal the gold answer (75.0%)" in printed
    assert "1 of 4 texts: no answer found" in printed
    assert _run("grade", file, "--protocol", "chat") == 0


@pytest.mark.parametrize(
    ("row", "options", "message"),
    [
        ({"gold": 1}, (), "line 2: no 'answer'; a row needs gold, and answer or text"),
        ({"answer": 1}, (), "line 2: no 'gold'"),
        ({"gold": "1", "text": "2"}, (), "line 2: a text needs extractors: pass --extractors"),
        ({"gold": "1", "answer": [1]}, (), "line 2: 'answer' must be a string or a number"),
        ({"gold": "1", "text": "", "extractors": ["box"]}, (), "no extractor is called 'box'"),
        ([1], (), "line 2: must be an object, not list"),
        ({"gold": "1", "answer": "1"}, ("--extractors", "box"), "no extractor is called 'box'"),
        (
            {"gold": "1", "answer": "1"},
            ("--extractors", "boxed", "--protocol", "chat"),
            "pass --extractors or --protocol, not both",
        ),
    ],
)
def test_bad_rows(
    row: Any,
    options: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = _write(tmp_path / "rows.jsonl", [{"gold": "1", "answer": "1"}, row])
    assert _run("grade", file, *options) == 1
    assert message in capsys.readouterr().err


def test_regrade(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Strings become classes; null answers stay, and the answers are kept as they were."""
    branches = [Branch(["1/2", "No"], 25, "0.5"), Branch(["3"], 15, r"\frac12"), Branch([], 5, "3")]
    old = TraceStore.from_branches([Question("?", "0.50", branches)], 10).save(tmp_path / "old")
    assert _run("regrade", tmp_path / "old", "--out", tmp_path / "new") == 0
    assert "accuracy of a branch 0.00% → 66.67%" in capsys.readouterr().out
    new = TraceStore.open(tmp_path / "new")
    (question,) = new
    assert [b.final for b in question.branches] == ["0.50", "0.50", "3"]
    assert list(question.branches[0].probes) == ["0.50", "No"]
    assert [b.raw for b in question.branches] == [["1/2", "No", "0.5"], ["3", r"\frac12"], ["3"]]
    assert new.tables.nulls == [[False, True, False]]
    assert new.card.details["answer_rules"] == RULES_VERSION
    assert new.card.details["regraded_from"] == old.card.fingerprint
    assert _run("regrade", tmp_path / "old", "--out", tmp_path / "new") == 1
    assert _run("regrade", tmp_path / "new", "--out", tmp_path / "again") == 0
    assert TraceStore.open(tmp_path / "again").card.fingerprint == new.card.fingerprint


def test_equality_in_form(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of grading, and of an environment, whose card remembers it."""
    rows = [{"gold": "1/2", "answer": answer, "equality": "form"} for answer in ("2/4", r"\frac12")]
    out = tmp_path / "graded.jsonl"
    assert _run("grade", _write(tmp_path / "rows.jsonl", rows), "--out", out) == 0
    assert [json.loads(line)["equal"] for line in out.read_text("utf-8").splitlines()] == [
        False,
        True,
    ]
    bad = _write(tmp_path / "bad.jsonl", [{"gold": "1", "answer": "1", "equality": "exact"}])
    assert _run("grade", bad) == 1
    assert "equality must be 'value' or 'form', got 'exact'" in capsys.readouterr().err

    branches = [Branch(["2/4"], 20, r"\frac12"), Branch(["0.5"], 20, "2/4")]
    questions = [Question("?", "1/2", branches, name) for name in ("simplify-0", "halve-0")]
    TraceStore.from_branches(questions, 10).save(tmp_path / "old")
    assert _run("regrade", tmp_path / "old", "--form", "x-*", "--out", tmp_path / "none") == 1
    assert "no question has an id like 'x-*'" in capsys.readouterr().err
    arguments = ("--form", "simplify-*", "--out", tmp_path / "new")
    assert _run("regrade", tmp_path / "old", *arguments) == 0
    assert _run("regrade", tmp_path / "new", "--out", tmp_path / "again") == 0
    for name in ("new", "again"):
        store = TraceStore.open(tmp_path / name)
        assert store.card.details["equal_in_form"] == ["simplify-0"]
        finals = [[branch.final for branch in question.branches] for question in store]
        assert finals == [["1/2", "2/4"], ["1/2", "1/2"]]
