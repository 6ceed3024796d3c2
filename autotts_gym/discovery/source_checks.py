"""Checks of a program's text before anything of it runs.

They keep a program to what the search can judge: plain functions that are the same in every
episode, with β for a knob and nothing else that decides what is spent. They are no sandbox, which
is about what a program could do to the machine; they tell a proposer early, and in words, what
would be rejected later or would not repeat.
"""

from __future__ import annotations

import ast
import builtins
import functools
import math
import symtable
import types
import typing
import warnings
from collections.abc import Iterator
from typing import Final

import numpy as np

from autotts_gym.controllers import RENAMED_MODULES, helpers

#: Bytes of a program at most.
LARGEST: Final = 64 * 1024


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Built-in names that a program may use: those that reach nothing but their arguments.
BUILTINS: Final = _words(
    """
    False True None abs all any bin bool chr complex dict divmod enumerate filter float frozenset
    hash hex int isinstance iter len list map max min next oct ord pow print range repr reversed
    round set slice sorted str sum tuple zip
    ArithmeticError AssertionError Exception IndexError KeyError LookupError OverflowError
    RuntimeError StopIteration TypeError ValueError ZeroDivisionError
    """
)

#: What numpy has for files, its own settings and memory that is not the program's.
_NOT_OF_NUMPY: Final = _words(
    """
    errstate frombuffer fromfile fromregex frompyfunc from_dlpack fromstring genfromtxt
    get_include get_printoptions getbufsize geterr geterrcall info load loadtxt memmap
    printoptions save savetxt savez savez_compressed set_printoptions setbufsize seterr
    seterrcall show_config show_runtime test
    """
)

#: Attributes that lead out of a program: to files, frames and the environment behind the handle.
_WAYS_OUT: Final = _words(
    """
    ctypes dump dumps tofile format format_map facts info notes
    ag_code ag_frame cr_code cr_frame gi_code gi_frame tb_frame tb_next
    f_back f_builtins f_code f_globals f_locals
    """
)

#: What constants of the file may be made with.
_OF_CONSTANTS: Final = frozenset({"abs", "float", "int", "len", "max", "min", "round", "sum"})


class _Rejected(Exception):  # noqa: N818 # it never leaves this module
    """A reason, and the line that it is about; 0 where it is about all of them."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(f"line {line}: {reason}" if line else reason)


def check(source: str, *, knob: bool = True) -> str:
    """Why a program is rejected before it runs; empty if it is not.

    Args:
        source: its text.
        knob: whether ``solve`` must have the knob β, and use it; without, it may leave it away.

    Returns:
        A reason for people and models to read, with the line where there is one.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of how strings are written, and the like
            _check(source, knob)
    except _Rejected as reason:
        return str(reason)
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        return f"{line}is no Python: {error.msg}"
    except (RecursionError, MemoryError):
        return "is nested too deeply"
    except (ValueError, OverflowError) as error:  # null bytes, lone surrogates, endless numbers
        return f"is no Python: {error}"
    return ""


def _check(source: str, knob: bool) -> None:
    size = len(source.encode())
    if size > LARGEST:
        raise _Rejected(f"has {size} bytes; {LARGEST} are the most")
    module = ast.parse(source)
    compile(source, "controller.py", "exec", dont_inherit=True)  # finds what parsing does not
    _check_top(module)
    _check_names(module, symtable.symtable(source, "controller.py", "exec"))
    for node in ast.walk(module):
        _check_node(node)
    _check_solve(module, knob)


# --- what stands at the top ----------------------------------------------------------------------


def _check_top(module: ast.Module) -> None:
    constants: set[str] = set()
    for node in module.body:
        match node:
            case ast.FunctionDef():
                _check_function(node, constants)
            case ast.Import() | ast.ImportFrom():
                _check_import(node)
            case ast.ClassDef():
                _check_tuple(node, constants)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    constants |= _names_of(target)
                _check_constant(value, constants)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                constants |= _names_of(target)
                _check_annotation(node.annotation)
                _check_constant(value, constants)
            case ast.AsyncFunctionDef():
                raise _Rejected("functions must be plain: no async", node.lineno)
            case _:
                raise _Rejected(
                    "only imports, constants, NamedTuples and functions may stand at the top of "
                    f"the file, not {_kind(node)}: move it into a function",
                    node.lineno,
                )


def _names_of(target: ast.expr) -> set[str]:
    match target:
        case ast.Name(id=name):
            return {name}
        case ast.Tuple(elts=elements):
            return set().union(*(_names_of(element) for element in elements))
    raise _Rejected("only names can be given constants at the top of the file", target.lineno)


