r"""Answers: where they stand in what a model wrote, and one spelling for each.

Where answers stand is said by *extractors*, strings that fit into a configuration file:

======================  ==========================================================================
``boxed``               ``\boxed{...}`` or ``\fbox{...}``, or ``\boxed 5``
``number``              a plain number: ``-5``, ``1,234.5``, ``3/4``, ``1e-3``
``choice``              a letter A to J: boxed, or after "answer is" or "Answer:", or in brackets or
                        bold, or alone on its line, or at the end of a phrase; the first of these
                        ways that occurs at all counts
``regex:PATTERN``       the group ``answer`` of a Python regular expression, or else its first
                        group, or else all of it
======================  ==========================================================================
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from autotts_gym.traces.store import NULL_ANSWERS

#: Null answers, as the published traces call them: nothing that an extractor looks for;
NOTHING_FOUND: Final = "No"
#: a box that was begun and never closed;
UNREADABLE: Final = "ERR"
#: and no text, or an empty box.
EMPTY: Final = ""
assert {NOTHING_FOUND, UNREADABLE, EMPTY} == NULL_ANSWERS

_REGEX: Final = "regex:"


class Found(NamedTuple):
    """An answer, and where it ends.

    Attributes:
        answer: normalised (see :func:`normalize`), or a null answer.
        end: offset in the text just behind the answer and what closes it, in characters; None
            where there is no answer to point at.
    """

    answer: str
    end: int | None


#: Looks through a text from the front or (the flag) the back; None where it finds nothing.
_Extractor = Callable[[str, bool], "Found | None"]


def find(text: str, extractors: Sequence[str], *, first: bool = False) -> Found:
    r"""The last answer in a text, or the first.

    Extractors are tried in turn; the first that finds anything decides, a null answer included.
    Takes time linear in the text for every extractor but ``regex:``.

    Args:
        text: what a model wrote.
        extractors: which answers to look for, see this module.
        first: take the first answer. That is for probes: a prefix that forces an answer
            (``**Final Answer** \boxed{``), the answer, and noise. Where the prefix holds something
            that could be an answer itself, look through what was generated without it.

    Returns:
        The answer. ``""`` without text or where all boxes are empty (the first is, with
        ``first``), ``"ERR"`` where a box was begun and none was ever closed, ``"No"`` where no
        extractor finds anything. A box that was never closed gives way to one that was, and an
        empty one (as where a model repeats its instructions) to an earlier one that is not.

    Raises:
        ValueError: an extractor is not one.
    """
    check_extractors(extractors)
    if not text or text.isspace():
        return Found(EMPTY, None)
    for name in extractors:
        found = _extractor(name)(text, first)
        if found is not None:
            return found
    return Found(NOTHING_FOUND, None)


def check_extractors(extractors: Sequence[str]) -> None:
    """Raise ``ValueError`` unless these are extractors, and at least one."""
    if isinstance(extractors, str) or not extractors:
        raise ValueError(f"extractors must be a list of at least one, got {extractors!r}")
    for name in extractors:
        _extractor(name)


@lru_cache(maxsize=256)
def _extractor(name: str) -> _Extractor:
    if name in _NAMED:
        return _NAMED[name]
    if not str(name).startswith(_REGEX):  # whatever a configuration file holds
        known = ", ".join(_NAMED)
        raise ValueError(f"no extractor is called {name!r}; there are {known} and {_REGEX}PATTERN")
    try:
        return _by_pattern(re.compile(name.removeprefix(_REGEX)))
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"extractor {name!r}: not a regular expression: {error}") from None


# --- boxes ---------------------------------------------------------------------------------------

# Backslashes are doubled where text was taken through JSON or source code.
_BOX: Final = re.compile(r"\\{1,4}+(?:boxed|fbox)(?![A-Za-z])")
_BRACE: Final = re.compile(rf"{_BOX.pattern}\s*+(?P<box>\{{)?|\\.|[{{}}]", re.DOTALL)
_DIGITS: Final = (  # groups are limited, so that a long list is not gone through from each entry
    r"(?:(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}+(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|\.[0-9]++)"
)
# What LaTeX takes for the argument where there are no braces, if that is mathematics: prose has
# "in \boxed format".
_BARE: Final = re.compile(
    rf"[-+−]?{_DIGITS}(?:/[0-9]++)?+|[A-Za-z](?![A-Za-z])"
    r"|\\[A-Za-z]++[0-9]*+(?:\s*+\{[^{}]*+\})*+"
)


class _Box(NamedTuple):
    """Where a box's content starts and stops, and where the box does."""

    start: int
    stop: int
    end: int


def _boxes(text: str) -> tuple[list[_Box], bool]:
    """The boxes that are closed, in the order in which they were begun; and whether any was begun.

    One pass with a stack, so neither unclosed boxes nor nested ones cost more than others.
    """
    opening = _BOX.search(text)
    if opening is None:
        return [], False
    boxes: list[_Box | None] = []
    stack: list[tuple[int, int]] = []  # of every open brace: its box, or -1; where its content is
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


def _boxed(text: str, first: bool) -> Found | None:
    boxes, begun = _boxes(text)
    if not boxes:
        return Found(UNREADABLE, None) if begun else None
    box = boxes[0]
    if not first:
        filled = (b for b in reversed(boxes) if not text[b.start : b.stop].isspace())
        box = next((b for b in filled if b.stop > b.start), boxes[-1])
    return Found(normalize(text[box.start : box.stop]), box.end)


# --- numbers, choices, patterns ------------------------------------------------------------------

# No digit of x2, 1.2.3 or H2O begins a number, and the minus of 5-3 is no sign.
_NUMBER: Final = re.compile(
    r"(?:(?<![\w)\]}])[-+−])?(?:"
    rf"(?:(?<![\w.])(?=\.)|(?<!\w)(?<![0-9]\.)(?=[0-9])){_DIGITS}"
    r"(?:[eE][-+]?[0-9]++)?+(?:\s?/\s?[0-9]++(?!\.[0-9]))?+"
    r"|\\[dtc]?frac\s*+\{[0-9]++\}\s*+\{[0-9]++\})"
)


def _number(text: str, first: bool) -> Found | None:
    found = _pick(_NUMBER.finditer(text), first)
    return None if found is None else Found(normalize(found[0]), found.end())


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


def _choice(text: str, first: bool) -> Found | None:
    boxes, begun = _boxes(text)
    for box in boxes if first else reversed(boxes):
        letter = _CHOICE_BOXED.match(text, box.start, box.stop)
        if letter:
            return Found(letter[1].upper(), box.end)
    for pattern in _CHOICE_PATTERNS:
        found = _pick(pattern.finditer(text), first)
        if found is not None:
            letter_group = found.lastindex or 0
            return Found(found[letter_group], found.end(letter_group))
    return Found(UNREADABLE, None) if begun and not boxes else None


def _by_pattern(pattern: re.Pattern[str]) -> _Extractor:
    group: str | int = "answer" if "answer" in pattern.groupindex else min(pattern.groups, 1)

    def extract(text: str, first: bool) -> Found | None:
        # An empty match says nothing, and a pattern that allows one has it at the end of any text.
        matches = (m for m in pattern.finditer(text) if m[0] and m[group] is not None)
        found = _pick(matches, first)
        return None if found is None else Found(normalize(found[group]), found.end())

    return extract


def _pick(matches: Iterable[re.Match[str]], first: bool) -> re.Match[str] | None:
    if first:
        return next(iter(matches), None)
    last = deque(matches, maxlen=1)
    return last[0] if last else None


_NAMED: Final[dict[str, _Extractor]] = {"boxed": _boxed, "number": _number, "choice": _choice}


# --- one spelling --------------------------------------------------------------------------------

_PLAIN: Final = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL: Final = re.compile(
    r"([-+]?) ?(?=\.?[0-9])([0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?:\.([0-9]+))?"
)
_TOKEN: Final = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]+|[0-9]+|\s+|.", re.DOTALL)
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")

