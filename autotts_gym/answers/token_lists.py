"""Splitting of token lists at signs outside of all brackets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from autotts_gym.answers.tokens import Token

_OPENING: Final = frozenset(("(", "[", "{", r"\{", r"\begin", r"\lfloor", r"\lceil"))
_CLOSING: Final = frozenset((")", "]", "}", r"\}", r"\end", r"\rfloor", r"\rceil"))
Tokens = Sequence[Token]


def split(tokens: Tokens, separates: Callable[[Token], bool]) -> tuple[list[Tokens], list[Token]]:
    """The parts between the separators outside of brackets, and these separators."""
    parts: list[Tokens] = []
    separators: list[Token] = []
    depth = start = 0
    bars = 0
    for at, token in enumerate(tokens):
        if token.text in _OPENING:
            depth += 1
        elif token.text in _CLOSING:
            depth = max(depth - 1, 0)
        elif token.text == "|":
            bars += 1
        elif not depth and not bars % 2 and separates(token):
            parts.append(tokens[start:at])
            separators.append(token)
            start = at + 1
    parts.append(tokens[start:])
    return parts, separators


def encloses(tokens: Tokens) -> bool:
    """Whether the first token is a bracket that the last token closes."""
    if len(tokens) < 2 or tokens[0].text not in _OPENING:
        return False
    depth = 0
    for at, token in enumerate(tokens):
        depth += (token.text in _OPENING) - (token.text in _CLOSING)
        if depth == 0:
            return at == len(tokens) - 1
    return False


def strip_braces(tokens: Tokens) -> Tokens:
    """The tokens without braces around all of them."""
    while len(tokens) >= 2 and tokens[0].text == "{" and encloses(tokens):
        tokens = tokens[1:-1]
    return tokens
