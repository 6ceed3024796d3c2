"""Building a store: branches, flags and the card from traces and probes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import PROTOCOL

from autotts_gym.answers.answer_pairs import RULES_VERSION
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_journal import JournalContents, SampledTrace
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.collection.regrading import equalities
from autotts_gym.collection.store_builder import build_branch, build_store
from autotts_gym.inference.engine import Generated, Sampling
from autotts_gym.inference.protocol import Protocol
from autotts_gym.traces.statistics import describe
from autotts_gym.traces.store import TraceError, TraceStore

SCRIPTED = Protocol.from_dict("scripted", PROTOCOL)
NULL = "No"


def probe_output(text: str, *logprobs: float) -> Generated:
    """What a probe generated, with one token per character."""
    values = list(logprobs) or [-0.5] * len(text)
    return Generated([0] * len(text), text, "stop", values, list(text))


def trace(length: int, text: str = "reasoning", finish: str = "stop") -> SampledTrace:
    return SampledTrace([], length, text, finish)


def make_branch(sampled: SampledTrace, probes: list[Generated], interval: int = 10) -> Any:
    return build_branch(sampled, probes, interval, SCRIPTED, texts=False)


def test_a_trace_with_an_answer() -> None:
    branch = make_branch(
        trace(25, "so</think>answer:7."), [probe_output("5. ", -1, -3, -9), probe_output("7")]
    )
    assert (branch.probes, branch.final, branch.tokens) == (["5", "7"], "7", 25)
    assert branch.confidences == pytest.approx([2.718281828**-1, 2.718281828**-0.5])
    assert branch.probe_tokens == [3, 1]
    assert branch.flags == ""
    assert branch.text is None
    assert build_branch(trace(5, "t"), [], 10, SCRIPTED, texts=True).text == "t"


@pytest.mark.parametrize(
    ("length", "probes"), [(1, 0), (9, 0), (10, 0), (11, 1), (20, 1), (21, 2), (30, 2)]
)
def test_a_probe_at_every_interval_below_the_length(length: int, probes: int) -> None:
    branch = make_branch(trace(length, "</think>answer:7"), [probe_output("7")] * probes)
    assert len(branch.probes) == (length - 1) // 10 == probes
    assert branch.tokens == length


def test_a_cut_trace_is_closed_by_a_probe() -> None:
    branch = make_branch(
        trace(30, "on and on", "length"),
        [probe_output("1"), probe_output("2"), probe_output("3 no", -1, 0, 0, 0)],
    )
    assert (branch.probes, branch.final) == (["1", "2"], "3")
    assert branch.tokens == 30 + 4  # with the closing text
    assert branch.probe_tokens == [1, 1]
    assert branch.flags == "cut"
    branch = make_branch(
        trace(30, "on and on", "length"), [probe_output("1"), probe_output("2"), probe_output("?")]
    )
    assert (branch.final, branch.flags) == (NULL, "cut unanswered")


def test_a_trace_cut_after_its_answer() -> None:
    branch = make_branch(trace(20, "so</think>answer:7 and on", "length"), [probe_output("7")])
    assert (branch.probes, branch.final, branch.tokens, branch.flags) == (["7"], "7", 20, "cut")


def test_an_empty_trace() -> None:
    branch = make_branch(trace(1, ""), [])
    assert (branch.probes, branch.final, branch.tokens) == ([], "", 1)
    assert branch.flags == "empty unanswered"
    assert make_branch(trace(3, " \n"), []).flags == "empty unanswered"
    assert make_branch(trace(0, ""), []).tokens == 1  # a branch has at least one token
    branch = make_branch(trace(1, "", "length"), [probe_output("4")])
    assert (branch.final, branch.tokens, branch.flags) == ("4", 2, "cut empty")


def test_a_trace_without_an_answer() -> None:
    branch = make_branch(trace(15, "so</think>I do not know"), [probe_output("8")])
    assert (branch.probes, branch.final, branch.tokens) == (["8"], NULL, 15)
    assert branch.flags == "unanswered"


@dataclass(frozen=True)
class RandomCollection:
    """A random collection of one question."""

    interval: int
    traces: list[SampledTrace]
    probes: list[list[Generated]]


@st.composite
def collections(draw: st.DrawFn) -> RandomCollection:
    interval = draw(st.integers(1, 20))
    traces, probes = [], []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 60))
        text = draw(st.sampled_from(["", "on", "a</think>answer:5", "a</think>", "answer:12 so"]))
        finish = draw(st.sampled_from(["stop", "length"]))
        closes = finish == "length" and "answer:" not in text
        count = (length - 1) // interval + closes
        texts = st.sampled_from(["5", "12.", "?", "", "7 77"])
        probes.append([probe_output(draw(texts)) for _ in range(count)])
        traces.append(trace(length, text, finish))
    return RandomCollection(interval, traces, probes)


@settings(deadline=None)
@given(collections())
def test_store_of_a_random_collection(drawn: RandomCollection) -> None:
    count = len(drawn.traces)
    contents = JournalContents(
        sessions=[{"seconds": 1.26}, {"seconds": 2.0}],
        traces={(0, b): drawn.traces[b] for b in reversed(range(count))},
        probes={(0, b): drawn.probes[b] for b in range(count)},
    )
    plan = CollectionPlan(count, drawn.interval, 60, Sampling(0.6, 0.95, 20), 4)
    store = build_store(
        contents, [AskedQuestion("q-7", "?", "5")], plan, SCRIPTED, details={"model": "m"}
    )
    question = store.question(0)
    assert (question.id, question.text, question.gold) == ("q-7", "?", "5")
    flags = store.branch_flags() or [""] * count  # None if no branch is flagged
    for b, (sampled, probes) in enumerate(zip(drawn.traces, drawn.probes, strict=True)):
        n = (sampled.length - 1) // drawn.interval
        branch = question.branches[b]
        digits = ["".join(c for c in p.text.split(" ")[0] if c.isdigit()) for p in probes]
        answers = [d or NULL for d in digits]
        assert list(branch.probes) == answers[:n]
        assert branch.probe_tokens == [len(p.text) for p in probes[:n]]
        whole = {"a</think>answer:5": "5", "answer:12 so": "12", "on": NULL}.get(sampled.text, "")
        closed = len(probes) > n
        assert branch.final == (answers[n] if closed else whole)
        assert branch.tokens == sampled.length + (len(probes[n].text) if closed else 0)
        assert flags[b].split() == [
            flag
            for flag, holds in {
                "cut": sampled.finish == "length",
                "empty": not sampled.text,
                "unanswered": branch.final in ("", NULL),
            }.items()
            if holds
        ]
    facts = store.card.details
    flagged = " ".join(flags).split()
    assert facts["model"] == "m"
    assert facts["branches_per_question"] == count
    assert facts["sampling"] == {
        **{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_tokens": 60, "seed": 4}
    }
    assert facts["protocol"]["sha256"] == SCRIPTED.digest
    assert facts["null_answers"] == ["", "ERR", "No"]
    summary = facts["collected"]
    assert summary | {"on": "", "with": ""} == {
        "traces": count,
        "tokens": sum(sampled.length for sampled in drawn.traces),
        "probes": sum(map(len, drawn.probes)),
        "probe_tokens": sum(len(p.text) for probes in drawn.probes for p in probes),
        "cut": flagged.count("cut"),
        "empty": flagged.count("empty"),
        "unanswered": flagged.count("unanswered"),
        "first_extractor_missed": sum(
            t.finish == "stop" and t.text in ("on", "a</think>") for t in drawn.traces
        ),
        "answers_merged": 0,
        "seconds": 3.3,
        "sessions": 2,
        "on": "",
        "with": "",
    }


def test_a_missing_trace_is_an_error() -> None:
    contents = JournalContents(
        traces={(0, 0): trace(1)}, probes={(0, 0): []}, sessions=[{"seconds": 0}]
    )
    questions = [AskedQuestion("one", "?"), AskedQuestion("two", "?")]
    with pytest.raises(TraceError, match="question 'two', branch 0: not collected yet"):
        build_store(contents, questions, CollectionPlan(1, 10), SCRIPTED)
    with pytest.raises(TraceError, match="question 'one', branch 1: not collected yet"):
        build_store(contents, questions[:1], CollectionPlan(2, 10), SCRIPTED)


def test_flags_and_texts_round_trip(tmp_path: Path) -> None:
    contents = JournalContents(
        sessions=[{"seconds": 0.0}],
        traces={(0, 0): trace(1, ""), (0, 1): trace(9, "a\u2028</think>answer:5")},
        probes={(0, 0): [], (0, 1): []},
    )
    store = build_store(
        contents, [AskedQuestion("", "?")], CollectionPlan(2, 10), SCRIPTED, texts=True
    )
    store.save(tmp_path / "store")
    read = TraceStore.open(tmp_path / "store")
    assert read.branch_flags() == ["empty unanswered", ""]
    assert read.branch_texts() == ["", "a\u2028</think>answer:5"]
    assert read.card.details["collected"]["unanswered"] == 1
    assert read.card.fingerprint == store.card.fingerprint


def test_equal_answers_are_merged() -> None:
    boxed = Protocol.from_dict(
        "boxed",
        {**PROTOCOL, "probe": {"suffix": "\\boxed{", "max_tokens": 9}, "answers": ["boxed"]},
    )
    contents = JournalContents(
        sessions=[{"seconds": 0.0}],
        traces={
            (0, 0): trace(15, r"</think>\boxed{1/2}"),
            (0, 1): trace(15, r"</think>\boxed{0.5}"),
            (0, 2): trace(15, r"</think>\boxed{3}"),
        },
        probes={(0, b): [probe_output(r"\frac{1}{2}}")] for b in range(3)},
    )
    done: list[tuple[int, int]] = []
    plan, asked = CollectionPlan(3, 10), [AskedQuestion("", "?", r"\frac{1}{2}")]
    merged = build_store(contents, asked, plan, boxed, progress=lambda *at: done.append(at))
    assert merged.card.details["answer_rules"] == RULES_VERSION
    question = merged.question(0)
    assert {b.final for b in question.branches[:2]} == {question.gold}
    assert {a for b in question.branches for a in b.probes} == {question.gold}
    assert question.branches[2].final == "3"
    assert [branch.raw for branch in question.branches] == [
        [r"\frac{1}{2}", "1/2"],
        [r"\frac{1}{2}", "0.5"],
        [r"\frac{1}{2}", "3"],
    ]
    assert merged.card.details["collected"]["answers_merged"] == 2
    assert done[-1] == (1, 1)


def test_questions_whose_answers_must_be_written_alike() -> None:
    boxed = Protocol.from_dict(
        "boxed",
        {**PROTOCOL, "probe": {"suffix": "\\boxed{", "max_tokens": 9}, "answers": ["boxed"]},
    )
    texts = [r"</think>\boxed{\frac12}", r"</think>\boxed{2/4}"]
    contents = JournalContents(
        sessions=[{"seconds": 0.0}],
        traces={(q, b): trace(5, text) for q in range(2) for b, text in enumerate(texts)},
        probes={(q, b): [] for q in range(2) for b in range(2)},
    )
    asked = [AskedQuestion("halve", "?", "1/2"), AskedQuestion("reduce", "?", "1/2", (), "form")]
    store = build_store(contents, asked, CollectionPlan(2, 10), boxed)
    finals = [[branch.final for branch in question.branches] for question in store]
    assert finals == [["1/2", "1/2"], ["1/2", "2/4"]]
    assert store.card.details["equal_in_form"] == ["reduce"]
    assert equalities(store) == {"reduce": "form"}


def test_a_real_no_is_not_a_null_answer(tmp_path: Path) -> None:
    boxed = Protocol.from_dict(
        "boxed",
        {**PROTOCOL, "probe": {"suffix": "\\boxed{", "max_tokens": 9}, "answers": ["boxed"]},
    )
    texts = [r"</think>\boxed{No}", r"</think>\boxed{Yes}", "</think>I do not know"]
    contents = JournalContents(
        sessions=[{"seconds": 0.0}],
        traces={(0, b): trace(5, text) for b, text in enumerate(texts)},
        probes={(0, b): [] for b in range(3)},
    )
    asked = [AskedQuestion("", "?", "No")]
    store = build_store(contents, asked, CollectionPlan(3, 10), boxed).save(tmp_path / "store")
    (question,) = store
    assert [b.final for b in question.branches] == ["No", "Yes", "No"]
    assert [b.nulls for b in question.branches] == [[False], [False], [True]]
    assert store.tables.gold_codes() == [0]
    assert store.tables.finals.tolist() == [0, 1, 2]
    assert describe(store).accuracy == pytest.approx(1 / 3)
