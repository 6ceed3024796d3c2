r"""Answers that a phrase announces: "the answer is 12", "Answer: 12", ``<answer>12</answer>``."""

from __future__ import annotations

import re
from typing import Final

_LINK: Final = (
    r"(?:is|was|are|would\s++be|must\s++be|should\s++be|will\s++be|equals|comes\s++(?:out\s++)?to)"
)
#: "answer" in several languages, with the word or colon that leads to the answer.
LEAD: Final = (
    r"(?:<answer>"
    rf"|\b(?:[Aa]nswers?|ANSWERS?)\b[*_\s]*+(?:\([^()\n]{{0,40}}\)\s*+)?"
    rf"(?:{_LINK}\b[*_\s]*+:?|[:=：])(?:[*_\s]*+(?:that|simply|just|therefore|thus)\b)?"
    r"|(?:答案|答え|答)\s*+(?:是|为|為|は|[:：])++"
    r"|\b[Rr][ée]ponse\s*+(?:finale\s++)?(?:est|:)|\b[Rr]espuesta\s*+(?:final\s++)?(?:es|:)"
    r"|\b[Aa]ntwort\s*+(?:ist|lautet|:)|\b[Rr]isposta\s*+(?:finale\s++)?(?:è|:)"
    r"|\b[Rr]esposta\s*+(?:final\s++)?(?:é|:)|\b[Оо]твет\s*+:|정답(?:은|:)|^[^\S\n]*+\#{2,4}\s)"
)
_LEAD: Final = re.compile(LEAD, re.MULTILINE)
_DENIED: Final = re.compile(r"[\s*_]*+(?:not|n't|never|unknown|unclear|given|found)\b")
# A marked answer: in a box, a formula or bold.
_MARKED: Final = re.compile(
    r"[\s*_:]*+(?:\$\$?([^$]++)\$\$?|\\\(((?:(?!\\\)).)++)\\\)|\\\[((?:(?!\\\]).)++)\\\]"
    r"|\*\*([^*\n]++)\*\*)",
    re.DOTALL,
)
# The end of an answer: of its line or sentence, or a remark behind it.
_STOP: Final = re.compile(
    r"\n|</answer>|[.!?](?=\s|[*_$\"')\]]*+\Z|[*_]++\s)|[。！？]|\s\((?=[a-z]{2,}+\s)|\s?[–—]\s"
    r"|[,;]?\s(?:because|since|which|where|so|as|for|and\s++we|but|thus|therefore|hence)\s|\Z"
)
_LONGEST: Final = 2000


def find(text: str, first: bool) -> tuple[int, int, int] | None:
    """Start and stop of the first or the last announced answer, and its end in the text."""
    leads = list(_LEAD.finditer(text))
    for lead in leads if first else reversed(leads):
        span = _span(text, lead.end())
        if span is not None:
            return span
    return None


def _span(text: str, start: int) -> tuple[int, int, int] | None:
    if _DENIED.match(text, start, start + 100):
        return None
    window = min(len(text), start + _LONGEST)
    marked = _MARKED.match(text, start, window)
    if marked:
        group = marked.lastindex or 1
        if marked[group].strip() and _ends(text, marked.end()):
            return marked.start(group), marked.end(group), marked.end()
    while start < window and text[start] in " \t\r\n*_:":
        start += 1
    stop = _STOP.search(text, start, window)
    end = window if stop is None else stop.start()
    trimmed = text[start:end].rstrip(" \t*_,;:.")
    return (start, start + len(trimmed), end) if trimmed.strip("$\\[]() ") else None


def _ends(text: str, at: int) -> bool:
    """Whether an answer ends here: no further term or unit follows the marked one."""
    return not re.compile(r"\s?[-+*/^=<>\w%]").match(text, at) or bool(
        re.compile(r"\s(?:because|since|which|where|so|as|for|and|but|is|in|with|when|if)\b").match(
            text, at
        )
    )
