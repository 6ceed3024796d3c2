"""Agents made of Python code: functions, and files that define a function or a class."""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from autotts_gym.controllers import published_programs
from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import AgentError, NoAnswerError
from autotts_gym.controllers.function_digest import function_digest


@dataclass(frozen=True)
class FunctionAgent(Agent):
    """A controller given as a function, for example one defined in a notebook.

    Attributes:
        solve: the function ``solve(episode, beta)`` or ``solve(episode)``.
    """

    solve: Callable[..., Any] = field(compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        # By value, unless the function can be imported: workers do not have the notebook.
        facts = self.path, self.takes_beta, self.digest, self.source
        return _unpickle_function, (cloudpickle.dumps(self.solve), self.name, *facts)

    def __call__(self, episode: Episode, beta: float) -> None:
        self.solve(*((episode, beta) if self.takes_beta else (episode,)))
        if not episode.ended:
            raise NoAnswerError("solve returned without episode.answer()")


@dataclass(frozen=True)
class ProgramAgent(FunctionAgent):
    """A controller loaded from the source of a Python file.

    Pickling keeps the source, so that workers play the same program even if the file changes.

    Attributes:
        program: name of the class, if one was requested as ``PATH:CLASS``.
    """

    program: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        return agent_from_source, (self.path, self.source, self.program)


@functools.cache
def agent_from_source(path: Path, source: bytes, program: str = "") -> ProgramAgent:
    """Run the source of a controller file, and return its agent.

    Args:
        path: the file, for names and messages; it is not read.
        source: the file's content.
        program: class of a published-style file; by default the only one, or
            ``OptimalController``.

    Raises:
        AgentError: the source raises, or defines no suitable ``solve``.
    """
    digest = hashlib.sha256(source).hexdigest()
    name = f"autotts_agent_{path.stem}_{digest[:12]}"
    # Not through importlib: its bytecode files miss a second edit within one second.
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and pickle look their module up
    try:
        exec(compile(source, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise AgentError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    solve = getattr(module, "solve", None)
    programs = published_programs.programs(module)
    if program or (programs and not inspect.isfunction(solve)):
        return _published_agent(path, programs, source, program)
    if not inspect.isfunction(solve):
        raise AgentError(f"{path}: has no function solve(episode, beta) or solve(episode)")
    takes_beta = _check_solve(solve, str(path))
    return ProgramAgent(path.stem, path, takes_beta, digest, solve, source=source, program=program)


def agent_from_function(solve: Callable[..., Any], name: str = "") -> FunctionAgent:
    """The agent of a function or lambda, for example one defined in a notebook or a script.

    Like a controller file, it is compiled where numba can compile it, and runs as plain Python
    elsewhere. Its digest covers the function's code, its defaults, and the variables and helper
    functions that it refers to.

    Args:
        solve: the function ``solve(episode, beta)`` or ``solve(episode)``.
        name: the agent's name; by default the function's.

    Raises:
        AgentError: it is not a plain function, or its parameters do not fit.
    """
    if not inspect.isfunction(solve):
        raise AgentError(
            f"{solve!r:.80} is not a function: wrap it in one, as in "
            "lambda episode, beta: controller(episode, beta)"
        )
    name = name or solve.__name__.strip("<>")
    takes_beta = _check_solve(solve, name)
    try:
        source = inspect.getsource(solve).encode()
    except (OSError, TypeError):  # defined in an interactive session
        source = b""
    path = Path(solve.__code__.co_filename)
    return FunctionAgent(name, path, takes_beta, function_digest(solve), solve, source=source)


def _unpickle_function(
    solve: bytes, name: str, path: Path, takes_beta: bool, digest: str, source: bytes
) -> FunctionAgent:
    return FunctionAgent(name, path, takes_beta, digest, cloudpickle.loads(solve), source=source)


def _published_agent(
    path: Path, programs: dict[str, type], source: bytes, requested: str
) -> ProgramAgent:
    """The agent of a published-style file: the requested class, the only one, or the default."""
    known = ", ".join(programs) or "none"
    if requested and requested not in programs:
        raise AgentError(f"{path}: has no class {requested!r} with solve(question); it has {known}")
    default = next(iter(programs)) if len(programs) == 1 else published_programs.DEFAULT_CLASS
    chosen = requested or default
    if chosen not in programs:
        raise AgentError(f"{path}: defines several programs; name one as PATH:CLASS: {known}")
    solve, takes_beta = published_programs.as_controller(programs[chosen])
    digest = _class_digest(source, chosen)
    name = f"{path.stem}:{requested}" if requested else path.stem
    return ProgramAgent(
        name, path, takes_beta, digest, solve, published=True, source=source, program=requested
    )


def _class_digest(source: bytes, program: str) -> str:
    return hashlib.sha256(f"{hashlib.sha256(source).hexdigest()} {program}".encode()).hexdigest()


def may_have_digest(source: bytes, program: str, digest: str) -> bool:
    """Whether :func:`agent_from_source` can return an agent with this digest; nothing is run.

    Args:
        source: content of a controller file.
        program: class of a published-style file, if one was requested.
        digest: the digest.
    """
    if not program and hashlib.sha256(source).hexdigest() == digest:
        return True
    if program:
        return _class_digest(source, program) == digest
    # Which class is played is not known before the file runs: it is one that the text defines.
    names = set(re.findall(rb"^class[ \t]+([A-Za-z_]\w*)", source, re.MULTILINE))
    return any(_class_digest(source, name.decode()) == digest for name in names)


def _check_solve(solve: Callable[..., Any], where: str) -> bool:
    """Check that a function can play episodes; returns whether it takes β.

    Raises:
        AgentError: it is a generator or coroutine, or its parameters do not fit.
    """
    if inspect.isgeneratorfunction(solve) or inspect.iscoroutinefunction(solve):
        raise AgentError(f"{where}: solve must be a plain function: no yield, no async")
    takes_beta = _accepts(solve, 2)
    if not takes_beta and not _accepts(solve, 1):
        raise AgentError(
            f"{where}: solve{inspect.signature(solve)} does not fit; it must be "
            "solve(episode, beta), or solve(episode) without β"
        )
    return takes_beta


def _accepts(function: Callable[..., Any], count: int) -> bool:
    """Whether a function accepts ``count`` positional arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True
