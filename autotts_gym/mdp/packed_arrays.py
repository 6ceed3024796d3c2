"""Many arrays passed to a compiled function as one.

Unboxing an array takes numba about as long as playing an action, and a batch of episodes has about
twenty. So a compiled function takes one int64 array with the addresses and shapes of the others,
and rebuilds those inside. Their dtypes and numbers of axes are those that the fields of the named
tuple are annotated with::

    class Votes(NamedTuple):
        latest: Annotated[NDArray[np.int16], Axes(np.int16, 2)]
"""

from __future__ import annotations

import functools
from typing import Any, get_type_hints

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array
from numpy.typing import NDArray


class Axes:
    """Annotation of an array field: its dtype and its number of axes."""

    def __init__(self, dtype: Any, number: int) -> None:
        self.dtype = np.dtype(dtype)
        self.number = number


@functools.cache
def _fields(kind: type[tuple[Any, ...]]) -> tuple[tuple[str, Any], ...]:
    """Names of a tuple's fields, each with its ``Axes``, or with the type of a nested tuple."""
    hints = get_type_hints(kind, include_extras=True)
    return tuple((name, getattr(hint, "__metadata__", [hint])[0]) for name, hint in hints.items())


def pack(arrays: tuple[Any, ...]) -> NDArray[np.int64]:
    """Addresses and shapes of the arrays of a named tuple, depth first, int64.

    The caller must keep the arrays: the result holds no reference to them.

    Raises:
        ValueError: an array is not C-contiguous, or not of the dtype or the number of axes that its
            field is annotated with.
    """
    words: list[int] = []
    _append(arrays, words)
    return np.array(words, np.int64)


@functools.cache
def word_count(kind: type[tuple[Any, ...]]) -> int:
    """Number of words in the :func:`pack` of a ``kind``; those of a tuple in it are consecutive."""
    return sum(
        1 + axes.number if isinstance(axes, Axes) else word_count(axes) for _, axes in _fields(kind)
    )


def _append(arrays: tuple[Any, ...], words: list[int]) -> None:
    for (name, axes), array in zip(_fields(type(arrays)), arrays, strict=True):
        if not isinstance(axes, Axes):
            _append(array, words)
            continue
        fits = array.dtype == axes.dtype and array.ndim == axes.number
        if not fits or not array.flags.c_contiguous:
            raise ValueError(
                f"{type(arrays).__name__}.{name} must be a C-contiguous array of "
                f"{axes.dtype} with {axes.number} axes, not {array.dtype}{array.shape}"
            )
        words += [array.ctypes.data, *array.shape]


def unpacking(kind: type[tuple[Any, ...]], namespace: dict[str, Any]) -> tuple[str, int]:
    """Source of a compiled expression that rebuilds a ``kind`` from ``packed``, its :func:`pack`.

    Args:
        kind: the named tuple's type.
        namespace: receives the objects that the expression refers to.

    Returns:
        The expression, and the number of words in ``packed``.
    """
    namespace["view_at"] = view_at
    return _expression(kind, namespace, 0)


def _expression(
    kind: type[tuple[Any, ...]], namespace: dict[str, Any], word: int
) -> tuple[str, int]:
    """The expression whose arrays begin at ``packed[word]``, and the word after them."""
    namespace[kind.__name__] = kind
    built = []
    for name, axes in _fields(kind):
        if not isinstance(axes, Axes):
            expression, word = _expression(axes, namespace, word)
            built.append(expression)
            continue
        dtype = f"{kind.__name__}_{name}"
        namespace[dtype] = axes.dtype
        shape = "".join(f"packed[{word + 1 + axis}], " for axis in range(axes.number))
        built.append(f"view_at(packed[{word}], ({shape}), {dtype})")
        word += 1 + axes.number
    return f"{kind.__name__}({', '.join(built)})", word


def _item_size(dtype: Any) -> int:
    """Bytes of one array element of a numba type."""
    return int(dtype.size) if isinstance(dtype, types.Record) else dtype.bitwidth // 8


@intrinsic  # type: ignore[untyped-decorator]
def view_at(typingctx: Any, address: Any, shape: Any, dtype: Any) -> Any:
    """A C-ordered array at an address, like ``numba.carray``, but without numba's runtime."""
    array = types.Array(dtype.dtype, len(shape), "C")

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(array)(context, builder)
        itemsize = context.get_constant(types.intp, _item_size(dtype.dtype))
        sizes = cgutils.unpack_tuple(builder, args[1])
        strides = [itemsize]
        for size in reversed(sizes[1:]):
            strides.insert(0, builder.mul(strides[0], size))
        data = builder.inttoptr(args[0], view.data.type)
        populate_array(view, data, sizes, strides, itemsize, meminfo=None)
        return view._getvalue()

    return array(types.int64, shape, dtype), build
