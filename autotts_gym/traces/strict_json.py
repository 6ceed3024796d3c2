"""Strict parsing of JSON from other sources; errors are ``TraceError``."""

from __future__ import annotations

import functools
import json
from collections import Counter
from typing import Any, Final

from autotts_gym.traces.exceptions import TraceError

#: Python parses integers of this length whatever ``sys.set_int_max_str_digits`` says.
_MAX_DIGITS: Final = 640


def parse(text: str, advice: str, *, constants: bool = False) -> Any:
    """Parse a JSON text.

    Args:
        text: the text.
        advice: end of the message for an integer with too many digits.
        constants: accept ``NaN``, ``Infinity`` and ``-Infinity``, which Python writes.

    Raises:
        TraceError: an integer has too many digits, a constant such as ``NaN`` is not JSON, or an
            object has a key twice.
        json.JSONDecodeError: the text is not JSON.
    """
    return json.loads(
        text,
        parse_int=functools.partial(_parse_integer, advice),
        parse_constant=float if constants else _refuse_constant,
        object_pairs_hook=_unique_keys,
    )


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        counts = Counter(key for key, _ in pairs)
        raise TraceError(f"an object has the key {counts.most_common(1)[0][0]!r:.80} twice")
    return entries


def _parse_integer(advice: str, digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        shown = f"{digits[:8]}..."
        raise TraceError(f"an integer of {len(digits)} digits ({shown}); {advice}")
    return int(digits)


def _refuse_constant(constant: str) -> None:
    raise TraceError(f"malformed JSON: {constant} is not a JSON value")
