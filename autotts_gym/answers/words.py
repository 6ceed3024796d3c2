"""Words in answers: number words, magnitudes, operators in words, and the normal form of prose."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Final

from autotts_gym.answers.word_sets import word_list, word_set

_SMALL: Final = {
    word: number
    for number, word in enumerate(
        word_list(
            """zero one two three four five six seven eight nine ten eleven twelve thirteen
            fourteen fifteen sixteen seventeen eighteen nineteen"""
        )
    )
}
_TENS: Final = {
    word: 10 * number
    for number, word in enumerate(
        word_list("twenty thirty forty fifty sixty seventy eighty ninety"), 2
    )
}
#: Words after a number that multiply it.
MAGNITUDES: Final = {
    **{"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9},
    **{"trillion": 10**12, "quadrillion": 10**15, "dozen": 12, "score": 20, "lakh": 10**5},
    **{"crore": 10**7, "万": 10**4, "亿": 10**8, "萬": 10**4, "億": 10**8, "千": 1000, "百": 100},
    **{"bn": 10**9, "mn": 10**6},
} | {
    "hundreds": 100,
    "thousands": 1000,
    "millions": 10**6,
    "billions": 10**9,
    "dozens": 12,
    "trillions": 10**12,
    "lakhs": 10**5,
    "crores": 10**7,
}
_PARTS: Final = {
    **{"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7},
    **{"eighth": 8, "ninth": 9, "tenth": 10, "eleventh": 11, "twelfth": 12, "hundredth": 100},
    **{"thousandth": 1000},
}
_PLURAL_PARTS: Final = {"halves": 2} | {f"{part}s": n for part, n in _PARTS.items()}
_WORD: Final = re.compile(r"[a-z]+|[0-9]+(?:\.[0-9]+)?|[-\s]+", re.IGNORECASE)
#: Operators in words between or after numbers, longest first, and how they are written.
_OPERATORS: Final = (
    (r"(?<=[0-9)}])\s+plus\s+(?=[-0-9(\\])", "+"),
    (r"(?<=[0-9)}])\s+minus\s+(?=[0-9(\\])", "-"),
    (r"(?<=[0-9)}])\s+times\s+(?=[-0-9(\\])", "*"),
    (r"(?<=[0-9)}])\s+multiplied\s+by\s+(?=[-0-9(\\])", "*"),
    (r"(?<=[0-9)}])\s+divided\s+by\s+(?=[-0-9(\\])", "/"),
    (r"(?<=[0-9)}])\s+over\s+(?=[-0-9(\\])", "/"),
    (r"(?<=[0-9)}])\s+choose\s+(?=[0-9(\\])", r"\\choose "),
    (r"(?<=[0-9)}A-Za-z])\s+squared\b", "^2"),
    (r"(?<=[0-9)}A-Za-z])\s+cubed\b", "^3"),
    (r"(?<=[0-9)}])\s+to\s+the\s+power\s+(?:of\s+)?(?=-?[0-9]+\b)", "^"),
    (r"(?<=[0-9)}])\s+factorial\b", "!"),
    (r"(?<=[0-9)}])\s*(?:percent|per\s+cent|pct)\b", "%"),
    (r"(?<=[0-9)}])\s*degrees?\s+(?:C|Celsius)\b", "°C"),
    (r"(?<=[0-9)}])\s*degrees?\s+(?:F|Fahrenheit)\b", "°F"),
    (r"^\s*(?:negative|minus)\s+(?=[0-9\\])", "-"),
    (r"\bsquare\s+root\s+of\s+(?=[0-9]+\b)", r"\\sqrt "),
    (r"(?<=[0-9])\s+x\s+10\s*\^", " * 10^"),
)
_OPERATOR_PATTERNS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE if "10" not in pattern else 0), sign)
    for pattern, sign in _OPERATORS
)


def write_operators(text: str) -> str:
    """Write operators in words as signs where they stand between numbers: ``5 plus 3``."""
    for pattern, sign in _OPERATOR_PATTERNS:
        text = pattern.sub(sign, text)
    return text


def replace_number_words(text: str) -> str:
    """Write the number words at the start of an answer in digits.

    ``twenty-five apples`` becomes ``25 apples``, ``3 and a half`` and ``two thirds`` fractions.
    Nothing changes if the answer does not start with number words, or if it is ``second`` and the
    like.
    """
    pieces = _WORD.findall(text[:200])
    if not pieces or "".join(pieces) != text[: sum(map(len, pieces))]:
        return text
    words = [(p.lower(), sum(map(len, pieces[:n])) + len(p)) for n, p in enumerate(pieces)]
    words = [(word, end) for word, end in words if word.strip("- \t\n")]
    read = _read_number(words)
    if read is None:
        return text
    value, end = read
    written = (
        str(value.numerator)
        if value.denominator == 1
        else f"\\frac{{{value.numerator}}}{{{value.denominator}}}"
    )
    return written + text[end:]


def _read_number(words: list[tuple[str, int]]) -> tuple[Fraction, int] | None:
    """The number at the start, and where it ends; None if there is none, or only digits."""
    total, group, end, at = Fraction(0), Fraction(0), 0, 0
    only_digits = True
    while at < len(words):
        word, after = words[at]
        previous = words[at - 1][0] if at else ""
        if word in _SMALL or word in _TENS:
            ones_after_tens = previous in _TENS and 0 < _SMALL.get(word, 0) < 10
            if at and not ones_after_tens and previous not in MAGNITUDES and previous != "and":
                return None
            group += _SMALL.get(word, 0) or _TENS.get(word, 0)
            only_digits = False
        elif word[0].isdigit() and at == 0 and "." not in word:
            group = Fraction(word)
        elif word == "hundred" and group and not only_digits:
            group *= 100
        elif word in ("thousand", "million", "billion", "trillion") and group and not only_digits:
            total, group = total + group * MAGNITUDES[word], Fraction(0)
        elif word == "and" and at and previous in MAGNITUDES and _is_number(words, at + 1):
            at += 1
            continue
        else:
            break
        end, at = after, at + 1
    value = total + group
    part = _read_part(words, at, value, bool(at))
    if part is not None:
        return part
    return None if only_digits or not at else (value, end)


def _is_number(words: list[tuple[str, int]], at: int) -> bool:
    return at < len(words) and (words[at][0] in _SMALL or words[at][0] in _TENS)


def _read_part(
    words: list[tuple[str, int]], at: int, value: Fraction, read: bool
) -> tuple[Fraction, int] | None:
    """``two thirds``, ``half``, ``a half``, ``three and a half``, ``3 and two thirds``."""
    rest = [word for word, _ in words[at : at + 3]]
    if read and rest[:1] == ["and"]:
        if len(rest) == 3 and rest[1] in ("a", "one", "1") and rest[2] in _PARTS:
            return value + Fraction(1, _PARTS[rest[2]]), words[at + 2][1]
        if len(rest) == 3 and rest[2] in _PLURAL_PARTS and rest[1] in _SMALL:
            return value + Fraction(_SMALL[rest[1]], _PLURAL_PARTS[rest[2]]), words[at + 2][1]
        return None
    if rest and read and rest[0] in _PLURAL_PARTS and value > 1:
        return value / _PLURAL_PARTS[rest[0]], words[at][1]
    if rest and read and rest[0] in _PARTS and value == 1:
        return value / _PARTS[rest[0]], words[at][1]
    if not read and len(words) == 1 and rest[0] == "half":
        return Fraction(1, 2), words[0][1]
    if not read and len(words) == 2 and rest[0] in ("a", "an") and rest[1] in _PARTS:
        return Fraction(1, _PARTS[rest[1]]), words[1][1]
    return None


#: Words whose number does not matter, and phrases that mean the same.
_NOUNS: Final = word_set("solutions roots answers values integers numbers points")
_SYNONYMS: Final = {
    **dict.fromkeys(
        (
            "no solution",
            "no solution exists",
            "there is no solution",
            "has no solution",
            "no solution exist",
            "there are no solution",
        ),
        "no solution",
    ),
    **dict.fromkeys(("dne", "does not exist", "doesn't exist", "do not exist"), "does not exist"),
    **dict.fromkeys(
        (
            "infinitely many",
            "infinitely many solution",
            "infinite solution",
            "infinite number of solution",
        ),
        "infinitely many solution",
    ),
}
_ARTICLES: Final = frozenset(("the", "a", "an"))


def prose_form(text: str) -> str:
    """The normal form of prose: case-blind, without articles, punctuation and outer quotes."""
    words = re.findall(r"[^\W_]+(?:'[^\W_]+)*", text.casefold().replace("’", "'"))
    kept = [word for word in words if word not in _ARTICLES] if len(words) > 1 else words
    form = " ".join(word[:-1] if word in _NOUNS else word for word in kept)
    return _SYNONYMS.get(form, form)
