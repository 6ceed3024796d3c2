"""Pairs of answers whose truth is known by construction, for hypothesis.

Each strategy draws a value and writes it in one notation, or in two, or draws two different values.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final, NamedTuple

from hypothesis import strategies as st


class KnownPair(NamedTuple):
    """Two answers and whether they are equal."""

    one: str
    other: str
    equal: bool


_ARABIC: Final = str.maketrans("0123456789", "٠١٢٣٤٥٦٧٨٩")
_WIDE: Final = str.maketrans("0123456789.-", "０１２３４５６７８９．－")
_DEVANAGARI: Final = str.maketrans("0123456789", "०१२३४५६७८९")
WRAPPERS: Final = (
    *("{}", "${}$", r"\({}\)", r"\boxed{{{}}}", r"\text{{{}}}", "**{}**", "`{}`", "{}.", " {} "),
    *(
        r"\mathbf{{{}}}",
        r"\left({}\right)",
        r"\displaystyle {}",
        "x = {}",
        r"\textcolor{{red}}{{{}}}",
    ),
    *(r"\textcolor{{red}}{{{}}}", "The answer is {}", r"\fbox{{{}}}", "{{{}}}", r"{}\\", "= {}"),
)


def integer_spellings(value: int) -> list[str]:
    """Notations of an integer."""
    sign, size = ("-" if value < 0 else ""), str(abs(value))
    grouped = f"{abs(value):,}"
    written = [
        *(str(value), f"{value}.0", f"{value}.", f"{sign}0{size}", f"{sign}{grouped}"),
        *(f"{sign}{grouped.replace(',', '{,}')}", f"{sign}{grouped.replace(',', chr(92) + ',')}"),
        *(f"{sign}{grouped.replace(',', ' ')}", f"−{size}" if value < 0 else f"+{size}"),
        *(size.translate(_ARABIC) if value >= 0 else f"–{size}", f"{value}".translate(_WIDE)),
        f"{sign}{size}".translate(_DEVANAGARI),
        *(f"\\frac{{{3 * value}}}{{3}}", f"{2 * value}/2", f"{value}e0", f"({value})"),
        *(f"{value}\\times 10^0", f"{value - 7}+7", f"7 + {value - 7}", f"2*{value} - {value}"),
        *(f"\\sqrt{{{value * value}}}" if value >= 0 else f"-\\sqrt{{{value * value}}}",),
        *(f"0x{value:x}" if value >= 0 else f"-0x{-value:x}", f"{value}^1", f"{value}^{{1}}"),
        *(f"{value}\\cdot 1", f"{sign}{size}_{{10}}", f"{value} \\text{{ apples}}", f"{value} cm"),
    ]
    if value >= 0:
        written += [f"{value:b}_2", f"{value:o}_{{8}}", f"{value:b}_{{2}}", f"0b{value:b}"]
    return written


def fraction_spellings(value: Fraction) -> list[str]:
    """Notations of a fraction that is no integer."""
    n, d = value.numerator, value.denominator
    sign, size = ("-" if n < 0 else ""), abs(n)
    whole, rest = divmod(size, d)
    written = [
        *(
            f"{n}/{d}",
            f"\\frac{{{n}}}{{{d}}}",
            f"\\dfrac{{{n}}}{{{d}}}",
            f"{sign}\\frac{{{size}}}{{{d}}}",
        ),
        *(f"\\frac{{{-n}}}{{{-d}}}", f"{{{n} \\over {d}}}", f"{2 * n}/{2 * d}", f"{n}÷{d}"),
        *(f"\\tfrac{{{5 * n}}}{{{5 * d}}}", f"({n})/({d})", f"{n}*{d}^{{-1}}", f"{n} / {d}"),
    ]
    if whole:
        written += [f"{sign}{whole}\\frac{{{rest}}}{{{d}}}", f"{sign}{whole} {rest}/{d}"]
    reduced = d
    for prime in (2, 5):
        while reduced % prime == 0:
            reduced //= prime
    if reduced == 1:
        places = next(k for k in range(60) if 10**k % d == 0)
        digits = f"{size * 10**places // d:0{places + 1}d}"
        decimal = f"{sign}{digits[:-places]}.{digits[-places:]}"
        percent = value * 100
        written += [decimal, f"{decimal}0", decimal.translate(_WIDE)]
        if percent.denominator == 1:
            written.append(f"{percent.numerator}\\%")
    return written


_SMALL = st.integers(-2000, 2000)
INTEGERS = _SMALL | st.integers(-(10**12), 10**12)
FRACTIONS = st.builds(
    Fraction, st.integers(-500, 500), st.sampled_from([2, 3, 4, 5, 6, 7, 8, 9, 12, 16, 25, 40, 99])
).filter(lambda value: value.denominator > 1)


@st.composite
def number_pairs(draw: st.DrawFn) -> KnownPair:
    """A number in two notations, or two numbers."""
    if draw(st.booleans()):
        one = draw(INTEGERS)
        other = one if draw(st.booleans()) else draw(INTEGERS | st.just(one + 1) | st.just(-one))
        spellings = integer_spellings(one), integer_spellings(other)
        equal = one == other
    else:
        a = draw(FRACTIONS)
        b = a if draw(st.booleans()) else draw(FRACTIONS | st.just(-a) | st.just(1 / a))
        if b.denominator == 1:
            b += Fraction(1, 7)
        spellings = fraction_spellings(a), fraction_spellings(b)
        equal = a == b
    written = [draw(st.sampled_from(texts)) for texts in spellings]
    units = ["apples" in text or "cm" in text for text in written]
    percent = [text.endswith("%") for text in written]
    if all(units) and written[0].endswith("cm") != written[1].endswith("cm"):
        equal = False
    if any(percent) and not all(percent) and not equal:
        # A percent sign may be missing: 50% equals 50.
        return KnownPair(written[0], written[0], True)
    wrapped = [_wrap(draw, text) for text in written]
    return KnownPair(wrapped[0], wrapped[1], equal)


def _wrap(draw: st.DrawFn, text: str) -> str:
    wrapper = draw(st.sampled_from(WRAPPERS))
    if "," in text and wrapper == r"\left({}\right)":
        wrapper = "{}"  # (1,234) is a pair
    plain = not any(char in text for char in "\\_^{ ") and text.isascii()
    if not plain and wrapper.startswith((r"\text{", "`")):
        wrapper = "{}"
    return wrapper.format(text)


@st.composite
def sequence_pairs(draw: st.DrawFn) -> KnownPair:
    """Lists, sets, tuples and intervals with the same or other elements."""
    kind = draw(st.sampled_from(["list", "set", "tuple", "interval"]))
    items = draw(st.lists(_SMALL, min_size=2, max_size=5, unique=True))
    if kind == "interval":
        low, high = sorted(items[:2])
        ends = draw(st.sampled_from(["()", "[]", "(]", "[)"]))
        other_ends = draw(st.sampled_from([ends, "()", "[]", "(]", "[)"]))
        shift = draw(st.sampled_from([0, 0, 1]))
        one = f"{ends[0]}{low}, {high}{ends[1]}"
        signs = [r" \le " if end in "[]" else " < " for end in other_ends]
        other = f"{low}{signs[0]}x{signs[1]}{high + shift}"
        return KnownPair(one, other, ends == other_ends and not shift)
    changed = list(items)
    change = draw(st.sampled_from(["none", "order", "element", "length", "repeat"]))
    if change == "order":
        changed = changed[1:] + changed[:1]
    elif change == "element":
        changed[0] = max(changed) + 1
    elif change == "length":
        changed = [*changed, max(changed) + 1]
    elif change == "repeat":
        changed = [*changed, changed[0]]
    equal = {
        "list": change in ("none", "order"),
        "set": change in ("none", "order", "repeat"),
        "tuple": change == "none",
    }[kind]
    opening, closing = {"list": ("", ""), "set": (r"\{", r"\}"), "tuple": ("(", ")")}[kind]
    spell = st.sampled_from(["{0}", "{0}.0", "{1}/2"])
    texts = [
        opening + ", ".join(draw(spell).format(i, 2 * i) for i in row) + closing
        for row in (items, changed)
    ]
    return KnownPair(texts[0], texts[1], equal)


_COEFFICIENTS = st.integers(-9, 9)


@st.composite
def polynomial_pairs(draw: st.DrawFn) -> KnownPair:
    """A polynomial by its coefficients and by its factors, or another one."""
    a, b, c, d = (draw(_COEFFICIENTS) for _ in range(4))
    change = draw(st.sampled_from([0, 0, 1, -1]))
    name = draw(st.sampled_from(["x", "n", r"\alpha", "t"]))
    other_name = name if draw(st.integers(0, 4)) else draw(st.sampled_from(["X", "m", r"\beta"]))
    times = draw(st.sampled_from(["", "*", r"\cdot "]))
    power = draw(st.sampled_from(["^2", "^{2}", "**2"]))
    one = f"({a}{times}{name} + {b})({c}{times}{name} + {d})"
    two = (
        f"{a * c}{times}{other_name}{power} + {a * d + b * c}{times}{other_name} + {b * d + change}"
    )
    constant = a * c == 0 and a * d + b * c == 0
    return KnownPair(one, two, change == 0 and (name == other_name or constant))


@st.composite
def surd_pairs(draw: st.DrawFn) -> KnownPair:
    r"""``a\sqrt{b}`` and ``\sqrt{a^2 b}``, or other radicands and signs."""
    a, b = draw(st.integers(2, 60)), draw(st.sampled_from([2, 3, 5, 6, 7, 10, 11, 13]))
    change = draw(st.sampled_from([0, 0, 1]))
    root = draw(st.sampled_from([r"\sqrt{{{}}}", "sqrt({})", "√({})", "{}^{{1/2}}", "{}^{{0.5}}"]))
    sign = draw(st.sampled_from(["", "-"]))
    one = f"{sign}{a}{draw(st.sampled_from(['', '*', chr(92) + 'cdot ']))}\\sqrt{{{b}}}"
    return KnownPair(one, sign + root.format(a * a * b + change), not change)


@st.composite
def word_pairs(draw: st.DrawFn) -> KnownPair:
    """Words and letters of choices."""
    letters = "ABCDEFGHIJ"
    if draw(st.booleans()):
        one, other = draw(st.sampled_from(letters)), draw(st.sampled_from(letters))
        forms = ["{}", "({})", "{}.", r"\text{{{}}}", r"\boxed{{{}}}", "**{}**", r"\mathrm{{({})}}"]
        texts = [draw(st.sampled_from(forms)).format(letter) for letter in (one, other)]
        return KnownPair(texts[0], texts[1], one == other)
    words = ["yes", "no", "true", "false", "east", "Monday", "increasing", "no solution", "odd"]
    one, other = draw(st.sampled_from(words)), draw(st.sampled_from(words))
    forms = ["{}", r"\text{{{}}}", "{}.", '"{}"', "**{}**"]
    texts = [draw(st.sampled_from(forms)).format(word) for word in (one, other.upper())]
    return KnownPair(texts[0], texts[1], one == other)


_UNITS = {
    "length": [("cm", 1), ("m", 100), ("km", 100_000)],
    "time": [("seconds", 1), ("minutes", 60), ("hours", 3600)],
    "money": [("cents", 1), ("dollars", 100)],
    "mass": [("g", 1), ("kg", 1000)],
}


@st.composite
def unit_pairs(draw: st.DrawFn) -> KnownPair:
    """Quantities in two units of one dimension, or of two."""
    kinds = [draw(st.sampled_from(sorted(_UNITS))) for _ in range(2)]
    if draw(st.integers(0, 3)):
        kinds[1] = kinds[0]
    units = [draw(st.sampled_from(_UNITS[kind])) for kind in kinds]
    count = draw(st.integers(1, 999))
    other = count * units[0][1] / Fraction(units[1][1])
    if draw(st.booleans()):
        other += 1
    texts = [
        draw(st.sampled_from(["{} {}", r"{}\text{{ {}}}", r"{}\,\text{{{}}}"])).format(n, unit)
        for n, (unit, _) in zip((count, other), units, strict=True)
    ]
    sizes = count * units[0][1], other * units[1][1]
    return KnownPair(texts[0], texts[1], kinds[0] == kinds[1] and sizes[0] == sizes[1])


KNOWN_PAIRS = (
    number_pairs()
    | sequence_pairs()
    | polynomial_pairs()
    | surd_pairs()
    | word_pairs()
    | unit_pairs()
)
