"""Untrusted agents: programs whose source is parsed, but never run, in this process."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.episode import Episode
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.loader import read, split_class
from autotts_gym.sandbox.source_inspection import SourceError, decode_source, inspect_source


@dataclass(frozen=True)
class UntrustedAgent(Agent):
    """A program that only a :class:`~autotts_gym.sandbox.player.Sandbox` plays.

    Attributes:
        requested: the class that was requested as ``PATH:CLASS``; empty if none.
        program: the class that is played, of a published-style file; else empty.
        weaker_sandbox: play it even where the sandbox lacks a protection, see
            :func:`autotts_gym.sandbox.lockdown.missing`.
    """

    is_untrusted: ClassVar[bool] = True
    requested: str = ""
    program: str = ""
    weaker_sandbox: bool = field(default=False, compare=False)

    @property
    def text(self) -> str:
        """The text of the source, see :func:`.source_inspection.decode_source`."""
        return decode_source(self.source)

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {
            "takes_beta": self.takes_beta,
            "published": self.published,
            "program": self.program,
        }
        place = self.path, self.source, self.requested
        return _from_facts, (*place, facts, self.weaker_sandbox)

    def __call__(self, episode: Episode, beta: float) -> None:
        raise AgentError(f"{self.name} is untrusted: play it in a Sandbox")


def load_untrusted(
    agent: str | os.PathLike[str], *, weaker_sandbox: bool = False
) -> UntrustedAgent:
    """The agent of a file, ``PATH`` or ``PATH:CLASS``; nothing of the file is run.

    Name and digest equal those of the loaded file. Unlike for loaded files, ``solve`` or the class
    must be defined at the top level of the source.

    Args:
        agent: the file.
        weaker_sandbox: play it even where the sandbox lacks a protection.

    Raises:
        AgentError: there is no such file, or it defines nothing that can be played.
    """
    return untrusted_from_source(*read(agent), weaker_sandbox=weaker_sandbox)


def untrusted_from_source(
    path: Path, source: bytes, program: str = "", *, weaker_sandbox: bool = False
) -> UntrustedAgent:
    """The agent of a program's source.

    Args:
        path: the file, for names and messages; it is not read.
        source: the file's content.
        program: class of a published-style file.
        weaker_sandbox: play it even where the sandbox lacks a protection.

    Raises:
        AgentError: the source defines nothing that can be played.
    """
    try:
        facts = inspect_source(source, program)
    except SourceError as error:
        raise AgentError(f"{path}: {error}") from error
    return _from_facts(path, source, program, facts, weaker_sandbox)


def is_file(agent: str) -> bool:
    """Whether an agent is given by the path of a ``.py`` file rather than by a name."""
    return Path(split_class(agent)[0]).suffix == ".py"


def _from_facts(
    path: Path, source: bytes, requested: str, facts: dict[str, Any], weaker_sandbox: bool
) -> UntrustedAgent:
    digest = hashlib.sha256(source).hexdigest()
    if facts["published"]:
        digest = hashlib.sha256(f"{digest} {facts['program']}".encode()).hexdigest()
    return UntrustedAgent(
        f"{path.stem}:{requested}" if requested else path.stem,
        path,
        facts["takes_beta"],
        digest,
        published=facts["published"],
        source=source,
        requested=requested,
        program=facts["program"],
        weaker_sandbox=weaker_sandbox,
    )
