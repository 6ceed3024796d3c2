"""What the teacher writes: well-formed, wrong as often as it should be, and settled late."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.tinylm.task import Chain, draw, parse, questions
from autotts_gym.tinylm.teacher import FAULTLESS, Teacher, Trace

PASS = r"(?:first|redo|recheck):((?:[b-l][-+*]\d=\??\d\d;)+)so (\d\d)(?:,was (\d\d))?\."
TRACE = re.compile(rf"(?:quick|hmm|careful)\.(?:{PASS}wait,not ok\.){{0,4}}{PASS}ok\.")


def written(seed: int, teacher: Teacher | None = None) -> tuple[Chain, Trace]:
    rng = np.random.default_rng(seed)
    chain = draw(rng)
    return chain, (teacher or Teacher()).write(chain, rng)


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_a_trace_is_well_formed(seed: int) -> None:
    chain, trace = written(seed)
    assert TRACE.fullmatch(trace.thinking)
    assert trace.text == f"{trace.thinking}</think>answer:{trace.answer:02}"
    passes = re.findall(PASS, trace.thinking)
    assert passes[-1][1] == f"{trace.answer:02}"
    assert passes[0][2] == ""
    for before, after in pairwise(passes):
        assert after[2] == before[1]
    for steps, so, _ in passes:
        assert re.search(rf"=\??{so};$", steps)
        # Every step but one that may have been skipped, in order.
        done = [step[:3] for step in steps.split(";")[:-1]]
        there = chain.text[:-1].split(";")[1:]
        assert len(done) >= len(there) - 1
        assert [step for step in there if step in done] == done


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_the_faultless_teacher_passes_once_and_is_right(seed: int) -> None:
    chain, trace = written(seed, FAULTLESS)
    value, expected = chain.start, "quick.first:"
    for letter, step in zip("bcdefghijkl", chain.steps, strict=False):
        value = step.apply(value)
        expected += f"{letter}{step.operator}{step.k}={value:02};"
    assert trace.thinking == f"{expected}so {chain.answer}.ok."
    assert f"{trace.answer:02}" == chain.answer
    assert {piece.held for piece in trace.pieces} == {trace.answer}


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_it_holds_the_last_result_or_the_exact_rest(seed: int) -> None:
    chain, trace = written(seed)
    candidate = None
    value = chain.start
    for text, held in trace.pieces:
        step = "bcdefghijkl".find(text[0]) if text[1] in "+-*" else None
        if candidate is not None:
            assert held == candidate
        elif step is not None:
            assert held == chain.continued(value, step)
        if step is not None:
            value = int(text[-3:-1])
        if text.startswith("so"):
            candidate = int(text[3:5])


def test_errs_most_where_the_traps_are() -> None:
    rng = np.random.default_rng(0)
    teacher = Teacher()
    right: dict[str, list[float]] = {}
    for question in questions("chain"):
        chain = parse(question.question)
        share = np.mean([teacher.write(chain, rng).answer == int(chain.answer) for _ in range(60)])
        right.setdefault(question.id.split("-")[1], []).append(float(share))
    means = {name: np.mean(shares) for name, shares in right.items()}
    assert means["easy"] > means["medium"] > means["hard"] > means["misleading"]
    assert means["easy"] > 0.7
    assert means["misleading"] < 0.45


@pytest.mark.parametrize(("errors", "low", "high"), [(0.5, 0.6, 0.75), (1.2, 0.45, 0.6)])
def test_a_better_teacher_is_right_more_often(errors: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    teacher = Teacher(errors=errors)
    right = [
        teacher.write(parse(question.question), rng).answer == int(question.answer)
        for question in questions("chain")
        for _ in range(30)
    ]
    assert low < np.mean(right) < high


def test_doubts_stand_where_it_errs_and_make_it_go_on() -> None:
    """Of wrong results, most are doubted; branches that go astray are the longer ones."""
    rng = np.random.default_rng(0)
    doubted: dict[bool, list[bool]] = {True: [], False: []}
    lengths: dict[bool, list[float]] = {True: [], False: []}
    for question in questions("chain"):
        chain = parse(question.question)
        traces = [Teacher().write(chain, rng) for _ in range(40)]
        rights = [trace.answer == int(question.answer) for trace in traces]
        if 8 <= sum(rights) <= 32:
            for trace, right in zip(traces, rights, strict=True):
                lengths[right].append(np.log(len(trace.text)))
        for trace in traces:
            value = chain.start
            first = trace.thinking.partition("so ")[0].partition("first:")[2]
            for text in first.split(";")[:-1]:
                index = "bcdefghijkl".index(text[0])
                result = int(text[-2:])
                doubted[result == chain.steps[index].apply(value)].append("?" in text)
                value = result
    assert np.mean(doubted[False]) > 0.7
    assert np.mean(doubted[True]) < 0.05
    assert np.mean(lengths[False]) - np.mean(lengths[True]) > 0.1


def test_its_card_is_plain() -> None:
    assert Teacher().card()["styles"] == {"quick": 0.36, "hmm": 0.25, "careful": 0.16}
