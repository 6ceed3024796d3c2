"""Agents that nobody vouches for: known by their text alone, never run in this process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from autotts_gym.controllers.agent import Agent, AgentError
from autotts_gym.controllers.loader import place_of, read
from autotts_gym.sandbox.source_inspection import OutlineError, outline


@dataclass(frozen=True)
class UntrustedAgent(Agent):
    """A program that only a :class:`~autotts_gym.sandbox.player.Sandbox` plays.

    Attributes:
        program: the class that is played, of a published-style file; else empty.
    """

    is_untrusted: ClassVar[bool] = True
    program: str = ""

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {"takes_beta": self.takes_beta, "published": self.published}
        return _made, (self.path, *self.source, {**facts, "program": self.program})


def load_untrusted(agent: str) -> UntrustedAgent:
    """The agent of a file, ``PATH`` or ``PATH:CLASS``, of which nothing is run.

    It has the name and the digest that it would have if it were loaded. Unlike a file that is
    loaded, it must have ``solve``, or the class, as plain text at its top level.

    Raises:
        AgentError: there is no such file, or it offers nothing that can be played.
    """
    return untrusted(*read(agent))


def untrusted(path: Path, text: bytes, program: str = "") -> UntrustedAgent:
    """The agent of a text, as it would stand in a file.

    Raises:
        AgentError: it offers nothing that can be played.
    """
    try:
        facts = outline(text, program)
    except OutlineError as error:
        raise AgentError(f"{path}: {error}") from error
    return _made(path, text, program, facts)


def is_file(agent: str) -> bool:
    """Whether an agent is given by the path of a file, and so by a program; not by a name."""
    return Path(place_of(agent)[0]).suffix == ".py"


def _made(path: Path, text: bytes, program: str, facts: dict[str, Any]) -> UntrustedAgent:
    digest = hashlib.sha256(text).hexdigest()
    if facts["published"]:
        digest = hashlib.sha256(f"{digest} {facts['program']}".encode()).hexdigest()
    return UntrustedAgent(
        f"{path.stem}:{program}" if program else path.stem,
        path,
        _unplayable,
        facts["takes_beta"],
        digest,
        published=facts["published"],
        source=(text, program),
        program=facts["program"],
    )


def _unplayable(*_: Any) -> None:
    raise AgentError("nobody vouches for this program: it is played in a sandbox, and nowhere else")
