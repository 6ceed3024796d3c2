r"""Extraction of answers from the text of a model.

An *extractor* is a string, so that it fits into a configuration file:

======================  ==========================================================================
``boxed``               ``\boxed{...}`` or ``\fbox{...}``, or ``\boxed 5``
``answer``              what stands behind "answer is", "Answer:", "答案是" or the like, or between
                        ``<answer>`` and ``</answer>``
``number``              a number: ``-5``, ``1,234.5``, ``3/4``, ``3 1/2``, ``1e-3``, ``\frac{1}{2}``
``choice``              a letter A to J: boxed, else after "answer is" or "Answer:", else in
                        brackets or bold, else alone on its line, else at the end of a phrase
``regex:PATTERN``       the group ``answer`` of a Python regular expression, else its first group,
                        else the whole match
======================  ==========================================================================

A box or a phrase without an answer (``\boxed{}``, "the answer is .") is not found: the next
extractor is tried.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from autotts_gym.answers import choice_patterns, number_patterns, phrase_patterns
from autotts_gym.answers.boxes import find_box, innermost
from autotts_gym.answers.matches import pick

#: Text of a null answer if no extractor finds an answer; these are those of the published traces.
NOTHING_FOUND: Final = "No"
#: Text of a null answer for a box that is never closed.
UNREADABLE: Final = "ERR"
#: Text of a null answer for an empty text.
EMPTY: Final = ""

_REGEX: Final = "regex:"


class ExtractedAnswer(NamedTuple):
    """An answer with its position in the text.

    Attributes:
        answer: the answer as it stands in the text, without surrounding space; or, if ``null`` is
            set, why there is none: ``"No"``, ``"ERR"`` or ``""``.
        end: offset in characters after the answer and its closing brace; None if there is no
            answer.
        null: whether there is no answer.
    """

    answer: str
    end: int | None
    null: bool = False


#: Extracts the first (if the flag is set) or the last answer; returns None if there is none.
_Extractor = Callable[[str, bool], "ExtractedAnswer | None"]


def extract_answer(text: str, extractors: Sequence[str], *, first: bool = False) -> ExtractedAnswer:
    r"""Extract the last or the first answer of a text.

    Extractors are tried in order, and the first one that finds an answer is used. The time is
    linear in the length of the text, except for ``regex:``.

    Args:
        text: output of a model.
        extractors: extractors, see this module.
        first: extract the first answer instead of the last. This is for probes, where noise may
            follow the answer: the prefix (``**Final Answer** \boxed{``) starts the answer. If the
            prefix could be taken for an answer, pass the text without it.

    Returns:
        The answer. It is null with the text ``""`` if the text is empty, ``"ERR"`` if a box is
        never closed and ``boxed`` or ``choice`` is tried, and ``"No"`` otherwise. Closed boxes
        take precedence over unclosed ones.

    Raises:
        ValueError: an extractor is invalid.
    """
    check_extractors(extractors)
    if not text or text.isspace():
        return ExtractedAnswer(EMPTY, None, null=True)
    for name in extractors:
        extracted = _extractor(name)(text, first)
        if extracted is not None:
            return extracted
    return ExtractedAnswer(NOTHING_FOUND, None, null=True)


def check_extractors(extractors: Sequence[str]) -> None:
    """Raise ``ValueError`` unless this is a list of at least one valid extractor."""
    if isinstance(extractors, str) or not extractors:
        raise ValueError(f"extractors must be a list of at least one, got {extractors!r}")
    for name in extractors:
        _extractor(name)


@lru_cache(maxsize=256)
def _extractor(name: str) -> _Extractor:
    if name in _NAMED:
        return _NAMED[name]
    if not str(name).startswith(_REGEX):  # a configuration file may have any type
        known = ", ".join(_NAMED)
        raise ValueError(f"no extractor is called {name!r}; there are {known} and {_REGEX}PATTERN")
    try:
        return _pattern_extractor(re.compile(name.removeprefix(_REGEX)))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"extractor {name!r}: not a regular expression: {error}") from None


def _found(text: str, start: int, stop: int, end: int | None = None) -> ExtractedAnswer | None:
    answer = text[start:stop].strip()
    return ExtractedAnswer(answer, stop if end is None else end) if answer else None


def _extract_boxed(text: str, first: bool) -> ExtractedAnswer | None:
    box, unclosed = find_box(text, first)
    if box is not None:
        start, stop = innermost(text, box)
        return _found(text, start, stop, box.end)
    return ExtractedAnswer(UNREADABLE, None, null=True) if unclosed else None


def _extract_number(text: str, first: bool) -> ExtractedAnswer | None:
    match = number_patterns.find(text, first)
    return None if match is None else _found(text, *match)


def _extract_phrase(text: str, first: bool) -> ExtractedAnswer | None:
    span = phrase_patterns.find(text, first)
    return None if span is None else _found(text, *span)


def _extract_choice(text: str, first: bool) -> ExtractedAnswer | None:
    found = choice_patterns.find(text, first)
    if found is not None:
        return ExtractedAnswer(*found)
    _, unclosed = find_box(text, first)
    return ExtractedAnswer(UNREADABLE, None, null=True) if unclosed else None


def _pattern_extractor(pattern: re.Pattern[str]) -> _Extractor:
    group: str | int = "answer" if "answer" in pattern.groupindex else min(pattern.groups, 1)

    def extract(text: str, first: bool) -> ExtractedAnswer | None:
        # A pattern that allows an empty match has one at the end of any text.
        matches = (m for m in pattern.finditer(text) if m[0] and (m[group] or "").strip())
        match = pick(matches, first)
        return None if match is None else ExtractedAnswer(match[group].strip(), match.end())

    return extract


_NAMED: Final[dict[str, _Extractor]] = {
    "boxed": _extract_boxed,
    "answer": _extract_phrase,
    "number": _extract_number,
    "choice": _extract_choice,
}
