"""What the source text of a program may use: size limit, built-ins, modules and attributes."""

from __future__ import annotations

import functools
import math
import types
import typing
from typing import Final

import numpy as np

from autotts_gym.controllers import (
    RENAMED_MODULES,
    helpers,
    logistic_regression,
    margin_stopping,
)

#: Maximum size of a program, bytes.
MAX_SOURCE_SIZE: Final = 64 * 1024


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Built-in names that a program may use. They have access to their arguments only.
ALLOWED_BUILTINS: Final = _words(
    """
    False True None abs all any bin bool chr complex dict divmod enumerate filter float frozenset
    hash hex int isinstance iter len list map max min next oct ord pow print range repr reversed
    round set slice sorted str sum tuple zip
    ArithmeticError AssertionError Exception IndexError KeyError LookupError OverflowError
    RuntimeError StopIteration TypeError ValueError ZeroDivisionError
    """
)

#: Names of numpy that access files, numpy's settings, or memory outside of the program.
_FORBIDDEN_NUMPY: Final = _words(
    """
    errstate frombuffer fromfile fromregex frompyfunc from_dlpack fromstring genfromtxt
    get_include get_printoptions getbufsize geterr geterrcall info load loadtxt memmap
    printoptions save savetxt savez savez_compressed set_printoptions setbufsize seterr
    seterrcall show_config show_runtime test
    """
)

#: Attributes that give access to files, frames, or the environment behind an episode.
FORBIDDEN_ATTRIBUTES: Final = _words(
    """
    ctypes dump dumps tofile format format_map facts info notes
    ag_code ag_frame cr_code cr_frame gi_code gi_frame tb_frame tb_next
    f_back f_builtins f_code f_globals f_locals
    """
)

#: Built-in functions that the value of a module-level constant may call.
CONSTANT_FUNCTIONS: Final = frozenset({"abs", "float", "int", "len", "max", "min", "round", "sum"})

#: Modules that may be imported as a whole, with ``import``.
IMPORTABLE_MODULES: Final = ("math", "numpy")

#: Earlier names of :mod:`autotts_gym.controllers.helpers`, which recorded candidates import.
_RENAMED_HELPERS: Final = {
    f"autotts_gym.controllers.{old}": helpers.__name__
    for old, new in RENAMED_MODULES.items()
    if new == "helpers"
}


class RuleViolation(Exception):  # noqa: N818 # internal to the source checks
    """A program violates a rule.

    Args:
        reason: the violated rule.
        line: number of the line, from 1; 0 if the reason concerns the whole file.
    """

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)


@functools.cache
def allowed_modules() -> dict[str, frozenset[str]]:
    """Modules that a program may import, with the names that it may use of each."""
    numpy = {n for n in np.__all__ if not isinstance(getattr(np, n), types.ModuleType)}
    return {
        "__future__": frozenset({"annotations"}),
        "math": frozenset(name for name in vars(math) if not name.startswith("_")),
        "numpy": frozenset(numpy - _FORBIDDEN_NUMPY),
        "typing": frozenset({"Any", "Final", "NamedTuple"} & set(typing.__all__)),
        helpers.__name__: _public_functions(helpers),
        logistic_regression.__name__: frozenset({"fit_calibrated", "probability"}),
        margin_stopping.__name__: frozenset({"stop_by_margin"}),
    }


def _public_functions(module: types.ModuleType) -> frozenset[str]:
    """Names of the public functions that a module defines."""
    return frozenset(
        name
        for name, value in vars(module).items()
        if isinstance(value, types.FunctionType)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    )


def current_module_name(name: str) -> str:
    """The current name of a module that may have been renamed."""
    return _RENAMED_HELPERS.get(name, name)


def check_module_member(module: str, name: str, line: int) -> None:
    """Check that a program may use a name of an allowed module.

    Raises:
        RuleViolation: it may not.
    """
    allowed = allowed_modules()[module]
    if name in allowed:
        return
    if module == "numpy" and name == "random":
        raise RuleViolation(
            "random numbers may not be used, because results would not be reproducible", line
        )
    if module in IMPORTABLE_MODULES and not hasattr({"numpy": np, "math": math}[module], name):
        raise RuleViolation(f"{module} has no attribute {name}", line)
    if len(allowed) < 10:
        listed = ", ".join(sorted(allowed))
        raise RuleViolation(f"{name} may not be imported from {module}; allowed: {listed}", line)
    raise RuleViolation(f"{module}.{name} may not be used", line)
