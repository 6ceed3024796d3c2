"""``Completion``: what a model wrote for a question, as a file records it; and reading options."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from autotts_gym.collection.asked_question import AskedQuestion


@dataclass(frozen=True)
class Completion:
    """A completion.

    Attributes:
        question: text of the question, as the model was asked.
        gold: gold answer as it stands in the file; empty if there is none.
        text: what the model wrote, its reasoning included.
        tokens: number of its tokens; None if the file does not record it.
        id: name of the question; empty to tell questions apart by their text.
        cut: whether it was cut at a maximum length.
        right: whether the program that wrote the file found the answer right; None if unknown.
        model: name of the model; empty if the file does not record it.
    """

    question: str
    gold: str
    text: str
    tokens: int | None = None
    id: str = ""
    cut: bool = False
    right: bool | None = None
    model: str = ""


@dataclass
class ReadingOptions:
    """Options of the readers; most formats use a few of them.

    Attributes:
        id_field, question_field, answer_field, completion_field, tokens_field: names of columns.
        requests: the requests of OpenAI batch outputs.
        questions: questions with gold answers, for files that lack them.
        left_out: counts the rows that a reader leaves out, by the reason.
    """

    id_field: str = "id"
    question_field: str = "question"
    answer_field: str = "answer"
    completion_field: str = "completions"
    tokens_field: str = "tokens"
    requests: Path | None = None
    questions: list[AskedQuestion] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


class NumberedCompletion(NamedTuple):
    """A completion with its place in the file, such as ``line 3``, for messages."""

    where: str
    completion: Completion


#: Reads the completions of a file; raises ``TraceError``, ``OSError`` or ``RecursionError``.
CompletionReader = Callable[[Path, ReadingOptions], Iterator[NumberedCompletion]]