def _check_constant(node: ast.expr, known: set[str]) -> None:
    """A constant must be the same in every episode: made of numbers and texts, in tuples."""
    match node:
        case ast.Constant():
            pass
        case ast.Name(id=name) if name in known:
            pass
        case ast.Tuple(elts=parts):
            for part in parts:
                _check_constant(part, known)
        case ast.UnaryOp(operand=operand):
            _check_constant(operand, known)
        case ast.BinOp(left=left, right=right):
            _check_constant(left, known)
            _check_constant(right, known)
        case ast.Subscript(value=value, slice=index):
            _check_constant(value, known)
            _check_constant(index, known)
        case ast.Attribute(value=ast.Name(), attr=_):
            pass  # of a module, see _check_names
        case ast.Call(func=function, args=args, keywords=[]) if _makes_constants(function):
            for arg in args:
                _check_constant(arg, known)
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            raise _Rejected(
                "variables of the file must not change from one episode to the next: write a "
                "tuple, or make it within a function",
                node.lineno,
            )
        case _:
            raise _Rejected(
                "variables of the file must be constants, made of numbers, texts and tuples; "
                "work out everything else within a function",
                node.lineno,
            )


def _makes_constants(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name):
            return name in _OF_CONSTANTS
        case ast.Attribute(value=ast.Name(id="math")):
            return True
    return False


def _check_function(node: ast.FunctionDef, constants: set[str]) -> None:
    if node.decorator_list:
        raise _Rejected(f"{node.name} has a decorator: leave it away", node.lineno)
    arguments = node.args
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        if default is not None:
            _check_constant(default, constants)
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    every += [arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None]
    for annotation in [node.returns, *(arg.annotation for arg in every)]:
        if annotation is not None:
            _check_annotation(annotation)


def _check_tuple(node: ast.ClassDef, constants: set[str]) -> None:
    """A class that is a NamedTuple, and has fields and nothing else."""
    fits = (
        len(node.bases) == 1
        and isinstance(node.bases[0], ast.Name)
        and node.bases[0].id == "NamedTuple"
        and not node.keywords
        and not node.decorator_list
    )
    for part in node.body:
        match part:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.AnnAssign(target=ast.Name(), annotation=annotation, value=value):
                _check_annotation(annotation)
                if value is not None:
                    _check_constant(value, constants)
            case _:
                fits = False
    if not fits:
        raise _Rejected(
            f"{node.name} must be a NamedTuple of fields alone, as in "
            "`class Schedule(NamedTuple):`; other classes are not compiled",
            node.lineno,
        )


def _check_annotation(node: ast.expr) -> None:
    for part in ast.walk(node):
        if isinstance(part, ast.Call | ast.NamedExpr):
            raise _Rejected("annotations must be types, without calls", node.lineno)


def _kind(node: ast.stmt) -> str:
    names = {ast.AugAssign: "a change of a variable", ast.Expr: "a call", ast.If: "an `if`"}
    names |= {ast.For: "a loop", ast.While: "a loop", ast.Try: "a `try`", ast.Delete: "a `del`"}
    return names.get(type(node), f"`{type(node).__name__.lower()}`")


# --- modules -------------------------------------------------------------------------------------


@functools.cache
def modules() -> dict[str, frozenset[str]]:
    """The modules that a program may import, and what it may use of each."""

    def functions_of(module: types.ModuleType) -> frozenset[str]:
        return frozenset(
            name
            for name, value in vars(module).items()
            if isinstance(value, types.FunctionType)
            and value.__module__ == module.__name__
            and not name.startswith("_")
        )

    numpy = {n for n in np.__all__ if not isinstance(getattr(np, n), types.ModuleType)}
    return {
        "__future__": frozenset({"annotations"}),
        "math": frozenset(name for name in vars(math) if not name.startswith("_")),
        "numpy": frozenset(numpy - _NOT_OF_NUMPY),
        "typing": frozenset({"Any", "Final", "NamedTuple"} & set(typing.__all__)),
        helpers.__name__: functions_of(helpers),
    }


#: Earlier names of :mod:`autotts_gym.controllers.helpers`, which saved candidates import.
_RENAMED: Final = {
    f"autotts_gym.controllers.{old}": helpers.__name__
    for old, new in RENAMED_MODULES.items()
    if new == "helpers"
}


def _check_import(node: ast.Import | ast.ImportFrom) -> None:
    known = modules()
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name not in ("math", "numpy"):
                _refuse_module(alias.name, node.lineno)
        return
    name = "." * node.level + (node.module or "")
    name = _RENAMED.get(name, name)
    if name not in known:
        _refuse_module(name, node.lineno)
    for alias in node.names:
        _check_offered(name, alias.name, node.lineno)


def _refuse_module(name: str, line: int) -> typing.NoReturn:
    if _RENAMED.get(name, name) in modules():
        raise _Rejected(f"write `from {name} import ...`", line)
    whole = ("math", "numpy")
    parts = [f"`from {name} import ...`" for name in modules() if name not in whole]
    raise _Rejected(
        f"{name} cannot be imported; what can is math and numpy, and {', '.join(parts)}", line
    )


def _check_offered(module: str, name: str, line: int) -> None:
    offered = modules()[module]
    if name in offered:
        return
    if module == "numpy" and name == "random":
        raise _Rejected("draw no random numbers: results would not repeat", line)
    if module in ("numpy", "math") and not hasattr({"numpy": np, "math": math}[module], name):
        raise _Rejected(f"{module} has no {name}", line)
    if len(offered) < 10:
        raise _Rejected(f"{module} offers {', '.join(sorted(offered))}, not {name}", line)
    raise _Rejected(f"{module}.{name} may not be used", line)


