"""Tests of the copies of arrays in blocks of memory."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotts_gym.mdp.output_blocks import OutputBlocks

DTYPES = (np.int8, np.int16, np.float32, np.float64, np.int64)


def random_arrays(random: Random, episodes: int) -> dict[str, Any]:
    """Arrays of random dtypes and shapes; some are parts of larger ones."""
    rng = np.random.default_rng(random.randrange(2**32))
    arrays: dict[str, Any] = {}
    for number in range(random.randint(1, 6)):
        shape = (episodes, *(random.randint(1, 9) for _ in range(random.randint(0, 2))))
        array = rng.integers(0, 100, shape).astype(random.choice(DTYPES))
        if array.ndim == 2 and random.random() < 0.5:
            array = array[:, : random.randint(1, array.shape[1])]
        arrays[str(number)] = array
    return arrays


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_copies_are_equal_and_independent(random: Random) -> None:
    episodes = random.randint(1, 20)
    arrays = random_arrays(random, episodes)
    layout = OutputBlocks(arrays)
    blocks = layout.allocate()
    cut = random.randint(0, episodes)
    layout.copy(cut, episodes)
    layout.copy(0, cut)
    zeros = layout.allocate(zeros=True)
    rows = np.flatnonzero(np.random.default_rng(0).integers(0, 2, episodes))
    layout.copy_rows(rows)
    originals = {key: array.copy() for key, array in arrays.items()}
    for array in arrays.values():
        array[:] = 101
    some = layout.arrays(zeros)
    for key, copy in layout.arrays(blocks).items():
        assert (copy.dtype, copy.flags.c_contiguous) == (originals[key].dtype, True)
        assert np.array_equal(copy, originals[key])
        masked = np.zeros_like(copy)
        masked[rows] = originals[key][rows]
        assert np.array_equal(some[key], masked)


@settings(deadline=None)
@given(st.randoms(use_true_random=False))
def test_values_of_single_episodes(random: Random) -> None:
    arrays = random_arrays(random, random.randint(1, 20))
    arrays = {key: array for key, array in arrays.items() if array.ndim > 1} or {"a": np.eye(3)}
    (episodes,) = {len(array) for array in arrays.values()}
    rows = np.flatnonzero(np.random.default_rng(0).integers(0, 2, episodes))
    found = OutputBlocks(arrays).rows(rows, {"shared": "by all"})
    expected = [
        {key: array[e].copy() for key, array in arrays.items()} | {"shared": "by all"}
        for e in rows.tolist()
    ]
    for array in arrays.values():
        array[:] = 101
    assert len(found) == len(rows)
    for values, originals in zip(found, expected, strict=True):
        assert list(values) == list(originals)
        for key in arrays:
            assert values[key].dtype == originals[key].dtype
            assert values[key].flags.aligned
            assert values[key].flags.c_contiguous
            assert np.array_equal(values[key], originals[key])


def test_large_arrays_have_blocks_of_their_own() -> None:
    arrays = {name: np.full((4, 2**18), ord(name), np.float64) for name in "abc"}
    layout = OutputBlocks(arrays | {"d": np.ones(4)})
    blocks = layout.allocate()
    assert len(blocks) == 4
    layout.copy(0, 4)
    copies = layout.arrays(blocks)
    assert all(np.array_equal(copies[name], arrays[name]) for name in "abc")


def test_values_of_an_episode_must_be_contiguous() -> None:
    with pytest.raises(ValueError, match="values of an episode in 'a' must be contiguous"):
        OutputBlocks({"a": np.zeros((3, 4, 2))[:, :, :1]})
