"""Source checks of names: imports, built-ins, attributes and identifiers."""

from __future__ import annotations

import ast
import builtins
import symtable
import typing
from collections.abc import Iterator

from autotts_gym.discovery.source_rules import (
    ALLOWED_BUILTINS,
    FORBIDDEN_ATTRIBUTES,
    IMPORTABLE_MODULES,
    RuleViolation,
    allowed_modules,
    check_module_member,
    current_module_name,
)


def check_import(node: ast.Import | ast.ImportFrom) -> None:
    """Check that an import names an allowed module and allowed names of it."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name not in IMPORTABLE_MODULES:
                _reject_module(alias.name, node.lineno)
        return
    name = current_module_name("." * node.level + (node.module or ""))
    if name not in allowed_modules():
        _reject_module(name, node.lineno)
    for alias in node.names:
        check_module_member(name, alias.name, node.lineno)


def _reject_module(name: str, line: int) -> typing.NoReturn:
    if current_module_name(name) in allowed_modules():
        raise RuleViolation(f"write `from {name} import ...`", line)
    others = [m for m in allowed_modules() if m not in IMPORTABLE_MODULES]
    imports = ", ".join(f"`from {module} import ...`" for module in others)
    raise RuleViolation(
        f"{name} may not be imported; allowed are math and numpy, and {imports}", line
    )


def check_names(module: ast.Module, table: symtable.SymbolTable) -> None:
    """Check that every global name is defined in the file or an allowed built-in.

    Modules may only be used to access their attributes: they must not be assigned or passed on.
    """
    _check_global_names(module, table)
    _check_module_use(module)


def _check_global_names(module: ast.Module, top: symtable.SymbolTable) -> None:
    defined = {s.get_name() for s in top.get_symbols() if s.is_assigned() or s.is_imported()}
    defined |= {s.get_name() for s in top.get_symbols() if s.is_namespace()}
    used: set[str] = set()
    for table in _symbol_tables(top):
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (table is top or symbol.is_global()):
                used.add(symbol.get_name())
    lines: dict[str, int] = {}
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            lines[node.id] = min(lines.get(node.id, node.lineno), node.lineno)
    for name in sorted(used - defined - ALLOWED_BUILTINS, key=lambda name: lines.get(name, 0)):
        line = lines.get(name, 0)
        if hasattr(builtins, name):
            raise RuleViolation(f"{name} may not be used", line)
        raise RuleViolation(f"{name} is not defined", line)


def _symbol_tables(top: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    """A symbol table and all tables nested in it."""
    pending = [top]
    while pending:
        table = pending.pop()
        yield table
        pending += table.get_children()


def _check_module_use(module: ast.Module) -> None:
    modules = {
        alias.asname or alias.name: alias.name
        for node in ast.walk(module)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    attribute_bases: set[ast.expr] = set()
    for node in ast.walk(module):
        if not isinstance(node, ast.Attribute):
            continue
        if isinstance(node.value, ast.Name) and node.value.id in modules:
            attribute_bases.add(node.value)
            check_module_member(modules[node.value.id], node.attr, node.lineno)
        elif node.attr == "log":  # of an episode: its recorded actions
            raise RuleViolation(
                ".log may not be used, except the functions math.log and numpy.log", node.lineno
            )
    for node in ast.walk(module):
        if isinstance(node, ast.Name) and node.id in modules and node not in attribute_bases:
            raise RuleViolation(
                f"the module {node.id} may only be used as {node.id}.NAME", node.lineno
            )


def check_identifiers(node: ast.AST) -> None:
    """Check that no identifier of a node begins with two underscores."""
    for name in _identifiers(node):
        if name.startswith("__"):
            raise RuleViolation(
                f"names that begin with __ may not be used: {name}", getattr(node, "lineno", 0)
            )


def _identifiers(node: ast.AST) -> Iterator[str]:
    """All strings of a node that are not constants of the program."""
    if isinstance(node, ast.Constant) or (
        isinstance(node, ast.ImportFrom) and node.module == "__future__"
    ):
        return
    for _, value in ast.iter_fields(node):
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str):
                yield part


def check_attribute(name: str, line: int) -> None:
    """Check that a program may read an attribute."""
    if name.startswith("_") or name in FORBIDDEN_ATTRIBUTES:
        raise RuleViolation(
            f".{name} may not be used: only the documented methods and attributes of an episode "
            "are available",
            line,
        )
