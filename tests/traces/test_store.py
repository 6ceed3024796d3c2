"""Trace stores: round trips, validation, atomic writes, and detection of tampering."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from autotts_gym.traces import validation_cache
from autotts_gym.traces.store import (
    Branch,
    Card,
    FrozenError,
    Question,
    Tables,
    TraceError,
    TraceStore,
)
from autotts_gym.traces.store_files import create_store_folder
from autotts_gym.traces.table_validation import validate

FULL = [
    Question(
        "1 + 1?",
        "2",
        [
            Branch(
                ["No", "2"],
                1200,
                "2",
                [0.5, 0.25],
                [7, 8],
                "so it is 2",
                confidence_sums=[5000.0, 0.0, 1500.5],
                confidence_tokens=[500, 0, 200],
            ),
            Branch([], 30, "3", [], [], None, confidence_sums=[90.0], confidence_tokens=[29]),
        ],
        id="sum",
    ),
    Question(
        "½ Δ?",
        "x",
        [
            Branch(
                ["x"],
                510,
                "ERR",
                [1],
                [9],
                "",
                confidence_sums=[4000.0, 100.0],
                confidence_tokens=[500, 10],
            )
        ],
    ),
]
PLAIN = [
    Question("1 + 1?", "2", [Branch(["No", "2"], 1200, "2"), Branch([], 30, "3")]),
    Question("½ Δ?", "x", [Branch(["x"], 510, "ERR")]),
]


def full() -> TraceStore:
    return TraceStore.from_branches(FULL, 500, details={"model": "m"})


def decoded(store: TraceStore) -> list[Question]:
    return [store.question(row) for row in range(store.card.questions)]


def named(questions: Sequence[Question]) -> list[Question]:
    """The questions as a store returns them: an empty id becomes the row."""
    return [replace(q, id=q.id or str(row)) for row, q in enumerate(questions)]


# --- round trip ----------------------------------------------------------------------------------


@st.composite
def traces(draw: st.DrawFn) -> tuple[list[Question], int]:
    """Questions, and Δ."""
    interval = draw(st.integers(1, 2**31 - 1))
    with_confidences, with_costs, with_texts, odd = draw(st.tuples(*[st.booleans()] * 4))
    with_generation = draw(st.booleans())
    answer = st.sampled_from(["No", "ERR", ""]) | st.text(max_size=3)
    tokens = st.integers(1, 2**31 - 1)

    def branch() -> Branch:
        probes = draw(st.lists(answer, max_size=4))
        length = draw(tokens)
        confidences = st.floats(0, 1e6, width=32)
        generation: dict[str, Any] = {}
        if with_generation:
            most = [interval] * len(probes) + [max(length - len(probes) * interval, 0)]
            counts = [draw(st.integers(0, count)) for count in most]
            means = [draw(st.floats(0, 1e5)) for _ in counts]
            sums = [float(np.float32(m * count)) for m, count in zip(means, counts, strict=True)]
            generation = {"confidence_sums": sums, "confidence_tokens": counts}
        of_each: dict[str, Any] = {"min_size": len(probes), "max_size": len(probes)}
        return Branch(
            probes,
            length,
            draw(answer),
            draw(st.lists(confidences, **of_each)) if with_confidences else None,
            draw(st.lists(st.integers(0, 2**31 - 1), **of_each)) if with_costs else None,
            draw(st.none() | st.text(max_size=9)) if with_texts else None,
            draw(st.sampled_from(["", "cut", "cut unanswered"])) if odd else "",
            **generation,
        )

    questions = [
        Question(
            draw(st.text(max_size=9)),
            draw(answer),
            [branch() for _ in range(draw(st.integers(1, 3)))],
            id=draw(st.text(max_size=2)),
        )
        for _ in range(draw(st.integers(1, 3)))
    ]
    return questions, interval


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(traces())
def test_round_trip(drawn: tuple[list[Question], int]) -> None:
    questions, interval = drawn
    store = TraceStore.from_branches(questions, interval, details={"sampling": {"t": 0.7}})
    assert decoded(store) == named(questions)
    with tempfile.TemporaryDirectory() as folder:
        saved = store.save(Path(folder) / "deep/er/store")
        assert saved.card == store.card == TraceStore.open(saved.path or "").card
        assert decoded(saved) == named(questions)
        again = saved.save(Path(folder) / "copy")
        assert decoded(again) == named(questions)
        assert again.card == store.card


def test_tables_and_card(tmp_path: Path) -> None:
    store = full().save(tmp_path / "store")
    t = store.tables
    assert t.answers == [["No", "2", "3"], ["x", "ERR"]]
    assert t.nulls == [[True, False, False], [False, True]]
    columns: list[tuple[Any, type, list[float]]] = [
        (t.branch_counts, np.int64, [2, 1]),
        (t.lengths, np.int64, [2, 0, 1]),
        (t.tokens, np.int64, [1200, 30, 510]),
        (t.finals, np.int16, [1, 2, 1]),
        (t.probes, np.int16, [0, 1, 0]),
        (t.confidences, np.float32, [0.5, 0.25, 1.0]),
        (t.probe_tokens, np.int32, [7, 8, 9]),
        (t.confidence_sums, np.float32, [5000.0, 0.0, 1500.5, 90.0, 4000.0, 100.0]),
        (t.confidence_tokens, np.int32, [500, 0, 200, 29, 500, 10]),
    ]
    for array, dtype, values in columns:
        assert array.dtype == dtype
        assert_array_equal(array, values)
    assert store.branch_texts() == ["so it is 2", None, ""]
    assert store.card == Card(
        interval=500,
        questions=2,
        branches=3,
        probes=3,
        depth=3,
        mean_tokens=562.5,  # of 615 and 510: each question weighs the same
        fingerprint=full().card.fingerprint,
        longest_of=1,
        longest_tokens=562.5,
        details={"model": "m"},
    )
    assert repr(store) == f"<TraceStore {store.path}: 2 questions, 3 branches, Δ=500>"
    assert repr(full()) == "<TraceStore in memory: 2 questions, 3 branches, Δ=500>"


def test_optional_columns_that_were_not_recorded(tmp_path: Path) -> None:
    store = TraceStore.from_branches(PLAIN, 500, synthetic=True).save(tmp_path / "store")
    assert (store.tables.confidences, store.tables.probe_tokens) == (None, None)
    assert (store.tables.confidence_sums, store.tables.confidence_tokens) == (None, None)
    assert not (tmp_path / "store/intervals.parquet").exists()
    assert store.branch_texts() is None
    assert not (tmp_path / "store/texts.parquet").exists()
    assert store.branch_flags() is None
    assert "flags" not in pq.read_schema(tmp_path / "store/branches.parquet").names
    assert store.card.synthetic


def test_flags_do_not_affect_the_fingerprint(tmp_path: Path) -> None:
    odd = [replace(q, branches=[replace(b, flags="cut") for b in q.branches]) for q in PLAIN[:1]]
    store = TraceStore.from_branches([*odd, PLAIN[1]], 500).save(tmp_path / "store")
    assert store.branch_flags() == ["cut", "cut", ""]
    assert store.card.fingerprint == TraceStore.from_branches(PLAIN, 500).card.fingerprint
    with pytest.raises(TraceError, match="its flags must be a string"):
        TraceStore.from_branches([Question("?", "1", [Branch([], 1, "1", flags=3)])], 500)  # type: ignore[arg-type]


def test_branches_without_probes(tmp_path: Path) -> None:
    questions = [Question("q", "a", [Branch([], 5, "a"), Branch((), 6, "b")], id="0")]
    store = TraceStore.from_branches(questions, 500).save(tmp_path / "store")
    assert [b.probes for b in store.question(0).branches] == [[], []]
    assert store.tables.probes.dtype == np.int16
    assert (store.card.depth, store.card.probes) == (1, 0)


def test_custom_null_answers() -> None:
    store = TraceStore.from_branches(PLAIN, 500, is_null=lambda answer: answer == "3")
    assert store.tables.nulls == [[False, False, True], [False, False]]


def test_store_is_a_sequence_of_questions(tmp_path: Path) -> None:
    for store in (full(), full().save(tmp_path / "store")):
        assert len(store) == 2
        assert list(store) == named(FULL)
        assert [store[0], store[1]] == named(FULL)
        assert [store[-2], store[-1]] == named(FULL)
        assert store[1:] == named(FULL)[1:]
        assert store[::-1] == named(FULL)[::-1]
        assert store[5:] == []
        for row in (-3, 2):
            with pytest.raises(IndexError, match=rf"question {row} is outside 0\.\.1"):
                store[row]


def test_length_needs_only_the_card(tmp_path: Path) -> None:
    full().save(tmp_path / "store")
    (tmp_path / "store/questions.parquet").unlink()
    assert len(TraceStore.open(tmp_path / "store")) == 2


@pytest.mark.parametrize("row", [-1, 2])
def test_no_such_question(row: int) -> None:
    with pytest.raises(IndexError, match=rf"question {row} is outside 0\.\.1"):
        full().question(row)


# --- validation ----------------------------------------------------------------------------------


def question(*branches: Branch, text: Any = "q", gold: Any = "a", name: Any = "") -> Question:
    return Question(text, gold, branches, name)


FINE = Branch(["a"], 10, "a")


def one(probes: Any = ("a",), tokens: Any = 10, final: Any = "a", **more: Any) -> Question:
    """A question whose branch 1 is invalid."""
    figures: dict[str, Any] = {key: [1] for key in more if key != "text"}
    first = Branch(["a"], 10, "a", **figures)
    return question(first, Branch(probes, tokens, final, **more))


HERE = "question 1, branch 1"
BAD: dict[str, tuple[Question, str]] = {
    "text": (question(FINE, text=3), "question 1: its text must be a string, got int"),
    "gold": (question(FINE, gold=None), "question 1: its gold answer must be a string, got None"),
    "id": (question(FINE, name=1), "question 1: its id must be a string, got int"),
    "gold not Unicode": (
        question(FINE, gold="a\ud800"),
        r"question 1: its gold answer is not valid Unicode: lone surrogate '\ud800' at character 1",
    ),
    "no branches": (question(), "question 1: has no branches; at least one is needed"),
    "tokens 0": (
        one(tokens=0),
        f"{HERE}: tokens must be a positive integer below 2**31, got 0",
    ),
    "tokens numpy": (one(tokens=np.int64(5)), f"{HERE}: tokens must be a positive integer"),
    "probes": (one(probes="a"), f"{HERE}: probes must be a list of strings, got str"),
    "probes a set": (one(probes={"a"}), f"{HERE}: probes must be a list of strings, got set"),
    "answer": (one(probes=[["a"]]), f"{HERE}: answers must be strings, got ['a']"),
    "final": (one(final=None), f"{HERE}: answers must be strings, got None"),
    "answer not Unicode": (one(final="\udc01"), f"{HERE}: an answer is not valid Unicode"),
    "text not Unicode": (one(text="\udc01"), f"{HERE}: its text is not valid Unicode"),
    "text of a branch": (one(text=b"t"), f"{HERE}: its text must be a string, got bytes"),
    "classes": (
        question(Branch([str(n) for n in range(2**15)], 1, "0")),
        "question 1: 32768 different answers; a question can have 32767",
    ),
    "confidences some": (
        one(confidences=[1]),
        "question 1, branch 0: confidences must be there for every branch or for none",
    ),
    "sums without tokens": (
        question(Branch(["a"], 1, "a", confidence_sums=[0, 0])),
        "question 1, branch 0: confidence_sums must be there for every branch or for none",
    ),
    "costs some": (
        question(FINE, Branch(["a"], 1, "a", probe_tokens=[1])),
        f"{HERE}: probe_tokens must be there for every branch or for none",
    ),
}
BAD_FIGURES: dict[str, tuple[dict[str, Any], str]] = {
    "confidences fewer": ({"confidences": []}, "confidences: 0 for 1 probes"),
    "confidence negative": (
        {"confidences": [-0.1]},
        "confidences must be finite numbers of at least 0 and at most 1,000,000, got -0.1",
    ),
    "confidence NaN": ({"confidences": [float("nan")]}, "confidences must be finite"),
    "confidence infinite": ({"confidences": [float("inf")]}, "confidences must be finite"),
    "confidence over float32": ({"confidences": [1e39]}, "confidences must be finite"),
    "confidence huge": ({"confidences": [10**400]}, "confidences must be finite"),
    "confidence true": ({"confidences": [True]}, "confidences must be finite"),
    "cost real": (
        {"probe_tokens": [1.5]},
        "probe_tokens must be integers of at least 0 and at most 2,147,483,647, got 1.5",
    ),
    "cost huge": ({"probe_tokens": [2**31]}, "probe_tokens must be integers"),
}


@pytest.mark.parametrize(("bad", "message"), BAD.values(), ids=BAD.keys())
def test_bad_question(bad: Question, message: str) -> None:
    with pytest.raises(TraceError) as caught:
        TraceStore.from_branches([PLAIN[0], bad], 500)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(("figures", "message"), BAD_FIGURES.values(), ids=BAD_FIGURES.keys())
def test_bad_figures(figures: dict[str, Any], message: str) -> None:
    with pytest.raises(TraceError) as caught:
        TraceStore.from_branches([one(**figures)], 500)
    assert str(caught.value).startswith(f"question 0, branch 1: {message}")
    assert len(str(caught.value)) < 200


SOME_SUMS = [10.0, 1.0]
BAD_GENERATION: dict[str, tuple[Any, Any, str]] = {
    "no tokens": (SOME_SUMS, None, "confidence_tokens must be there for every branch or for none"),
    "no sums": (None, [5, 1], "confidence_sums must be there for every branch or for none"),
    "one sum": ([10.0], [5, 1], "confidence_sums: 1 for 2 intervals"),
    "three counts": (SOME_SUMS, [5, 1, 1], "confidence_tokens: 3 for 2 intervals"),
    "tokens negative": (SOME_SUMS, [-1, 1], "interval 1: confidence_tokens must be integers of"),
    "tokens real": (SOME_SUMS, [5.0, 1], "interval 1: confidence_tokens must be integers of"),
    "more than the interval": (
        SOME_SUMS,
        [501, 1],
        "interval 1: confidence_tokens must be integers of at least 0 and at most 500, got 501",
    ),
    "more than the last interval": (
        SOME_SUMS,
        [5, 11],
        "interval 2: confidence_tokens must be integers of at least 0 and at most 10, got 11",
    ),
    "sum negative": ([-1.0, 1.0], [5, 1], "interval 1: confidence_sums must be finite numbers"),
    "sum NaN": ([float("nan"), 1.0], [5, 1], "interval 1: confidence_sums must be finite"),
    "sum infinite": ([1.0, float("inf")], [5, 1], "interval 2: confidence_sums must be finite"),
    "sum huge": (
        [6e6, 1.0],
        [5, 1],
        "interval 1: confidence_sums must be finite numbers of at least 0 and at most 5,000,000",
    ),
    "sum of no tokens": (SOME_SUMS, [5, 0], "interval 2: confidence_sums must be finite numbers"),
}


@pytest.mark.parametrize(
    ("sums", "counts", "message"), BAD_GENERATION.values(), ids=BAD_GENERATION.keys()
)
def test_bad_generation_confidences(sums: Any, counts: Any, message: str) -> None:
    fine = Branch([], 10, "a", confidence_sums=[1.0], confidence_tokens=[10])
    bad = Branch(["a"], 510, "a", confidence_sums=sums, confidence_tokens=counts)
    with pytest.raises(TraceError) as caught:
        TraceStore.from_branches([question(fine, bad)], 500)
    assert re.split(": |, (?=interval)", str(caught.value), maxsplit=1)[1].startswith(message)
    assert str(caught.value).startswith("question 0, branch 1")
    assert len(str(caught.value)) < 200


def test_the_last_interval_can_be_empty() -> None:
    # Published branches can have fewer tokens than their probes suggest.
    for tokens in (500, 400):
        branch = Branch(["a"], tokens, "a", confidence_sums=[2.0, 0.0], confidence_tokens=[1, 0])
        store = TraceStore.from_branches([question(branch)], 500)
        assert store[0].branches == [branch]
        longer = replace(branch, confidence_sums=[2.0, 1.0], confidence_tokens=[1, 1])
        with pytest.raises(TraceError, match=r"interval 2: confidence_tokens must be .* at most 0"):
            TraceStore.from_branches([question(longer)], 500)


def test_no_questions() -> None:
    with pytest.raises(TraceError, match="there are no questions; at least one is needed"):
        TraceStore.from_branches([], 500)


def test_tables_with_an_empty_question() -> None:
    tables = replace(full().tables, branch_counts=np.array([3, 0]))
    with pytest.raises(TraceError, match="question 1: has no branches"):
        TraceStore.from_tables(tables, 500)


@pytest.mark.parametrize("interval", [0, -1, 2**31, True, 500.0, "500", None])
def test_bad_interval(interval: Any) -> None:
    with pytest.raises(TraceError) as caught:
        TraceStore.from_branches(PLAIN, interval)
    message = f"the interval must be a positive integer (tokens), got {interval!r}"
    assert str(caught.value) == message


def test_details_must_not_repeat_entries_of_the_card() -> None:
    with pytest.raises(TraceError, match="must not repeat the card's own entries: depth, interval"):
        TraceStore.from_branches(PLAIN, 500, details={"interval": 1, "depth": 2, "model": "m"})


# --- atomic writes -------------------------------------------------------------------------------


def test_existing_store_is_not_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "store"
    saved = full().save(target)
    with pytest.raises(FrozenError, match="store exists already, and stores are frozen"):
        TraceStore.from_branches(PLAIN, 250).save(target)
    with pytest.raises(FrozenError, match=r"inside the store .*store, and that is frozen"):
        full().save(target / "more")
    assert decoded(TraceStore.open(target)) == decoded(saved)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


@pytest.mark.parametrize("raised", [OSError, KeyboardInterrupt])
def test_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: type[BaseException]
) -> None:
    def dump(card: Card) -> str:  # called for the last file
        raise raised

    monkeypatch.setattr(Card, "dump", dump)
    with pytest.raises(raised):
        full().save(tmp_path / "a/b/store")
    assert list(tmp_path.iterdir()) == []


def test_another_process_creates_the_store_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "store"
    with pytest.raises(FrozenError), create_store_folder(target):
        full().save(target)
    # Also between the last check and the rename.
    rename = Path.rename

    def late(stage: Path, target: Path) -> Path:
        if not target.exists():
            monkeypatch.undo()
            full().save(target)
        return rename(stage, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(FrozenError):
        full().save(tmp_path / "other")
    assert decoded(TraceStore.open(tmp_path / "other")) == named(FULL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other", "store"]


@pytest.mark.skipif(os.name != "posix", reason="POSIX permissions")
def test_saved_store_can_be_read_by_others(tmp_path: Path) -> None:
    full().save(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o755


# --- laziness ------------------------------------------------------------------------------------


def test_opening_reads_only_the_card(tmp_path: Path) -> None:
    card = full().save(tmp_path / "store").card
    for table in (tmp_path / "store").glob("*.parquet"):
        table.unlink()
    store = TraceStore.open(tmp_path / "store")
    assert store.card == card
    with pytest.raises(TraceError, match=r"questions\.parquet: cannot be read"):
        _ = store.tables


def test_tables_are_read_once(tmp_path: Path) -> None:
    store = full().save(tmp_path / "store")
    assert store.tables is store.tables


# --- tampering -----------------------------------------------------------------------------------

Columns = dict[str, Any]


def rewrite(folder: Path, table: str, change: Callable[[Columns], Any], **options: Any) -> None:
    """Change a table on disk; ``change`` edits its columns, given as lists."""
    file = folder / f"{table}.parquet"
    columns = pq.read_table(file).to_pydict()
    change(columns)
    pq.write_table(pa.table(columns), file, **options)


def put(column: str, row: int, value: Any) -> Callable[[Columns], None]:
    def change(columns: Columns) -> None:
        columns[column][row] = value

    return change


def cut(columns: Columns) -> None:
    for values in columns.values():
        values.pop()


OTHER = "do not match the fingerprint of its card.yaml; a store is frozen"
NOT_OURS = "its tables are not a trace store's"

TAMPERED: list[tuple[str, Callable[[Columns], Any], str]] = [
    ("questions", put("id", 0, "other"), OTHER),
    ("questions", put("text", 0, "other"), OTHER),
    ("questions", put("gold", 0, "3"), OTHER),
    ("questions", put("answers", 0, ["No", "3", "2"]), OTHER),
    ("questions", put("nulls", 0, [False, False, False]), OTHER),
    ("questions", put("nulls", 0, [True, False]), OTHER),
    ("questions", put("text", 0, None), NOT_OURS),
    ("questions", put("nulls", 0, [None, False, False]), NOT_OURS),
    ("questions", cut, "do not match the questions of its card.yaml"),
    ("questions", lambda columns: columns.pop("gold"), NOT_OURS),
    ("branches", put("question", 1, 1), OTHER),
    ("branches", put("question", 0, -1), NOT_OURS),
    ("branches", put("probes", 0, 1), OTHER),
    ("branches", put("tokens", 0, 1201), OTHER),
    ("branches", put("tokens", 0, 1200.5), NOT_OURS),
    ("branches", put("final", 0, 0), OTHER),
    ("branches", put("final", 0, 2**16 + 1), NOT_OURS),  # the same in 16 bits
    ("branches", lambda columns: columns.update(final=["1", "x", "1"]), NOT_OURS),
    ("branches", lambda columns: columns.update(final=[[1], [2], [1]]), NOT_OURS),
    ("branches", cut, "do not match the branches of its card.yaml"),
    ("probes", put("answer", 1, 0), OTHER),
    ("probes", put("answer", 0, None), NOT_OURS),
    ("probes", put("confidence", 0, 0.75), OTHER),
    ("probes", put("tokens", 0, 6), OTHER),
    ("probes", lambda columns: columns.pop("confidence"), OTHER),
    ("probes", lambda columns: columns.pop("tokens"), OTHER),
    ("probes", cut, "do not match the probes of its card.yaml"),
    ("intervals", put("confidence_sum", 0, 4999.0), OTHER),
    ("intervals", put("confidence_sum", 0, None), NOT_OURS),
    ("intervals", put("confidence_tokens", 0, 499), OTHER),
    ("intervals", put("confidence_tokens", 0, 2**31), NOT_OURS),
    ("intervals", lambda columns: columns.pop("confidence_tokens"), NOT_OURS),
    ("intervals", cut, "do not match the probes, branches of its card.yaml"),
]


@pytest.mark.parametrize(("table", "change", "message"), TAMPERED)
def test_tampered_table(
    tmp_path: Path, table: str, change: Callable[[Columns], Any], message: str
) -> None:
    full().save(tmp_path / "store")
    rewrite(tmp_path / "store", table, change)
    store = TraceStore.open(tmp_path / "store")
    with pytest.raises(TraceError) as caught:
        _ = store.tables
    assert str(caught.value).startswith(f"{tmp_path / 'store'}: ")
    assert message in str(caught.value)


def test_removed_generation_confidences(tmp_path: Path) -> None:
    full().save(tmp_path / "store")
    (tmp_path / "store/intervals.parquet").unlink()
    with pytest.raises(TraceError, match=OTHER):
        _ = TraceStore.open(tmp_path / "store").tables


@pytest.mark.parametrize("table", ["questions", "branches", "probes", "intervals"])
def test_damaged_table(tmp_path: Path, table: str) -> None:
    store = full().save(tmp_path / "store")
    file = tmp_path / f"store/{table}.parquet"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(TraceError, match=rf"{table}\.parquet: cannot be read"):
        _ = store.tables


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("interval", 501),
        ("fingerprint", "0" * 64),
        ("questions", 3),
        ("branches", 2),
        ("probes", 0),
        ("depth", 9),
        ("mean_tokens", 100.0),
        ("longest_of", 2),
        ("longest_tokens", 100.0),
    ],
)
def test_tampered_card(tmp_path: Path, fact: str, value: Any) -> None:
    full().save(tmp_path / "store")
    card = tmp_path / "store/card.yaml"
    facts = yaml.safe_load(card.read_text("utf-8"))
    card.write_text(yaml.safe_dump(facts | {fact: value}), "utf-8")
    store = TraceStore.open(tmp_path / "store")
    # The fingerprint covers the interval; the other entries are compared one by one.
    named = "fingerprint" if fact == "interval" else fact
    with pytest.raises(TraceError, match=rf"do not match the {named} of its card\.yaml"):
        _ = store.tables


def store_of(lengths: list[list[int]]) -> TraceStore:
    """A store with branches of these tokens, one list for each question."""
    return TraceStore.from_branches(
        [Question("?", "7", [Branch([], tokens, "7") for tokens in one]) for one in lengths], 10
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(st.integers(1, 10**9), min_size=1, max_size=7), min_size=1, max_size=4))
def test_longest_tokens_are_the_mean_over_all_subsets(lengths: list[list[int]]) -> None:
    store = store_of(lengths)
    for width in range(1, 9):
        subsets = [list(combinations(one, min(width, len(one)))) for one in lengths]
        expected = fmean(fmean(map(max, chosen)) for chosen in subsets)
        assert store.longest_tokens(width) == pytest.approx(expected, rel=1e-13)
        assert store.tables.longest_tokens(width) == store.longest_tokens(width)
    assert store.card.longest_of == min(map(len, lengths))


def test_longest_tokens_of_many_branches() -> None:
    """Of 1..n, the expected maximum of k is k (n + 1) / (k + 1)."""
    store = store_of([list(range(3000, 0, -1))])
    assert store.card.longest_of == 64
    for width in (64, 63, 2999, 3000, 4000):
        k = min(width, 3000)
        assert store.longest_tokens(width) == pytest.approx(k * 3001 / (k + 1), rel=1e-14)


def test_cards_of_older_stores_lack_the_longest_branch(tmp_path: Path) -> None:
    full().save(tmp_path / "store")
    card = tmp_path / "store/card.yaml"
    facts = yaml.safe_load(card.read_text("utf-8"))
    assert facts.pop("longest_of") == 1
    assert facts.pop("longest_tokens") == 562.5
    card.write_text(yaml.safe_dump(facts), "utf-8")
    store = TraceStore.open(tmp_path / "store")
    assert store.card.longest_tokens is None
    assert store.longest_tokens(1) == 562.5
    assert store.longest_tokens(64) == (1200 + 510) / 2  # fewer are stored
    assert "longest" not in store.card.dump()


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("interval", "500 tokens", "interval must be an integer from 1 to 2147483647"),
        ("interval", True, "interval must be an integer"),
        ("interval", 2**31, "interval must be an integer"),
        ("questions", "abc", "questions must be an integer from 1 to"),
        ("questions", 0, "questions must be an integer from 1 to"),
        ("branches", 2**40, "branches must be an integer from 1 to"),
        ("probes", -1, "probes must be an integer from 0 to"),
        ("probes", 2**40, "probes must be an integer from 0 to"),
        ("depth", 1.5, "depth must be an integer from 1 to"),
        ("mean_tokens", "few", "mean_tokens must be a number above 0"),
        ("mean_tokens", float("nan"), "mean_tokens must be a number above 0"),
        ("mean_tokens", -1, "mean_tokens must be a number above 0"),
        ("longest_of", 0, "longest_of must be an integer of at least 1"),
        ("longest_of", None, "longest_of must be an integer of at least 1"),
        ("longest_tokens", None, "longest_tokens must be a number above 0"),
        ("longest_tokens", float("inf"), "longest_tokens must be a number above 0"),
        ("fingerprint", None, "fingerprint must be a sha256 in hex"),
        ("fingerprint", "../../etc", "fingerprint must be a sha256 in hex"),
        ("synthetic", "yes", "synthetic must be true or false"),
        (3, 4, "its keys must be strings"),
    ],
)
def test_entry_of_the_card_out_of_range(
    tmp_path: Path, entry: Any, value: Any, message: str
) -> None:
    full().save(tmp_path / "store")
    card = tmp_path / "store/card.yaml"
    facts = yaml.safe_load(card.read_text("utf-8"))
    card.write_text(yaml.safe_dump(facts | {entry: value}), "utf-8")
    with pytest.raises(TraceError, match=re.escape(message)) as caught:
        TraceStore.open(tmp_path / "store")
    assert str(caught.value).startswith(str(card))


# --- stores of strangers: fingerprint and counts are right, the values are not --------------------


def forged(tmp_path: Path, **changes: Any) -> TraceStore:
    """A store on disk whose card fits tables with other values."""
    tables = replace(full().tables, **changes)
    assert isinstance(tables, Tables)
    return TraceStore.from_tables(tables, 500).save(tmp_path / "store")


def int16(*values: int) -> Any:
    return np.array(values, np.int16)


def int32(*values: int) -> Any:
    return np.array(values, np.int32)


def float32(*values: float) -> Any:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"probes": int16(0, 3, 0)}, "question 0, probe 1: answer code 3"),
        ({"probes": int16(0, -1, 0)}, "question 0, probe 1: answer code -1"),
        ({"probes": int16(0, 1, 2)}, "question 1, probe 0: answer code 2"),
        ({"probes": int16(0, 1, -32768)}, "question 1, probe 0: answer code -32768"),
        ({"finals": int16(1, 3, 1)}, "question 0, final answer 1: answer code 3"),
        ({"finals": int16(1, 2, -1)}, "question 1, final answer 0: answer code -1"),
        ({"lengths": np.array([2, 1, 1])}, "the branches have 4 probes, but there are 3"),
        ({"lengths": np.array([2, 0, 2**20])}, "branch 2: probes must be at least 0"),
        ({"lengths": np.array([3, -1, 1])}, "branch 1: probes must be at least 0"),
        ({"tokens": np.array([1200, -30, 510])}, "branch 1: tokens must be at least 1"),
        ({"tokens": np.array([1200, 30, 2**31])}, "branch 2: tokens must be at least 1"),
        ({"confidences": np.array([0.5, np.nan, 1], np.float32)}, "probe 1: confidence must be"),
        ({"confidences": np.array([0.5, np.inf, 1], np.float32)}, "probe 1: confidence must be"),
        ({"confidences": np.array([0.5, 0, -1], np.float32)}, "probe 2: confidence must be"),
        ({"probe_tokens": np.array([7, 8, -9], np.int32)}, "probe 2: tokens must be at least 0"),
        ({"confidence_tokens": int32(500, 0, 200, 29, 501, 10)}, "branch 2, interval 1: conf"),
        (
            {"confidence_tokens": int32(500, 0, 201, 29, 500, 10)},
            "branch 0, interval 3: confidence_tokens must be at least 0 and at most 200, got 201",
        ),
        ({"confidence_tokens": int32(500, 0, 200, -1, 500, 10)}, "branch 1, interval 1: conf"),
        ({"confidence_sums": float32(1, 0, 1, 1, np.nan, 1)}, "branch 2, interval 1: confidence_s"),
        ({"confidence_sums": float32(1, 0, 1, 1, np.inf, 1)}, "branch 2, interval 1: confidence_s"),
        ({"confidence_sums": float32(1, 0, 1, -1, 1, 1)}, "branch 1, interval 1: confidence_sums"),
        ({"confidence_sums": float32(1, 1, 1, 1, 1, 1)}, "branch 0, interval 2: confidence_sums"),
        (
            {"confidence_sums": float32(1, 0, 1, 2.9e7 + 2, 1, 1)},
            "branch 1, interval 1: confidence_sums must be at least 0 and at most 29,000,000",
        ),
        ({"answers": [["No", "2", "2"], ["x", "ERR"]]}, "question 0: the same answer occurs twice"),
        ({"nulls": [[True], [False, True]]}, "question 0: nulls must be 3 truth values"),
        ({"answers": [["No", "2", "3"], []], "nulls": [[True] * 3, []]}, "question 1: 0 answers"),
    ],
)
def test_forged_store(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    store = forged(tmp_path, **changes)
    with pytest.raises(TraceError, match=re.escape(message)) as caught:
        _ = store.tables
    assert str(caught.value).startswith(f"{store.path}: ")


def test_tables_in_memory_whose_generation_confidences_do_not_fit() -> None:
    tables = full().tables
    validate(tables, 500)
    short = replace(tables, confidence_tokens=int32(500, 0, 200, 29, 500))
    with pytest.raises(TraceError, match="5 confidence_tokens for 6 intervals"):
        validate(short, 500)
    for name in ("confidence_sums", "confidence_tokens"):
        with pytest.raises(TraceError, match="must both be there, or neither"):
            validate(replace(tables, **{name: None}), 500)


@pytest.mark.parametrize("questions", [[0, 0, 2**40], [0, 0, 2], [-1, 0, 1], [0, 1, 0]])
def test_question_of_a_branch_is_checked_before_it_is_counted(
    tmp_path: Path, questions: list[int]
) -> None:
    store = full().save(tmp_path / "store")
    rewrite(tmp_path / "store", "branches", lambda columns: columns.update(question=questions))
    with pytest.raises(TraceError, match="question"):
        _ = store.tables


def test_validated_stores_are_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTTS_CACHE", str(tmp_path / "cache"))
    validated: list[Tables] = []
    monkeypatch.setattr(validation_cache, "validate", lambda t, _interval: validated.append(t))
    store = full().save(tmp_path / "store")
    _ = store.tables
    _ = TraceStore.open(tmp_path / "store").tables
    assert len(validated) == 1
    (record,) = (tmp_path / "cache").rglob(store.card.fingerprint)
    assert record.is_file()


@pytest.mark.parametrize("cache", ["file", "none"])
def test_without_a_cache_folder_every_opening_validates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: str
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AUTOTTS_CACHE", str(tmp_path / "file") if cache == "file" else "")
    if cache == "none":
        monkeypatch.setattr(validation_cache, "cache_folder", lambda: None)
    store = forged(tmp_path, finals=int16(1, 3, 1))
    for _ in range(2):
        with pytest.raises(TraceError, match="answer code 3"):
            _ = TraceStore.open(store.path or "").tables


def test_a_forged_store_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTOTTS_CACHE", str(tmp_path / "cache"))
    store = forged(tmp_path, finals=int16(1, 3, 1))
    for _ in range(2):
        with pytest.raises(TraceError, match="answer code 3"):
            _ = TraceStore.open(store.path or "").tables


@pytest.mark.parametrize("name", ["questions", "branches", "probes", "intervals", "texts", "card"])
def test_a_pipe_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    full().save(tmp_path / "store")
    file = tmp_path / "store" / ("card.yaml" if name == "card" else f"{name}.parquet")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(TraceError, match="is not a regular file"):
        TraceStore.open(tmp_path / "store").save(tmp_path / "copy")


def test_texts_of_another_number_of_branches(tmp_path: Path) -> None:
    store = full().save(tmp_path / "store")
    rewrite(tmp_path / "store", "texts", cut)
    with pytest.raises(TraceError, match="do not match the branches"):
        store.branch_texts()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "card.yaml: cannot be read as YAML"),
        (b"a: \xff", "card.yaml: cannot be read as YAML"),
        (b"when: 2026-13-01", "card.yaml: cannot be read as YAML"),
        (b"- 1", "card.yaml: must be a mapping, not list"),
        (b"", "card.yaml: must be a mapping, not NoneType"),
        (b"a: 1", "card.yaml: store format None; this version reads 1 and 2"),
        (b"format: 3", "card.yaml: store format 3; this version reads 1 and 2"),
        (b"a: &a [x]\nb: *a", "line 2, column 4: aliases"),
        (b"a: 1\na: 2", "line 2, column 1: the key 'a' occurs twice"),
        (b"a: " + b"[" * 5000, "card.yaml: cannot be read as YAML"),
        (b"- " * 5000, "more than 32 levels"),
        (b"a: 1" + b":59" * 3000, "a number of"),
        (b" " * (1 << 21), "at most 1,048,576 are read"),
        (b"format: 1", "card.yaml: Card.__init__() missing"),
        (None, "store: no card.yaml, so this is not a trace store"),
    ],
)
def test_bad_card(tmp_path: Path, content: bytes | None, message: str) -> None:
    (tmp_path / "store").mkdir()
    if content is not None:
        (tmp_path / "store/card.yaml").write_bytes(content)
    with pytest.raises(TraceError) as caught:
        TraceStore.open(tmp_path / "store")
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "store"))


# --- fingerprint ---------------------------------------------------------------------------------


def test_fingerprint_is_independent_of_the_layout(tmp_path: Path) -> None:
    store = full().save(tmp_path / "store")

    def widen(columns: Columns) -> None:
        for name in reversed(list(columns)):
            columns[name] = columns.pop(name)  # Python's integers become int64, floats float64

    for table in ("questions", "branches", "probes", "intervals"):
        rewrite(tmp_path / "store", table, widen, row_group_size=1, compression="none")
    again = TraceStore.open(tmp_path / "store").tables
    names = "tokens", "finals", "probes", "lengths", "confidences", "probe_tokens"
    for name in (*names, "confidence_sums", "confidence_tokens"):
        old, new = getattr(store.tables, name), getattr(again, name)
        assert_array_equal(old, new)
        assert old.dtype == new.dtype
    assert decoded(TraceStore.open(tmp_path / "store")) == named(FULL)


def test_fingerprint_differs_for_every_change() -> None:
    def bumped(array: Any) -> Any:
        return np.concatenate([array[:-1], array[-1:] + 1])

    t = full().tables
    assert t.confidences is not None
    assert t.probe_tokens is not None
    changed: list[Tables] = [
        t,
        replace(t, ids=["sum", "2"]),
        replace(t, ids=["su", "m1"]),
        replace(t, texts=["1 + 1!", "½ Δ?"]),
        replace(t, texts=["1 + 1?½", " Δ?"]),
        replace(t, golds=["3", "x"]),
        replace(t, ids=t.golds, golds=t.ids),
        replace(t, answers=[["No", "2", "4"], ["x", "ERR"]]),
        replace(t, answers=[["No", "2"], ["3", "x", "ERR"]]),
        replace(t, nulls=[[True, False, True], [False, True]]),
        replace(t, nulls=[[True, False], [False, False, True]]),
        replace(t, branch_counts=np.array([1, 2])),
        *(
            replace(t, **{name: bumped(getattr(t, name))})
            for name in ("lengths", "tokens", "finals", "probes", "confidences", "probe_tokens")
        ),
        replace(t, confidences=None),
        replace(t, probe_tokens=None),
        replace(t, confidences=None, probe_tokens=None),
        # The same bytes, once as confidences and once as tokens; "----" in between.
        replace(t, confidences=None, probe_tokens=np.frombuffer(b"-" * 12, np.int32)),
        replace(t, confidences=np.frombuffer(b"-" * 12, np.float32), probe_tokens=None),
        replace(t, confidence_sums=None, confidence_tokens=None),
        replace(t, confidence_sums=bumped(t.confidence_sums)),
        replace(t, confidence_tokens=bumped(t.confidence_tokens)),
        replace(t, confidence_sums=None, confidence_tokens=np.frombuffer(b"t" * 24, np.int32)),
        replace(t, confidence_sums=np.frombuffer(b"t" * 24, np.float32), confidence_tokens=None),
    ]
    prints = [tables.fingerprint(500) for tables in changed] + [t.fingerprint(250)]
    assert len(set(prints)) == len(prints)


def test_fingerprint_excludes_texts_and_details() -> None:
    silent = [replace(q, branches=[replace(b, text=None) for b in q.branches]) for q in named(FULL)]
    other = TraceStore.from_branches(silent, 500, details={"model": "other"}, synthetic=True)
    assert other.card.fingerprint == full().card.fingerprint
