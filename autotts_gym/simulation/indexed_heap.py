"""Compiled binary heaps of request numbers, from which any request can be removed.

A heap is an int64 array of requests with a separate size. ``keys`` and ``positions`` are arrays by
request: the key by which a request is ordered, and its place in the heap that holds it. A request
is in one heap at a time.
"""

from __future__ import annotations

from autotts_gym.mdp.jit import compiled


@compiled
def push(heap, size, keys, positions, request):
    """Add a request to a heap that has ``size`` others."""
    _sift_up(heap, keys, positions, size, request)


@compiled
def remove(heap, size, keys, positions, request):
    """Remove a request from a heap of ``size`` requests, itself included."""
    at = positions[request]
    last = heap[size - 1]
    if last == request:
        return
    if at > 0 and keys[last] < keys[heap[(at - 1) >> 1]]:
        _sift_up(heap, keys, positions, at, last)
    else:
        _sift_down(heap, size - 1, keys, positions, at, last)


@compiled
def _sift_up(heap, keys, positions, at, request):
    """Put a request into the empty place ``at``, or above it."""
    key = keys[request]
    while at > 0:
        parent = (at - 1) >> 1
        if keys[heap[parent]] <= key:
            break
        heap[at] = heap[parent]
        positions[heap[at]] = at
        at = parent
    heap[at] = request
    positions[request] = at


@compiled
def _sift_down(heap, size, keys, positions, at, request):
    """Put a request into the empty place ``at``, or below it."""
    key = keys[request]
    while True:
        child = 2 * at + 1
        if child >= size:
            break
        if child + 1 < size and keys[heap[child + 1]] < keys[heap[child]]:
            child += 1
        if keys[heap[child]] >= key:
            break
        heap[at] = heap[child]
        positions[heap[at]] = at
        at = child
    heap[at] = request
    positions[request] = at
