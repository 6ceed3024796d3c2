r"""Reading of an answer: from its text to its normal form (:mod:`autotts_gym.answers.values`).

:func:`read_answer` never raises: what no other form reads is a
:class:`~autotts_gym.answers.values.Text`. The kinds are tried in a fixed order: wrappers are
removed, then choices, times and dates, then separators from the weakest to the strongest: ``;`` and
``,``, relations, unions, brackets, ratios, expressions.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from autotts_gym.answers import collections_reader
from autotts_gym.answers.calendar import read_date, read_time
from autotts_gym.answers.nodes import NotAnExpressionError
from autotts_gym.answers.prose import is_prose
from autotts_gym.answers.tokens import Token, join, tokenize
from autotts_gym.answers.values import Answer, Choice, Text
from autotts_gym.answers.words import prose_form, replace_number_words, write_operators

#: Longer answers are compared as text only.
MAX_LENGTH: Final = 4000

_LEAD: Final = re.compile(
    r"\s*(?:(?:so|thus|hence|therefore)\b,?\s*)?(?:(?:the|my)\s+)?(?:(?:final|correct)\s+)?"
    r"(?:answer|ans)\b\.?\s*(?:\bis\b\s*:?|[:：=])\s*|\s*(?:最终)?答案\s*(?:是|为|[:：])+\s*"
    r"|\s*(?:#{2,4})\s*|\s*(?:about|approximately|approx\.?|roughly|~|≈)\s*(?=[-$€£]?\s*[0-9])",
    re.IGNORECASE,
)
_QUOTES: Final = {'"': '"', "'": "'", "“": "”", "‘": "’", "«": "»", "「": "」"}
_LETTER: Final = r"(?:option|choice|answer)?\s*"
_CHOICE: Final = re.compile(
    r"\s*(?:(?:option|choice)\s+)?(?:\(\s*([A-Ja-j])\s*\)|\[\s*([A-J])\s*\]|([A-Ja-j])\s*\)"
    r"|([A-J])\s*[.:](?!\S)|([A-J])(?=\s*$))\s*[.:]?\s*(.*)",
    re.DOTALL,
)
_OPTION: Final = re.compile(
    r"\s*(?:option|choice)\s+\(?([A-J])\)?\s*[.:]?\s*(.*)", re.IGNORECASE | re.DOTALL
)
_WRAPPED: Final = re.compile(
    r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|boxed|fbox|mbox|textsf|texttt|bf|rm)\s*"
    r"\{([^{}]*)\}"
)


@lru_cache(maxsize=20_000)
def read_answer(text: str) -> Answer:
    """Read an answer. Never raises; the time is bounded by the length of the text."""
    if len(text) > MAX_LENGTH:
        return Text(" ".join(text.split()), prose=False)
    text = _unwrap(text)
    return _read_choice(text) or read_date(text) or read_time(text) or _read_tokens(text)


def spell_answer(text: str) -> str:
    """One spelling of an answer, without formatting; equal answers may still differ in it."""
    return join(tokenize(_unwrap(text)))


def _unwrap(text: str) -> str:
    """Remove quotes, code marks, bold marks and leading words around an answer."""
    text = text.replace("\u200b", "").replace("`", "").strip()
    for _ in range(3):
        before = text
        lead = _LEAD.match(text)
        if lead and lead.end() < len(text):
            text = text[lead.end() :]
        text = text.strip()
        for mark in ("**", "__"):
            if len(text) > 4 and text.startswith(mark) and text.endswith(mark):
                text = text[2:-2]
        if text.startswith("**") and text.endswith(("**.", "**,")) and len(text) > 5:
            text = text[2:-3]
        if len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and text.count(text[0]) <= 2:
            text = text[1:-1]
        if text == before:
            break
    return re.sub(r"(?:\s|\\\\)+$", "", text)


def _read_choice(text: str) -> Answer | None:
    r"""``B``, ``(B)``, ``\text{B}``, ``B) 12``, ``option B``."""
    plain = text
    for _ in range(3):
        plain = _WRAPPED.sub(r"\1", plain)
    plain = plain.replace("$", "").replace("（", "(").replace("）", ")").replace("．", ".")
    plain = re.sub(r"\\[ ,;:!]|~", " ", plain)
    plain = re.sub(r"\\[()\[\]]|\\left|\\right|\*\*", "", plain).strip()
    if len(plain) > 2 and plain[0] == "{" and plain[-1] == "}":
        plain = plain[1:-1].strip()
    match = _OPTION.fullmatch(plain) or _CHOICE.fullmatch(plain)
    if match is None:
        return None
    *letters, content = match.groups()
    letter = next(found for found in letters if found)
    if content and re.match(r"[=<>+*/^_!%,|\\-]", content) and not content.startswith("\\"):
        return None
    if letter.islower() and not re.match(r"\s*(?:\(|option|choice|[a-j]\))", plain, re.IGNORECASE):
        return None
    if content and letter.islower() and not content[:1].isspace() and plain[0] == "(":
        return None  # (a)b is a product
    if content and plain[0] == "(" and not re.match(r"\(\s*[A-Ja-j]\s*\)[.:]?\s", plain):
        return None
    return Choice(letter.upper(), read_answer(content) if content else None)


def _read_tokens(text: str) -> Answer:
    mathematical = write_operators(replace_number_words(text))
    tokens = tokenize(mathematical)
    try:
        return collections_reader.read(tokens)
    except (NotAnExpressionError, RecursionError):
        return _as_text(tokens)


def _as_text(tokens: list[Token]) -> Text:
    """The text of tokens that no other form reads."""
    joined = join(tokens)
    if is_prose(tokens):
        return Text(prose_form(joined), prose=True)
    return Text(joined, prose=False)
