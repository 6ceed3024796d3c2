"""Text of unknown origin cannot control a terminal."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.utils.terminal_text import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain 12 é 答案", "plain 12 é 答案"),
        ("a\n\tb", "a\n\tb"),
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("a\rb\x08", r"a\x0db\x08"),
        ("\x9b31m\x7f", r"\x9b31m\x7f"),
        ("\u202eevil\u2066", r"\u202eevil\u2066"),
        ("\u2028\ufeff\U000e0041", r"\u2028\ufeff\U000e0041"),
        ("\ud800", r"\ud800"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("a\u00a0b", "a\u00a0b"),
    ],
)
def test_escapes(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_names_stay_on_one_line() -> None:
    assert one_line("a\nb\tc\x1b") == r"a\x0ab\x09c\x1b"


@given(st.text())
def test_nothing_controls_the_terminal(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    for character in shown:
        if character not in "\n\t\u200c\u200d":
            assert unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp")
