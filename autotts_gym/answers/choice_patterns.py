r"""Letters of choices in a text, from the surest sign to the least sure one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from autotts_gym.answers.boxes import filled_boxes
from autotts_gym.answers.phrase_patterns import LEAD

_BOXED: Final = re.compile(
    r"[\s$*({（]*+(?:\\[A-Za-z]++\s*+\{[\s(]*+){0,3}+(?:(?:[Oo]ption|[Cc]hoice)\s++\(?)?+"
    r"([A-Ja-j])\s*+(?:[)}.:,$*）]|\\[A-Za-z]*+|\Z)"
)
_OPEN: Final = r"[\s*_$(\[（【\"'“]*+(?:\\[A-Za-z]++\s*+\{\(?)?+"
_NAMED: Final = r"(?:(?:the\s++)?(?:[Oo]ption|[Cc]hoice|[Ll]etter)s?\b[:\s*_$(\[]*+)?+"
_BEHIND: Final = r"(?![\w'’])"
_ANSWER: Final = (
    # The answer is C; answer: b; Answer, then C on a line of its own.
    re.compile(
        rf"(?:{LEAD}|\b(?:[Aa]nswer|ANSWER)\b(?=[\s*_]*+(?:\n|[*_\s(\[]*+[A-J]\b)))"
        rf"[:：]?{_OPEN}{_NAMED}{_OPEN}"
        rf"(?:(?P<upper>[A-HJ]|I(?!\s++[a-z])){_BEHIND}"
        r"|(?P<lower>[a-j])(?=[\s*_$)\]}.,;）。]*+(?:\Z|\n|</answer>|[.)]\s)))",
        re.MULTILINE,
    ),
    # C is correct; option C is the right one; the correct option: C.
    re.compile(
        r"(?<![\w'’\\])[\s*_$(\[]?(?P<upper>[A-HJ]|I)[)\]*_$.]*+\s++(?:is|must\s++be|seems)\s++"
        r"(?:therefore\s++|thus\s++|clearly\s++|indeed\s++)?+(?:the\s++)?+(?:only\s++|most\s++)?+"
        r"(?:correct|right|best|true|answer)\b(?!\s++(?:to\s++say|that))"
    ),
    re.compile(
        r"\b(?:correct|right|best|final)\s++(?:option|choice|letter|statement)\b[\s*_]*+"
        rf"(?:is|would\s++be|must\s++be|[:：=])[:：]?{_OPEN}{_NAMED}{_OPEN}"
        rf"(?P<upper>[A-J]){_BEHIND}"
    ),
    re.compile(r"(?:选择?|選擇?|故选|应选)\s*+[:：]?\s*+[(（]?(?P<upper>[A-J])(?![A-Za-z])"),
)
_MARKED: Final = re.compile(
    r"[(（](?P<upper>[A-J])[)）]|\*\*\(?(?P<bold>[A-J])[.)]?\*\*"
    r"|\b(?:[Oo]ption|[Cc]hoice)[:\s*(]++(?P<named>[A-J])(?![\w'’])"
)
_ALONE: Final = re.compile(
    r"^[^\S\n]*+[*$(\[]*+(?P<upper>[A-J])[.:]?[*$)\]]*+[.:]?[^\S\n]*+$", re.MULTILINE
)
_PHRASE_END: Final = re.compile(
    r"(?<![^\s:：*($，,])(?P<upper>[A-J])(?=[.,;:!)*$。](?!\w)|[^\S\n]*+$)", re.MULTILINE
)
_OPTION_LINE: Final = re.compile(r"^[^\S\n]*+[*(]*+(?P<upper>[A-J])[.):](?!\S)", re.MULTILINE)
_LISTED: Final = re.compile(r"(?<![\w*(（])[*(（]*+(?P<upper>[A-J])[.):）](?=[\s*])")


def find(text: str, first: bool) -> tuple[str, int] | None:
    """The first or the last letter of the surest sign, and its end; None if there is none."""
    boxes, _ = filled_boxes(text)
    for box in boxes if first else reversed(boxes):
        letter = _BOXED.match(text, box.start, box.stop)
        if letter:
            return letter[1].upper(), box.end
    listed = _option_list(text)
    for patterns in (_ANSWER, (_MARKED,), (_ALONE,), (_PHRASE_END,)):
        found = [
            match
            for pattern in patterns
            for match in pattern.finditer(text)
            if _start(match) not in listed and not _is_denied(text, match)
        ]
        if found:
            return _letter(_choose(found, first))
    lines = list(_OPTION_LINE.finditer(text))
    return _letter(lines[0]) if len({_start(line) for line in lines}) == 1 else None


def _option_list(text: str) -> frozenset[int]:
    """Starts of the letters of a list of options: A, B, C, ... in order, each with its mark."""
    starts: set[int] = set()
    run: list[int] = []
    for match in _LISTED.finditer(text):
        letter = match["upper"]
        if letter == "A":
            run = [match.start("upper")]
        elif run and letter == chr(ord("A") + len(run)):
            run.append(match.start("upper"))
        else:
            run = []
        if len(run) > 2 or (
            len(run) == 2 and _at_line_start(text, run[0]) and _at_line_start(text, run[1])
        ):
            starts.update(run)
    return frozenset(starts)


def _at_line_start(text: str, at: int) -> bool:
    line = text.rfind("\n", max(0, at - 20), at) + 1 if "\n" in text[max(0, at - 20) : at] else None
    begin = line if line is not None else (0 if at < 20 else None)
    return begin is not None and not text[begin:at].strip(" \t*(（")


_DENIAL: Final = re.compile(r"(?:cannot|can't|not|isn't|n't)(?:\s++be)?\s*+[*($\[]*+\Z")


def _is_denied(text: str, match: re.Match[str]) -> bool:
    """Whether the letter is denied: "it cannot be A"."""
    at = _start(match)
    return bool(_DENIAL.search(text[max(0, at - 20) : at]))


def _group(match: re.Match[str]) -> str:
    return next(name for name, value in match.groupdict().items() if value)


def _start(match: re.Match[str]) -> int:
    return match.start(_group(match))


def _choose(matches: Iterable[re.Match[str]], first: bool) -> re.Match[str]:
    return (min if first else max)(matches, key=_start)


def _letter(match: re.Match[str]) -> tuple[str, int]:
    group = _group(match)
    return match[group].upper(), match.end(group)
