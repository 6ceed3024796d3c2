"""Strict parsing of JSON from other sources; errors are ``TraceError``."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

from autotts_gym.traces.exceptions import TraceError

#: Python parses integers of this length whatever ``sys.set_int_max_str_digits`` says.
_MAX_DIGITS: Final = 640


def parse(text: str, advice: str) -> Any:
    """Parse a JSON text.

    Args:
        text: the text.
        advice: end of the message for an integer with too many digits.

    Raises:
        TraceError: an integer has too many digits, or a constant such as ``NaN`` is not JSON.
        json.JSONDecodeError: the text is not JSON.
    """
    return json.loads(
        text, parse_int=functools.partial(_parse_integer, advice), parse_constant=_refuse_constant
    )


def _parse_integer(advice: str, digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        shown = f"{digits[:8]}..."
        raise TraceError(f"an integer of {len(digits)} digits ({shown}); {advice}")
    return int(digits)


def _refuse_constant(constant: str) -> None:
    raise TraceError(f"malformed JSON: {constant} is not a JSON value")
