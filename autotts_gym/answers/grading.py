"""``grade``: whether an answer, or the answer in a model's output, equals the gold answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from autotts_gym.answers.answer_pairs import RULES_VERSION, Equality, answers_equal
from autotts_gym.answers.extraction import extract_answer

#: Boxes and marks in which gold answers are given.
_GSM8K: Final = "####"

__all__ = ["RULES_VERSION", "GradedAnswer", "gold_answer", "grade", "grade_text"]


class GradedAnswer(NamedTuple):
    """The answer in a text and its grade.

    Attributes:
        answer: the answer, or why there is none: ``"No"``, ``"ERR"`` or ``""``.
        null: whether there is none.
        equal: whether it equals the gold answer.
    """

    answer: str
    null: bool
    equal: bool


def gold_answer(gold: str) -> str:
    r"""The answer in the gold field of a data set.

    It is what follows ``####``, or the content of the last ``\boxed{...}``, or the field itself,
    without the dollar signs around a formula.
    """
    _, marker, rest = gold.rpartition(_GSM8K)
    if marker and rest.strip():
        return rest.strip()
    boxed = extract_answer(gold, ["boxed"])
    if not boxed.null:
        return boxed.answer
    gold = gold.strip()
    formula = gold.removeprefix("$").removesuffix("$").strip()
    return formula if len(formula) + 2 <= len(gold) and formula and "$" not in formula else gold


def grade(gold: str, answer: str, equality: Equality = "value") -> bool:
    r"""Whether an answer equals the gold answer, as everywhere in this package.

    ``\frac{1}{2}`` equals ``0.5``, and ``(B)`` equals ``B``; :doc:`/answers` states the rules. It
    is symmetric, never raises for strings, and takes a bounded time.

    Args:
        gold: the gold answer; a whole solution counts as its ``\boxed{...}`` or what follows
            ``####``.
        answer: an answer; a whole output of a model needs
            :func:`~autotts_gym.answers.grading.grade_text`.
        equality: ``"form"`` if the answer must also be written like the gold answer, for questions
            such as "simplify the fraction 16/26".
    """
    return answers_equal(gold_answer(gold), gold_answer(answer), equality)


def grade_text(
    gold: str, text: str, extractors: Sequence[str], equality: Equality = "value"
) -> GradedAnswer:
    """Extract the last answer of a text, and grade it.

    Args:
        gold: the gold answer, as in :func:`grade`.
        text: output of a model.
        extractors: extractors (:mod:`autotts_gym.answers.extraction`), tried in order.
        equality: as in :func:`grade`.

    Raises:
        ValueError: an extractor is invalid.
    """
    found = extract_answer(text, extractors)
    equal = not found.null and answers_equal(gold_answer(gold), found.answer, equality)
    return GradedAnswer(found.answer, found.null, equal)
