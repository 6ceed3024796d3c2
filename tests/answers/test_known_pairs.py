"""Equality of answers whose truth is known by construction, and its properties on any text.

``AUTOTTS_ANSWER_PAIRS=100000`` sets the number of pairs.
"""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from known_pairs import KNOWN_PAIRS, KnownPair

from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.answers.math_process import CPU_SECONDS
from autotts_gym.answers.word_sets import word_list

EXAMPLES = int(os.environ.get("AUTOTTS_ANSWER_PAIRS", "2000"))


@pytest.mark.slow
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(KNOWN_PAIRS)
def test_truth_by_construction(pair: KnownPair) -> None:
    assert answers_equal(pair.one, pair.other) == pair.equal
    assert answers_equal(pair.other, pair.one) == pair.equal
    assert answers_equal(pair.one, pair.one)


PIECES = [
    *word_list(
        r"""\ $ { } . , = + - − % ° ^ _ ( ) 0 1 07 234 x No ERR yes degrees circ text A frac ** é Ⅷ
        \text \mathrm \left \circ \dfrac \sin \% \! \, \; \{ \} \boxed{ | [ ] : ; and or \or 9^9 !
        \sqrt \frac \begin{pmatrix} \end{pmatrix} & \\ < > \le \in \cup \mathbb{R} \infty \pm cm
        million $5 # ~ ½ √ ² 万 ． \overline \log _2 e i pi ' ` // 1e9 1e99999 9**9**9 99999999999
        \binom \lfloor \rfloor abs( \choose plus half two \setminus U \ldots ... pm 12:30
        2024-12-25"""
    ),
    *(" ", "\n", "\x00", "\ud800"),
]


@pytest.mark.slow
@settings(max_examples=1500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(),
    st.lists(st.sampled_from(PIECES), max_size=14).map("".join) | st.text(),
)
def test_any_text(one: str, other: str) -> None:
    """Symmetric and reflexive, without an error."""
    assert answers_equal(one, other) == answers_equal(other, one)
    assert answers_equal(one, one)


@pytest.mark.parametrize(
    "text",
    [
        "9**9**9**9",
        r"9^{9^{9^{9}}}",
        "99999!",
        r"\frac{1}{1000000!}",
        r"\binom{1000000}{500000}",
        "1e999999",
        "10^{1000000}",
        r"e^{e^{e^{e^{e}}}}",
        "2^{" * 200 + "2" + "}" * 200,
        "(" * 5000 + "1" + ")" * 5000,
        "9" * 100_000,
        "+".join(["x"] * 3000),
        ",".join(map(str, range(5000))),
        "{" * 20_000,
        "\\text{" * 3000 + "5" + "}" * 3000,
        r"\sqrt{" * 300 + "2" + "}" * 300,
        "-" * 10_000 + "1",
        "1/" * 5000 + "1",
        r"\sin" * 500 + "1",
        "|" * 1000,
        "x^" * 1000 + "2",
        "(1+x)^{99999}",
        "5 " * 5000,
        "a and " * 2000 + "b",
        "x=" * 3000 + "1",
    ],
)
def test_hostile_answers_take_little_time(text: str) -> None:
    started = time.process_time()
    assert answers_equal(text, text)
    assert not answers_equal(text, "17 foxes")
    answers_equal(text, "1")
    answers_equal(text + "+1", text)
    assert time.process_time() - started < 5


@pytest.mark.slow
def test_a_comparison_that_never_ends_is_unequal() -> None:
    """math-verify would compute for long; the limit is the CPU time of its process."""
    started = time.monotonic()
    assert not answers_equal(r"\sum_{k=1}^{10^{9}} \sin(k^k)", "1")
    assert time.monotonic() - started < 60 * CPU_SECONDS
    assert answers_equal(r"\sum_{k=1}^{10} k", "55")
