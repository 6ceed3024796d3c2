"""Whether an answer is prose rather than mathematics."""

from __future__ import annotations

from typing import Final

from autotts_gym.answers.nodes import FUNCTIONS, GREEK
from autotts_gym.answers.token_lists import Tokens
from autotts_gym.answers.word_sets import word_set

_SHORT: Final = word_set(
    """yes no odd none nan dne up true all any red the is of not if am pm ok it in on an never
    one two six ten"""
)
#: Words of mathematics.
_NAMES: Final = FUNCTIONS | GREEK | word_set("pi infinity inf oo infty")
_PUNCTUATION: Final = frozenset((".", ",", "-", "'", ";", ":", "?", '"', "!"))


def is_prose(tokens: Tokens) -> bool:
    """Whether tokens are words rather than mathematics."""
    words = [token for token in tokens if token.kind == "word"]
    if any(token.kind != "word" and token.text not in _PUNCTUATION for token in tokens):
        return False
    if not words or all(word.text in _NAMES for word in words):
        return False
    if len(tokens) == 1:
        return words[0].prose or _is_word(words[0].text)
    return any(word.text not in _NAMES and _is_word(word.text) for word in words)


def _is_word(word: str) -> bool:
    """Whether letters are a word; ``xyz`` and ``ABC`` may be products and names of points."""
    if len(word) > 3 or not word.isascii() or word.casefold() in _SHORT:
        return True
    spelled = word.islower() or (word[0].isupper() and word[1:].islower())
    return len(word) == 3 and spelled and bool(set(word.casefold()) & set("aeiou"))
