"""The chains: read and written, their traps, and the two fixed sets of questions."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.tinylm import SETS, questions
from autotts_gym.tinylm.task import Chain, Step, draw, parse, reserved

steps = st.one_of(
    st.builds(Step, st.sampled_from("+-"), st.integers(2, 9)),
    st.builds(Step, st.just("*"), st.integers(2, 5)),
)
chains = st.builds(
    Chain,
    st.integers(0, 99),
    st.lists(steps, min_size=3, max_size=11).map(lambda found: tuple(found)),
)


@given(chains)
def test_what_is_written_is_read_back(chain: Chain) -> None:
    assert parse(chain.text) == chain


@given(chains)
def test_the_answer_is_what_python_makes_of_it(chain: Chain) -> None:
    first, *rest = chain.text.rstrip("?").split(";")
    value = int(first.removeprefix("a="))
    for part in rest:
        value = eval(f"{value}{part[1:]}")
    assert chain.answer == f"{value % 100:02}"


def test_the_example_of_the_docstring() -> None:
    chain = parse("a=30;b+6;c*2;d*5;e-3?")
    assert chain.start == 30
    assert chain.steps == (Step("+", 6), Step("*", 2), Step("*", 5), Step("-", 3))
    assert chain.answer == "57"
    assert chain.continued(72, 2) == 57
    assert chain.prompt == "q:a=30;b+6;c*2;d*5;e-3?"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a=30;b+6;c*2;d*5", "ends with"),
        ("a=3;b+6;c*2;d*5?", "two digits"),
        ("a=³0;b+6;c*2;d*5?", "two digits"),
        ("b=30;b+6;c*2;d*5?", "two digits"),
        ("a=30;b+6;c*2?", "2 steps, expected 3 to 11"),
        ("a=30" + ";b+6" * 12 + "?", "12 steps"),
        ("a=30;b+6;c*2;c*5?", "'c*5' is no step; expected 'd'"),
        ("a=30;b+6;c*6;d*5?", "'c*6' is no step"),
        ("a=30;b+1;c*2;d*5?", "'b+1' is no step"),
        ("a=30;b/2;c*2;d*5?", "'b/2' is no step"),
    ],
)
def test_says_what_is_wrong_with_a_question(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=what.replace("*", r"\*").replace("+", r"\+")):
        parse(text)


@pytest.mark.parametrize(
    ("step", "value", "forgotten"),
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
def test_what_a_forgotten_carry_makes(step: Step, value: int, forgotten: int | None) -> None:
    assert step.forgetful(value) == forgotten


def test_traps_are_counted_along_the_right_path() -> None:
    # 42 - 7 = 35 borrows, * 4 = 40 carries, + 9 = 49 and - 8 = 41 do not.
    assert parse("a=42;b-7;c*4;d+9;e-8?").traps == (1, 1)


def test_draws_within_bounds_and_the_same_again() -> None:
    drawn = [draw(np.random.default_rng(seed), 4, 6) for seed in range(200)]
    assert {len(chain.steps) for chain in drawn} == {4, 5, 6}
    assert {step for chain in drawn for step in chain.steps} == {
        *(Step(operator, k) for operator in "+-" for k in range(2, 10)),
        *(Step("*", k) for k in range(2, 6)),
    }
    assert draw(np.random.default_rng(7), 4, 6) == drawn[7]


@pytest.mark.parametrize("name", SETS)
def test_a_set_is_sixty_questions_of_its_strata(name: str) -> None:
    found = questions(name)
    assert len(found) == 60
    assert len({question.id for question in found}) == 60
    assert len({question.question for question in found}) == 60
    for question in found:
        chain = parse(question.question)
        assert chain.text == question.question
        assert chain.answer == question.answer
        (stratum,) = (s for s in SETS[name].strata if f"{name}-{s.name}-" in question.id)
        assert stratum.holds(chain)


def test_the_held_out_set_is_disjoint_and_training_sees_neither() -> None:
    search, held_out = ({q.question for q in questions(name)} for name in SETS)
    assert not search & held_out
    assert reserved() == search | held_out


@pytest.mark.parametrize(
    ("name", "digest"), [("chain", "98d63f8c340c7276"), ("chain-hard", "ff7f86f2b87edd0e")]
)
def test_the_sets_never_change(name: str, digest: str) -> None:
    # The trained models that come along left these very questions out.
    text = "\n".join(question.question for question in questions(name))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_lists_the_sets_there_are() -> None:
    with pytest.raises(ValueError, match="'chian'; there are chain, chain-hard"):
        questions("chian")
