"""Tests of the compiled Philox generator against NumPy's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.mdp.jit import entry_point
from autotts_gym.mdp.philox import high_word, philox

WORD = st.integers(0, 2**64 - 1)


@entry_point("test")
def block(key, counter_0, counter_1):  # type: ignore[no-untyped-def]
    return philox(key[0], key[1], counter_0, counter_1)


@entry_point("test")
def upper(a, b):  # type: ignore[no-untyped-def]
    return high_word(a, b)


@given(WORD, WORD, st.integers(1, 2**64 - 4), WORD)
def test_words_are_those_of_numpy(key_0: int, key_1: int, first: int, second: int) -> None:
    key = np.array([key_0, key_1], np.uint64)
    # NumPy increments the counter before it makes a block.
    expected = np.random.Philox(
        key=key, counter=np.array([first - 1, second, 0, 0], np.uint64)
    ).random_raw(8)
    blocks = [block(key, np.uint64(first + k), np.uint64(second)) for k in range(2)]
    assert [word for words in blocks for word in words] == expected.tolist()


@given(WORD, WORD)
def test_high_word(a: int, b: int) -> None:
    assert upper(np.uint64(a), np.uint64(b)) == a * b >> 64
