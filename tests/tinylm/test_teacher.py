"""Traces of the teacher: format, error rates, doubts and lengths."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.tinylm import questions
from autotts_gym.tinylm.arithmetic_chain import Chain, parse_chain, random_chain
from autotts_gym.tinylm.teacher import FAULTLESS, Teacher, TeacherTrace

PASS = r"(?:first|redo|recheck):((?:[b-l][-+*]\d=\??\d\d;)+)so (\d\d)(?:,was (\d\d))?\."
TRACE = re.compile(rf"(?:quick|hmm|careful)\.(?:{PASS}wait,not ok\.){{0,4}}{PASS}ok\.")


def write_trace(seed: int, teacher: Teacher | None = None) -> tuple[Chain, TeacherTrace]:
    rng = np.random.default_rng(seed)
    chain = random_chain(rng)
    return chain, (teacher or Teacher()).write_trace(chain, rng)


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_trace_format(seed: int) -> None:
    chain, trace = write_trace(seed)
    assert TRACE.fullmatch(trace.thinking)
    assert trace.text == f"{trace.thinking}</think>answer:{trace.answer:02}"
    passes = re.findall(PASS, trace.thinking)
    assert passes[-1][1] == f"{trace.answer:02}"
    assert passes[0][2] == ""
    for before, after in pairwise(passes):
        assert after[2] == before[1]
    for steps, so, _ in passes:
        assert re.search(rf"=\??{so};$", steps)
        # All steps in order, except one that may be skipped.
        written = [step[:3] for step in steps.split(";")[:-1]]
        expected = chain.text[:-1].split(";")[1:]
        assert len(written) >= len(expected) - 1
        assert [step for step in expected if step in written] == written


@given(st.integers(0, 2**32))
@settings(max_examples=50)
def test_faultless_teacher_writes_one_correct_pass(seed: int) -> None:
    chain, trace = write_trace(seed, FAULTLESS)
    value, expected = chain.start, "quick.first:"
    for letter, step in zip("bcdefghijkl", chain.steps, strict=False):
        value = step.apply(value)
        expected += f"{letter}{step.operator}{step.k}={value:02};"
    assert trace.thinking == f"{expected}so {chain.answer}.ok."
    assert f"{trace.answer:02}" == chain.answer
    assert {piece.probe_answer for piece in trace.pieces} == {trace.answer}


@given(st.integers(0, 2**32))
@settings(max_examples=200)
def test_probe_answer_is_the_last_result_or_the_exact_rest(seed: int) -> None:
    chain, trace = write_trace(seed)
    candidate = None
    value = chain.start
    for text, probe_answer in trace.pieces:
        step = "bcdefghijkl".find(text[0]) if text[1] in "+-*" else None
        if candidate is not None:
            assert probe_answer == candidate
        elif step is not None:
            assert probe_answer == chain.result_from(value, step)
        if step is not None:
            value = int(text[-3:-1])
        if text.startswith("so"):
            candidate = int(text[3:5])


def test_accuracy_by_stratum() -> None:
    rng = np.random.default_rng(0)
    teacher = Teacher()
    accuracy: dict[str, list[float]] = {}
    for question in questions("chain"):
        chain = parse_chain(question.question)
        share = np.mean(
            [teacher.write_trace(chain, rng).answer == int(chain.answer) for _ in range(60)]
        )
        accuracy.setdefault(question.id.split("-")[1], []).append(float(share))
    means = {name: np.mean(shares) for name, shares in accuracy.items()}
    assert means["easy"] > means["medium"] > means["hard"] > means["misleading"]
    assert means["easy"] > 0.7
    assert means["misleading"] < 0.45


@pytest.mark.parametrize(("errors", "low", "high"), [(0.5, 0.6, 0.75), (1.2, 0.45, 0.6)])
def test_accuracy_by_error_factor(errors: float, low: float, high: float) -> None:
    rng = np.random.default_rng(0)
    teacher = Teacher(errors=errors)
    correct = [
        teacher.write_trace(parse_chain(question.question), rng).answer == int(question.answer)
        for question in questions("chain")
        for _ in range(30)
    ]
    assert low < np.mean(correct) < high


def test_doubts_mark_errors_and_lengthen_traces() -> None:
    """Most wrong results are doubted, and wrong traces are longer."""
    rng = np.random.default_rng(0)
    doubted: dict[bool, list[bool]] = {True: [], False: []}
    lengths: dict[bool, list[float]] = {True: [], False: []}
    for question in questions("chain"):
        chain = parse_chain(question.question)
        traces = [Teacher().write_trace(chain, rng) for _ in range(40)]
        correct = [trace.answer == int(question.answer) for trace in traces]
        if 8 <= sum(correct) <= 32:
            for trace, is_correct in zip(traces, correct, strict=True):
                lengths[is_correct].append(np.log(len(trace.text)))
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


def test_card_has_plain_values() -> None:
    assert Teacher().card()["styles"] == {"quick": 0.36, "hmm": 0.25, "careful": 0.16}
