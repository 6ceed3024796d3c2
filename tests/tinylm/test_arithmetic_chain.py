"""Chains of arithmetic: text, answer, traps and random draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.tinylm.arithmetic_chain import Chain, Step, parse_chain, random_chain

steps = st.one_of(
    st.builds(Step, st.sampled_from("+-"), st.integers(2, 9)),
    st.builds(Step, st.just("*"), st.integers(2, 5)),
)
chains = st.builds(
    Chain,
    st.integers(0, 99),
    st.lists(steps, min_size=3, max_size=11).map(tuple),
)


@given(chains)
def test_text_round_trip(chain: Chain) -> None:
    assert parse_chain(chain.text) == chain


@given(chains)
def test_answer_equals_python_arithmetic(chain: Chain) -> None:
    first, *rest = chain.text.rstrip("?").split(";")
    value = int(first.removeprefix("a="))
    for part in rest:
        value = eval(f"{value}{part[1:]}")
    assert chain.answer == f"{value % 100:02}"


def test_docstring_example() -> None:
    chain = parse_chain("a=30;b+6;c*2;d*5;e-3?")
    assert chain.start == 30
    assert chain.steps == (Step("+", 6), Step("*", 2), Step("*", 5), Step("-", 3))
    assert chain.answer == "57"
    assert chain.result_from(72, 2) == 57
    assert chain.prompt == "q:a=30;b+6;c*2;d*5;e-3?"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=30;b+6;c*2;d*5", "ends with"),
        ("a=3;b+6;c*2;d*5?", "two digits"),
        ("a=³0;b+6;c*2;d*5?", "two digits"),
        ("b=30;b+6;c*2;d*5?", "two digits"),
        ("a=30;b+6;c*2?", "2 steps, expected 3 to 11"),
        ("a=30" + ";b+6" * 12 + "?", "12 steps"),
        ("a=30;b+6;c*2;c*5?", "'c*5' is not a step; expected 'd'"),
        ("a=30;b+6;c*6;d*5?", "'c*6' is not a step"),
        ("a=30;b+1;c*2;d*5?", "'b+1' is not a step"),
        ("a=30;b/2;c*2;d*5?", "'b/2' is not a step"),
    ],
)
def test_malformed_question(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("*", r"\*").replace("+", r"\+")):
        parse_chain(text)


@pytest.mark.parametrize(
    ("step", "value", "without_carry"),
    [
        (Step("-", 7), 42, 45),
        (Step("-", 7), 48, None),
        (Step("-", 9), 3, 4),
        (Step("+", 6), 38, 34),
        (Step("+", 6), 31, None),
        (Step("*", 4), 38, 22),
        (Step("*", 3), 32, None),
    ],
)
def test_apply_without_carry(step: Step, value: int, without_carry: int | None) -> None:
    assert step.apply_without_carry(value) == without_carry


def test_traps_are_counted_along_the_correct_path() -> None:
    # 42 - 7 = 35 borrows, * 4 = 40 carries, + 9 = 49 and - 8 = 41 do not.
    assert parse_chain("a=42;b-7;c*4;d+9;e-8?").traps == (1, 1)


def test_random_chain_stays_within_bounds_and_is_reproducible() -> None:
    drawn = [random_chain(np.random.default_rng(seed), 4, 6) for seed in range(200)]
    assert {len(chain.steps) for chain in drawn} == {4, 5, 6}
    assert {step for chain in drawn for step in chain.steps} == {
        *(Step(operator, k) for operator in "+-" for k in range(2, 10)),
        *(Step("*", k) for k in range(2, 6)),
    }
    assert random_chain(np.random.default_rng(7), 4, 6) == drawn[7]
