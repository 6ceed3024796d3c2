"""Agents: controllers that were loaded, with everything needed to play and to identify them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import gymnasium as gym

from autotts_gym.controllers import published_programs
from autotts_gym.controllers.episode import Episode, NoAnswerError, StepLimitError


class AgentError(ValueError):
    """A controller that cannot be loaded or played; the message says why."""


@dataclass(frozen=True)
class Agent:
    """A controller that was loaded from a file.

    Attributes:
        name: the file's name without ``.py``, with ``:CLASS`` where a class was named.
        path: the file.
        solve: its function ``solve(episode, beta)`` or ``solve(episode)``.
        takes_beta: whether it has the knob β.
        digest: sha256 of the file's text, and of the class where one is named.
        published: whether it is a published-style program, a class with ``solve(question)``.
        source: the file's text and the class that was named; an agent is pickled as these, so that
            another process or machine plays the same program, whatever its file says by then.
    """

    name: str
    path: Path
    solve: Callable[..., Any] = field(compare=False)
    takes_beta: bool
    digest: str
    published: bool = False
    source: tuple[bytes, str] = field(default=(b"", ""), repr=False)

    #: Whether it is a trained policy, see :mod:`autotts_gym.controllers.policy_agent`.
    is_policy: ClassVar[bool] = False

    #: Whether it is only played in a sandbox, see :mod:`autotts_gym.sandbox.untrusted_agent`.
    is_untrusted: ClassVar[bool] = False

    def __reduce__(self) -> tuple[Any, ...]:
        return agent_of, (self.path, *self.source)

    def __call__(self, episode: Episode, beta: float) -> None:
        """Play one episode through a handle.

        Raises:
            NoAnswerError: the controller returned without ending the episode.
            IllegalActionError, StepLimitError: see :mod:`autotts_gym.controllers.episode`.
        """
        self.solve(*((episode, beta) if self.takes_beta else (episode,)))
        if not episode.ended:
            raise NoAnswerError("solve returned without episode.answer()")

    def play(
        self, env: gym.Env[Any, Any], *, seed: int | None = None, **options: Any
    ) -> dict[str, Any]:
        """Play one episode of a Gymnasium environment through ``reset`` and ``step``.

        Args:
            env: an environment with ``AutoTTS-v0``'s spaces.
            seed, options: for ``env.reset``; β is the one that the episode has.

        Returns:
            The ``info`` of the last step.

        Raises:
            NoAnswerError, IllegalActionError: as above.
        """
        observation, _ = env.reset(seed=seed, options=options)
        episode = Episode(env, observation)
        with contextlib.suppress(StepLimitError):  # being cut off is a result like any other
            self(episode, env.get_wrapper_attr("beta"))
        return episode.info


@functools.cache
def agent_of(path: Path, text: bytes, program: str = "") -> Agent:
    """The agent of a text, as it would stand in a file; raises ``AgentError`` if it is none."""
    digest = hashlib.sha256(text).hexdigest()
    name = f"autotts_agent_{path.stem}_{digest[:12]}"
    # Not importlib's way: its bytecode files cannot tell two edits within a second apart.
    module = ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # dataclasses and the like look their module up
    try:
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise AgentError(f"{path}: cannot be loaded: {type(error).__name__}: {error}") from error
    solve = getattr(module, "solve", None)
    programs = published_programs.programs(module)
    if program or (programs and not inspect.isfunction(solve)):
        return _program(path, programs, text, program)
    if not inspect.isfunction(solve):
        raise AgentError(f"{path}: has no function solve(episode, beta) or solve(episode)")
    if inspect.isgeneratorfunction(solve) or inspect.iscoroutinefunction(solve):
        raise AgentError(f"{path}: solve must be a plain function: no yield, no async")
    takes_beta = _takes(solve, 2)
    if not takes_beta and not _takes(solve, 1):
        raise AgentError(
            f"{path}: solve{inspect.signature(solve)} does not fit; it must be "
            "solve(episode, beta), or solve(episode) without a knob"
        )
    return Agent(path.stem, path, solve, takes_beta, digest, source=(text, program))


def _program(path: Path, programs: dict[str, type], text: bytes, name: str) -> Agent:
    """A published-style program: the class that is named, the only one, or the default one."""
    known = ", ".join(programs) or "none"
    if name and name not in programs:
        raise AgentError(f"{path}: has no class {name!r} with solve(question); it has {known}")
    chosen = name or (
        next(iter(programs)) if len(programs) == 1 else published_programs.DEFAULT_CLASS
    )
    if chosen not in programs:
        raise AgentError(f"{path}: holds several programs, so name one as PATH:CLASS: {known}")
    solve, takes_beta = published_programs.as_controller(programs[chosen])
    digest = hashlib.sha256(f"{hashlib.sha256(text).hexdigest()} {chosen}".encode()).hexdigest()
    label = f"{path.stem}:{name}" if name else path.stem
    return Agent(label, path, solve, takes_beta, digest, published=True, source=(text, name))


def _takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments by position."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True
