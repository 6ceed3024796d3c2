"""What is likely wrong with a collection: with its questions, and with its answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from autotts_gym.answers.extraction import extract_answer
from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.inference.protocol import Protocol

#: Entry of a card's ``collected``: traces, neither cut nor empty, in which the protocol's first
#: extractor finds no answer.
FALLBACK: Final = "first_extractor_missed"

#: Share of such traces above which the protocol does not fit the model.
_TOO_MANY: Final = 0.5

_SAYINGS: Final = {"boxed": "never boxed an answer", "answer": "never announced an answer"}


def question_warnings(questions: Sequence[AskedQuestion], protocol: Protocol) -> list[str]:
    """What is likely wrong with questions: gold answers that no branch can reach."""
    found = []
    missing = sum(not question.gold for question in questions)
    if missing:
        found.append(
            f"{missing} of {len(questions)} questions have no gold answer: all their branches "
            "count as wrong"
        )
    if protocol.extractors[0] == "choice":
        others = [q for q in questions if q.gold and extract_answer(q.gold, ["choice"]).null]
        if others:
            found.append(
                f"{len(others)} of {len(questions)} gold answers are no letters, and the protocol "
                f"{protocol.name!r} extracts letters: question {others[0].id!r} has "
                f"{others[0].gold!r:.80}"
            )
    return found


def answer_warnings(collected: Mapping[str, Any], protocol: Protocol) -> list[str]:
    """What is likely wrong with the traces: answers of another form than the protocol expects.

    Args:
        collected: entry ``collected`` of the card.
        protocol: the protocol of the collection.
    """
    missed = collected[FALLBACK]
    total = collected["traces"] - collected["cut"] - collected["empty"]
    if missed <= _TOO_MANY * total:
        return []
    name = protocol.extractors[0]
    saying = _SAYINGS.get(name, f"have no answer that the extractor {name!r:.80} finds")
    others = ", ".join(protocol.extractors[1:])
    which = "traces" if total == collected["traces"] else "traces that ended by themselves"
    rest = f"; what {others} found counts instead" if others else ""
    return [
        f"{missed:,} of {total:,} {which} {saying}{rest}: the protocol {protocol.name!r} may not "
        "fit the model"
    ]


def misses_first_extractor(text: str, protocol: Protocol) -> bool:
    """Whether the protocol's first extractor finds no final answer in the text of a trace."""
    return protocol.final_answer(text, protocol.extractors[:1]).null
