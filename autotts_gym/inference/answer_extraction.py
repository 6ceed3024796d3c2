r"""Extraction of answers from the text of a model.

An *extractor* is a string, so that it fits into a configuration file:

======================  ==========================================================================
``boxed``               ``\boxed{...}`` or ``\fbox{...}``, or ``\boxed 5``
``number``              a plain number: ``-5``, ``1,234.5``, ``3/4``, ``1e-3``
``choice``              a letter A to J: boxed, else after "answer is" or "Answer:", else in
                        brackets or bold, else alone on its line, else at the end of a phrase
``regex:PATTERN``       the group ``answer`` of a Python regular expression, else its first group,
                        else the whole match
======================  ==========================================================================
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from autotts_gym.inference.answer_normalization import normalize
from autotts_gym.traces.records import NULL_ANSWERS

#: Null answer if no extractor finds an answer; null answers are those of the published traces.
NOTHING_FOUND: Final = "No"
#: Null answer for a box that is never closed.
UNREADABLE: Final = "ERR"
#: Null answer for an empty text or an empty box.
EMPTY: Final = ""
assert {NOTHING_FOUND, UNREADABLE, EMPTY} == NULL_ANSWERS

_REGEX: Final = "regex:"


class ExtractedAnswer(NamedTuple):
    """An answer with its position in the text.

    Attributes:
        answer: normalized answer (see :mod:`autotts_gym.inference.answer_normalization`)
            or a null answer.
        end: offset in characters after the answer and its closing brace; None if there is no
            answer.
    """

    answer: str
    end: int | None


#: Extracts the first (if the flag is set) or the last answer; returns None if there is none.
_Extractor = Callable[[str, bool], "ExtractedAnswer | None"]


def extract_answer(text: str, extractors: Sequence[str], *, first: bool = False) -> ExtractedAnswer:
    r"""Extract the last or the first answer of a text.

    Extractors are tried in order. The first one with a result is used, even if the result is a null
    answer. The time is linear in the length of the text, except for ``regex:``.

    Args:
        text: output of a model.
        extractors: extractors, see this module.
        first: extract the first answer instead of the last. This is for probes, where noise may
            follow the answer: the prefix (``**Final Answer** \boxed{``) starts the answer. If the
            prefix could be taken for an answer, pass the text without it.

    Returns:
        The answer, or ``""`` for an empty text or if all boxes (with ``first``, the first box) are
        empty, ``"ERR"`` if there are boxes but none is closed, and ``"No"`` if no extractor finds
        an answer. Closed boxes take precedence over unclosed ones, and earlier boxes with content
        over empty ones (a model that repeats its instructions writes empty boxes).

    Raises:
        ValueError: an extractor is invalid.
    """
    check_extractors(extractors)
    if not text or text.isspace():
        return ExtractedAnswer(EMPTY, None)
    for name in extractors:
        extracted = _extractor(name)(text, first)
        if extracted is not None:
            return extracted
    return ExtractedAnswer(NOTHING_FOUND, None)


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


# --- boxes ---------------------------------------------------------------------------------------

# Text from JSON or source code may have doubled backslashes.
_BOX: Final = re.compile(r"\\{1,4}+(?:boxed|fbox)(?![A-Za-z])")
_BRACE: Final = re.compile(rf"{_BOX.pattern}\s*+(?P<box>\{{)?|\\.|[{{}}]", re.DOTALL)
_DIGITS: Final = (  # groups are limited, so that the time for a long list is linear
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}+(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|\.[0-9]++)"
)
# The argument of a box without braces, if it is mathematics: prose has "in \boxed format".
_BARE: Final = re.compile(
    rf"[-+−]?{_DIGITS}(?:/[0-9]++)?+|[A-Za-z](?![A-Za-z])"
    r"|\\[A-Za-z]++[0-9]*+(?:\s*+\{[^{}]*+\})*+"
)


class _Box(NamedTuple):
    """Start and stop of the content of a box, and end of the box."""

    start: int
    stop: int
    end: int


def _boxes(text: str) -> tuple[list[_Box], bool]:
    """Closed boxes in the order of their starts, and whether there is any box, closed or not.

    One pass with a stack, so that the time is linear also for unclosed and nested boxes.
    """
    opening = _BOX.search(text)
    if opening is None:
        return [], False
    boxes: list[_Box | None] = []
    stack: list[tuple[int, int]] = []  # each open brace: its box or -1, start of content
    for token in _BRACE.finditer(text, opening.start()):
        brace = token[0]
        if brace == "{":
            stack.append((-1, 0))
        elif brace == "}":
            if stack:
                box, start = stack.pop()
                if box >= 0:
                    boxes[box] = _Box(start, token.start(), token.end())
        elif token["box"]:
            stack.append((len(boxes), token.end()))
            boxes.append(None)
        elif len(brace) > 2:
            bare = _BARE.match(text, token.end())
            if bare:
                boxes.append(_Box(bare.start(), bare.end(), bare.end()))
    return [box for box in boxes if box is not None], bool(boxes)


def _extract_boxed(text: str, first: bool) -> ExtractedAnswer | None:
    boxes, any_box = _boxes(text)
    if not boxes:
        return ExtractedAnswer(UNREADABLE, None) if any_box else None
    box = boxes[0]
    if not first:
        filled = (b for b in reversed(boxes) if not text[b.start : b.stop].isspace())
        box = next((b for b in filled if b.stop > b.start), boxes[-1])
    return ExtractedAnswer(normalize(text[box.start : box.stop]), box.end)


# --- numbers, choices, patterns ------------------------------------------------------------------

# The digits in x2, 1.2.3 and H2O do not start numbers, and the minus of 5-3 is not a sign.
_NUMBER: Final = re.compile(
    r"(?:(?<![\w)\]}])[-+−])?(?:"
    rf"(?:(?<![\w.])(?=\.)|(?<!\w)(?<![0-9]\.)(?=[0-9])){_DIGITS}"
    r"(?:[eE][-+]?[0-9]++)?+(?:\s?/\s?[0-9]++(?!\.[0-9]))?+"
    r"|\\[dtc]?frac\s*+\{[0-9]++\}\s*+\{[0-9]++\})"
)


def _extract_number(text: str, first: bool) -> ExtractedAnswer | None:
    match = _pick(_NUMBER.finditer(text), first)
    return None if match is None else ExtractedAnswer(normalize(match[0]), match.end())


_CHOICE_BOXED: Final = re.compile(
    r"[\s$*({]*+(?:\\[A-Za-z]++\s*+\{[\s(]*+){0,3}+([A-Ja-j])\s*+(?:[)}.:$*]|\\[A-Za-z]*+|\Z)"
)
_CHOICE_PATTERNS: Final = (
    re.compile(
        r"\b(?:[Aa]nswer|ANSWER)\b[\s*_]*+(?:(?:is|was|must\s++be|would\s++be|should\s++be)\b)?+"
        r"[\s*_]*+[:=]?+[\s*_$(\[]*+(?:(?:[Oo]ption|[Cc]hoice)\b[\s*_$(\[]*+)?+"
        r"(?:\\[a-z]++\{\(?)?+([A-HJ]|I(?!\s++[a-z]))(?![\w'’])"
    ),
    re.compile(
        r"\(([A-J])\)|\*\*\(?([A-J])[.)]?\*\*|\b(?:[Oo]ption|[Cc]hoice)[:\s]++([A-J])(?![\w'’])"
    ),
    re.compile(r"^[^\S\n]*+[*$(]*+([A-J])(?:[.):](?!\S)|[*$)]*+[^\S\n]*+$)", re.MULTILINE),
    re.compile(r"(?<![^\s:*($])([A-J])(?=[.,;:!)*$](?!\w)|[^\S\n]*+$)", re.MULTILINE),
)


def _extract_choice(text: str, first: bool) -> ExtractedAnswer | None:
    boxes, any_box = _boxes(text)
    for box in boxes if first else reversed(boxes):
        letter = _CHOICE_BOXED.match(text, box.start, box.stop)
        if letter:
            return ExtractedAnswer(letter[1].upper(), box.end)
    for pattern in _CHOICE_PATTERNS:
        match = _pick(pattern.finditer(text), first)
        if match is not None:
            letter_group = match.lastindex or 0
            return ExtractedAnswer(match[letter_group], match.end(letter_group))
    return ExtractedAnswer(UNREADABLE, None) if any_box and not boxes else None


def _pattern_extractor(pattern: re.Pattern[str]) -> _Extractor:
    group: str | int = "answer" if "answer" in pattern.groupindex else min(pattern.groups, 1)

    def extract(text: str, first: bool) -> ExtractedAnswer | None:
        # A pattern that allows an empty match has one at the end of any text.
        matches = (m for m in pattern.finditer(text) if m[0] and m[group] is not None)
        match = _pick(matches, first)
        return None if match is None else ExtractedAnswer(normalize(match[group]), match.end())

    return extract


def _pick(matches: Iterable[re.Match[str]], first: bool) -> re.Match[str] | None:
    """Return the first or the last match."""
    if first:
        return next(iter(matches), None)
    last = deque(matches, maxlen=1)
    return last[0] if last else None


_NAMED: Final[dict[str, _Extractor]] = {
    "boxed": _extract_boxed,
    "number": _extract_number,
    "choice": _extract_choice,
}
