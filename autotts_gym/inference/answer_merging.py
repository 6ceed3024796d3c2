"""Merging of equal answers of a question into classes, with a given comparison."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from autotts_gym.inference.answer_normalization import normalize
from autotts_gym.traces.records import NULL_ANSWERS

#: Whether two answers are equal; None if the comparison fails or exceeds its limits.
Verdict = bool | None
Comparison = Callable[[str, str], Verdict]

#: An answer with this many undecided comparisons is not compared any further.
_MAX_UNDECIDED: Final = 2

#: Names of functions, which are not prose.
FUNCTIONS: Final = "sin|cos|tan|cot|log|ln|exp|sqrt|max|min|pi"
_INTEGER: Final = re.compile(r"-?[0-9]+")
#: A word at the start. math-verify would read it as a product of its letters, in any order.
_PROSE: Final = re.compile(rf"[^\w\\{{^=<>]*(?!(?:{FUNCTIONS})\b)(?:[^\W\d_]\s+)?[^\W\d_]{{2}}")


class AnswerGroup(NamedTuple):
    """The answers to a question.

    Attributes:
        gold: gold answer; a null answer if there is none.
        answers: number of occurrences of each answer.
    """

    gold: str
    answers: Mapping[str, int]


def merge_group(group: AnswerGroup, compare: Comparison) -> dict[str, str]:
    """Map each answer of a question to the representative of its class.

    Args:
        group: the answers.
        compare: compares two answers as mathematics.
    """
    by_spelling: dict[str, str] = {}
    representatives: list[str] = []  # normalized
    merged = {answer: answer for answer in group.answers}
    # Sorting is stable, so equally common answers keep their order.
    order = sorted(group.answers, key=group.answers.__getitem__, reverse=True)
    for answer in [group.gold, *order]:
        if answer in NULL_ANSWERS:
            continue
        spelling = normalize(answer)
        if spelling not in by_spelling:
            equal, decided = _find_equal(spelling, representatives, compare)
            by_spelling[spelling] = answer if equal is None else by_spelling[equal]
            if equal is None and decided:
                representatives.append(spelling)
        if answer in merged:
            merged[answer] = by_spelling[spelling]
    return merged


def _find_equal(
    spelling: str, representatives: Sequence[str], compare: Comparison
) -> tuple[str | None, bool]:
    """The representative that equals an answer, or None; and whether this could be decided."""
    undecided = 0
    for other in representatives:
        if _INTEGER.fullmatch(spelling) and _INTEGER.fullmatch(other):
            verdict: Verdict = False  # the normalized spelling of an integer is unique
        elif _PROSE.match(spelling) or _PROSE.match(other):
            verdict = spelling.casefold() == other.casefold()
        else:
            verdict = compare(other, spelling)
        if verdict:
            return other, True
        undecided += verdict is None
        if undecided == _MAX_UNDECIDED:
            return None, False
    return None, True
