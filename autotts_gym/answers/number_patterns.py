r"""Numbers in a text, in every script and notation that one number can have.

A match is a whole number with its sign: no digits of ``x2`` or ``H2O``, and not the ``345`` of
``12{,}345`` or the ``2`` of ``\frac{-1}{2}``. A minus between two numbers is no sign.
"""

from __future__ import annotations

import re
from typing import Final

from autotts_gym.answers.matches import pick

# Groups are limited, so that the time for a long list is linear.
_SEPARATOR: Final = r"(?:,|\{,\}|\\!?,(?:\\!)?|\\[;: ]|['_٬，\u00a0\u202f\u2009])"
_WHOLE: Final = (
    rf"(?:\d{{1,3}}(?:{_SEPARATOR}\d{{3}}){{1,9}}+(?!\d|,\d)"
    r"|\d{1,2}(?:,\d{2}){1,6},\d{3}(?!\d|,\d)"
    r"|(?<!\d )\d{1,3}(?: \d{3}){2,9}+(?! ?\d)|\d++)"
)
_DECIMAL: Final = rf"(?:{_WHOLE}(?:[.．٫]\d++)?+|[.．٫]\d++)"
_REPEATING: Final = r"(?:\.?\\(?:overline|bar)\{\d++\}|[.．]{3}|…)?+"
_EXPONENT: Final = (
    r"(?:[eE][-+−]?\d++(?!\w)"
    r"|\s?(?:\\times|×|\\cdot|\*|x)\s?10\s?(?:\^|\*\*)\s?(?:\{\s?[-−]?\d++\s?\}|[-−]?\d++)"
    r"|[⁰¹²³⁴-⁹⁻]++|\s?(?:\^|\*\*)\s?(?:\{\s?[-−]?\d++\s?\}|[-−]?\d++))?+"
)
_FRACTION: Final = (
    r"\\[dtc]?frac\s*+(?:\{\s*+[-−]?\d++\s*+\}\s*+\{\s*+[-−]?\d++\s*+\}|\d\s?\d(?!\d)"
    r"|\d\s?\{\d++\}|\{\d++\}\s?\d)"
)
_VULGAR: Final = "[¼-¾⅐-⅞]"
_MIXED: Final = rf"(?:\s?(?:{_FRACTION}|{_VULGAR})|\s\d++/\d++(?![./\d]))"
_RATIO: Final = r"(?:(?::\d++)++|\s?[/÷]\s?[-−]?\d++(?!\.\d))"
_MAGNITUDE: Final = (
    r"(?:\s?(?:hundred|thousand|million|billion|trillion|dozen)(?![a-z])|\s?[万亿萬億])?+"
)
_CURRENCY: Final = r"(?:\\?\$(?=\s?[-+−.\d])|[€£¥￥₹])"
_MINUS: Final = r"[-+−–—－]"
_NUMBER: Final = re.compile(
    rf"(?:(?<![\w)\]}}%]){_MINUS}(?:(?<![\w)\]}}%]\s{_MINUS})\s)?+)?+{_CURRENCY}?+(?:(?<=[$€£¥￥₹]){_MINUS}{_CURRENCY}?+)?+"
    r"(?<![A-Za-z_^])(?<![\^_]\{)(?<!sqrt\{)(?:"
    r"(?<!\d)\d{4}-\d{2}-\d{2}(?!\d)"
    rf"|(?:(?<![\w.])(?=[.．٫])|(?<!\d)(?<!\d\.)(?=\d)){_DECIMAL}{_REPEATING}"
    rf"(?:{_MIXED}|{_RATIO}|{_EXPONENT}){_MAGNITUDE}"
    rf"|{_FRACTION}|{_VULGAR})"
)


def find(text: str, first: bool) -> tuple[int, int] | None:
    """Start and end of the first or the last number; None if there is none."""
    match = pick(_NUMBER.finditer(text), first)
    return None if match is None else match.span()
