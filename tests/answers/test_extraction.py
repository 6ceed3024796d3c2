"""Extraction and normalization of answers."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.inference.answer_extraction import (
    EMPTY,
    NOTHING_FOUND,
    UNREADABLE,
    ExtractedAnswer,
    check_extractors,
    extract_answer,
)
from autotts_gym.inference.answer_normalization import normalize
from autotts_gym.traces.store import NULL_ANSWERS

NAMED = ["boxed", "number", "choice"]


def read(text: str, *extractors: str, first: bool = False) -> tuple[str, str | None]:
    """The answer, and the text up to its end."""
    extracted = extract_answer(text, extractors or ["boxed"], first=first)
    return extracted.answer, None if extracted.end is None else text[: extracted.end]


# --- boxes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer", "until"),
    [
        (r"so \boxed{204}.", "204", r"so \boxed{204}"),
        (r"\boxed{1} or \boxed{2} then", "2", r"\boxed{1} or \boxed{2}"),
        (r"\fbox{7}", "7", r"\fbox{7}"),
        (r"\boxed{\frac{1}{2}} }", r"\frac{1}{2}", r"\boxed{\frac{1}{2}}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}", r"\boxed{\{1, 2\}}"),
        (r"\boxed{\{1}", r"\{1", r"\boxed{\{1}"),
        (r"\boxed{a\\{b}}", r"a\\{b}", r"\boxed{a\\{b}}"),
        ("\\boxed {\n 5 }", "5", "\\boxed {\n 5 }"),
        (r"\boxed 5, so", "5", r"\boxed 5"),
        (r"\boxed-1,234.5.", "-1234.5", r"\boxed-1,234.5"),
        (r"\boxed x$", "x", r"\boxed x"),
        (r"\boxed\frac{1}{2}", r"\frac{1}{2}", r"\boxed\frac{1}{2}"),
        (r"\boxed\frac12", r"\frac12", r"\boxed\frac12"),
        (r'"\\boxed{5}"', "5", r'"\\boxed{5}'),  # escaped for JSON
        (r"\boxed{\boxed{5}}", "5", r"\boxed{\boxed{5}"),
        (r"\boxed{\boxed{5}", "5", r"\boxed{\boxed{5}"),
        (r"first \boxed{5}, then \boxed{7", "5", r"first \boxed{5}"),
        (r"use \boxed{ for it: \boxed{5}", "5", r"use \boxed{ for it: \boxed{5}"),
        (r"\boxed{5} stands in \boxed{} or \boxed{ }", "5", r"\boxed{5}"),
        (r"\boxed{5} as \boxed format", "5", r"\boxed{5}"),
        (r"\boxed{} or \boxed{ }.", EMPTY, r"\boxed{} or \boxed{ }"),
        (r"\boxed{$ $}", EMPTY, r"\boxed{$ $}"),
        (r"\boxed{12", UNREADABLE, None),
        (r"\boxed{", UNREADABLE, None),
        ("", EMPTY, None),
        (" \n", EMPTY, None),
        ("I give up", NOTHING_FOUND, None),
        (r"in \boxed format", NOTHING_FOUND, None),
        (r"\boxedness{5}", NOTHING_FOUND, None),
        ("boxed{5}", NOTHING_FOUND, None),
    ],
)
def test_last_box(text: str, answer: str, until: str | None) -> None:
    assert read(text) == (answer, until)


@pytest.mark.parametrize(
    ("generated", "answer", "until"),
    [
        ("204}\\] Therefore \\boxed{5}", "204", "204}"),
        (r"\frac{1}{2}} and } {", r"\frac{1}{2}", r"\frac{1}{2}}"),
        (r"\boxed{204}} now", "204", r"\boxed{204}}"),
        (r"\boxed{204} now", "204", r"\boxed{204}"),
        ("} \\boxed{5}", EMPTY, "}"),
        ("204 since the", UNREADABLE, None),
        ("", UNREADABLE, None),
    ],
)
def test_first_box_of_a_probe(generated: str, answer: str, until: str | None) -> None:
    prefix = "</think>\n\n**Final Answer**\n\\boxed{"
    expected = answer, None if until is None else prefix + until
    assert read(prefix + generated, first=True) == expected


def test_time_is_linear_in_the_boxes() -> None:
    """Unclosed and nested boxes."""
    texts = [
        "\\boxed{" * 30_000,
        "\\boxed{" * 30_000 + "}" * 30_000,
        "\\boxed{ " * 30_000 + "}" * 30_000,
        "\\boxed " * 30_000,
        "\\boxed\\f{" * 20_000,
        "\\" * 200_000,
        "{" * 200_000,
        "123," * 50_000 + "4567",
        "1" * 200_000,
        "1/" * 100_000,
        "answer" + " " * 200_000,
        "answer " * 30_000,
        "*" * 200_000,
        "(A" * 100_000,
        "A " * 100_000,
        "\n" * 200_000 + "x",
        "\\text{" * 40_000 + "5" + "}" * 40_000,
        "{" * 60_000 + "," + "}" * 60_000,
        "x=" * 100_000,
        "5" + "% degrees" * 20_000,
        "." * 200_000 + "x",
    ]
    started = time.process_time()
    for text in texts:
        for first in (False, True):
            for extractor in NAMED:
                extract_answer(text, [extractor], first=first)
        assert normalize(normalize(text)) == normalize(text)
    # About three seconds; quadratic time would take minutes.
    assert time.process_time() - started < 60


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer", "until"),
    [
        ("</think>answer:57", "57", "</think>answer:57"),
        ("answer:07.", "7", "answer:07"),
        ("about 1,234.50 of them", "1234.5", "about 1,234.50"),
        ("x = -5!", "-5", "x = -5"),
        ("x = −5", "-5", "x = −5"),
        ("5-3", "3", "5-3"),
        ("(2)-3", "3", "(2)-3"),
        ("3/4 of it", "3/4", "3/4"),
        ("it is -3 / 4", "-3 / 4", "it is -3 / 4"),
        (r"$\frac{3}{4}$", r"\frac{3}{4}", r"$\frac{3}{4}"),
        ("so it is...5", "5", "so it is...5"),
        ("0 to .5", "0.5", "0 to .5"),
        ("1,2,3", "3", "1,2,3"),
        ("7 of x2, H2O and v1.2", "7", "7"),
        ("1e-3", "1e-3", "1e-3"),
        ("none", NOTHING_FOUND, None),
        ("x2", NOTHING_FOUND, None),
    ],
)
def test_last_number(text: str, answer: str, until: str | None) -> None:
    assert read(text, "number") == (answer, until)


def test_first_number() -> None:
    assert read("answer:57,was 67.", "number", first=True) == ("57", "answer:57")


# --- choices -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        (r"(A) is wrong. \boxed{B}, not (C)", "B"),
        (r"\boxed{\text{(C)} 42}", "C"),
        (r"\boxed{d}", "D"),
        (r"\boxed{\textbf{E.}}", "E"),
        (r"\boxed{A + B} so the answer is J", "J"),
        ("The answer is B because (C) fails", "B"),
        ("the answer is A. No, the answer is (D).", "D"),
        ("**Answer:** **C**", "C"),
        ("Answer: option F", "F"),
        (r"the correct answer is: $\text{G}$", "G"),
        ("Answer: I think it is (H)", "H"),
        ("I'd take **B**", "B"),
        ("It must be option C", "C"),
        ("B", "B"),
        ("Since it rains:\nC\n", "C"),
        ("D) forty-two", "D"),
        ("My best guess: E", "E"),
        ("A good one is hard to find, I think", NOTHING_FOUND),
        ("Answer: Bob", NOTHING_FOUND),
        ("K", NOTHING_FOUND),
        (r"\boxed{", UNREADABLE),
    ],
)
def test_choices(text: str, letter: str) -> None:
    assert extract_answer(text, ["choice"]).answer == letter


def test_first_choice_of_a_probe() -> None:
    assert read("The answer is B. The answer is C", "choice", first=True) == (
        "B",
        "The answer is B",
    )
    assert read(r"\boxed{B} or \boxed{C}", "choice", first=True) == ("B", r"\boxed{B}")


# --- patterns and several extractors -------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "answer", "until"),
    [
        (r"= *\d+", "= 13", "a = 12; b = 13"),
        (r"= *(\d+);?", "13", "a = 12; b = 13;"),
        (r"(\w) = (?P<answer>\d+)", "13", "a = 12; b = 13"),
        (r"(a) = \d+|z", "a", "a = 12"),
        (r"\d*", "13", "a = 12; b = 13"),  # not the empty match at the end
        (r"c = (\d+)", NOTHING_FOUND, None),
    ],
)
def test_patterns(pattern: str, answer: str, until: str | None) -> None:
    assert read("a = 12; b = 13;", f"regex:{pattern}") == (answer, until)


def test_first_extractor_with_a_result_is_used() -> None:
    assert read(r"5 \boxed{6} 7", "boxed", "number")[0] == "6"
    assert read("5 6 7", "boxed", "number")[0] == "7"
    assert read(r"\boxed{\frac{12}{5", "boxed", "number")[0] == UNREADABLE
    assert read("none", "boxed", "number", "choice")[0] == NOTHING_FOUND


@pytest.mark.parametrize(
    ("extractors", "message"),
    [
        ([], "a list of at least one"),
        ("boxed", "a list of at least one"),
        (["boxes"], "'boxes'; there are boxed, number, choice and regex:PATTERN"),
        ([3], "no extractor is called 3"),
        (["boxed", "regex:("], "'regex:\\(': not a regular expression: missing"),
    ],
)
def test_invalid_extractors(extractors: list[str], message: str) -> None:
    for use in (check_extractors, lambda names: extract_answer("", names)):
        with pytest.raises(ValueError, match=message):
            use(extractors)


# --- normalization -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "spelling"),
    [
        ("204", "204"),
        ("025", "25"),
        ("000", "0"),
        ("+5", "5"),
        ("-0.0", "0"),
        ("- 5", "-5"),
        ("−5", "-5"),
        ("57.0", "57"),
        ("57.", "57"),
        ("0.50", "0.5"),
        (".5", "0.5"),
        ("1,234", "1234"),
        ("-1,234,567.80", "-1234567.8"),
        ("1{,}234", "1234"),
        (r"1,\!234", "1234"),
        (r"12\,345", "12345"),
        ("1,23", "1,23"),
        ("1,2,3", "1,2,3"),
        ("100, 200", "100, 200"),
        ("(1,2)", "(1,2)"),
        ("$ 5 $", "5"),
        (r"\$5", "5"),
        (r"\(5\)", "5"),
        (r"\left( \dfrac{1}{2}, \tfrac12 \right]", r"( \frac{1}{2}, \frac12 ]"),
        (r"\text{Monday}", "Monday"),
        (r"5\text{ cm}", "5 cm"),
        (r"x\text{cm}", "x cm"),
        (r"\mathrm{\mathbf{e}}^{2}", "e^{2}"),
        (r"\boxed{5 + \fbox{x}}", "5 + x"),
        (r"90^\circ", "90"),
        (r"90^{\circ}", "90"),
        ("90°", "90"),
        (r"\frac{180}{7} degrees.", r"\frac{180}{7}"),
        (r"\sin 30^\circ", r"\sin 30^\circ"),
        (r"50\%.", "50"),
        ("50 %", "50"),
        (r"50\% of 3", "50% of 3"),
        ("x=5", "5"),
        (r"x_{1} = \frac12", r"\frac12"),
        (r"\theta = 30^\circ", "30"),
        ("Answer = 007", "7"),
        ("x = y = 5", "x = y = 5"),
        ("x=1, y=2", "x=1, y=2"),
        ("f(x) = 2", "f(x) = 2"),
        ("x =", "x ="),
        ("x\n +  1", "x + 1"),
        (r"\pi r", r"\pi r"),
        ("No", "no"),
        ("YES", "yes"),
        ("No solution", "No solution"),
        ("err.", "err"),
        ("ERR", "err"),
        ("$.$", ""),
        ("", ""),
        ("?", "?"),
        ("\ud800", "\ufffd"),
    ],
)
def test_normalize(answer: str, spelling: str) -> None:
    assert normalize(answer) == spelling


def test_normalized_no_is_not_a_null_answer() -> None:
    assert extract_answer(r"\boxed{No}", ["boxed"]).answer == normalize("No") == "no"
    assert extract_answer(r"\boxed{\text{ERR}}", ["boxed"]).answer == "err"
    assert extract_answer("it is: NO", [r"regex:is: (\w+)"]).answer == "no"


WORDS = (
    r"\ $ { } . , = + - − % ° ^ _ ( ) 0 1 07 234 x No ERR yes degrees circ text A frac ** é Ⅷ ٣ "
    r"\text \mathrm \left \circ \dfrac \sin \% \! \, \; \{ \boxed{ \boxed \fbox{ answer is {,} x="
)
PIECES = [*WORDS.split(" "), " ", "\n", "~", "\\ ", "\ufeff", "\x1c", "Answer: "]


@st.composite
def mathematics(draw: st.DrawFn) -> str:
    return "".join(draw(st.lists(st.sampled_from(PIECES), max_size=14)))


ANYTHING = mathematics() | st.text() | st.text(st.characters(categories=("Cs", "L", "P")))


@settings(max_examples=1500, deadline=None)
@given(ANYTHING)
def test_normalize_is_idempotent(text: str) -> None:
    once = normalize(text)
    assert normalize(once) == once
    assert once not in NULL_ANSWERS - {EMPTY}
    assert len(once) <= 2 * len(text)  # longer where it sets letters apart, or writes .5 as 0.5
    once.encode()  # holds no lone surrogates


@settings(max_examples=500, deadline=None)
@given(ANYTHING, st.lists(st.sampled_from([*NAMED, "regex:.*"]), min_size=1), st.booleans())
def test_extracted_answer_is_normalized_or_null(
    text: str, extractors: list[str], first: bool
) -> None:
    answer, end = extracted = extract_answer(text, extractors, first=first)
    assert answer in NULL_ANSWERS or normalize(answer) == answer
    assert (end is None) <= (answer in NULL_ANSWERS)
    assert end is None or 0 < end <= len(text)
    if answer in (NOTHING_FOUND, UNREADABLE):
        assert end is None
    # Text after the first answer of a probe does not matter.
    if first and extractors == ["boxed"] and end is not None:
        assert extract_answer(text[:end], extractors, first=True) == extracted


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"[a-z0-9 +*/()-]{0,9}(\{[a-z0-9]{0,4}\}){0,2}", fullmatch=True), st.text())
def test_content_of_a_box(content: str, noise: str) -> None:
    box = f"\\boxed{{{content}}}"
    assert extract_answer(box + noise, ["boxed"], first=True) == ExtractedAnswer(
        normalize(content), len(box)
    )


@given(
    st.integers(), st.sampled_from(["{}", "+{}", "00{}", "{:,}", "{}.0", " {}. ", "${}$", "x={}"])
)
def test_normalize_integers(number: int, written: str) -> None:
    if written in ("+{}", "00{}"):
        number = abs(number)
    assert normalize(written.format(number)) == str(number)


def test_no_digit_limit() -> None:
    digits = "9" * 10_000
    spell: Callable[[str], str] = normalize
    assert spell(f"0{digits}.0") == digits