#: What only tells how something looks, and leaves nothing behind.
_INVISIBLE: Final = frozenset(
    (
        "$",
        r"\$",
        r"\(",
        r"\)",
        r"\[",
        r"\]",
        r"\!",
        r"\,",
        r"\left",
        r"\right",
        r"\middle",
        r"\big",
        r"\Big",
        r"\bigl",
        r"\bigr",
        r"\Bigl",
        r"\Bigr",
        r"\displaystyle",
        r"\textstyle",
    )
)
#: Commands of which the argument alone counts.
_WRAPPERS: Final = frozenset(
    (
        r"\text",
        r"\textbf",
        r"\textit",
        r"\textrm",
        r"\textnormal",
        r"\mathrm",
        r"\mathbf",
        r"\mathit",
        r"\mathsf",
        r"\mathtt",
        r"\bm",
        r"\boldsymbol",
        r"\mbox",
        r"\hbox",
        r"\boxed",
        r"\fbox",
        r"\rm",
        r"\bf",
        r"\it",
    )
)
_SPACES: Final = frozenset((r"\;", r"\:", r"\quad", r"\qquad", r"\space", "~", "\\ ", "\\\n"))
_SPELLINGS: Final = {r"\dfrac": r"\frac", r"\tfrac": r"\frac", r"\cfrac": r"\frac"} | {
    r"\%": "%",
    r"\degree": "°",
    "−": "-",
}
_ANGLES: Final = frozenset(("°", r"\circ", "degree", "degrees", "deg"))
#: Of these, 30° and 30 are two different things.
_TRIGONOMETRIC: Final = frozenset(
    (r"\sin", r"\cos", r"\tan", r"\cot", r"\sec", r"\csc", "sin", "cos", "tan")
)
_VARIABLE: Final = re.compile(
    r"(?:[A-Za-z]+|\\[A-Za-z]+)(?: ?_ ?(?:[A-Za-z]|[0-9]+|\{ ?[A-Za-z0-9]* ?\}))?(?:'*) ?"
)
#: A genuine answer that reads like a null answer, and what goes with it.
_WORDS: Final = frozenset(("no", "yes", "err"))


