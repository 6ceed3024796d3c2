"""Checks of the source text of a program, before any of it runs.

The checks restrict programs to what the search can compare: plain functions that behave the same in
every episode, with β as the only parameter that controls spending. They give a proposer an early
and precise reason for a rejection. They do not replace the sandbox in which untrusted programs are
played, see ``autotts_gym.sandbox``.
"""

from __future__ import annotations

import ast
import symtable
import warnings

from autotts_gym.discovery.name_checks import check_attribute, check_identifiers, check_names
from autotts_gym.discovery.source_rules import MAX_SOURCE_SIZE, RuleViolation
from autotts_gym.discovery.statement_checks import check_statements


def check(source: str, *, knob: bool = True) -> str:
    """Check the source text of a program.

    Args:
        source: text of the controller.
        knob: require the signature ``solve(episode, beta)``, and that ``beta`` is used. Otherwise,
            ``solve(episode)`` is accepted as well.

    Returns:
        Why the program is rejected, with the number of the line if there is one; empty if the
        program is accepted. The text is meant for people and language models.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as warnings about invalid escape sequences
            _check(source, knob)
    except RuleViolation as violation:
        return str(violation)
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        return f"{line}not valid Python: {error.msg}"
    except (RecursionError, MemoryError):
        return "the program is nested too deeply"
    except (ValueError, OverflowError) as error:  # null bytes, lone surrogates, huge numbers
        return f"not valid Python: {error}"
    return ""


def _check(source: str, knob: bool) -> None:
    size = len(source.encode())
    if size > MAX_SOURCE_SIZE:
        raise RuleViolation(f"the program has {size} bytes; the maximum is {MAX_SOURCE_SIZE}")
    module = ast.parse(source)
    # Compiling finds errors that parsing does not find.
    compile(source, "controller.py", "exec", dont_inherit=True)
    check_statements(module)
    check_names(module, symtable.symtable(source, "controller.py", "exec"))
    for node in ast.walk(module):
        _check_node(node)
    _check_solve(module, knob)


def _check_node(node: ast.AST) -> None:
    """Check the rules that apply anywhere in the file."""
    line = getattr(node, "lineno", 0)
    check_identifiers(node)
    match node:
        case ast.Global():
            raise RuleViolation(
                "`global` is not allowed: programs must not keep state between episodes", line
            )
        case ast.Import() | ast.ImportFrom():
            if node.col_offset:
                raise RuleViolation("imports are only allowed at the top level", line)
        case ast.Yield() | ast.YieldFrom() | ast.Await() | ast.AsyncFor() | ast.AsyncWith():
            raise RuleViolation("yield, await and async are not allowed", line)
        case ast.AsyncFunctionDef():
            raise RuleViolation("async functions are not allowed", line)
        case ast.comprehension(is_async=1):
            raise RuleViolation("async comprehensions are not allowed", line)
        case ast.Attribute(attr=name, ctx=ctx):
            if not isinstance(ctx, ast.Load):
                raise RuleViolation(f"attributes must not be assigned or deleted: .{name}", line)
            check_attribute(name, line)
        case ast.MatchClass(kwd_attrs=names):
            for name in names:
                check_attribute(name, line)


def _check_solve(module: ast.Module, knob: bool) -> None:
    """Check that there is one function ``solve`` with the right parameters."""
    functions = [n for n in module.body if isinstance(n, ast.FunctionDef) and n.name == "solve"]
    if not functions:
        raise RuleViolation("the program has no function solve(episode, beta)")
    if len(functions) > 1:
        raise RuleViolation("solve is defined twice", functions[1].lineno)
    (solve,) = functions
    names = [arg.arg for arg in [*solve.args.posonlyargs, *solve.args.args]]
    _check_extra_parameters(solve, names[2:], knob)
    if not knob:
        if not names:
            raise RuleViolation(
                "solve has no parameter episode; the signature must be solve(episode)",
                solve.lineno,
            )
        return
    if len(names) != 2 or names[1] != "beta":
        raise RuleViolation(
            f"the signature solve({', '.join(names)}) must be solve(episode, beta); β in [0, 1] "
            "is the only knob: a program spends least at 0 and most at 1",
            solve.lineno,
        )
    uses = (
        isinstance(node, ast.Name) and node.id == "beta" and isinstance(node.ctx, ast.Load)
        for statement in solve.body
        for node in ast.walk(statement)
    )
    if not any(uses):
        raise RuleViolation(
            "solve never uses beta: beta must control how much is spent, and every constant that "
            "varies must be a function of it",
            solve.lineno,
        )


def _check_extra_parameters(solve: ast.FunctionDef, extra: list[str], knob: bool) -> None:
    """Check that ``solve`` has no parameters after the first two, and no default values."""
    arguments = solve.args
    extra = extra + [arg.arg for arg in arguments.kwonlyargs]
    extra += [f"*{arg.arg}" for arg in [arguments.vararg] if arg is not None]
    extra += [f"**{arg.arg}" for arg in [arguments.kwarg] if arg is not None]
    if not extra and not arguments.defaults:
        return
    found = f"extra parameters: {', '.join(extra)}" if extra else "default values"
    if knob:
        reason = (
            f"solve has {found}; the signature must be solve(episode, beta): β is the only knob, "
            "so compute everything else from it in solve"
        )
    else:
        reason = f"solve has {found}; the signature must be solve(episode) or solve(episode, beta)"
    raise RuleViolation(reason, solve.lineno)
