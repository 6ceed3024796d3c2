"""Normalization of the spelling of answers."""

from __future__ import annotations

import re
from typing import Final

_PLAIN: Final = re.compile(r"0|-?[1-9][0-9]*")
_DECIMAL: Final = re.compile(
    r"([-+]?) ?(?=\.?[0-9])([0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?:\.([0-9]+))?"
)
_TOKEN: Final = re.compile(r"\\[A-Za-z]+|\\.|[A-Za-z]+|[0-9]+|\s+|.", re.DOTALL)
_LONE_SURROGATE: Final = re.compile("[\ud800-\udfff]")

#: Formatting commands that are removed.
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
#: Commands that are replaced by their argument.
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
#: In an answer with these, degree signs matter.
_TRIGONOMETRIC: Final = frozenset(
    (r"\sin", r"\cos", r"\tan", r"\cot", r"\sec", r"\csc", "sin", "cos", "tan")
)
_VARIABLE: Final = re.compile(
    r"(?:[A-Za-z]+|\\[A-Za-z]+)(?: ?_ ?(?:[A-Za-z]|[0-9]+|\{ ?[A-Za-z0-9]* ?\}))?(?:'*) ?"
)
#: Answers that are lowercased, since they could be taken for null answers.
_WORDS: Final = frozenset(("no", "yes", "err"))


def normalize(answer: str) -> str:
    r"""Normalize the spelling of an answer, so that most equal answers become equal strings.

    Removes formatting (``$``, ``\left``, ``\,``, ``\text{...}``, redundant spaces), trailing
    periods, degree and percent signs, and the variable of ``x = 5``. Replaces ``\dfrac`` by
    ``\frac``. Removes thousands commas, plus signs and redundant zeros of numbers (``007``,
    ``57.0``). Lists and tuples are not changed. Normalize gold answers too. The function is
    idempotent.

    Answers "No", "ERR" and "Yes" become ``no``, ``err`` and ``yes``, because ``No`` and ``ERR`` are
    null answers; so do not normalize null answers. An answer that is only formatting becomes the
    null answer ``""``.

    Never raises an error. Lone surrogates, which are not allowed in a store, become U+FFFD.
    """
    if _PLAIN.fullmatch(answer):
        return answer
    if not answer.isascii():
        answer = _LONE_SURROGATE.sub("\ufffd", answer)
    tokens = _tokens(answer)
    _remove_units(tokens)
    _remove_variable(tokens)
    text = "".join(tokens)
    number = _DECIMAL.fullmatch(text)
    if number:
        return _decimal(*number.groups(default=""))
    lower = text.lower()
    return lower if lower in _WORDS else text


def _tokens(answer: str) -> list[str]:
    """Tokenize an answer like LaTeX, without formatting; no two tokens join to another token.

    Later steps work on these tokens in one pass, which makes normalization idempotent and its time
    linear.
    """
    tokens: list[str] = []
    removed: list[bool] = []  # for each open brace, whether it was removed with its command
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
            removed.append(wrapping)
            if wrapping:
                wrapping = False
                continue
        elif token == "}":
            if removed and removed.pop():
                wrapping = False
                continue
            if tokens[-2:] == ["{", ","] and not spaced:  # a comma within a number in LaTeX
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
    """Whether two tokens would become one word without a space."""
    border = token[-1] + following[0]
    return border.isascii() and border.isalpha()


def _remove_units(tokens: list[str]) -> None:
    """Remove trailing periods, percent signs and degrees."""
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


def _remove_variable(tokens: list[str]) -> None:
    """Remove the variable of ``x = 5``, but not those of ``x = 1, y = 2`` and ``x = y = 5``."""
    if tokens.count("=") != 1:
        return
    at = tokens.index("=")
    value = at + 2 if tokens[at + 1 : at + 2] == [" "] else at + 1
    if value >= len(tokens) or tokens[value] == ">" or at > 9:
        return
    if _VARIABLE.fullmatch("".join(tokens[:at])) and _TRIGONOMETRIC.isdisjoint(tokens[:at]):
        del tokens[:value]


def _decimal(sign: str, whole: str, fraction: str) -> str:
    """Format a number without redundant characters."""
    whole = whole.replace(",", "").lstrip("0") or "0"
    fraction = fraction.rstrip("0")
    value = f"{whole}.{fraction}" if fraction else whole
    return f"-{value}" if sign == "-" and value != "0" else value
