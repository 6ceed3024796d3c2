"""Classes of equal answers to one question.

Equality is not transitive where a unit or a name is missing: ``5`` equals ``5 cm`` and ``5 m``. So
an answer that lacks something joins the answers that have it only if these are one class; else it
is a class of its own. The classes depend on which answers there are, not on their order or number.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from autotts_gym.answers.answer_pairs import Equality, answers_equal
from autotts_gym.answers.equality import equal_as_share, specificity
from autotts_gym.answers.identity import estimate, nodes
from autotts_gym.answers.reading import read_answer
from autotts_gym.answers.values import Answer, Quantity


def answer_classes(
    answers: Iterable[str], gold: str | None = None, equality: Equality = "value"
) -> dict[str, str]:
    """Find the classes of the answers to a question.

    Args:
        answers: answers; null answers must not be among them.
        gold: the gold answer, which takes part like any other answer; None if there is none.
        equality: which answers are equal (:func:`~autotts_gym.answers.answer_pairs.answers_equal`).

    Returns:
        The representative of each answer's class. It is the gold answer if that is in the class,
        else the shortest, then the first in the order of characters.
    """
    given = set(answers)
    members = sorted(given | ({gold} if gold is not None else set()), key=_rank)
    classes = _forms(members) if equality == "form" else _values(members)
    representatives: dict[str, str] = {}
    for equal in classes:
        chosen = gold if gold is not None and gold in equal else min(equal, key=_rank)
        representatives |= {member: chosen for member in equal if member in given}
    return representatives


def _forms(members: list[str]) -> list[list[str]]:
    """Classes of answers that are written alike."""
    classes: dict[Answer, list[str]] = {}
    for answer in members:
        classes.setdefault(read_answer(answer), []).append(answer)
    return list(classes.values())


def _values(members: list[str]) -> list[list[str]]:
    """Classes of answers with equal values."""
    classes: list[list[str]] = []
    by_level: dict[int, list[str]] = {}
    for answer in members:
        by_level.setdefault(specificity(read_answer(answer)), []).append(answer)
    for level in sorted(by_level, reverse=True):
        # Answers of one level are compared with each other, then placed together.
        groups = _equal_groups(by_level[level])
        homes = [_home(group, classes) for group in groups]
        homes = _prefer_missing_signs(groups, homes, classes)
        new = []
        for group, home in zip(groups, homes, strict=True):
            if home is None:
                new.append(group)
            else:
                classes[home] += group
        classes += new
    return classes


class AnswerGroup(NamedTuple):
    """The answers to a question.

    Attributes:
        gold: gold answer; empty if there is none.
        answers: the answers; null answers must not be among them.
    """

    gold: str
    answers: Collection[str]


def merge_equal(groups: Iterable[AnswerGroup]) -> list[dict[str, str]]:
    """:func:`answer_classes` of the answers to several questions."""
    return [answer_classes(group.answers, group.gold or None) for group in groups]


def _rank(answer: str) -> tuple[int, str]:
    return len(answer), answer


def _equal_groups(answers: list[str]) -> list[list[str]]:
    """Groups of answers of one level that equal each other, each with all of its group.

    An answer that equals two that differ, as ``x=5`` equals ``5 cm`` and ``5 m``, is in neither
    group.
    """
    equals: dict[str, set[str]] = {answer: {answer} for answer in answers}
    for a, b in itertools.combinations(answers, 2):
        if _equal(a, b):
            equals[a].add(b)
            equals[b].add(a)
    near = {answer: frozenset(found) for answer, found in equals.items()}
    unclear = {a for a in answers if any(near[a] - near[b] for b in near[a])}
    groups: dict[tuple[bool, frozenset[str]], list[str]] = {}
    for answer in answers:
        key = near[answer] if answer in unclear else near[answer] - unclear
        groups.setdefault((answer in unclear, key), []).append(answer)
    return list(groups.values())


def _equal(a: str, b: str) -> bool:
    """``answers_equal``, quicker for numbers that differ: most answers to a question do."""
    return not _differ(_plain_value(a), _plain_value(b)) and answers_equal(a, b)


@lru_cache(maxsize=20_000)
def _plain_value(answer: str) -> float | None:
    """An estimate of an answer that is a number and nothing else; None for any other."""
    read = read_answer(answer)
    if not isinstance(read, Quantity) or read.unit is not None or read.node != read.tight:
        return None
    if any(node.kind in ("symbol", "call", "plus_minus") for node in nodes(read.node)):
        return None
    value = estimate(read.node)
    try:
        return None if value is None else float(value)
    except OverflowError:
        return None


def _differ(one: float | None, two: float | None) -> bool:
    """Whether two numbers differ by more than decimals and their estimates can be rounded."""
    if one is None or two is None:
        return False
    return abs(one - two) > 1e-4 * max(abs(one), abs(two))


def _home(group: list[str], classes: list[list[str]]) -> int | None:
    """The only class with answers that the group equals; None if there is none or several.

    The group must equal all answers of the class that state more than it does.
    """
    found = [
        number
        for number, members in enumerate(classes)
        if any(_equal(group[0], member) for member in members)
    ]
    if len(found) != 1:
        return None
    level = specificity(read_answer(group[0]))
    fuller = [m for m in classes[found[0]] if specificity(read_answer(m)) > level]
    fits = all(answers_equal(answer, member) for answer in group for member in fuller)
    return found[0] if fits else None


def _prefer_missing_signs(
    groups: list[list[str]], homes: list[int | None], classes: list[list[str]]
) -> list[int | None]:
    """Where 50 and 0.5 both equal ``50%``, only 50 joins it."""
    kept = list(homes)
    for number, (group, home) in enumerate(zip(groups, homes, strict=True)):
        rivals = homes.count(home) > 1 if home is not None else False
        if home is not None and rivals and _equals_as_share(group[0], classes[home]):
            kept[number] = None
    return kept


def _equals_as_share(answer: str, members: list[str]) -> bool:
    share = read_answer(answer)
    return any(equal_as_share(share, read_answer(member)) for member in members)


def fitting_class(
    answer: str, classes: Sequence[list[str]], equality: Equality = "value"
) -> int | None:
    """The only one of these classes all of whose answers equal this one.

    For classes that grow, as those of a live episode do. An empty class, as that of a null answer,
    fits none.
    """
    found = [
        number
        for number, members in enumerate(classes)
        if members and all(answers_equal(answer, member, equality) for member in members)
    ]
    if len(found) > 1:
        # 5.0 goes where 5 went, whatever else it equals.
        level = specificity(read_answer(answer))
        found = [n for n in found if any(specificity(read_answer(m)) == level for m in classes[n])]
    return found[0] if len(found) == 1 else None
