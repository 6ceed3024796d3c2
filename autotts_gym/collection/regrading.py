"""Answer classes of a question, and new ones for a store, made of the raw answers."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from autotts_gym.answers.answer_pairs import RULES_VERSION, Equality
from autotts_gym.answers.classes import answer_classes
from autotts_gym.answers.grading import gold_answer
from autotts_gym.traces.records import Branch, Question, is_null
from autotts_gym.traces.store import TraceError, TraceStore

#: Entries of the card: version of the rules of the answer classes, and what was regraded.
RULES_ENTRY: Final = "answer_rules"
SOURCE_ENTRY: Final = "regraded_from"

#: Entry of the card: ids of the questions whose equal answers are written alike.
FORM_ENTRY: Final = "equal_in_form"


def equalities(store: TraceStore) -> dict[str, Equality]:
    """Equality of the questions of a store, by id, where it is not that of values."""
    return {str(name): "form" for name in store.card.details.get(FORM_ENTRY, ())}


def form_entry(chosen: Mapping[str, Equality]) -> dict[str, list[str]]:
    """What the card says about equalities, by the ids of questions."""
    ids = [name for name, equality in chosen.items() if equality == "form"]
    return {FORM_ENTRY: ids} if ids else {}


def classify_answers(question: Question, equality: Equality = "value") -> Question:
    """The question with new answer classes, made of the raw answers and the gold answer.

    Args:
        question: its branches have raw answers, or else their answers count as these.
        equality: which answers are equal.

    Returns:
        The question with its raw answers. Answers are the representatives of their classes
        (:func:`~autotts_gym.answers.classes.answer_classes`); null answers stay as they are.
    """
    gold = gold_answer(question.gold)
    branches = [_with_raw(branch) for branch in question.branches]
    given = {
        raw
        for branch in branches
        for raw, null in zip(branch.raw or (), branch.nulls or (), strict=True)
        if not null
    }
    classes = answer_classes(given, gold or None, equality)
    return replace(question, gold=gold, branches=[_classified(b, classes) for b in branches])


def _with_raw(branch: Branch) -> Branch:
    answers = [*branch.probes, branch.final]
    raw = list(branch.raw) if branch.raw is not None else answers
    nulls = branch.nulls
    if nulls is None:
        nulls = [is_null(answer) for answer in answers]
    return replace(branch, raw=raw, nulls=list(nulls))


def _classified(branch: Branch, classes: dict[str, str]) -> Branch:
    answers = [
        raw if null else classes[raw]
        for raw, null in zip(branch.raw or (), branch.nulls or (), strict=True)
    ]
    return replace(branch, probes=answers[:-1], final=answers[-1])


def regrade(
    store: TraceStore,
    target: str | os.PathLike[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    form: Sequence[str] = (),
) -> TraceStore:
    """Write a new store with answer classes made anew, without a model.

    Args:
        store: a store of any format; the answers of a store without raw answers count as these.
        target: folder of the new store; must not exist.
        progress: called with the number of questions done, and their total number.
        form: shell patterns of the ids of questions whose equal answers must be written alike,
            beside those that the card names.

    Returns:
        The new store, opened from ``target``. Its card says with which version of the rules its
        classes were made, and has the fingerprint of ``store``.

    Raises:
        FrozenError: ``target`` exists.
        TraceError: the store cannot be read, or a pattern fits no question.
    """
    chosen = equalities(store)
    for pattern in form:
        found = fnmatch.filter(store.tables.ids, pattern)
        if not found:
            raise TraceError(f"no question has an id like {pattern!r}")
        chosen |= dict.fromkeys(found, "form")
    questions = []
    for done, question in enumerate(store, 1):
        questions.append(classify_answers(question, chosen.get(question.id, "value")))
        progress(done, len(store))
    details = {
        **store.card.details,
        RULES_ENTRY: RULES_VERSION,
        SOURCE_ENTRY: store.card.fingerprint,
        **form_entry(chosen),
    }
    made = TraceStore.from_branches(
        questions, store.card.interval, synthetic=store.card.synthetic, details=details
    )
    return made.save(target)


def changed_answers(old: TraceStore, new: TraceStore) -> list[tuple[str, str, str, bool, bool]]:
    """Answers whose grade or class changed.

    Returns:
        One entry per different answer of a question whose label or correctness differs. It has the
        question's id, the old and the new label, and whether each is correct.

    Raises:
        TraceError: the stores have different questions.
    """
    if old.tables.ids != new.tables.ids:
        raise TraceError("the stores have different questions")
    changes = []
    for one, two in zip(old, new, strict=True):
        seen = set()
        for before, after in zip(one.branches, two.branches, strict=True):
            pairs = zip((*before.probes, before.final), (*after.probes, after.final), strict=True)
            seen |= set(pairs)
        for was, now in sorted(seen):
            right = was == one.gold, now == two.gold
            if was != now or right[0] != right[1]:
                changes.append((one.id, was, now, *right))
    return changes
