"""Programs in the answers of language models: whole files, or changes of a program.

An answer holds one of

- a fenced block of Python with the whole program;
- blocks that replace a passage of the program by another::

    <<<<<<< SEARCH
    lines as they stand there
    =======
    what stands there from now on
    >>>>>>> REPLACE

- a fenced block of ``diff``: a unified diff of the program.

What an answer says besides is ignored, what it thinks before ``</think>`` included.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import Final, NamedTuple


class ReplyError(ValueError):
    """An answer without a program; the message says why, to whoever has answered."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        kind: the word behind the fence, in lower case.
        text: its lines.
        closed: whether its end has come.
    """

    kind: str
    text: str
    closed: bool


_FENCE: Final = re.compile(r"^[ ]{0,3}(`{3,}|~{3,})[ ]*([^\s`]*)[^`]*$")
_SEARCH, _EQUALS, _REPLACE = "<<<<<<< SEARCH", "=======", ">>>>>>> REPLACE"
_HUNK: Final = re.compile(r"^@@(?:[ ]+-(\d+)(?:,\d+)?[ ]+\+\d+(?:,\d+)?)?[ ]*@@")
_PYTHON: Final = ("python", "py", "python3", "")


def program(answer: str, base: str) -> str:
    """The program that an answer holds.

    Args:
        answer: its text.
        base: the program that changes are made to.

    Raises:
        ReplyError: there is none, half a one, or changes that do not fit.
    """
    text = answer.replace("\r\n", "\n").rpartition("</think>")[2]
    if not text.strip():
        raise ReplyError("the answer is empty")
    if any(line.rstrip() == _SEARCH for line in text.split("\n")):
        return _replaced(text, base)
    found = list(blocks(text))
    if found and not found[-1].closed:
        raise ReplyError("the answer breaks off within a block")
    diffs = [block.text for block in found if block.kind in ("diff", "patch")]
    if diffs:
        made = base
        for diff in diffs:
            made = patched(diff, made)
        return made
    programs = [block.text for block in found if block.kind in _PYTHON]
    whole = [text for text in programs if re.search(r"^def solve\b", text, re.MULTILINE)]
    if whole:
        return whole[-1]
    if programs:
        raise ReplyError("no block of the answer defines solve at the top of the file")
    if not found and _is_program(text):
        return text
    raise ReplyError("the answer has no block with a program, and no changes of one")


def blocks(text: str) -> Iterator[Block]:
    """The fenced blocks of a text, in order; the last one may be open."""
    kind, fence, lines = "", "", list[str]()
    for line in text.split("\n"):
        found = _FENCE.match(line)
        if not fence:
            if found:
                fence, kind, lines = found[1], found[2].lower(), []
        elif found and not found[2] and found[1].startswith(fence):
            yield Block(kind, "".join(f"{line}\n" for line in lines), True)
            fence = ""
        else:
            lines.append(line)
    if fence:
        yield Block(kind, "".join(f"{line}\n" for line in lines), False)


def _is_program(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, ast.FunctionDef) and node.name == "solve" for node in module.body)


# --- passages that are replaced ------------------------------------------------------------------


def _replaced(text: str, base: str) -> str:
    """The base with all replacements made, one after the other."""
    made = base.split("\n")
    for number, (old, new) in enumerate(_replacements(text), 1):
        if not any(line.strip() for line in old):
            raise ReplyError(f"SEARCH block {number} is empty")
        places = _places(old, made)
        if len(places) != 1:
            count = f"stands {len(places)} times" if places else "does not stand"
            raise ReplyError(
                f"the text of SEARCH block {number}, which begins with {_first(old)!r}, {count} in "
                "the program; it must be copied from there, whole lines that stand there once"
            )
        made[places[0] : places[0] + len(old)] = new
    return "\n".join(made)


def _replacements(text: str) -> Iterator[tuple[list[str], list[str]]]:
    old, new = list[str](), list[str]()
    part: list[str] | None = None
    for line in text.split("\n"):
        mark = line.rstrip()
        if mark == _SEARCH:
            if part is not None:
                raise ReplyError(f"a SEARCH block begins before {_REPLACE} ended the last one")
            part = old = []
        elif mark == _EQUALS and part is old:
            part = new = []
        elif mark == _REPLACE and part is new and part is not None:
            yield old, new
            part = None
        elif part is not None:
            part.append(line)
    if part is not None:
        raise ReplyError(f"a SEARCH block is not ended by {_EQUALS} and {_REPLACE}")


def _places(part: list[str], lines: list[str]) -> list[int]:
    """Where some lines stand among others; what lines end with in spaces does not matter."""
    wanted = [line.rstrip() for line in part]
    stands = [line.rstrip() for line in lines]
    last = len(stands) - len(wanted)
    return [at for at in range(last + 1) if stands[at : at + len(wanted)] == wanted]


def _first(lines: list[str]) -> str:
    return next((line.strip() for line in lines if line.strip()), "")


# --- unified diffs -------------------------------------------------------------------------------


def patched(diff: str, base: str) -> str:
    """The base with a unified diff applied.

    A hunk belongs where its old lines stand, nearest to where it says: models count badly.

    Raises:
        ReplyError: it has no hunk, or the old lines of one stand nowhere.
    """
    made = base.split("\n")
    moved = 0
    count = 0
    for line, old, new in _hunks(diff):
        count += 1
        # Where there is no old line, the new ones follow the line that is named.
        wanted = line + moved - (1 if old else 0)
        places = _places(old, made) if old else [min(max(wanted, 0), len(made))]
        if not places:
            raise ReplyError(
                f"hunk {count} of the diff does not fit: the lines that begin with "
                f"{_first(old)!r} do not stand in the program"
            )
        place = min(places, key=lambda place: abs(place - wanted))
        made[place : place + len(old)] = new
        moved += len(new) - len(old)
    if not count:
        raise ReplyError("the diff has no hunk that begins with @@")
    return "\n".join(made)


def _hunks(diff: str) -> Iterator[tuple[int, list[str], list[str]]]:
    """The line, from 1, that each is said to begin at, its old lines and its new ones."""
    at, old, new, inside = 1, list[str](), list[str](), False
    for line in diff.rstrip("\n").split("\n"):
        found = _HUNK.match(line)
        if found:
            if inside:
                yield at, old, new
            at, old, new, inside = int(found[1] or 1), [], [], True
        elif not inside or line.startswith("\\"):  # names of files; "No newline at end of file"
            continue
        elif line[:1] == "-":
            old.append(line[1:])
        elif line[:1] == "+":
            new.append(line[1:])
        else:
            old.append(line[1:])
            new.append(line[1:])
    if inside:
        yield at, old, new
