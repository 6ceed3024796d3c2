"""Hints to the processor about memory that compiled code reads soon.

The state of many episodes does not fit in the fast caches, and each step reads other parts of it.
A hint starts to load an element while other work goes on; it never fails, whatever the index.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_FOR_WRITING = 1
_ALL_CACHES = 3
_DATA = 1


@intrinsic  # type: ignore[untyped-decorator]
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Load the element at ``index`` of an array of one axis, and what shares its cache lines."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        view = context.make_array(array)(context, builder, args[0])
        (stride,) = cgutils.unpack_tuple(builder, view.strides, 1)
        first = cgutils.pointer_add(builder, view.data, builder.mul(args[1], stride))
        number = ir.IntType(32)
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        options = [number(value) for value in (_FOR_WRITING, _ALL_CACHES, _DATA)]
        item = context.get_abi_sizeof(context.get_data_type(array.dtype))
        for offset in {0, item - 1}:
            address = cgutils.pointer_add(builder, first, offset)
            builder.call(hint, [builder.bitcast(address, byte), *options])
        return context.get_dummy_value()

    return types.void(array, types.intp), build
