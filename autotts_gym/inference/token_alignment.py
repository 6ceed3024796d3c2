"""Where the tokens of a generated text start in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

#: What a token that holds only some bytes of a character decodes to.
_PARTIAL: Final = "\N{REPLACEMENT CHARACTER}"


def token_starts(text: str, pieces: Sequence[str]) -> list[int]:
    """Index of the character of ``text`` in which each token starts.

    Args:
        text: text of all tokens, decoded at once.
        pieces: text of each token, decoded separately. A token with only some bytes of a character
            decodes to U+FFFD, so that the pieces may be longer than the text.

    Returns:
        One index per piece, not decreasing. The bytes between two tokens that are found in the text
        are divided evenly among the tokens there, which is exact where each has one byte.
    """
    starts: list[int] = []
    position, partial = 0, 0  # end of the last piece that was found; pieces after it
    for piece in pieces:
        found = text.find(piece, position) if piece else position
        # Characters in between must belong to partial tokens.
        is_partial = found < 0 or (_PARTIAL in piece and not text.startswith(piece, position))
        if is_partial:
            partial += 1
            continue
        starts += _divide(text, position, found, partial)
        starts.append(found)
        position, partial = found + len(piece), 0
    return starts + _divide(text, position, len(text), partial)


def _divide(text: str, start: int, end: int, count: int) -> list[int]:
    """Characters in which ``count`` tokens start that share the bytes of ``text[start:end]``."""
    characters = [
        start + index
        for index, character in enumerate(text[start:end])
        for _ in character.encode("utf-8", "surrogatepass")
    ] or [start]
    return [characters[k * len(characters) // count] for k in range(count)]
