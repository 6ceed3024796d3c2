"""``AskedQuestion``: a question of a collection, and the digest of a list of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from autotts_gym.answers.answer_pairs import Equality


@dataclass(frozen=True)
class AskedQuestion:
    """A question that a collection or a live environment asks.

    Attributes:
        id: unique name within its list.
        text: text of the question.
        gold: gold answer, not normalised; empty if there is none.
        history: messages of a conversation before ``text``, its last message: role and content of
            each.
        equality: which answers count as equal.
    """

    id: str
    text: str
    gold: str = ""
    history: tuple[tuple[str, str], ...] = ()
    equality: Equality = "value"


def questions_digest(questions: Sequence[AskedQuestion]) -> str:
    """Return the sha256 of ids, texts, gold answers, histories and equalities, in order."""
    hashed = hashlib.sha256(f"autotts-questions {len(questions)}\n".encode())
    for question in questions:
        history = [text for message in question.history for text in message]
        for text in (question.id, question.text, question.gold, *history):
            encoded = text.encode()
            # Lengths first, so that different lists never hash the same bytes.
            hashed.update(len(encoded).to_bytes(8, "little") + encoded)
        if question.equality != "value":
            hashed.update(f"equality {question.equality}\n".encode())
    return hashed.hexdigest()
