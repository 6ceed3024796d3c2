"""What threads of compiled code need to wait for each other without the interpreter's lock."""

from __future__ import annotations

import platform
import sys
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_WORD: Final = ir.IntType(64)
_WORD_SIZE: Final = 8

#: Instructions that let a core wait for a moment, with their arguments, by the name of the machine.
_X86: Final = "llvm.x86.sse2.pause", ()
_ARM: Final = "llvm.aarch64.isb", (15,)
_PAUSES: Final = {"x86_64": _X86, "AMD64": _X86, "aarch64": _ARM, "arm64": _ARM}

#: The system's function that lets another thread run.
_YIELD: Final = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    view = context.make_array(array_type)(context, builder, array)
    return cgutils.get_item_pointer(context, builder, array_type, view, [index])


@intrinsic  # type: ignore[untyped-decorator]
def load(typingctx: Any, words: Any, index: Any) -> Any:
    """The word at ``index`` of an int64 array; what other threads wrote before it is visible."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *args)
        return builder.load_atomic(pointer, "acquire", _WORD_SIZE)

    return types.int64(words, types.intp), build


@intrinsic  # type: ignore[untyped-decorator]
def exchange(typingctx: Any, words: Any, index: Any, expected: Any, value: Any) -> Any:
    """Replace a word that is ``expected`` by ``value``; returns whether it was ``expected``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, signature.args[0], *args[:2])
        result = builder.cmpxchg(pointer, args[2], args[3], "acq_rel", "acquire")
        return builder.extract_value(result, 1)

    return types.boolean(words, types.intp, types.int64, types.int64), build


@intrinsic  # type: ignore[untyped-decorator]
def pause(typingctx: Any) -> Any:
    """Let the core wait for a moment, about 10 to 50 ns."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        if (instruction := _PAUSES.get(platform.machine())) is not None:
            name, numbers = instruction
            options = [ir.IntType(32)(number) for number in numbers]
            kind = ir.FunctionType(ir.VoidType(), [option.type for option in options])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), options)
        return context.get_dummy_value()

    return types.void(), build


@intrinsic  # type: ignore[untyped-decorator]
def yield_core(typingctx: Any) -> Any:
    """Let another thread run on this core, if one waits for it."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])
        return context.get_dummy_value()

    return types.void(), build


@intrinsic  # type: ignore[untyped-decorator]
def call(typingctx: Any, function: Any, arguments: Any, first: Any, last: Any, thread: Any) -> Any:
    """Call the function of four words and one result, all int64, at the address ``function``."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_WORD, [_WORD] * 4)
        return builder.call(builder.inttoptr(args[0], kind.as_pointer()), args[1:])

    return types.int64(*[types.int64] * 5), build
