"""What a program's text says of itself, without running it.

Run as a program in an interpreter of its own, since a text can be made to bring a parser down: it
reads the text, and writes what it found as JSON.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from typing import Any, Final

#: Bytes and seconds that reading a text may take.
_MEMORY, _SECONDS = 1 << 30, 20

#: Bytes of the longest text.
LONGEST: Final = 1 << 20


class OutlineError(ValueError):
    """A text that is no program for an episode; the message says why."""


def outline(text: bytes, program: str = "") -> dict[str, Any]:
    """What a text offers to be played.

    Args:
        text: of a Python file.
        program: a class of it, where one was named.

    Returns:
        ``takes_beta``, ``published``, and ``program``: the class that is played, or nothing.

    Raises:
        OutlineError: it offers nothing, or cannot be read.
    """
    if len(text) > LONGEST:
        raise OutlineError(f"is larger than {LONGEST >> 20} MiB")
    from autotts_gym.controllers.published_programs import DEFAULT_CLASS  # not where this is run

    command = [sys.executable, "-I", "-S", __file__, program, DEFAULT_CLASS]
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, timeout=3 * _SECONDS, env={}, check=False
        )
    except subprocess.TimeoutExpired:
        raise OutlineError("cannot be loaded: it takes too long to read") from None
    if done.returncode:
        raise OutlineError(f"cannot be loaded: reading it ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout)
    if "error" in found:
        raise OutlineError(found["error"])
    return found


def _read(text: bytes, wanted: str, default: str) -> dict[str, Any]:
    try:
        tree = ast.parse(text)
        compile(text, "program", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise OutlineError(f"cannot be loaded: {type(error).__name__}: {error}") from None
    functions = {n.name: n for n in tree.body if isinstance(n, ast.FunctionDef)}
    if any(isinstance(n, ast.AsyncFunctionDef) and n.name == "solve" for n in tree.body):
        raise OutlineError("solve must be a plain function: no yield, no async")
    solve = functions.get("solve")
    programs = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        and any(isinstance(n, ast.FunctionDef) and n.name == "solve" for n in node.body)
    }
    if wanted or (programs and solve is None):
        known = ", ".join(programs) or "none"
        if wanted and wanted not in programs:
            raise OutlineError(f"has no class {wanted!r} with solve(question); it has {known}")
        chosen = wanted or (next(iter(programs)) if len(programs) == 1 else default)
        if chosen not in programs:
            raise OutlineError(f"holds several programs, so name one as PATH:CLASS: {known}")
        made = [n for n in programs[chosen].body if isinstance(n, ast.FunctionDef)]
        starts = [n.args for n in made if n.name == "__init__"]
        takes_beta = any(len(a.posonlyargs + a.args) > 1 or a.vararg for a in starts)
        return {"takes_beta": takes_beta, "published": True, "program": chosen}
    if solve is None:
        raise OutlineError("has no function solve(episode, beta) or solve(episode)")
    if _yields(solve):
        raise OutlineError("solve must be a plain function: no yield, no async")
    takes_beta = _takes(solve.args, 2)
    if not takes_beta and not _takes(solve.args, 1):
        raise OutlineError(
            f"solve({ast.unparse(solve.args)}) does not fit; it must be solve(episode, beta), or "
            "solve(episode) without a knob"
        )
    return {"takes_beta": takes_beta, "published": False, "program": ""}


def _takes(arguments: ast.arguments, count: int) -> bool:
    """Whether a function can be called with so many arguments by position."""
    places = len(arguments.posonlyargs) + len(arguments.args)
    if any(default is None for default in arguments.kw_defaults):
        return False
    enough = places >= count or arguments.vararg is not None
    return enough and places - len(arguments.defaults) <= count


def _yields(function: ast.FunctionDef) -> bool:
    """Whether a function is a generator; functions within it do not count."""
    inner = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    left: list[ast.AST] = list(function.body)
    while left:
        node = left.pop()
        if isinstance(node, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(node, inner):
            left += ast.iter_child_nodes(node)
    return False


if __name__ == "__main__":
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    try:
        found = _read(sys.stdin.buffer.read(), *sys.argv[1:])
    except (OutlineError, RecursionError, MemoryError) as error:
        found = {"error": str(error) or type(error).__name__}
    print(json.dumps(found))
