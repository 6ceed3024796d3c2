"""Classes of the answers to a question."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.answers import classes
from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.answers.classes import answer_classes, fitting_class

POOL = [
    *("5", "5.0", "5 cm", "5 m", "x=5", "y=5", "50%", "50", "0.5", "1/2", r"\frac12", "B", "(B)"),
    *("b", "B) 12", "12", "1,2", "2,1", "(1,2)", "x=1,y=2", "0.333333", "1/3", "0.3333333"),
    *("no", "No", "yes", "3:00", "3 pm", "3 am", "x^2", "x*x", r"\{1,2\}", "9^{9^9}"),
]


def _partition(classes: dict[str, str]) -> set[frozenset[str]]:
    return {frozenset(a for a in classes if classes[a] == name) for name in classes.values()}


@pytest.mark.parametrize(
    ("answers", "classes"),
    [
        (["5 cm", "5"], ["5 cm 5"]),
        (["5 cm", "5", "5 m"], ["5 cm", "5", "5 m"]),
        (["x=5", "5 cm", "5 m", "5", "5.0"], ["x=5", "5 cm", "5 m", "5 5.0"]),
        (["50%", "50", "0.5", "1/2"], ["50% 50", "0.5 1/2"]),
        (["50%", "1/2"], ["50% 1/2"]),
        (["1/3", "0.333333", "0.3333333", "0.33"], ["1/3 0.333333 0.3333333", "0.33"]),
        (["B", "(B)", "b", "C"], ["B (B) b", "C"]),
        (["3:00", "3 pm"], ["3:00 3 pm"]),
        (["3:00", "3 pm", "3 am"], ["3:00", "3 pm", "3 am"]),
    ],
)
def test_a_missing_unit_joins_the_only_class(answers: list[str], classes: list[str]) -> None:
    found = {" ".join(sorted(c)) for c in _partition(answer_classes(answers))}
    expected = set()
    for line in classes:
        rest, members = line, []
        for answer in sorted(answers, key=len, reverse=True):
            if f" {answer} " in f" {rest} ":
                members.append(answer)
                rest = f" {rest} ".replace(f" {answer} ", "  ", 1)
        expected.add(" ".join(sorted(members)))
    assert found == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(POOL), max_size=10).flatmap(
        lambda items: st.tuples(st.just(items), st.permutations(items), st.integers(1, 3))
    ),
    st.none() | st.sampled_from(POOL),
)
def test_classes_do_not_depend_on_order_and_counts(
    drawn: tuple[list[str], list[str], int], gold: str | None
) -> None:
    items, shuffled, times = drawn
    named = answer_classes(items, gold)
    assert named == answer_classes(shuffled * times, gold)
    for answer, name in named.items():
        assert name in {*items, gold}
        # A member equals the name, or both equal something fuller in the class.
        members = [a for a in {*items, gold} - {None} if named.get(str(a), gold) == name]
        assert any(answers_equal(answer, str(member)) for member in members)
    if gold in named:
        assert named[gold] == gold


def test_numbers_that_differ_are_not_compared_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def answers_equal(a: str, b: str) -> bool:
        compared.append((a, b))
        return False

    monkeypatch.setattr(classes, "answers_equal", answers_equal)
    answers = [*map(str, range(1000)), r"\frac{1}{3}", "0.333333"]
    assert len(set(answer_classes(answers).values())) == len(answers)
    assert {frozenset(pair) for pair in compared} == {frozenset((r"\frac{1}{3}", "0.333333"))}


@pytest.mark.parametrize(
    ("a", "b"),
    [("8/13", r"$\frac{8}{13}$"), ("8/13", r"\dfrac8{13}"), ("1/2", r"\boxed{1/2}"), ("7", "7.")],
)
def test_equal_in_form(a: str, b: str) -> None:
    assert answers_equal(a, b, "form")
    assert answers_equal(b, a, "form")


@pytest.mark.parametrize(
    ("a", "b"), [("8/13", "16/26"), ("1/2", "0.5"), ("3", "6/2"), ("1/2", "x=1/2"), ("5", "5 cm")]
)
def test_equal_values_in_another_form(a: str, b: str) -> None:
    assert answers_equal(a, b)
    assert not answers_equal(a, b, "form")
    assert answer_classes([b], a, "form") == {b: b}


@given(st.lists(st.sampled_from(POOL), min_size=1))
def test_classes_in_form_are_those_of_the_pairs(answers: list[str]) -> None:
    classes = answer_classes(answers, None, "form")
    for a, b in itertools.product(answers, answers):
        equal = answers_equal(a, b, "form")
        assert (classes[a] == classes[b]) == equal
        assert not equal or answers_equal(a, b)
    assert fitting_class(answers[0], [[answers[-1]]], "form") == (
        0 if classes[answers[0]] == classes[answers[-1]] else None
    )
