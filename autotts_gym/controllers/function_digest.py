"""Digests of functions that are not loaded from a file of their own."""

from __future__ import annotations

import hashlib
import pickle
import re
import uuid
from collections.abc import Callable
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

import numpy as np

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def function_digest(function: FunctionType | Callable[..., Any]) -> str:
    """SHA-256 of a function's behaviour, as a hexadecimal string.

    It covers the code, the defaults, the values that the function closes over, and the global
    variables that it reads, including helper functions of the same module or notebook. Bytecode
    rather than source text: a source line can hold two lambdas, and not every function has source.

    A value that cannot be described gets a random digest, so that nothing is cached under it.
    """
    digest = hashlib.sha256()
    for part in _describe(function, {}):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()


def global_names(code: CodeType) -> set[str]:
    """Global names and attributes that a code object refers to, nested functions included."""
    nested = (const for const in code.co_consts if isinstance(const, CodeType))
    return set(code.co_names).union(*map(global_names, nested))


def _describe(value: Any, seen: dict[int, int]) -> list[bytes]:
    """Byte strings that are equal for values of equal behaviour, also in another process."""
    kind = type(value).__name__.encode()
    if isinstance(value, bool | int | float | complex | str | bytes | type(None)):
        return [kind, repr(value).encode("utf-8", "surrogatepass")]
    if id(value) in seen:  # recursion, or a value that occurs twice
        return [b"seen", str(seen[id(value)]).encode()]
    seen[id(value)] = len(seen)
    if hasattr(value, "py_func"):  # compiled by numba
        value = value.py_func
    if isinstance(value, ModuleType):
        return [kind, value.__name__.encode()]
    if isinstance(value, np.ndarray) and value.dtype != object:
        return [kind, f"{value.dtype} {value.shape}".encode(), value.tobytes()]
    if isinstance(value, FunctionType):
        return [kind, *_describe_function(value, seen)]
    if isinstance(value, type):
        return [kind, *_describe_class(value, seen)]
    if isinstance(value, tuple | list):
        return [kind, str(len(value)).encode(), *_describe_all(value, seen)]
    if isinstance(value, dict):
        return [kind, str(len(value)).encode(), *_describe_all([*value, *value.values()], seen)]
    if isinstance(value, set | frozenset):
        return [kind, *sorted(repr(item).encode() for item in value)]
    try:
        return [kind, pickle.dumps(value)]
    except Exception:  # whatever a value's own pickling code raises
        return [kind, uuid.uuid4().bytes]


def _describe_all(values: Any, seen: dict[int, int]) -> list[bytes]:
    return [part for value in values for part in _describe(value, seen)]


def _describe_function(function: FunctionType, seen: dict[int, int]) -> list[bytes]:
    parts = [*_describe_code(function.__code__), *_describe(function.__defaults__, seen)]
    parts += _describe(function.__kwdefaults__, seen)
    for cell in function.__closure__ or ():
        try:
            parts += _describe(cell.cell_contents, seen)
        except ValueError:  # not assigned yet
            parts.append(b"empty")
    variables = function.__globals__
    for name in sorted(global_names(function.__code__) & variables.keys()):
        other = variables[name]
        parts.append(name.encode())
        if isinstance(other, FunctionType) and other.__globals__ is not variables:
            # Another module's function: its own code only, not everything that it imports.
            parts += [f"{other.__module__} {other.__qualname__}".encode()]
            parts += _describe_code(other.__code__)
        else:
            parts += _describe(other, seen)
    return parts


def _describe_code(code: CodeType) -> list[bytes]:
    parts = [code.co_code, str((code.co_argcount, code.co_kwonlyargcount, code.co_flags)).encode()]
    parts += [repr((code.co_names, code.co_varnames, code.co_freevars)).encode()]
    for const in code.co_consts:
        if isinstance(const, CodeType):
            parts += _describe_code(const)
        elif isinstance(const, frozenset):  # its order differs between processes
            parts.append(repr(sorted(map(repr, const))).encode())
        else:
            parts.append(repr(const).encode("utf-8", "surrogatepass"))
    return parts


def _describe_class(kind: type, seen: dict[int, int]) -> list[bytes]:
    parts = [f"{kind.__module__} {kind.__qualname__}".encode()]
    if kind.__module__ != "__main__":
        return parts
    for name, value in sorted(vars(kind).items()):
        parts.append(name.encode())
        if isinstance(value, FunctionType):
            parts += _describe_code(value.__code__)
        else:
            parts.append(_ADDRESS.sub("", repr(value)).encode("utf-8", "surrogatepass"))
    return parts
