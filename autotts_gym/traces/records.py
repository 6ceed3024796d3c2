"""Questions and branches with their answers as strings: the input and output of a store."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

#: Null answers: what the published probes record if they find no answer (AutoTTS, arXiv
#: 2605.08083).
NULL_ANSWERS: Final = frozenset({"No", "ERR", ""})


def is_null(answer: str) -> bool:
    """Whether the text is that of a null answer; a real answer may have the same text."""
    return answer in NULL_ANSWERS


@dataclass(frozen=True)
class Branch:
    """One recorded reasoning trace.

    Attributes:
        probes: answers after interval 1, 2, ..., n; n may be 0.
        tokens: T, the tokens of the whole branch including its closing text; positive.
        final: final answer.
        confidences: one number per probe, from 0 to 1,000,000; None if not recorded.
        probe_tokens: tokens that each probe cost; None if not recorded.
        text: text of the trace; None if not recorded.
        flags: words separated by spaces that mark an irregular branch, such as ``cut``.
        nulls: for each probe and then for the final answer, whether it is a null answer; None if
            the texts in :data:`NULL_ANSWERS` are null and all others are not.
        raw: the answers of the probes and then the final answer as the model wrote them; None if
            not recorded. ``probes`` and ``final`` are then the classes of these answers.
        confidence_sums: for each of the n + 1 intervals, the sum of the confidences of its tokens;
            None if not recorded. The confidence of a token is minus the mean log-probability of the
            20 likeliest tokens at its position (DeepConf, arXiv 2508.15260); a card says so if
            there were fewer. The last interval may be shorter, and empty.
        confidence_tokens: for each of the n + 1 intervals, the number of tokens in that sum, 0 if
            the confidences of the interval are unknown; None if not recorded.
    """

    probes: Sequence[str]
    tokens: int
    final: str
    confidences: Sequence[float] | None = None
    probe_tokens: Sequence[int] | None = None
    text: str | None = None
    flags: str = ""
    nulls: Sequence[bool] | None = None
    raw: Sequence[str] | None = None
    confidence_sums: Sequence[float] | None = None
    confidence_tokens: Sequence[int] | None = None

    def __repr__(self) -> str:
        return f"<Branch: {self.tokens:,} tokens, {len(self.probes)} probes, final {self.final!r}>"


@dataclass(frozen=True)
class Question:
    """A question with its branches.

    Attributes:
        text: the question.
        gold: gold answer.
        branches: independent traces of the question; at least one.
        id: name of the question; a store uses the row number if it is empty.
    """

    text: str
    gold: str
    branches: Sequence[Branch]
    id: str = ""

    def __repr__(self) -> str:
        text = textwrap.shorten(self.text, 60, placeholder=" …")
        return f"<Question {text!r}: gold {self.gold!r}, {len(self.branches)} branches>"
