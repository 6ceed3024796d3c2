"""Philox4x64-10, a counter-based random generator; compiled code only.

A block of four words is a function of a key and a counter, so a generator has no state, and any
part of its stream can be computed alone. The words are those of ``numpy.random.Philox``.

J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, *Parallel random numbers: as easy as 1, 2,
3*, SC 2011.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from autotts_gym.mdp.jit import inlined

_ROUNDS: Final = 10
_MULTIPLIER_0: Final = np.uint64(0xD2E7470EE14C6C93)
_MULTIPLIER_1: Final = np.uint64(0xCA5A826395121157)
_KEY_STEP_0: Final = np.uint64(0x9E3779B97F4A7C15)
_KEY_STEP_1: Final = np.uint64(0xBB67AE8584CAA73B)


@intrinsic
def high_word(typingctx: Any, a: Any, b: Any) -> Any:
    """The upper 64 bits of the product of two uint64."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        a, b = (builder.zext(word, ir.IntType(128)) for word in args)
        product = builder.mul(a, b)
        return builder.trunc(builder.lshr(product, product.type(64)), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


@inlined
def philox(key_0, key_1, counter_0, counter_1):
    """Four random uint64 for a key and a counter of two uint64 each; further counters are 0."""
    x0, x1, x2, x3 = counter_0, counter_1, np.uint64(0), np.uint64(0)
    for _ in range(_ROUNDS):
        high_0, low_0 = high_word(_MULTIPLIER_0, x0), _MULTIPLIER_0 * x0
        high_1, low_1 = high_word(_MULTIPLIER_1, x2), _MULTIPLIER_1 * x2
        x0, x1, x2, x3 = high_1 ^ x1 ^ key_0, low_1, high_0 ^ x3 ^ key_1, low_0
        key_0 += _KEY_STEP_0
        key_1 += _KEY_STEP_1
    return x0, x1, x2, x3
