"""Inspection of a program's source without running it: does it define a playable ``solve``?

The parsing runs in a separate interpreter, for which this file is the program, because crafted
source can crash the parser. It reads the source from stdin and prints the result as JSON.
"""

from __future__ import annotations

import ast
import codecs
import io
import json
import subprocess
import sys
import tokenize
from typing import Any, Final

# Limits of the parsing process: bytes of memory, and seconds.
_MEMORY, _SECONDS = 1 << 30, 20

#: Maximum size of a program's source, bytes.
MAX_SOURCE_SIZE: Final = 1 << 20


class SourceError(ValueError):
    """A program's source is not playable; the message gives the reason."""


def decode_source(source: bytes) -> str:
    """The text of a Python file, which is what is checked and what is compiled.

    Bytes are never compiled, because Python would decode them by a declaration in their first
    lines, and so run another text than the one that was checked.

    Raises:
        SourceError: it is not UTF-8, or declares another encoding.
    """
    try:
        declared = codecs.lookup(tokenize.detect_encoding(io.BytesIO(source).readline)[0]).name
        if declared not in ("utf-8", "utf-8-sig"):
            raise SourceError(
                f"declares the encoding {declared}; an untrusted program must be UTF-8"
            )
        return source.decode("utf-8-sig")
    except (SyntaxError, UnicodeDecodeError, LookupError) as error:
        raise SourceError(f"cannot be loaded: not UTF-8: {error}") from None


def inspect_source(source: bytes, program: str = "") -> dict[str, Any]:
    """Inspect the source of a controller file.

    Args:
        source: content of a Python file.
        program: the requested class of a published-style file; empty if none is requested.

    Returns:
        ``takes_beta``; ``published``; ``program``, the class to play or an empty string.

    Raises:
        SourceError: it cannot be parsed, or defines nothing playable.
    """
    if len(source) > MAX_SOURCE_SIZE:
        raise SourceError(f"is larger than {MAX_SOURCE_SIZE >> 20} MiB")
    text = decode_source(source)
    # Imported here, as the parsing process runs without site-packages.
    from autotts_gym.controllers.errors import MAX_MESSAGE_LENGTH
    from autotts_gym.controllers.published_programs import DEFAULT_CLASS

    command = [sys.executable, "-I", "-S", __file__, program, DEFAULT_CLASS]
    try:
        done = subprocess.run(
            command,
            input=text.encode(),
            capture_output=True,
            timeout=3 * _SECONDS,
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise SourceError("cannot be loaded: parsing takes too long") from None
    if done.returncode:
        raise SourceError(f"cannot be loaded: the parser exited with code {done.returncode}")
    result: dict[str, Any] = json.loads(done.stdout)
    if "error" in result:
        raise SourceError(result["error"][:MAX_MESSAGE_LENGTH])
    return result


def _inspect(source: str, requested: str, default_class: str) -> dict[str, Any]:
    """See :func:`inspect_source`; runs in the parsing process."""
    try:
        tree = ast.parse(source)
        compile(source, "program", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SourceError(f"cannot be loaded: {type(error).__name__}: {error}") from None
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if any(isinstance(n, ast.AsyncFunctionDef) and n.name == "solve" for n in tree.body):
        raise SourceError("solve must be a plain function: no yield, no async")
    solve = functions.get("solve")
    classes = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(n, ast.FunctionDef) and n.name == "solve" for n in node.body)
    }
    if requested or (classes and solve is None):
        return _inspect_classes(classes, requested, default_class)
    if solve is None:
        raise SourceError("has no function solve(episode, beta) or solve(episode)")
    if _is_generator(solve):
        raise SourceError("solve must be a plain function: no yield, no async")
    takes_beta = _accepts(solve.args, 2)
    if not takes_beta and not _accepts(solve.args, 1):
        raise SourceError(
            f"solve({ast.unparse(solve.args)}) does not fit; it must be solve(episode, beta), or "
            "solve(episode) without β"
        )
    return {"takes_beta": takes_beta, "published": False, "program": ""}


def _inspect_classes(
    classes: dict[str, ast.ClassDef], requested: str, default_class: str
) -> dict[str, Any]:
    """The published-style program to play: the requested class, the only one, or the default."""
    known = ", ".join(classes) or "none"
    if requested and requested not in classes:
        raise SourceError(f"has no class {requested!r} with solve(question); it has {known}")
    chosen = requested or (next(iter(classes)) if len(classes) == 1 else default_class)
    if chosen not in classes:
        raise SourceError(f"defines several programs; name one as PATH:CLASS: {known}")
    methods = [n for n in classes[chosen].body if isinstance(n, ast.FunctionDef)]
    signatures = [n.args for n in methods if n.name == "__init__"]
    takes_beta = any(len(a.posonlyargs + a.args) > 1 or a.vararg for a in signatures)
    return {"takes_beta": takes_beta, "published": True, "program": chosen}


def _accepts(arguments: ast.arguments, count: int) -> bool:
    """Whether a function accepts ``count`` positional arguments."""
    positional = len(arguments.posonlyargs) + len(arguments.args)
    if any(default is None for default in arguments.kw_defaults):
        return False
    enough = positional >= count or arguments.vararg is not None
    return enough and positional - len(arguments.defaults) <= count


def _is_generator(function: ast.FunctionDef) -> bool:
    """Whether a function is a generator; nested functions do not count."""
    nested = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    pending: list[ast.AST] = list(function.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, nested):
            pending += ast.iter_child_nodes(node)
    return False


if __name__ == "__main__":
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    try:
        result = _inspect(sys.stdin.buffer.read().decode(), *sys.argv[1:])
    except (SourceError, RecursionError, MemoryError) as error:
        result = {"error": str(error) or type(error).__name__}
    print(json.dumps(result))
