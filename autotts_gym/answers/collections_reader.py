r"""Reading of lists, sets, tuples, intervals, unions, ratios, matrices, and their elements."""

from __future__ import annotations

import re
from typing import Final

from autotts_gym.answers import intervals, relations
from autotts_gym.answers.expressions import parse_expression
from autotts_gym.answers.nodes import NotAnExpressionError, infinity_sign
from autotts_gym.answers.plus_minus import read_plus_minus
from autotts_gym.answers.prose import is_prose
from autotts_gym.answers.quantities import read_quantity
from autotts_gym.answers.token_lists import Tokens, encloses, split, strip_braces
from autotts_gym.answers.tokens import Token, join
from autotts_gym.answers.values import (
    Answer,
    Choice,
    Interval,
    Intervals,
    Matrix,
    Named,
    Quantity,
    Ratio,
    Sequence,
    Text,
)
from autotts_gym.answers.words import prose_form

_MAX_DEPTH: Final = 12
_MAX_ITEMS: Final = 1000
_REALS: Final = frozenset(
    (
        "all real number",
        "all reals",
        "all real",
        "real number",
        "reals",
        "any real number",
        "all real x",
        "real",
        "all real numbers",
    )
)
_TRAILING: Final = frozenset((".", ",", ";", ":", "?"))


def read(tokens: Tokens, depth: int = 0) -> Answer:
    """Read an answer from its tokens.

    Raises:
        NotAnExpressionError: no form reads them.
    """
    if depth > _MAX_DEPTH:
        raise NotAnExpressionError("nested too deeply")
    tokens = _trim(tokens)
    if not tokens:
        raise NotAnExpressionError("nothing")
    simple = _read_word(tokens)
    if simple is not None:
        return simple
    for reader in (_read_separated, _read_relation, _read_union, _read_bracketed, _read_ratio):
        answer = reader(tokens, depth)
        if answer is not None:
            return answer
    if is_prose(tokens):
        return Text(prose_form(join(list(tokens))), prose=True)
    return read_plus_minus(read_quantity(tokens))


def read_item(tokens: Tokens, depth: int) -> Answer:
    """Read an element, which may also be prose or a choice."""
    tokens = _trim(tokens)
    if len(tokens) == 1 and re.fullmatch("[A-J]", tokens[0].text):
        return Choice(tokens[0].text)
    try:
        return read(tokens, depth + 1)
    except NotAnExpressionError:
        if not tokens:
            raise
        words = all(t.kind == "word" or t.text in ("-", "'") for t in tokens)
        if words and (len(tokens) > 1 or len(tokens[0].text) > 2 or tokens[0].prose):
            return Text(prose_form(join(list(tokens))), prose=True)
        if tokens[0].text == r"\ldots" and len(tokens) == 1:
            return Text(r"\ldots", prose=False)
        raise


def _read_relation(tokens: Tokens, depth: int) -> Answer | None:
    return relations.read(tokens, depth, relations.SideReaders(read, read_item))


def _trim(tokens: Tokens) -> Tokens:
    """Remove punctuation behind, and signs of equality and approximation before, an answer."""
    tokens = strip_braces(tokens)
    while tokens and tokens[-1].text in (*_TRAILING, "\\\\"):
        dots = [token.text for token in tokens[-3:]] == [".", ".", "."]
        if dots:
            break
        tokens = tokens[:-1]
    while tokens and tokens[0].text in ("=", r"\approx", ":", "~", r"\therefore", r"\Rightarrow"):
        tokens = tokens[1:]
    return strip_braces(tokens)


def _read_word(tokens: Tokens) -> Answer | None:
    joined = join(list(tokens))
    if (
        prose_form(joined) in _REALS
        and all(t.kind == "word" for t in tokens)
        and (len(tokens) > 1 or joined.casefold() == "reals")
    ):
        return intervals.REALS
    if joined in (r"\mathbb{R}", r"\R", r"\Re"):
        return intervals.REALS
    if re.fullmatch(r"\\mathbb\{?[A-Z]\}?(?:\^?[-+*]|_\{?[-+>0-9=]*\}?)?", joined):
        return Text(joined.replace("{", "").replace("}", ""), prose=False)
    if joined == r"\emptyset" or prose_form(joined) in ("empty set", "null set"):
        return Sequence("set", ())
    return None


