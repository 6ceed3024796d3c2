"""Extraction of answers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.answers.extraction import (
    EMPTY,
    NOTHING_FOUND,
    UNREADABLE,
    ExtractedAnswer,
    check_extractors,
    extract_answer,
)

NAMED = ["boxed", "answer", "number", "choice"]
FIXTURES = Path(__file__).parents[1] / "fixtures" / "answers"


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
        (r"\boxed-1,234.5.", "-1,234.5", r"\boxed-1,234.5"),
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
        (r"\boxed{} or \boxed{ }.", NOTHING_FOUND, None),
        (r"\boxed{$ $}", NOTHING_FOUND, None),
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
        ("} \\boxed{5}", "5", "} \\boxed{5}"),
        ("204 since the", UNREADABLE, None),
        ("", UNREADABLE, None),
    ],
)
def test_first_box_of_a_probe(generated: str, answer: str, until: str | None) -> None:
    prefix = "</think>\n\n**Final Answer**\n\\boxed{"
    expected = answer, None if until is None else prefix + until
    assert read(prefix + generated, first=True) == expected


@pytest.mark.slow
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
    # About three seconds; quadratic time would take minutes.
    assert time.process_time() - started < 60


# --- numbers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer", "until"),
    [
        ("</think>answer:57", "57", "</think>answer:57"),
        ("answer:07.", "07", "answer:07"),
        ("about 1,234.50 of them", "1,234.50", "about 1,234.50"),
        ("x = -5!", "-5", "x = -5"),
        ("x = −5", "−5", "x = −5"),
        ("5-3", "3", "5-3"),
        ("(2)-3", "3", "(2)-3"),
        ("3/4 of it", "3/4", "3/4"),
        ("it is -3 / 4", "-3 / 4", "it is -3 / 4"),
        (r"$\frac{3}{4}$", r"\frac{3}{4}", r"$\frac{3}{4}"),
        ("so it is...5", "5", "so it is...5"),
        ("0 to .5", ".5", "0 to .5"),
        ("1,2,3", "3", "1,2,3"),
        ("7 of x2, H2O and v1.2", "7", "7"),
        ("1e-3", "1e-3", "1e-3"),
        ("none", NOTHING_FOUND, None),
        ("x2", NOTHING_FOUND, None),
    ],
)
def test_last_number(text: str, answer: str, until: str | None) -> None:
    assert read(text, "number") == (answer, until)


def test_a_number_with_spaces_between_thousands_is_found_whole() -> None:
    assert read("about 12 345 678 km", "number")[0] == "12 345 678"
    assert read("1 2 3", "number")[0] == "3"


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
        (["boxes"], "'boxes'; there are boxed, answer, number, choice and regex:PATTERN"),
        ([3], "no extractor is called 3"),
        (["boxed", "regex:("], "'regex:\\(': not a regular expression: missing"),
    ],
)
def test_invalid_extractors(extractors: list[str], message: str) -> None:
    for use in (check_extractors, lambda names: extract_answer("", names)):
        with pytest.raises(ValueError, match=message):
            use(extractors)


# --- any text ---


WORDS = (
    r"\ $ { } . , = + - − % ° ^ _ ( ) 0 1 07 234 x No ERR yes degrees circ text A frac ** é Ⅷ ٣ "
    r"\text \mathrm \left \circ \dfrac \sin \% \! \, \; \{ \boxed{ \boxed \fbox{ answer is {,} x="
)
PIECES = [*WORDS.split(" "), " ", "\n", "~", "\\ ", "\ufeff", "\x1c", "Answer: "]


@st.composite
def mathematics(draw: st.DrawFn) -> str:
    return "".join(draw(st.lists(st.sampled_from(PIECES), max_size=14)))


ANYTHING = mathematics() | st.text() | st.text(st.characters(categories=("Cs", "L", "P")))


@pytest.mark.slow
@settings(max_examples=500, deadline=None)
@given(ANYTHING, st.lists(st.sampled_from([*NAMED, "regex:.*"]), min_size=1), st.booleans())
def test_an_answer_stands_in_the_text(text: str, extractors: list[str], first: bool) -> None:
    answer, end, null = extracted = extract_answer(text, extractors, first=first)
    assert (end is None) == null
    if null:
        assert answer in (NOTHING_FOUND, UNREADABLE, EMPTY)
    else:
        assert answer
        assert answer.lower() in text.lower()
    assert end is None or 0 < end <= len(text)
    # Text after the first answer of a probe does not matter.
    if first and extractors == ["boxed"] and end is not None:
        assert extract_answer(text[:end], extractors, first=True) == extracted


@settings(max_examples=200, deadline=None)
@given(st.from_regex(r"[a-z0-9 +*/()-]{0,9}(\{[a-z0-9]{1,4}\}){1,2}", fullmatch=True), st.text())
def test_content_of_a_box(content: str, noise: str) -> None:
    box = f"\\boxed{{{content}}}"
    assert extract_answer(box + noise, ["boxed"], first=True) == ExtractedAnswer(
        content.strip(), len(box)
    )


# --- reference texts -----------------------------------------------------------------------------


def _rows(name: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((FIXTURES / name).read_text("utf-8"))
    return rows


@pytest.mark.parametrize("name", ["extract.json", "more_extract.json"])
def test_reference_texts(name: str) -> None:
    wrong = []
    for row in _rows(name):
        found = extract_answer(row["text"], row["extractors"])
        if row["answer"] in (NOTHING_FOUND, UNREADABLE, EMPTY):
            right = found.null and found.answer == row["answer"]
        else:
            right = not found.null and answers_equal(row["answer"], found.answer)
        if not right:
            wrong.append((row, found))
    assert not wrong


def test_a_real_no_is_an_answer() -> None:
    assert extract_answer(r"\boxed{No}", ["boxed"]) == ExtractedAnswer("No", 10)
    assert extract_answer("nothing", ["boxed"]) == ExtractedAnswer("No", None, null=True)
