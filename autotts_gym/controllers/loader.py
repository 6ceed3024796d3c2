"""Loading controllers by name or by path."""

from __future__ import annotations

import os
from pathlib import Path

from autotts_gym.controllers.agent import Agent, AgentError, agent_of
from autotts_gym.traces.registry import bundled


def names() -> list[str]:
    """Controllers that come with the package; those that were found as ``evolved/NAME``."""
    folder = bundled("agents")
    files = (file for glob in ("*.py", "evolved/*.py") for file in folder.glob(glob))
    return sorted(
        file.relative_to(folder).with_suffix("").as_posix()
        for file in files
        if not file.stem.startswith("_")
    )


def trained() -> list[str]:
    """Trained policies that come with the package, as ``ppo/NAME``."""
    folder = bundled("agents")
    return sorted(p.parent.relative_to(folder).as_posix() for p in folder.glob("*/*/card.yaml"))


def find(agent: str) -> Path:
    """The file behind a name in ``agents/`` or a path; raises ``AgentError`` if there is none."""
    path = Path(agent)
    if path.suffix != ".py" and agent in names():
        return bundled("agents") / f"{agent}.py"
    if path.suffix != ".py" or not os.path.isfile(path):  # unlike Path's, never raises
        raise AgentError(
            f"there is no agent {agent!r}: give the path of a .py file, or one of "
            f"{', '.join([*names(), *trained()])}"
        )
    return path.resolve()


def load(agent: str) -> Agent:
    """Load a controller by its name in ``agents/`` or by the path of its file or folder.

    ``PATH:CLASS`` names a class of a file that holds published-style programs
    (:mod:`autotts_gym.controllers.published_programs`).

    Raises:
        AgentError: there is no such file, it cannot be run, or it has no fitting ``solve``.
    """
    folder = _policy_folder(agent)
    if folder is not None:
        try:
            from autotts_gym.controllers.policy_agent import load as load_policy
        except ImportError as error:
            raise AgentError(
                f"{folder} is a trained policy, which needs torch ({error}): "
                "pip install 'autotts-gym[rl]'"
            ) from error
        return load_policy(folder)
    return agent_of(*read(agent))


def read(agent: str) -> tuple[Path, bytes, str]:
    """The file behind ``NAME``, ``PATH`` or ``PATH:CLASS``, its text, and the class or nothing.

    Raises:
        AgentError: there is no such file, or it cannot be read.
    """
    place, program = place_of(agent)
    path = find(place)
    try:
        return path, path.read_bytes(), program
    except OSError as error:
        raise AgentError(f"{path}: cannot be read: {error.strerror or error}") from error


def place_of(agent: str) -> tuple[str, str]:
    """The name or path of an agent, and the class that is named with it, or nothing."""
    place, colon, program = agent.rpartition(":")
    return (place, program) if colon and program.isidentifier() else (agent, "")


def _policy_folder(agent: str) -> Path | None:
    """The folder behind ``ppo/NAME`` or a path, if it holds a trained policy."""
    for folder in (Path(agent), bundled("agents") / agent):
        if os.path.isfile(folder / "policy.safetensors"):
            return folder.resolve()
    return None
