r"""Numbers and expressions with units: ``5\text{ cm}``, ``\$5 million``, ``5 apples``."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from typing import Final

from autotts_gym.answers.expressions import parse_expression
from autotts_gym.answers.nodes import FUNCTIONS, GREEK, Node, NotAnExpressionError
from autotts_gym.answers.token_lists import Tokens, encloses, strip_braces
from autotts_gym.answers.tokens import Token
from autotts_gym.answers.units import (
    CURRENCY_CODES,
    CURRENCY_SIGNS,
    NO_UNIT,
    UNITS,
    Unit,
    counted,
)
from autotts_gym.answers.values import Quantity
from autotts_gym.answers.word_sets import word_set
from autotts_gym.answers.words import MAGNITUDES

#: Words after a number that make it another answer than the number with a unit.
_NOT_UNITS: Final = word_set(
    """plus minus to and or choose squared cubed over by mod modulo divided multiplied half
    third thirds quarter quarters halves if when where is are was for with but not no
    root factorial than then except unless between through versus vs from less hundredth
    tenths tenth hundredths fifths fourths sixths sevenths eighths ninths"""
)
#: Things of three letters; other three letters may be a product.
_SHORT_NOUNS: Final = word_set(
    """ant bag bee box boy bus can car cat cow cup day dog egg fan hat hen ice jar job key men mug
    net oak one pea pen pie pig pin pot row set sum tie tin ton toy van way win"""
)
_FUNCTION_OF_LETTERS: Final = re.compile(
    r"(?:sin|cos|tan|cot|sec|csc|log|exp|sqrt|ln|pi)[a-z]{1,2}|x[a-z]*x"
)
_TRIGONOMETRIC: Final = word_set("sin cos tan cot sec csc")


def read_quantity(tokens: Tokens) -> Quantity:
    """Read an expression with or without a unit.

    Raises:
        NotAnExpressionError: the tokens are something else.
    """
    tokens = strip_braces(tokens)
    if not tokens:
        raise NotAnExpressionError("nothing")
    tokens, currency = _take_currency(_write_unit_fraction(tokens))
    compound = _read_compound(tokens) if currency is None else None
    if compound is not None:
        return compound
    for cut in _cuts(tokens):
        unit = _read_unit(tokens[cut:], plain=_is_plain(tokens[:cut]))
        if unit is None:
            continue
        try:
            node, tight = _parse_with_magnitude(tokens[:cut])
        except NotAnExpressionError:
            continue
        if currency is not None and unit not in (NO_UNIT, currency):
            raise NotAnExpressionError("two units")
        return Quantity(node, tight, currency or unit)
    node, tight = _parse_with_magnitude(tokens)
    return _with_degrees(Quantity(node, tight, currency))


def _write_unit_fraction(tokens: Tokens) -> Tokens:
    r"""Write ``5\ \frac{m}{s}`` as ``5 m/s``."""
    for at, token in enumerate(tokens):
        rest = tokens[at + 1 :]
        if token.text != r"\frac" or not at or not _is_plain(tokens[:at]) or len(rest) < 6:
            continue
        parts = [[replace(part[0], spaced=True), *part[1:]] for part in _braced(rest)]
        if len(parts) != 2 or not all(_read_known(part, plain=True) for part in parts):
            return tokens
        if not (token.spaced or parts[0][0].prose):
            return tokens
        slash = Token("sign", "/")
        return [*tokens[:at], *parts[0], slash, *parts[1]]
    return tokens


def _braced(tokens: Tokens) -> list[Tokens]:
    """The contents of the two braces that tokens consist of; an empty list for other tokens."""
    for end in range(2, len(tokens) - 2):
        first, second = tokens[:end], tokens[end:]
        if all(part[0].text == "{" and encloses(part) for part in (first, second)):
            return [first[1:-1], second[1:-1]]
    return []


def _take_currency(tokens: Tokens) -> tuple[Tokens, Unit | None]:
    """Remove a sign of currency before or behind the number."""
    signs = [t for t in tokens if t.text in CURRENCY_SIGNS]
    if len(signs) == 1:
        at = tokens.index(signs[0])
        rest = [*tokens[:at], *tokens[at + 1 :]]
        if at and tokens[at - 1].text in ("US", "AU", "CA", "HK"):
            prefix = tokens[at - 1].text
            unit = UNITS["$"] if prefix == "US" else Unit(((f"{prefix}$", 1),))
            return [*tokens[: at - 1], *tokens[at + 1 :]], unit
        if at <= 1 or at == len(tokens) - 1:
            return rest, UNITS[signs[0].text.lstrip("\\")]
    if (
        len(tokens) > 1
        and tokens[0].text in CURRENCY_CODES
        and tokens[1].kind in ("number", "sign")
    ):
        skip = 1 + (tokens[1].text == ".")
        return tokens[skip:], UNITS[tokens[0].text]
    return tokens, None


def _cuts(tokens: Tokens) -> list[int]:
    """Positions at which a unit may start, from the left."""
    return [
        at
        for at in range(1, len(tokens))
        if tokens[at].kind == "word"
        or tokens[at].text in ("¢", "°", "'", "''", '"', "€", "£", r"\mu", r"\Omega", "[", "(")
    ]


def _is_plain(tokens: Tokens) -> bool:
    return all(t.kind == "number" or t.text in ("-", "+", "/") for t in tokens)


def _parse_with_magnitude(tokens: Tokens) -> tuple[Node, Node]:
    """Parse an expression that a magnitude may follow: ``5 million``."""
    factor = 1
    while len(tokens) > 1 and tokens[-1].kind == "word":
        magnitude = MAGNITUDES.get(tokens[-1].text.casefold())
        if magnitude is None:
            break
        factor *= magnitude
        tokens = tokens[:-1]
    loose, tight = parse_expression(tokens)
    if factor == 1:
        return loose, tight
    scale = Node("number", value=Fraction(factor))
    if loose.kind == "number":
        scaled = replace(loose, value=loose.value * factor)
        return scaled, scaled
    return Node("multiply", (loose, scale)), Node("multiply", (tight, scale))


def _read_compound(tokens: Tokens) -> Quantity | None:
    """``3 hours 30 minutes``: a sum of quantities of one dimension."""
    starts = [
        at
        for at, token in enumerate(tokens)
        if token.kind == "number"
        and (at == 0 or tokens[at - 1].kind == "word" or tokens[at - 1].text in ("'", ",", "and"))
    ]
    if len(starts) < 2 or starts[0] != 0:
        return None
    parts = []
    for start, end in zip(starts, [*starts[1:], len(tokens)], strict=True):
        part = list(tokens[start:end])
        while part and part[-1].text in (",", "and"):
            part.pop()
        if len(part) < 2:
            return None
        unit = _read_unit(part[1:], plain=True)
        if unit is None or unit == NO_UNIT or unit.dimension[0][0].startswith("["):
            return None
        parts.append((parse_expression(part[:1])[0].value, unit))
    if len({unit.dimension for _, unit in parts}) > 1:
        return None
    total = sum((value * unit.factor for value, unit in parts), Fraction(0))
    node = Node("number", value=total / parts[-1][1].factor)
    return Quantity(node, node, parts[-1][1])


def _with_degrees(quantity: Quantity) -> Quantity:
    """Take degrees outside of trigonometric functions for a unit."""
    node, found = _strip_degrees(quantity.node)
    if not found:
        return quantity
    tight, _ = _strip_degrees(quantity.tight)
    return Quantity(node, tight, quantity.unit or UNITS["deg"])


def _strip_degrees(node: Node) -> tuple[Node, bool]:
    if node.kind == "call" and node.name == "degrees":
        return node.children[0], True
    if node.kind == "call" and node.name in _TRIGONOMETRIC:
        return node, False
    stripped = [_strip_degrees(child) for child in node.children]
    if not any(found for _, found in stripped):
        return node, False
    return replace(node, children=tuple(child for child, _ in stripped)), True


# --- units ---------------------------------------------------------------------------------------


def _read_unit(tokens: Tokens, plain: bool) -> Unit | None:
    """Read all tokens as a unit; None if they are none.

    Args:
        tokens: the tokens.
        plain: whether a plain number stands before them: then ``5 m`` has a unit, as
            ``x m`` has not.
    """
    if tokens and tokens[0].text in ("(", "[") and tokens[-1].text in (")", "]"):
        bracket, *inside = tokens[:-1]
        tokens = [replace(inside[0], spaced=bracket.spaced), *inside[1:]] if inside else []
    if tokens and tokens[-1].text == ".":
        tokens = tokens[:-1]
    if not tokens:
        return None
    if tokens[0].text.casefold() in MAGNITUDES:
        return None
    known = _read_known(tokens, plain)
    if known is not None:
        return known
    return _read_counted(tokens)


def _read_known(tokens: Tokens, plain: bool) -> Unit | None:
    unit, power, at, next_power = NO_UNIT, 1, 0, 1
    while at < len(tokens):
        token = tokens[at]
        text = token.text
        if text in ("/", "per", "p") and at:
            power = -1
            at += 1
            continue
        if text in ("*", "-") and at:
            at += 1
            continue
        if text.casefold() in ("square", "sq", "cubic", "cu") and at + 1 < len(tokens):
            next_power = 2 if text.casefold().startswith("sq") else 3
            at += 1
            if tokens[at].text == ".":
                at += 1
            continue
        factor = _unit_word(token, plain, at)
        if factor is None:
            return None
        at += 1
        exponent, at = _unit_exponent(tokens, at)
        if exponent is None:
            return None
        unit = unit.times(factor, power * next_power * exponent)
        next_power = 1
    return None if unit == NO_UNIT else unit


def _unit_word(token: Token, plain: bool, at: int) -> Unit | None:
    text = token.text
    if text.casefold() in ("unit", "units"):
        return counted(["unit"])
    unit = UNITS.get(text) or (UNITS.get(text.casefold()) if len(text) > 3 else None)
    if unit is None or text in FUNCTIONS:
        return None
    if len(text) > 1 and (len(text) > 2 or token.spaced or token.prose or plain):
        return unit
    if not text.isascii() or not text.isalpha():
        return unit
    return unit if token.prose or at or (plain and token.spaced) else None


def _unit_exponent(tokens: Tokens, at: int) -> tuple[int | None, int]:
    if at < len(tokens) and tokens[at].text == "^":
        rest = [token.text for token in tokens[at + 1 : at + 6]]
        match = re.match(r"(\{?)(-?[1-4])(\}?)", "".join(rest))
        if not match or bool(match[1]) != bool(match[3]):
            return None, at
        return int(match[2]), at + 1 + len(match[1]) + len(match[2]) + len(match[3])
    return 1, at


def _read_counted(tokens: Tokens) -> Unit | None:
    """A counted thing: words that are no operators."""
    words: list[str] = []
    for token in tokens:
        text = token.text
        if text == "-" and words:
            continue
        if token.kind != "word" or text.casefold() in _NOT_UNITS or text in MAGNITUDES:
            return None
        if text in FUNCTIONS or (text in GREEK and not token.prose) or text in ("pi", "infinity"):
            return None
        words.append(text)
    if not words or len(words) > 6:
        return None
    first = tokens[0]
    if not first.text.isascii():
        return UNITS.get(first.text) or counted(words)
    if first.prose and len(first.text) > 1:
        return counted(words)
    # 2abcd and 2 sinx are products.
    if not first.spaced or _FUNCTION_OF_LETTERS.fullmatch(first.text):
        return None
    if len(first.text) > 3 or first.text.casefold() in _SHORT_NOUNS:
        return counted(words)
    return None