def normalize(answer: str) -> str:
    r"""One spelling for an answer, so that equal answers are mostly equal strings.

    Takes away what only tells how it looks (``$``, ``\left``, ``\,``, ``\text{...}``, space at the
    ends and runs of it), trailing periods, degree and percent signs, and the variable of ``x = 5``;
    writes ``\dfrac`` as ``\frac``, and a number without thousands commas, plus sign and zeros that
    say nothing (``007``, ``57.0``). Lists and tuples stay as they are. Meant for gold answers as
    well. Normalising twice changes nothing more.

    A genuine answer "No" or "ERR" becomes ``no`` or ``err`` (and "Yes" ``yes``): ``No`` and
    ``ERR`` are null answers, and never come from here. So null answers are not for normalising.
    The empty string does, from an answer that consists of nothing but what is taken away.

    Raises nothing, whatever the text; lone surrogates, which no store takes, become U+FFFD.
    """
    if _PLAIN.fullmatch(answer):
        return answer
    if not answer.isascii():
        answer = _LONE_SURROGATE.sub("\ufffd", answer)
    tokens = _tokens(answer)
    _cut_unit(tokens)
    _cut_variable(tokens)
    text = "".join(tokens)
    number = _DECIMAL.fullmatch(text)
    if number:
        return _decimal(*number.groups(default=""))
    lower = text.lower()
    return lower if lower in _WORDS else text


def _tokens(answer: str) -> list[str]:
    """The tokens that count, as LaTeX would part them: no two of them make another one together.

    All that follows works on tokens in one pass, so what is left cannot be taken for something
    else the next time, and no nesting costs more than its length.
    """
    tokens: list[str] = []
    dropped: list[bool] = []  # of every open brace, whether it went with its wrapper
    spaced = wrapping = False
    for token in _TOKEN.findall(answer):
        if token in _INVISIBLE:
            continue
        if token in _SPACES or token.isspace():
            spaced = True
            continue
        if token in _WRAPPERS:
            wrapping = True
            continue
        if token == "{":
            dropped.append(wrapping)
            if wrapping:
                wrapping = False
                continue
        elif token == "}":
            if dropped and dropped.pop():
                wrapping = False
                continue
            if tokens[-2:] == ["{", ","] and not spaced:  # LaTeX's comma within a number
                tokens[-2:] = [","]
                wrapping = False
                continue
        wrapping = False
        token = _SPELLINGS.get(token, token)
        if tokens and (spaced or _would_merge(tokens[-1], token)):
            tokens.append(" ")
        spaced = False
        tokens.append(token)
    return tokens


def _would_merge(token: str, following: str) -> bool:
    beside = token[-1] + following[0]
    return beside.isascii() and beside.isalpha()


def _cut_unit(tokens: list[str]) -> None:
    """Take trailing periods, percent signs and degrees away."""
    angles = _ANGLES if _TRIGONOMETRIC.isdisjoint(tokens) else frozenset[str]()
    while tokens:
        last = tokens[-1]
        if last in (" ", ".", "%"):
            tokens.pop()
        elif last == r"\circ" and tokens[-2:-1] == ["^"] and last in angles:
            del tokens[-2:]
        elif last == "}" and tokens[-4:-1] == ["^", "{", r"\circ"] and r"\circ" in angles:
            del tokens[-4:]
        elif last in angles and last != r"\circ" and (len(tokens) > 1 or last == "°"):
            tokens.pop()
        else:
            break


def _cut_variable(tokens: list[str]) -> None:
    """Take the variable of ``x = 5`` away; ``x = 1, y = 2`` and ``x = y = 5`` keep theirs."""
    if tokens.count("=") != 1:
        return
    at = tokens.index("=")
    behind = at + 2 if tokens[at + 1 : at + 2] == [" "] else at + 1
    if behind >= len(tokens) or tokens[behind] == ">" or at > 9:
        return
    if _VARIABLE.fullmatch("".join(tokens[:at])) and _TRIGONOMETRIC.isdisjoint(tokens[:at]):
        del tokens[:behind]


def _decimal(sign: str, whole: str, fraction: str) -> str:
    whole = whole.replace(",", "").lstrip("0") or "0"
    fraction = fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return f"-{value}" if sign == "-" and value != "0" else value
