"""Bundling of the page's ES modules into one script, without a build tool.

Each module becomes a function scope that returns its exports. Modules are written in a restricted
style, which :func:`bundle` checks: named imports of files beside them, at the start of a line, and
``export`` before a declaration.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

_IMPORT: Final = re.compile(r'^import \{([^}]*)\} from "\./([\w-]+\.js)";\n', re.MULTILINE)
_EXPORT: Final = re.compile(r"^export ((?:async )?function|const) (\w+)", re.MULTILINE)
_UNSUPPORTED: Final = re.compile(r"^(?:import|export)\b.*$", re.MULTILINE)


def bundle(entry: str, read: Callable[[str], str]) -> str:
    """Bundle a module and everything that it imports.

    Args:
        entry: the file name of the module, such as ``"main.js"``.
        read: returns the text of a file.

    Returns:
        A script without imports.

    Raises:
        ValueError: imports are circular, or an import or export is of an unsupported form.
    """
    scopes: dict[str, str] = {}
    _add(entry, read, scopes, [])
    return '"use strict";\nconst modules = {};\n' + "".join(scopes.values())


def _add(
    name: str, read: Callable[[str], str], scopes: dict[str, str], importers: list[str]
) -> None:
    """Add a module to ``scopes`` after the modules that it imports."""
    if name in importers:
        raise ValueError(f"circular import: {' -> '.join([*importers, name])}")
    if name in scopes:
        return
    text = read(name)
    for _, imported in _IMPORT.findall(text):
        _add(imported, read, scopes, [*importers, name])
    exports = [declared for _, declared in _EXPORT.findall(text)]
    body = _IMPORT.sub(r'const {\1} = modules["\2"];\n', text)
    body = _EXPORT.sub(r"\1 \2", body)
    unsupported = _UNSUPPORTED.search(body)
    if unsupported:
        raise ValueError(f"{name}: cannot bundle {unsupported[0]!r}")
    returned = f"return {{ {', '.join(exports)} }};\n" if exports else ""
    scopes[name] = f'modules["{name}"] = (() => {{\n{body}{returned}}})();\n'