# --- names ---------------------------------------------------------------------------------------


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    waiting = [table]
    while waiting:
        found = waiting.pop()
        yield found
        waiting += found.get_children()


def _check_names(module: ast.Module, top: symtable.SymbolTable) -> None:
    """Names must be the file's own or harmless built-in ones; modules must not be passed on."""
    own = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    own |= {s.get_name() for s in top.get_symbols() if s.is_namespace()}
    asked: set[str] = set()
    for table in _tables(top):
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                asked.add(symbol.get_name())
    lines: dict[str, int] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            lines[node.id] = min(lines.get(node.id, node.lineno), node.lineno)
    for name in sorted(asked - own - BUILTINS, key=lambda name: lines.get(name, 0)):
        line = lines.get(name, 0)
        if hasattr(builtins, name):
            raise _Rejected(f"{name} may not be used", line)
        raise _Rejected(f"there is no {name}", line)

    aliases = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    held: set[ast.expr] = set()
    for node in ast.walk(module):
        if not isinstance(node, ast.Attribute):
            continue
        if isinstance(node.value, ast.Name) and node.value.id in aliases:
            held.add(node.value)
            _check_offered(aliases[node.value.id], node.attr, node.lineno)
        elif node.attr == "log":  # the handle's, which is the record of the episode
            raise _Rejected(".log may not be used, other than math's and numpy's", node.lineno)
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and node.id in aliases and node not in held:
            raise _Rejected(
                f"{node.id} is a module: use it as {node.id}.NAME, and for nothing else",
                node.lineno,
            )


# --- everything ----------------------------------------------------------------------------------


def _check_node(node: ast.AST) -> None:
    line = getattr(node, "lineno", 0)
    for name in _identifiers(node):
        if name.startswith("__"):
            raise _Rejected(f"names that begin with __ may not be used: {name}", line)
    match node:
        case ast.Global():
            raise _Rejected(
                "no `global`: a program keeps nothing from one episode to the next", line
            )
        case ast.Import() | ast.ImportFrom():
            if node.col_offset:
                raise _Rejected("imports belong at the top of the file", line)
        case ast.Yield() | ast.YieldFrom() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            raise _Rejected("functions must be plain: no yield, no async", line)
        case ast.AsyncFunctionDef():
            raise _Rejected("functions must be plain: no async", line)
        case ast.comprehension(is_async=1):
            raise _Rejected("functions must be plain: no async", line)
        case ast.Attribute(attr=name, ctx=ctx):
            if not isinstance(ctx, ast.Load):
                raise _Rejected(f"nothing may be set on another object, as .{name} is", line)
            if name.startswith("_") or name in _WAYS_OUT:
                raise _Rejected(f".{name} may not be used: a program sees what it is told", line)
        case ast.MatchClass(kwd_attrs=names):
            for name in names:
                if name.startswith("_") or name in _WAYS_OUT:
                    raise _Rejected(f".{name} may not be used", line)


def _identifiers(node: ast.AST) -> Iterator[str]:
    """The names that a node has: every text that is none of the program's own."""
    if isinstance(node, ast.Constant) or (
        isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ):
        return
    for _, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str):
                yield part


def _check_solve(module: ast.Module, knob: bool) -> None:
    found = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "solve"]
    form = "solve(episode, beta)"
    if not found:
        raise _Rejected(f"has no function {form}")
    if len(found) > 1:
        raise _Rejected("solve is defined twice", found[1].lineno)
    (solve,) = found
    arguments = solve.args
    names = [arg.arg for arg in [*arguments.posonlyargs, *arguments.args]]
    others = names[2:] + [arg.arg for arg in arguments.kwonlyargs]
    others += [f"*{arg.arg}" for arg in [arguments.vararg] if arg is not None]
    others += [f"**{arg.arg}" for arg in [arguments.kwarg] if arg is not None]
    if others or arguments.defaults:
        listed = ", ".join(others) or "defaults"
        raise _Rejected(
            f"solve takes {listed} besides episode and beta: β is the only knob, so work out "
            f"everything else from it within {form}"
            if knob
            else f"solve takes {listed}; it must be solve(episode) or {form}",
            solve.lineno,
        )
    if not knob:
        if not names:
            raise _Rejected("solve takes no episode; it must be solve(episode)", solve.lineno)
        return
    if len(names) != 2 or names[1] != "beta":
        raise _Rejected(
            f"solve({', '.join(names)}) does not fit; it must be {form}, with β in [0, 1] the one "
            "knob: 0 spends least, 1 most",
            solve.lineno,
        )
    uses = (
        isinstance(node, ast.Name) and node.id == "beta" and isinstance(node.ctx, ast.Load)
        for statement in solve.body
        for node in ast.walk(statement)
    )
    if not any(uses):
        raise _Rejected(
            "solve never uses beta: it must decide how much is spent, and every other constant "
            "that moves must be a function of it",
            solve.lineno,
        )
