"""Freezing: from traces and probes to branches, flags and the card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import PROTOCOL

from autotts_gym.collection.collection_journal import Kept, Trace
from autotts_gym.collection.collector import Plan
from autotts_gym.collection.questions import AskedQuestion
from autotts_gym.collection.store_writer import branch, freeze
from autotts_gym.inference.engine import Generated, Sampling
from autotts_gym.inference.protocol import Protocol
from autotts_gym.traces.store import TraceError, TraceStore

SCRIPTED = Protocol.of("scripted", PROTOCOL)
NULL = "No"


def said(text: str, *logprobs: float) -> Generated:
    """What a probe generated: a token a character."""
    values = list(logprobs) or [-0.5] * len(text)
    return Generated([0] * len(text), text, "stop", values, list(text))


def trace(length: int, text: str = "reasoning", finish: str = "stop") -> Trace:
    return Trace([], length, text, finish)


def made(one: Trace, probes: list[Generated], interval: int = 10) -> Any:
    return branch(one, probes, interval, SCRIPTED, texts=False)


def test_a_trace_that_answers() -> None:
    found = made(trace(25, "so</think>answer:7."), [said("5. ", -1, -3, -9), said("7")])
    assert (found.probes, found.final, found.tokens) == (["5", "7"], "7", 25)
    assert found.confidences == pytest.approx([2.718281828**-1, 2.718281828**-0.5])
    assert found.probe_tokens == [3, 1]
    assert found.flags == ""
    assert found.text is None
    assert branch(trace(5, "t"), [], 10, SCRIPTED, texts=True).text == "t"


@pytest.mark.parametrize(
    ("length", "probes"), [(1, 0), (9, 0), (10, 0), (11, 1), (20, 1), (21, 2), (30, 2)]
)
def test_a_probe_at_every_interval_below_the_length(length: int, probes: int) -> None:
    found = made(trace(length, "</think>answer:7"), [said("7")] * probes)
    assert len(found.probes) == (length - 1) // 10 == probes
    assert found.tokens == length


def test_a_cut_trace_is_closed_by_a_probe() -> None:
    found = made(
        trace(30, "on and on", "length"), [said("1"), said("2"), said("3 no", -1, 0, 0, 0)]
    )
    assert (found.probes, found.final) == (["1", "2"], "3")
    assert found.tokens == 30 + 4  # the closing text belongs to it
    assert found.probe_tokens == [1, 1]
    assert found.flags == "cut"
    found = made(trace(30, "on and on", "length"), [said("1"), said("2"), said("?")])
    assert (found.final, found.flags) == (NULL, "cut unanswered")


def test_a_trace_that_was_cut_behind_its_answer() -> None:
    found = made(trace(20, "so</think>answer:7 and on", "length"), [said("7")])
    assert (found.probes, found.final, found.tokens, found.flags) == (["7"], "7", 20, "cut")


def test_an_empty_trace() -> None:
    found = made(trace(1, ""), [])
    assert (found.probes, found.final, found.tokens) == ([], "", 1)
    assert found.flags == "empty unanswered"
    assert made(trace(3, " \n"), []).flags == "empty unanswered"
    assert made(trace(0, ""), []).tokens == 1  # a branch costs something
    found = made(trace(1, "", "length"), [said("4")])
    assert (found.final, found.tokens, found.flags) == ("4", 2, "cut empty")


def test_an_answer_that_never_came() -> None:
    found = made(trace(15, "so</think>I do not know"), [said("8")])
    assert (found.probes, found.final, found.tokens) == (["8"], NULL, 15)
    assert found.flags == "unanswered"


@dataclass(frozen=True)
class Drawn:
    """A collection, and what its branches must be."""

    interval: int
    traces: list[Trace]
    probes: list[list[Generated]]


@st.composite
def collections(draw: st.DrawFn) -> Drawn:
    interval = draw(st.integers(1, 20))
    traces, probes = [], []
    for _ in range(draw(st.integers(1, 4))):
        length = draw(st.integers(1, 60))
        text = draw(st.sampled_from(["", "on", "a</think>answer:5", "a</think>", "answer:12 so"]))
        finish = draw(st.sampled_from(["stop", "length"]))
        closes = finish == "length" and "answer:" not in text
        count = (length - 1) // interval + closes
        texts = st.sampled_from(["5", "12.", "?", "", "7 77"])
        probes.append([said(draw(texts)) for _ in range(count)])
        traces.append(trace(length, text, finish))
    return Drawn(interval, traces, probes)


@settings(deadline=None)
@given(collections())
def test_stores_are_what_was_collected(drawn: Drawn) -> None:
    count = len(drawn.traces)
    kept = Kept(
        sessions=[{"seconds": 1.26}, {"seconds": 2.0}],
        traces={(0, b): drawn.traces[b] for b in reversed(range(count))},
        probes={(0, b): drawn.probes[b] for b in range(count)},
    )
    plan = Plan(count, drawn.interval, 60, Sampling(0.6, 0.95, 20), 4)
    store = freeze(kept, [AskedQuestion("q-7", "?", "$5$")], plan, SCRIPTED, details={"model": "m"})
    question = store.question(0)
    assert (question.id, question.text, question.gold) == ("q-7", "?", "5")
    flags = store.branch_flags() or [""] * count  # None where nothing is odd
    for b, (one, probes) in enumerate(zip(drawn.traces, drawn.probes, strict=True)):
        n = (one.length - 1) // drawn.interval
        found = question.branches[b]
        digits = ["".join(c for c in p.text.split(" ")[0] if c.isdigit()) for p in probes]
        answers = [d or NULL for d in digits]
        assert list(found.probes) == answers[:n]
        assert found.probe_tokens == [len(p.text) for p in probes[:n]]
        whole = {"a</think>answer:5": "5", "answer:12 so": "12", "on": NULL}.get(one.text, "")
        closed = len(probes) > n
        assert found.final == (answers[n] if closed else whole)
        assert found.tokens == one.length + (len(probes[n].text) if closed else 0)
        assert flags[b].split() == [
            flag
            for flag, holds in {
                "cut": one.finish == "length",
                "empty": not one.text,
                "unanswered": found.final in ("", NULL),
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
    told = facts["collected"]
    assert told | {"on": "", "with": ""} == {
        "traces": count,
        "tokens": sum(one.length for one in drawn.traces),
        "probes": sum(map(len, drawn.probes)),
        "probe_tokens": sum(len(p.text) for probes in drawn.probes for p in probes),
        "cut": flagged.count("cut"),
        "empty": flagged.count("empty"),
        "unanswered": flagged.count("unanswered"),
        "answers_merged": None,
        "seconds": 3.3,
        "sessions": 2,
        "on": "",
        "with": "",
    }


def test_what_is_missing_is_named() -> None:
    kept = Kept(traces={(0, 0): trace(1)}, probes={(0, 0): []}, sessions=[{"seconds": 0}])
    questions = [AskedQuestion("one", "?"), AskedQuestion("two", "?")]
    with pytest.raises(TraceError, match="question 'two', branch 0: not collected yet"):
        freeze(kept, questions, Plan(1, 10), SCRIPTED)
    with pytest.raises(TraceError, match="question 'one', branch 1: not collected yet"):
        freeze(kept, questions[:1], Plan(2, 10), SCRIPTED)


def test_flags_and_texts_are_read_back(tmp_path: Path) -> None:
    kept = Kept(
        sessions=[{"seconds": 0.0}],
        traces={(0, 0): trace(1, ""), (0, 1): trace(9, "a\u2028</think>answer:5")},
        probes={(0, 0): [], (0, 1): []},
    )
    store = freeze(kept, [AskedQuestion("", "?")], Plan(2, 10), SCRIPTED, texts=True)
    store.save(tmp_path / "store")
    read = TraceStore.open(tmp_path / "store")
    assert read.branch_flags() == ["empty unanswered", ""]
    assert read.branch_texts() == ["", "a\u2028</think>answer:5"]
    assert read.card.details["collected"]["unanswered"] == 1
    assert read.card.fingerprint == store.card.fingerprint


def test_equal_answers_are_merged() -> None:
    pytest.importorskip("math_verify")
    boxed = Protocol.of(
        "boxed",
        {**PROTOCOL, "probe": {"suffix": "\\boxed{", "max_tokens": 9}, "answers": ["boxed"]},
    )
    kept = Kept(
        sessions=[{"seconds": 0.0}],
        traces={
            (0, 0): trace(15, r"</think>\boxed{1/2}"),
            (0, 1): trace(15, r"</think>\boxed{0.5}"),
            (0, 2): trace(15, r"</think>\boxed{3}"),
        },
        probes={(0, b): [said(r"\frac{1}{2}}")] for b in range(3)},
    )
    done: list[tuple[int, int]] = []
    plan, asked = Plan(3, 10), [AskedQuestion("", "?", r"\frac{1}{2}")]
    plain = freeze(kept, asked, plan, boxed)
    merged = freeze(kept, asked, plan, boxed, merge=True, progress=lambda *at: done.append(at))
    assert len(plain.tables.answers[0]) == 4
    question = merged.question(0)
    assert {b.final for b in question.branches[:2]} == {question.gold}
    assert {a for b in question.branches for a in b.probes} == {question.gold}
    assert question.branches[2].final == "3"
    assert merged.card.details["collected"]["answers_merged"] == 2
    assert done[-1] == (1, 1)
