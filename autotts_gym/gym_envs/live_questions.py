"""Choice of a live episode's question: from the reset options, or at random."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from autotts_gym.collection.asked_question import AskedQuestion


class ChosenQuestion(NamedTuple):
    """A question and its row in the environment's list; -1 for a question given as text."""

    row: int
    question: AskedQuestion


def choose_question(
    questions: Sequence[AskedQuestion],
    question: Any,
    gold: Any,
    rng: np.random.Generator,
) -> ChosenQuestion:
    """Choose the question of an episode.

    Args:
        questions: the environment's questions.
        question: reset option: a row, an id, a text or an ``AskedQuestion``; None draws a row at
            random.
        gold: reset option: a gold answer, which replaces that of the list; or None.
        rng: random generator of the environment.

    Raises:
        ValueError: an option is invalid, or there is no question to draw.
    """
    if isinstance(question, AskedQuestion):
        chosen = question if gold is None else replace(question, gold=gold)
        return ChosenQuestion(-1, chosen)
    if isinstance(question, bool) or not isinstance(question, str | int | np.integer | None):
        raise ValueError(f"options['question'] must be a text, a row or an id, got {question!r}")
    if gold is not None and not isinstance(gold, str):
        raise ValueError(f"options['gold'] must be a string, got {gold!r}")
    if isinstance(question, str):
        ids = [listed.id for listed in questions]
        if question not in ids:
            if not question.strip():
                raise ValueError("options['question'] is empty")
            return ChosenQuestion(-1, AskedQuestion("live", question, gold or ""))
        question = ids.index(question)
    if question is None:
        if not questions:
            raise ValueError(
                "no question to ask: pass options={'question': ...} to reset, or questions to the "
                "environment"
            )
        question = rng.integers(len(questions))
    if not 0 <= question < len(questions):
        raise ValueError(
            f"options['question'] is {question}; there are {len(questions)} questions, from row 0"
        )
    chosen = questions[question]
    if gold is not None:
        chosen = replace(chosen, gold=gold)
    return ChosenQuestion(int(question), chosen)
