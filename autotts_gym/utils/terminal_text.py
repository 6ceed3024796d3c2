"""Text of unknown origin, made safe to print."""

from __future__ import annotations

import unicodedata
from typing import Final

#: Categories of characters that control a terminal or the order of text, or cannot be encoded:
#: C0 and C1 controls, format characters such as right-to-left overrides, surrogates, and Unicode's
#: line and paragraph separators.
_ESCAPED: Final = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Joiners, without which some scripts and emoji are misspelt.
_JOINERS: Final = frozenset("\u200c\u200d")


def printable(text: str, keep: str = "\n\t") -> str:
    r"""Write control and format characters as escapes such as ``\x1b`` and ``\u202e``.

    Args:
        text: the text.
        keep: control characters to keep.
    """
    if text.isprintable():
        return text
    return "".join(
        _escape(character)
        if unicodedata.category(character) in _ESCAPED
        and character not in keep
        and character not in _JOINERS
        else character
        for character in text
    )


def one_line(text: str) -> str:
    """Like :func:`printable`, and line breaks and tabs are escaped too: for names and cells."""
    return printable(text, keep="")


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
