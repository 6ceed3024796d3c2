"""The first or the last match of a pattern."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable


def pick(matches: Iterable[re.Match[str]], first: bool) -> re.Match[str] | None:
    """Return the first or the last match."""
    if first:
        return next(iter(matches), None)
    last = deque(matches, maxlen=1)
    return last[0] if last else None
