"""Extraction of programs from the responses of language models.

A response contains one of

- a fenced block of Python with the whole program;
- SEARCH/REPLACE blocks, each of which replaces a passage of the program::

    <<<<<<< SEARCH
    lines of the program
    =======
    lines that replace them
    >>>>>>> REPLACE

- a fenced ``diff`` block: a unified diff of the program.

Other text is ignored, and so is everything before ``</think>``.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Final, NamedTuple


class NoProgramError(ValueError):
    """A response contains no usable program; the message is shown to the model."""


class FencedBlock(NamedTuple):
    """A fenced block of Markdown.

    Attributes:
        language: the word after the opening fence, in lower case.
        text: its lines.
        closed: whether it has a closing fence.
    """

    language: str
    text: str
    closed: bool


_FENCE: Final = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})[ ]*([^\s`]*)[^`]*$")
_SEARCH, _EQUALS, _REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
_HUNK: Final = re.compile(r"^@@(?:[ ]+-(\d+)(?:,\d+)?[ ]+\+\d+(?:,\d+)?)?[ ]*@@")
_PYTHON: Final = ("python", "py", "python3", "")


def extract_program(response: str, base: str) -> str:
    """Extract the program from a response.

    Args:
        response: text of the response.
        base: the program that changes apply to.

    Raises:
        NoProgramError: the response contains no program or an incomplete one, or its changes do not
            match the base.
    """
    text = response.replace("\r\n", "\n").rpartition("</think>")[2]
    if not text.strip():
        raise NoProgramError("the response is empty")
    if any(line.rstrip() == _SEARCH for line in text.split("\n")):
        return _apply_replacements(text, base)
    blocks = list(fenced_blocks(text))
    if blocks and not blocks[-1].closed:
        raise NoProgramError("the last fenced block of the response is not closed")
    diffs = [block.text for block in blocks if block.language in ("diff", "patch")]
    if diffs:
        program = base
        for diff in diffs:
            program = apply_diff(diff, program)
        return program
    sources = [block.text for block in blocks if block.language in _PYTHON]
    complete = [text for text in sources if re.search(r"^def solve\b", text, re.MULTILINE)]
    if complete:
        return complete[-1]
    if sources:
        raise NoProgramError("no fenced block of the response defines solve at the top level")
    if not blocks and _is_program(text):
        return text
    raise NoProgramError("the response contains neither a program nor changes of one")


def fenced_blocks(text: str) -> Iterator[FencedBlock]:
    """The fenced blocks of a text, in order; the last one may be unclosed."""
    language, fence, lines = "", "", list[str]()
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if not fence:
            if match:
                fence, language, lines = match[1], match[2].lower(), []
        elif match and not match[2] and match[1].startswith(fence):
            yield FencedBlock(language, "".join(f"{line}\n" for line in lines), True)
            fence = ""
        else:
            lines.append(line)
    if fence:
        yield FencedBlock(language, "".join(f"{line}\n" for line in lines), False)


def _is_program(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "solve" for node in module.body)


# --- SEARCH/REPLACE blocks -----------------------------------------------------------------------


def _apply_replacements(text: str, base: str) -> str:
    """Apply all SEARCH/REPLACE blocks to the base, in order."""
    lines = base.split("\n")
    for number, (old, new) in enumerate(_replacements(text), 1):
        if not any(line.strip() for line in old):
            raise NoProgramError(f"SEARCH block {number} is empty")
        places = _find_lines(old, lines)
        if len(places) != 1:
            count = f"occurs {len(places)} times" if places else "does not occur"
            raise NoProgramError(
                f"the text of SEARCH block {number}, which begins with {_first_line(old)!r}, "
                f"{count} in the program; copy whole lines that occur exactly once"
            )
        lines[places[0] : places[0] + len(old)] = new
    return "\n".join(lines)


def _replacements(text: str) -> Iterator[tuple[list[str], list[str]]]:
    """The old and the new lines of each SEARCH/REPLACE block."""
    old, new = list[str](), list[str]()
    part: list[str] | None = None
    for line in text.split("\n"):
        marker = line.rstrip()
        if marker == _SEARCH:
            if part is not None:
                raise NoProgramError(
                    f"a SEARCH block begins before {_REPLACE} ends the previous one"
                )
            part = old = []
        elif marker == _EQUALS and part is old:
            part = new = []
        elif marker == _REPLACE and part is new and part is not None:
            yield old, new
            part = None
        elif part is not None:
            part.append(line)
    if part is not None:
        raise NoProgramError(f"a SEARCH block is not completed by {_EQUALS} and {_REPLACE}")


def _find_lines(part: list[str], lines: list[str]) -> list[int]:
    """Indices at which consecutive lines occur; trailing spaces are ignored."""
    wanted = [line.rstrip() for line in part]
    stripped = [line.rstrip() for line in lines]
    last = len(stripped) - len(wanted)
    return [at for at in range(last + 1) if stripped[at : at + len(wanted)] == wanted]


def _first_line(lines: list[str]) -> str:
    """The first line that is not blank."""
    return next((line.strip() for line in lines if line.strip()), "")


# --- unified diffs -------------------------------------------------------------------------------


def apply_diff(diff: str, base: str) -> str:
    """Apply a unified diff.

    Each hunk is applied where its old lines occur, as close as possible to the line number in its
    header, because language models often count lines incorrectly.

    Raises:
        NoProgramError: the diff has no hunk, or the old lines of a hunk do not occur in the base.
    """
    lines = base.split("\n")
    offset = 0
    count = 0
    for line, old, new in _hunks(diff):
        count += 1
        # New lines without old lines are inserted after the line in the header.
        wanted = line + offset - (1 if old else 0)
        places = _find_lines(old, lines) if old else [min(max(wanted, 0), len(lines))]
        if not places:
            raise NoProgramError(
                f"hunk {count} of the diff does not match: the lines that begin with "
                f"{_first_line(old)!r} do not occur in the program"
            )
        place = min(places, key=lambda place: abs(place - wanted))
        lines[place : place + len(old)] = new
        offset += len(new) - len(old)
    if not count:
        raise NoProgramError("the diff has no hunk that begins with @@")
    return "\n".join(lines)


def _hunks(diff: str) -> Iterator[tuple[int, list[str], list[str]]]:
    """The first line number, from 1, the old lines and the new lines of each hunk."""
    start, old, new, inside = 1, list[str](), list[str](), False
    for line in diff.rstrip("\n").split("\n"):
        match = _HUNK.match(line)
        if match:
            if inside:
                yield start, old, new
            start, old, new, inside = int(match[1] or 1), [], [], True
        elif not inside or line.startswith("\\"):  # file names; "No newline at end of file"
            continue
        elif line[:1] == "-":
            old.append(line[1:])
        elif line[:1] == "+":
            new.append(line[1:])
        else:
            old.append(line[1:])
            new.append(line[1:])
    if inside:
        yield start, old, new
