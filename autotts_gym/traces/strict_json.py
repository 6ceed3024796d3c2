"""JSON as other people's files hold it, read strictly: errors are ``TraceError``."""

from __future__ import annotations

import functools
import json
from typing import Any, Final

from autotts_gym.traces.store import TraceError

#: Digits that Python reads whatever ``sys.set_int_max_str_digits`` says.
_MOST_DIGITS: Final = 640


def parse(text: str, advice: str) -> Any:
    """The value of a JSON text.

    Args:
        text: the text.
        advice: what is said of an integer that is too long to be one.

    Raises:
        TraceError: an integer is too long, or there is a constant that JSON does not have.
        json.JSONDecodeError: it is no JSON.
    """
    return json.loads(text, parse_int=functools.partial(_integer, advice), parse_constant=_refuse)


def _integer(advice: str, digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        shown = f"{digits[:8]}..."
        raise TraceError(f"an integer of {len(digits)} digits ({shown}); {advice}")
    return int(digits)


def _refuse(constant: str) -> None:
    raise TraceError(f"malformed JSON: {constant} is not a JSON value")
