"""Fields of JSON objects from other programs, checked while they are read."""

from __future__ import annotations

import math
import reprlib
from typing import Any, Final, TypeVar

from autotts_gym.traces.store import TraceError

_T = TypeVar("_T")

_KINDS: Final[dict[type, str]] = {
    str: "a string",
    list: "a list",
    dict: "an object",
    int: "an integer",
    bool: "true or false",
}


def required(value: object, path: str, kind: type[_T]) -> _T:
    """The field at ``path``, such as ``response.body``, of a JSON object.

    Raises:
        TraceError: it is missing, or of another type; the message names the path.
    """
    found = optional(value, path, kind)
    if found is None:
        raise TraceError(f"lacks {path!r}, which must be {_KINDS[kind]}")
    return found


def optional(value: object, path: str, kind: type[_T]) -> _T | None:
    """The field at ``path``; None if it is missing or null.

    Raises:
        TraceError: it, or an object on the way, is of another type.
    """
    names = path.split(".")
    current: Any = value
    for depth, name in enumerate(names):
        if current is None:
            return None
        if not isinstance(current, dict):
            place = repr(".".join(names[:depth])) if depth else "it"
            raise TraceError(f"{place} must be an object, got {reprlib.repr(current)}")
        current = current.get(name)
    if current is None:
        return None
    if not isinstance(current, kind) or (kind is int and isinstance(current, bool)):
        raise TraceError(f"{path!r} must be {_KINDS[kind]}, got {reprlib.repr(current)}")
    return current


def objects(values: list[Any], path: str) -> list[dict[str, Any]]:
    """A list whose entries must be objects.

    Raises:
        TraceError: an entry is not; the message has its index.
    """
    for index, value in enumerate(values):
        if not isinstance(value, dict):
            raise TraceError(f"{path}[{index}] must be an object, got {reprlib.repr(value)}")
    return values


def token_count(value: object, path: str) -> int | None:
    """A number of tokens, which may be a float without a fraction; None if it is None.

    Raises:
        TraceError: it is not a count.
    """
    if value is None:
        return None
    whole = isinstance(value, float) and math.isfinite(value) and value == int(value)
    if whole or (isinstance(value, int) and not isinstance(value, bool)):
        count = int(value)  # type: ignore[call-overload]
        if 0 <= count < 2**31:
            return int(count)
    raise TraceError(f"{path!r} must be a number of tokens below 2**31, got {reprlib.repr(value)}")


def scalar_text(value: object, path: str) -> str:
    """A gold answer or an id as text: a string, a number or a truth value.

    Raises:
        TraceError: it is none of these.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return str(value)
    raise TraceError(f"{path!r} must be a string or a number, got {reprlib.repr(value)}")
