from __future__ import annotations

import copy
from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn
from numpy.typing import NDArray

from autotts_gym.mdp.jit import entry_point
from autotts_gym.mdp.macro_batch import MacroTracker
from autotts_gym.mdp.observation import allocate
from autotts_gym.mdp.packed_arrays import Axes, pack, word_count

PAIR = np.dtype([("count", np.int64), ("weight", np.float64)])


class Inner(NamedTuple):
    small: Annotated[NDArray[np.int8], Axes(np.int8, 2)]
    pairs: Annotated[NDArray[np.void], Axes(PAIR, 1)]


class Outer(NamedTuple):
    large: Annotated[NDArray[np.int64], Axes(np.int64, 3)]
    inner: Inner
    flags: Annotated[NDArray[np.uint8], Axes(np.uint8, 1)]


@entry_point(packed=Outer)
def _copy_all(arrays, large, small, counts, flags):
    for i, value in np.ndenumerate(arrays.large):
        large[i] = value
    for j, number in np.ndenumerate(arrays.inner.small):
        small[j] = number
    for k in range(arrays.inner.pairs.shape[0]):
        counts[k] = arrays.inner.pairs[k].count
        arrays.inner.pairs[k].weight += 0.5
    for k in range(arrays.flags.shape[0]):
        flags[k] = arrays.flags[k]


def arrays_of(dtype: Any, axes: int) -> st.SearchStrategy[NDArray[Any]]:
    shapes = stn.array_shapes(min_dims=axes, max_dims=axes, min_side=0, max_side=4)
    return stn.arrays(dtype, shapes)


@given(arrays_of(np.int64, 3), arrays_of(np.int8, 2), arrays_of(np.int64, 1), arrays_of("u1", 1))
@settings(max_examples=50)
def test_compiled_code_sees_the_packed_arrays(
    large: NDArray[np.int64],
    small: NDArray[np.int8],
    counts: NDArray[np.int64],
    flags: NDArray[np.uint8],
) -> None:
    pairs = np.zeros(len(counts), PAIR)
    pairs["count"] = counts
    seen = tuple(np.zeros_like(array) for array in (large, small, counts, flags))
    packed = pack(Outer(large, Inner(small, pairs), flags))
    assert len(packed) == word_count(Outer)
    np.testing.assert_array_equal(packed[4:][: word_count(Inner)], pack(Inner(small, pairs)))
    _copy_all(packed, *seen)
    for array, copied in zip((large, small, counts, flags), seen, strict=True):
        np.testing.assert_array_equal(copied, array)
    assert (pairs["weight"] == 0.5).all()


@pytest.mark.parametrize(
    "small", [np.zeros((2, 2), np.int16), np.zeros(4, np.int8), np.zeros((4, 2), np.int8).T]
)
def test_other_arrays_than_annotated_are_rejected(small: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"Inner\.small must be a C-contiguous array of int8 with"):
        pack(Inner(small, np.zeros(1, PAIR)))


def test_a_copied_tracker_has_arrays_of_its_own() -> None:
    view = allocate(1, 4, 0, 3, plane=False, confidences=False)
    for array in view:
        array[:] = 0
    tracker = MacroTracker(4)
    tracker.begin(view, 5.0, 10)
    before = tracker.branch_features.copy(), tracker.features.copy()
    other_view, other = copy.deepcopy((view, tracker))
    other_view.branches[:] = 3
    other_view.globals[:] = 3
    other.follow(other_view)
    np.testing.assert_array_equal(tracker.branch_features, before[0])
    np.testing.assert_array_equal(tracker.features, before[1])
