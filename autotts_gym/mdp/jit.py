"""Just-in-time compilation with numba, and a cache of compiled functions on disk.

Numba's own cache checks only the file that defines a function, so a change of the rules would leave
stale copies of everything that calls them. Here the path of a cached function contains a digest of
the sources of all compiled code, so a stale copy is never found.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import os
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
import numpy as np
from numba.core import caching, serialize

from autotts_gym.mdp.packed_arrays import unpacking
from autotts_gym.utils import user_folders
from autotts_gym.utils.files import write_bytes

F = TypeVar("F", bound=Callable[..., Any])

#: No fastmath: fused or reordered operations could make two code paths differ in the last bit.
OPTIONS = {"nogil": True, "fastmath": False, "error_model": "numpy"}

#: Without numba's runtime, array views are not reference-counted, which makes the rules about ten
#: times faster. Such code cannot allocate; the caller owns every array.
WITHOUT_RUNTIME = {**OPTIONS, "_nrt": False}

#: The same, inlined by LLVM. Unlike with :func:`inlined`, the caller may have other options (for
#: example, allocate and check bounds), and both keep their own.
WITHIN_CALLER = {**WITHOUT_RUNTIME, "forceinline": True}

#: Controllers behave as in plain Python: bounds are checked, division by zero raises.
CONTROLLER = {"nogil": True, "boundscheck": True, "error_model": "python"}


_DIGEST_SIZE: Final = hashlib.sha256().digest_size


@functools.cache
def sources_key() -> str:
    """Digest of the sources of all compiled code, except a controller's own source."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.version}".encode())
    package = Path(__file__).parent.parent
    for folder in ("mdp", "controllers", "sandbox"):
        for path in sorted((package / folder).glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache_folder() -> Path:
    """Folder of the cache: under ``AUTOTTS_CACHE``, or under the user's cache folder."""
    root = user_folders.cache_folder()
    # Nothing can be written below the null device: without a folder, every process compiles.
    return (root or Path(os.devnull)) / "compiled" / sources_key()


class _Cache(caching._Cache):  # type: ignore[misc]
    """A cache with one file per function, signature and processor, replaced atomically.

    It has no index file, unlike numba's, so processes that compile at the same time cannot corrupt
    each other's entries.
    """

    def __init__(self, function: Callable[..., Any], key: str) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__}-{key}"
        self._results = caching.CompileResultCacheImpl.__new__(caching.CompileResultCacheImpl)

    @property
    def cache_path(self) -> str:
        return str(cache_folder())

    def enable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def disable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def flush(self) -> None:
        """Do nothing: entries are written immediately."""

    def _path(self, signature: Any, codegen: Any) -> Path:
        what = hashlib.sha256(repr((signature, codegen.magic_tuple())).encode()).hexdigest()[:16]
        return cache_folder() / f"{self._name}-{what}.nbc"

    def load_overload(self, signature: Any, context: Any) -> Any:
        context.refresh()
        try:
            content = self._path(signature, context.codegen()).read_bytes()
        except OSError:
            return None
        data = content[_DIGEST_SIZE:]
        # Machine code of a damaged file must not run: compile again.
        if hashlib.sha256(data).digest() != content[:_DIGEST_SIZE]:
            return None
        try:
            return self._results.rebuild(context, pickle.loads(data))
        except Exception:  # it refers to code that no longer exists
            return None

    def save_overload(self, signature: Any, result: Any) -> None:
        # A large global array of a controller is compiled in as an address of this process.
        if result.library.has_dynamic_globals:
            return
        try:
            data = serialize.dumps(self._results.reduce(result))
        except Exception:  # it refers to an object that cannot be pickled
            return
        path = self._path(signature, result.codegen)
        with contextlib.suppress(OSError):  # no writable folder: every process compiles
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, hashlib.sha256(data).digest() + data)


def compiled(function: F) -> F:
    """Compile a function that only other compiled code calls; see ``WITHOUT_RUNTIME``."""
    return numba.njit(**WITHOUT_RUNTIME)(function)  # type: ignore[no-any-return]


def inlined(function: F) -> F:
    """Like :func:`compiled`, but inlined into its caller: for small functions on hot paths.

    LLVM alone does not inline them, because an episode's views are many words of arguments.
    """
    return numba.njit(inline="always", **WITHOUT_RUNTIME)(function)  # type: ignore[no-any-return]


def entry_point(
    key: str = "library",
    *,
    allocates: bool = False,
    packed: type[tuple[Any, ...]] | None = None,
    by_address: bool = False,
) -> Callable[[Callable[..., Any]], Any]:
    """Compile a function that Python calls, and cache the result on disk under ``key``.

    Args:
        key: distinguishes the functions of this name that the same sources can make: a digest of
            the controller's source, if one is compiled in.
        allocates: whether the function, or one that it calls, allocates arrays.
        packed: a named tuple of arrays, the type of the function's first parameter. Python passes
            :func:`~autotts_gym.mdp.packed_arrays.pack` of that tuple instead.
        by_address: whether Python passes the address of that instead.
    """
    options = OPTIONS if allocates else WITHOUT_RUNTIME

    def decorate(function: Callable[..., Any]) -> Any:
        outer = (
            function if packed is None else _unpacking_first(function, packed, options, by_address)
        )
        dispatcher = numba.njit(**options)(outer)
        dispatcher._cache = _Cache(outer, key)
        return dispatcher

    return decorate


def _unpacking_first(
    function: Callable[..., Any],
    kind: type[tuple[Any, ...]],
    options: dict[str, Any],
    by_address: bool,
) -> Callable[..., Any]:
    """``function`` with its first parameter, a ``kind``, packed into one array."""
    namespace: dict[str, Any] = {"function": numba.njit(**options)(function)}
    rebuilt, size = unpacking(kind, namespace)
    others = "".join(f", {name}" for name in list(inspect.signature(function).parameters)[1:])
    name = function.__name__
    lines = [f"def {name}({'address' if by_address else 'packed'}{others}):"]
    if by_address:
        namespace["word"] = np.dtype(np.int64)
        lines.append(f"packed = view_at(address, ({size},), word)")
    lines.append(f"return function({rebuilt}{others})")
    exec("\n    ".join(lines), namespace)
    outer: Callable[..., Any] = namespace[name]
    outer.__module__ = function.__module__
    return outer