# --- lists ---------------------------------------------------------------------------------------


def _is_separator(token: Token) -> bool:
    return token.text in (",", ";", "and", "or", r"\or", r"\and", "&") or (
        token.kind == "word" and token.text in ("和", "或", "AND", "OR", "与", "及")
    )


def _read_separated(tokens: Tokens, depth: int) -> Answer | None:
    parts, separators = split(tokens, _is_separator)
    filled = [part for part in parts if _trim(part)]
    if len(parts) == 1:
        return None
    if len(filled) == 1:
        return read(filled[0], depth + 1)
    if not filled or len(filled) > _MAX_ITEMS:
        raise NotAnExpressionError("an empty list")
    words = [t for t in tokens if t.kind == "word" and len(t.text) > 3]
    items = [read_item(part, depth) for part in filled]
    if any(isinstance(item, Text) and item.prose and " " in item.form for item in items) or (
        all(isinstance(item, Text) and item.prose for item in items)
        and any(s.text in (",", "or") for s in separators)
        and len(words) > 3 * len(items)
    ):
        raise NotAnExpressionError("a sentence")
    either = all(s.text in ("or", r"\or", "OR", "或") for s in separators)
    return _combine(_share_unit(items), either)


def _share_unit(items: list[Answer]) -> list[Answer]:
    """``3, 4 cm`` means ``3 cm, 4 cm``: the unit of the last holds for all."""
    last = items[-1]
    if not isinstance(last, Quantity) or last.unit is None:
        return items
    if all(isinstance(item, Quantity) and item.unit is None for item in items[:-1]):
        return [
            Quantity(item.node, item.tight, last.unit) if isinstance(item, Quantity) else item
            for item in items
        ]
    return items


def _combine(items: list[Answer], either: bool) -> Answer:
    names = {item.name if isinstance(item, Named) else None for item in items}
    values = [item.value if isinstance(item, Named) else item for item in items]
    if all(isinstance(value, Intervals) for value in values) and len(names) == 1:
        sets = [value for value in values if isinstance(value, Intervals)]
        joined: Answer = intervals.union(sets) if either else intervals.both_or_union(sets)
    elif len(names) == 1 or (
        len(names) == 2
        and None in names
        and isinstance(items[0], Named)
        and not any(isinstance(item, Named) for item in items[1:])
    ):
        joined = Sequence("list", tuple(_flatten(values)))
    elif None not in names and len(names) == len(items):
        return Sequence("assignments", tuple(items))
    else:
        return Sequence("list", tuple(items))
    named = [item.name for item in items if isinstance(item, Named)]
    return Named(named[0], joined) if named else joined


def _flatten(values: list[Answer]) -> list[Answer]:
    flat: list[Answer] = []
    for value in values:
        if isinstance(value, Sequence) and value.kind == "list":
            flat += value.items
        else:
            flat.append(value)
    return flat


# --- brackets ------------------------------------------------------------------------------------


def _read_union(tokens: Tokens, depth: int) -> Answer | None:
    parts, signs = split(
        tokens, lambda t: t.text in (r"\cup", r"\setminus") or (t.text == "U" and t.kind == "word")
    )
    if len(parts) == 1:
        return None
    sets = []
    for part in parts:
        value = read(part, depth + 1)
        found = intervals.as_intervals(value)
        if found is None:
            raise NotAnExpressionError("a union of something else than intervals")
        sets.append(found)
    result = sets[0]
    for sign, other in zip(signs, sets[1:], strict=True):
        if sign.text == r"\setminus":
            result = intervals.without(result, other)
        else:
            result = intervals.union([result, other])
    return result


