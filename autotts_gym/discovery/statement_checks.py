"""Source checks of module-level statements: functions, constants and NamedTuples."""

from __future__ import annotations

import ast

from autotts_gym.discovery.name_checks import check_import
from autotts_gym.discovery.source_rules import CONSTANT_FUNCTIONS, RuleViolation


def check_statements(module: ast.Module) -> None:
    """Check that a module consists of imports, constants, NamedTuples and plain functions."""
    constants: set[str] = set()
    for node in module.body:
        match node:
            case ast.FunctionDef():
                _check_function(node, constants)
            case ast.Import() | ast.ImportFrom():
                check_import(node)
            case ast.ClassDef():
                _check_named_tuple(node, constants)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Assign(targets=targets, value=value):
                for target in targets:
                    constants |= _assigned_names(target)
                _check_constant(value, constants)
            case ast.AnnAssign(target=target, value=value) if value is not None:
                constants |= _assigned_names(target)
                _check_annotation(node.annotation)
                _check_constant(value, constants)
            case ast.AsyncFunctionDef():
                raise RuleViolation("async functions are not allowed", node.lineno)
            case _:
                raise RuleViolation(
                    "only imports, constants, NamedTuples and functions are allowed at the top "
                    f"level, not {_describe(node)}: move it into a function",
                    node.lineno,
                )


def _assigned_names(target: ast.expr) -> set[str]:
    match target:
        case ast.Name(id=name):
            return {name}
        case ast.Tuple(elts=elements):
            return set().union(*(_assigned_names(element) for element in elements))
    raise RuleViolation("only names can be assigned at the top level", target.lineno)


def _check_constant(node: ast.expr, constants: set[str]) -> None:
    """Check that an expression is constant: numbers, strings and tuples of them.

    Args:
        node: the expression.
        constants: names of the constants that are defined so far.
    """
    match node:
        case ast.Constant():
            pass
        case ast.Name(id=name) if name in constants:
            pass
        case ast.Tuple(elts=parts):
            for part in parts:
                _check_constant(part, constants)
        case ast.UnaryOp(operand=operand):
            _check_constant(operand, constants)
        case ast.BinOp(left=left, right=right):
            _check_constant(left, constants)
            _check_constant(right, constants)
        case ast.Subscript(value=value, slice=index):
            _check_constant(value, constants)
            _check_constant(index, constants)
        case ast.Attribute(value=ast.Name(), attr=_):
            pass  # of a module; see name_checks
        case ast.Call(func=function, args=args, keywords=[]) if _is_constant_function(function):
            for arg in args:
                _check_constant(arg, constants)
        case ast.List() | ast.Dict() | ast.Set() | ast.ListComp() | ast.DictComp() | ast.SetComp():
            raise RuleViolation(
                "module-level variables must not change between episodes: use a tuple, or create "
                "the value in a function",
                node.lineno,
            )
        case _:
            raise RuleViolation(
                "module-level variables must be constants (numbers, strings, tuples): compute "
                "other values in a function",
                node.lineno,
            )


def _is_constant_function(function: ast.expr) -> bool:
    match function:
        case ast.Name(id=name):
            return name in CONSTANT_FUNCTIONS
        case ast.Attribute(value=ast.Name(id="math")):
            return True
    return False


def _check_function(node: ast.FunctionDef, constants: set[str]) -> None:
    if node.decorator_list:
        raise RuleViolation(f"{node.name} has a decorator: remove it", node.lineno)
    arguments = node.args
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        if default is not None:
            _check_constant(default, constants)
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    parameters += [arg for arg in (arguments.vararg, arguments.kwarg) if arg is not None]
    for annotation in [node.returns, *(arg.annotation for arg in parameters)]:
        if annotation is not None:
            _check_annotation(annotation)


def _check_named_tuple(node: ast.ClassDef, constants: set[str]) -> None:
    """Check that a class is a NamedTuple with fields only."""
    valid = (
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
                valid = False
    if not valid:
        raise RuleViolation(
            f"{node.name} must be a NamedTuple with fields only, such as "
            "`class Schedule(NamedTuple):`; other classes cannot be compiled",
            node.lineno,
        )


def _check_annotation(node: ast.expr) -> None:
    for part in ast.walk(node):
        if isinstance(part, ast.Call | ast.NamedExpr):
            raise RuleViolation("annotations must be types, without calls", node.lineno)


def _describe(node: ast.stmt) -> str:
    names = {ast.AugAssign: "an augmented assignment", ast.Expr: "a call", ast.If: "an `if`"}
    names |= {ast.For: "a loop", ast.While: "a loop", ast.Try: "a `try`", ast.Delete: "a `del`"}
    return names.get(type(node), f"`{type(node).__name__.lower()}`")
