"""The heap from which any request can be removed."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from autotts_gym.simulation import indexed_heap


@given(
    keys=st.lists(st.floats(0, 100), min_size=1, max_size=40),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 39)), max_size=100),
)
def test_the_first_has_the_smallest_key(keys: list[float], steps: list[tuple[bool, int]]) -> None:
    count = len(keys)
    heap, positions = np.empty(count, np.int64), np.zeros(count, np.int64)
    values = np.array(keys)
    held: set[int] = set()
    for adds, number in steps:
        request = number % count
        if adds and request not in held:
            indexed_heap.push(heap, len(held), values, positions, request)
            held.add(request)
        elif not adds and request in held:
            indexed_heap.remove(heap, len(held), values, positions, request)
            held.remove(request)
        assert set(heap[: len(held)].tolist()) == held
        assert all(heap[positions[request]] == request for request in held)
        if held:
            assert values[heap[0]] == min(values[request] for request in held)
