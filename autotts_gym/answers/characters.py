r"""One spelling for characters: digits of every script, signs, spaces and invisible characters.

After :func:`unify_characters`, digits are ASCII, mathematical signs are ASCII or LaTeX commands,
and the punctuation of Chinese, Arabic and full-width text is ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_SIGNS: Final = {
    **dict.fromkeys("−–‐‑‒﹣－⁻", "-"),
    **dict.fromkeys("·⋅∙•∗", r" \cdot "),
    "×": r" \times ",
    "✕": r" \times ",
    "÷": "/",
    "∕": "/",
    "⁄": "/",
    "π": r" \pi ",
    "∞": r" \infty ",
    "≤": r" \le ",
    "⩽": r" \le ",
    "≥": r" \ge ",
    "⩾": r" \ge ",
    "≠": r" \ne ",
    "≈": r" \approx ",
    "≃": r" \approx ",
    "≅": r" \approx ",
    "∪": r" \cup ",
    "∩": r" \cap ",
    "∖": r" \setminus ",
    "∈": r" \in ",
    "∅": r" \emptyset ",
    "±": r" \pm ",
    "∓": r" \mp ",
    "∠": r" \angle ",
    "△": r" \triangle ",
    "∑": r" \sum ",
    "∏": r" \prod ",
    "∫": r" \int ",
    "°": r"^{\circ}",
    "º": r"^{\circ}",
    "℃": r"^{\circ} C",
    "℉": r"^{\circ} F",
    "′": "'",
    "’": "'",
    "‘": "'",
    "″": "''",
    "“": '"',
    "”": '"',
    "…": r" \ldots ",
    "⋯": r" \ldots ",
    "ℝ": r" \mathbb{R} ",
    "ℤ": r" \mathbb{Z} ",
    "ℕ": r" \mathbb{N} ",
    "ℚ": r" \mathbb{Q} ",
    "ℂ": r" \mathbb{C} ",
    "⌊": r" \lfloor ",
    "⌋": r" \rfloor ",
    "⌈": r" \lceil ",
    "⌉": r" \rceil ",
    "⟨": "(",
    "⟩": ")",
    "∶": ":",
    "、": ",",
    "。": ".",
    "，": ",",
    "．": ".",
    "：": ":",
    "；": ";",
    "（": "(",
    "）": ")",
    "【": "[",
    "】": "]",
    "،": ",",
    "؛": ";",
    "٫": ".",
    "٬": ",",
    "٪": "%",
    "～": "~",
    "￥": "¥",
    "＄": r"\$",
    "\t": " ",
    "\n": " ",
    "\r": " ",
}
_GREEK: Final = {
    unicodedata.lookup(f"GREEK {case} LETTER {unicode_name}"): f" \\{command} "
    for case, change in (("SMALL", str.lower), ("CAPITAL", str.capitalize))
    for unicode_name in (
        *("ALPHA", "BETA", "GAMMA", "DELTA", "EPSILON", "ZETA", "ETA", "THETA", "LAMDA", "MU"),
        *("NU", "XI", "RHO", "SIGMA", "TAU", "PHI", "CHI", "PSI", "OMEGA"),
    )
    for command in (change(unicode_name.replace("LAMDA", "LAMBDA")),)
}
_SUPERSCRIPTS: Final = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿⁱ", "0123456789+-ni", strict=True))
_SUBSCRIPTS: Final = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋", "0123456789+-", strict=True))
_RAISED: Final = re.compile(f"[{''.join(_SUPERSCRIPTS)}]+")
_LOWERED: Final = re.compile(f"[{''.join(_SUBSCRIPTS)}]+")
_ROOT: Final = re.compile(r"([√∛∜])\s*(?:([0-9]+(?:\.[0-9]+)?|[A-Za-z])|(\()|(\{)|)")
_ROOTS: Final = {"√": r"\sqrt", "∛": r"\sqrt[3]", "∜": r"\sqrt[4]"}


def unify_characters(text: str) -> str:
    """Return the text in one spelling of characters; see this module. The time is linear."""
    if text.isascii():
        return text.translate(_ASCII_SPACES)
    text = _RAISED.sub(lambda m: f"^{{{''.join(_SUPERSCRIPTS[c] for c in m[0])}}}", text)
    text = _LOWERED.sub(lambda m: f"_{{{''.join(_SUBSCRIPTS[c] for c in m[0])}}}", text)
    text = "".join(map(_unify, text))
    return _ROOT.sub(_write_root, text)


_ASCII_SPACES: Final = str.maketrans({"\t": " ", "\n": " ", "\r": " ", "\f": " ", "\v": " "})


def _write_root(match: re.Match[str]) -> str:
    root = _ROOTS[match[1]]
    if match[2]:
        return f"{root}{{{match[2]}}}"
    return f"{root}{match[3] or match[4] or ' '}"


def _unify(char: str) -> str:
    if char in _SIGNS:
        return _SIGNS[char]
    if char.isascii() or char in _ROOTS:
        return char
    if char in _GREEK:
        return _GREEK[char]
    category = unicodedata.category(char)
    if category == "Nd":
        return str(unicodedata.decimal(char))
    if category in ("Cf", "Cc", "Mn") or char == "\ufe0f":
        return "" if category != "Mn" else char
    if category in ("Zs", "Zl", "Zp"):
        return " "
    if category == "Cs":
        return "\ufffd"
    if category == "No":
        fraction = unicodedata.normalize("NFKC", char).partition("\u2044")
        if fraction[1] and fraction[0].isdigit() and fraction[2].isdigit():
            return f" \\frac{{{fraction[0]}}}{{{fraction[2]}}}"
    compatible = unicodedata.normalize("NFKC", char)
    return compatible if compatible.isascii() else char