def _read_bracketed(tokens: Tokens, depth: int) -> Answer | None:
    first, last = tokens[0].text, tokens[-1].text
    if first == r"\begin":
        return _read_matrix(tokens, depth)
    if first == r"\{" and last == r"\}" and encloses(tokens):
        return _read_set(tokens[1:-1], depth)
    ends = first + last
    french = ends in ("][", "]]", "[[") and len(tokens) > 4
    if ends not in ("()", "[]", "(]", "[)") and not french:
        return None
    if ends in ("()", "[]") and not encloses(tokens):
        return None
    parts, _ = split(tokens[1:-1], lambda t: t.text in (",", ";"))
    if len(parts) == 1:
        if ends == "()" or (ends == "[]" and len(tokens) > 2):
            try:
                return (
                    read(parts[0], depth + 1)
                    if ends == "()"
                    else Sequence("square", (read_item(parts[0], depth),))
                )
            except NotAnExpressionError:
                return None
        return Sequence("square", ()) if ends == "[]" else None
    if not parts[-1]:
        parts = parts[:-1]
    items = tuple(read_item(part, depth) for part in parts)
    if len(items) == 2 and (french or ends in ("(]", "[)") or _has_infinity(items)):
        return _interval(items, first == "[", last == "]")
    if (
        ends == "[]"
        and items
        and all(isinstance(i, Sequence) and i.kind == "square" and i.items for i in items)
    ):
        rows = [i.items for i in items if isinstance(i, Sequence)]
        if len({len(row) for row in rows}) == 1:
            return Matrix(tuple(rows))
    if ends not in ("()", "[]"):
        raise NotAnExpressionError("different brackets")
    return Sequence("tuple" if ends == "()" else "square", items)


def _has_infinity(items: tuple[Answer, ...]) -> bool:
    return any(isinstance(i, Quantity) and infinity_sign(i.node) for i in items)


def _interval(items: tuple[Answer, ...], low_closed: bool, high_closed: bool) -> Intervals:
    nodes = []
    for item in items:
        if not isinstance(item, Quantity):
            raise NotAnExpressionError("an end of an interval")
        nodes.append(None if infinity_sign(item.node) else item.node)
    low, high = nodes
    return Intervals(
        (Interval(low, high, low_closed and low is not None, high_closed and high is not None),)
    )


def _read_set(tokens: Tokens, depth: int) -> Answer:
    condition, _ = split_condition(tokens)
    if condition is not None:
        named = read(condition, depth + 1)
        value = named.value if isinstance(named, Named) else named
        if not isinstance(value, Intervals):
            raise NotAnExpressionError("a set with a condition")
        return value
    if not tokens:
        return Sequence("set", ())
    parts, _ = split(tokens, lambda t: t.text in (",", ";"))
    items = _flatten([read_item(part, depth) for part in parts])
    return Sequence("set", tuple(items))


def split_condition(tokens: Tokens) -> tuple[Tokens | None, str]:
    r"""The condition of ``x \mid x>3`` and its variable; None if there is none."""
    for at, token in enumerate(tokens):
        if token.text in ("|", ":"):
            left = join(list(tokens[:at]))
            match = re.fullmatch(r"([A-Za-z])(?:\\in\\(?:mathbb\{R\}|R))?", left)
            if match:
                return tokens[at + 1 :], match[1]
            break
    return None, ""


def _read_matrix(tokens: Tokens, depth: int) -> Answer | None:
    names = [token.text for token in tokens[2:3]]
    if len(tokens) < 8 or tokens[-4].text != r"\end" or tokens[-2].text != tokens[2].text:
        raise NotAnExpressionError("an environment")
    body = tokens[4:-4]
    if names[0] == "cases" or ("matrix" not in names[0] and names[0] != "array"):
        raise NotAnExpressionError("an environment")
    if names[0] == "array" and body and body[0].text == "{":
        end = next(at for at, token in enumerate(body) if token.text == "}")
        body = body[end + 1 :]
    rows, _ = split(body, lambda t: t.text in ("\\\\", r"\cr"))
    cells = [split(row, lambda t: t.text == "&")[0] for row in rows if row]
    if len({len(row) for row in cells}) != 1 or names[0] == "vmatrix":
        raise NotAnExpressionError("a matrix with rows of different lengths")
    return Matrix(tuple(tuple(read_item(cell, depth) for cell in row) for row in cells))


def _read_ratio(tokens: Tokens, depth: int) -> Answer | None:
    parts, _ = split(tokens, lambda t: t.text == ":")
    if not 2 <= len(parts) <= 10:
        return None
    nodes = []
    for part in parts:
        loose, tight = parse_expression(part)
        if loose != tight:
            raise NotAnExpressionError("an ambiguous ratio")
        nodes.append(loose)
    return Ratio(tuple(nodes))
