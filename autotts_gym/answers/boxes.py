r"""Boxes in a text: ``\boxed{...}``, ``\fbox{...}`` and ``\boxed 5``."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

# Text from JSON or source code may have doubled backslashes.
_BOX: Final = re.compile(r"\\{1,4}+(?:boxed|fbox)(?![A-Za-z])")
_BRACE: Final = re.compile(rf"{_BOX.pattern}\s*+(?P<box>\{{)?|\\.|[{{}}]", re.DOTALL)
# Groups are limited, so that the time for a long list is linear.
_DIGITS: Final = r"(?:(?:[0-9]{1,3}(?:,[0-9]{3}){1,9}+(?![0-9])|[0-9]++)(?:\.[0-9]++)?+|\.[0-9]++)"
# The argument of a box without braces, if it is mathematics: prose has "in \boxed format".
_BARE: Final = re.compile(
    rf"[-+−]?{_DIGITS}(?:/[0-9]++)?+|[A-Za-z](?![A-Za-z])"
    r"|\\[A-Za-z]++[0-9]*+(?:\s*+\{[^{}]*+\})*+"
)
_NESTED: Final = re.compile(rf"{_BOX.pattern}\s*+\{{")
_BLANK: Final = re.compile(r"(?:\s|\\[ ,;:!]|[$~.…_?]|\\(?:ldots|dots|cdots|quad)(?![A-Za-z]))*+\Z")


class Box(NamedTuple):
    """Start and stop of the content of a box, and end of the box."""

    start: int
    stop: int
    end: int


def closed_boxes(text: str) -> tuple[list[Box], bool]:
    """Closed boxes in the order of their starts, and whether any box is not closed.

    One pass with a stack, so that the time is linear also for unclosed and nested boxes.
    """
    opening = _BOX.search(text)
    if opening is None:
        return [], False
    boxes: list[Box | None] = []
    stack: list[tuple[int, int]] = []  # each open brace: its box or -1, start of content
    for token in _BRACE.finditer(text, opening.start()):
        brace = token[0]
        if brace == "{":
            stack.append((-1, 0))
        elif brace == "}":
            if stack:
                box, start = stack.pop()
                if box >= 0:
                    boxes[box] = Box(start, token.start(), token.end())
        elif token["box"]:
            stack.append((len(boxes), token.end()))
            boxes.append(None)
        elif len(brace) > 2:
            bare = _BARE.match(text, token.end())
            if bare:
                boxes.append(Box(bare.start(), bare.end(), bare.end()))
    return [box for box in boxes if box is not None], None in boxes


def filled_boxes(text: str) -> tuple[list[Box], bool]:
    """Closed boxes that are not empty, and whether any box is not closed."""
    boxes, unclosed = closed_boxes(text)
    return [box for box in boxes if not _BLANK.match(text, box.start, box.stop)], unclosed


def find_box(text: str, first: bool) -> tuple[Box | None, bool]:
    """The first or the last filled box, and whether there is none because a box is not closed."""
    boxes, unclosed = filled_boxes(text)
    if not boxes:
        return None, unclosed
    return boxes[0 if first else -1], False


def innermost(text: str, box: Box) -> tuple[int, int]:
    r"""Start and stop of the content of the innermost box in ``\boxed{\boxed{5}}``."""
    start, stop = box.start, box.stop
    while True:
        opening = _NESTED.match(text, start, stop)
        if opening is None or text[stop - 1] != "}":
            return start, stop
        start, stop = opening.end(), stop - 1
