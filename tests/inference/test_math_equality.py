"""Merging of equal answers, also if comparisons hang, crash or fail."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.inference.math_equality import AnswerGroup, merge_equal

#: Replaces math-verify in the processes: answers with the same letters are equal.
STAND_IN = r"""
import dataclasses, os, signal, sys, time

@dataclasses.dataclass(frozen=True)
class Spelling:
    units: bool = True
    boxed: str = "all"

@dataclasses.dataclass(frozen=True)
class LatexExtractionConfig:
    boxed_match_priority: int = 50
    normalization_config: Spelling = Spelling()

def parse(text, config, **_):
    act(text.strip("$"), "parse")
    return [sorted(text)]

def verify(one, other, **_):
    for answer in (one, other):
        act("".join(answer).strip("$"), "verify")
    return one == other

def act(answer, where):
    if "p" in answer and where != "parse" or "p" not in answer and where == "parse":
        return
    if "q" in answer:  # computes forever and catches errors
        while True:
            try:
                while True:
                    pass
            except Exception:
                pass
    if "w" in answer:  # waits forever
        time.sleep(1000)
    if "x" in answer:
        os._exit(3)
    if "z" in answer:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "m" in answer:
        bytes(1 << 40)
    if "e" in answer:
        sys.exit("gives up")
"""


def equal(*answers: str, gold: str = "") -> dict[str, str]:
    """The mapping of answers in the order of decreasing frequency."""
    counts = {answer: len(answers) - number for number, answer in enumerate(answers)}
    return merge_equal([AnswerGroup(gold, counts)], workers=1)[0]


@pytest.mark.slow
def test_mathematics() -> None:
    merged = equal(
        *(r"\frac{1}{2}", "0.5", "1/2", "0.50", "50/100", "0.51"),
        *("2^{10}", "1024", "x + 1", "1+x", "Q+R", "R + Q"),
        *("1e3", "1000", "15 minutes", "15", r"\frac{30}{2}\text{ minutes}", "15 t"),
        *("(1,2)", "(2,1)", r"\left(1, \frac{4}{2}\right)", "|a - 1|", "|1 - a|"),
        *("listen", "silent", "Listen.", "two apples", "two pears", "?", "[3", "4*(2 + √19)", "4"),
        *("No", "ERR", "", "no"),
    )
    classes: dict[str, list[str]] = {}
    for answer, representative in merged.items():
        classes.setdefault(representative, []).append(answer)
    assert [members for members in classes.values() if len(members) > 1] == [
        [r"\frac{1}{2}", "0.5", "1/2", "0.50", "50/100"],
        ["2^{10}", "1024"],
        ["x + 1", "1+x"],
        ["Q+R", "R + Q"],
        ["1e3", "1000"],
        ["15 minutes", "15", r"\frac{30}{2}\text{ minutes}"],
        ["(1,2)", r"\left(1, \frac{4}{2}\right)"],
        ["|a - 1|", "|1 - a|"],
        ["listen", "Listen."],
    ]


@pytest.mark.slow
def test_result_does_not_depend_on_the_workers() -> None:
    groups = [
        AnswerGroup(r"\frac12", {"0.5": 1, "1/2": 5, "2/4": 5, "3": 7}),
        AnswerGroup("", {"0.5": 1, "1/2": 5, "2/4": 5, "3": 7}),
        AnswerGroup("3", {"1": 2, "2": 2}),
        AnswerGroup("1", {"9^{9^{9^{9}}}": 3, "2 - 1": 2, "6/2": 1, "3": 1}),
    ]
    events: list[tuple[int, int]] = []
    expected = [
        {"0.5": r"\frac12", "1/2": r"\frac12", "2/4": r"\frac12", "3": "3"},
        {"0.5": "1/2", "1/2": "1/2", "2/4": "1/2", "3": "3"},
        {"1": "1", "2": "2"},
        {"9^{9^{9^{9}}}": "9^{9^{9^{9}}}", "2 - 1": "1", "6/2": "6/2", "3": "6/2"},
    ]
    assert (
        merge_equal(groups, workers=1, timeout=1.0, progress=lambda *event: events.append(event))
        == expected
    )
    assert events == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert merge_equal(groups, workers=3, timeout=1.0) == expected


# --- without mathematics -------------------------------------------------------------------------


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(method: str) -> None:
        raise AssertionError(f"starts a process with {method}")

    monkeypatch.setattr(multiprocessing, "get_context", refuse)


@pytest.mark.usefixtures("no_processes")
def test_integers_and_words_need_no_processes() -> None:
    assert equal("7", "07", "8", "no", "No", "NO", "ERR", "", "7.0", "Yes") == {
        **{"7": "7", "07": "7", "7.0": "7", "8": "8"},
        **{"no": "no", "NO": "no", "Yes": "Yes", "No": "No", "ERR": "ERR", "": ""},
    }
    assert merge_equal([]) == []
    assert merge_equal([AnswerGroup("5", {})]) == [{}]


@pytest.mark.usefixtures("no_processes")
def test_gold_answer_represents_its_class() -> None:
    assert equal("25", "26", gold="025") == {"25": "025", "26": "26"}
    # A null answer means that there is no gold answer.
    assert equal("no", "5", gold="No") == {"no": "no", "5": "5"}


@given(
    st.dictionaries(
        st.builds(str.format, st.sampled_from(["{}", "0{}", "{}.0"]), st.integers(0, 5))
        | st.sampled_from(["No", "ERR", ""]),
        st.integers(1, 3),
    ),
    st.sampled_from(["", "3", "03", "No"]),
)
def test_representatives(answers: dict[str, int], gold: str) -> None:
    (merged,) = merge_equal([AnswerGroup(gold, answers)])
    assert list(merged) == list(answers)
    for answer, representative in merged.items():
        if answer in ("No", "ERR", ""):
            assert representative == answer
            continue
        assert float(answer) == float(representative)
        if gold.isdigit() and int(gold) == float(answer):
            assert representative == gold
        else:
            equals = [a for a in answers if a[:1].isdigit() and float(a) == float(answer)]
            assert representative == max(
                equals, key=answers.__getitem__
            )  # the first of the most common


# --- failures ------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["q", "w", "x", "z", "m", "e"])
def test_failed_comparisons_are_not_equal(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "math_verify.py").write_text(STAND_IN)
    monkeypatch.delitem(sys.modules, "math_verify", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    # Answers with a fault when they are compared, and one with a fault when it is parsed.
    answers = ["1a", f"2{fault}", f"{fault}2", "a1", f"3{fault}p"]
    groups = [AnswerGroup("", dict.fromkeys(answers, 1)), AnswerGroup("", {"1c": 1, "c1": 1})]
    merged = merge_equal(groups, workers=1, timeout=0.3)
    apart = {answer: answer for answer in answers}
    assert merged == [apart | {"a1": "1a"}, {"1c": "1c", "c1": "1c"}]


@pytest.mark.slow
def test_processes_do_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "math_verify.py").write_text("raise SystemExit(1)")
    monkeypatch.delitem(sys.modules, "math_verify", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="ended before it started a comparison"):
        equal("1/2", "0.5")


def test_without_math_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'autotts-gym\[collect\]'"):
        equal("1", "2")


def test_invalid_arguments() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        merge_equal([], workers=0)
    for timeout in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout must be a positive number"):
            merge_equal([], timeout=timeout)
