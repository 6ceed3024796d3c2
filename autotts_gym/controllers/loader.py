"""Loading controllers by name, by path, from functions, or from other installed packages.

Packages register controllers under the entry-point group ``autotts_gym.controllers``; the value is
a function ``solve`` or an :class:`~autotts_gym.controllers.agent.Agent`::

    [project.entry-points."autotts_gym.controllers"]
    my_controller = "my_package.controllers:solve"
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Final

from autotts_gym.controllers.agent import Agent
from autotts_gym.controllers.errors import AgentError
from autotts_gym.controllers.function_agent import agent_from_function, agent_from_source
from autotts_gym.traces.registry import bundled
from autotts_gym.utils.bounded_files import check_regular

#: Entry-point group of controllers in other packages.
ENTRY_POINT_GROUP: Final = "autotts_gym.controllers"
#: Size of a controller file, bytes.
_MAX_FILE: Final = 1 << 24


def names() -> list[str]:
    """Names of the bundled controllers, and of those that other installed packages register.

    Bundled controllers that a search found are called ``evolved/NAME``.
    """
    return sorted({*_bundled_names(), *_entry_points()})


def trained() -> list[str]:
    """Names of the bundled trained policies, as ``ppo/NAME``."""
    folder = bundled("agents")
    return sorted(p.parent.relative_to(folder).as_posix() for p in folder.glob("*/*/card.yaml"))


def load(agent: str | os.PathLike[str] | Callable[..., Any] | Agent) -> Agent:
    """Load a controller.

    Args:
        agent: a name (see :func:`names` and :func:`trained`); the path of a ``.py`` file or of a
            policy's folder; ``PATH:CLASS`` for a class of a file with published-style programs
            (:mod:`autotts_gym.controllers.published_programs`); or a function or lambda,
            ``solve(episode, beta)`` or ``solve(episode)``. An ``Agent`` is returned unchanged.

    Raises:
        AgentError: it does not exist, cannot be run, or has no suitable ``solve``.
    """
    if isinstance(agent, Agent):
        return agent
    if not isinstance(agent, str | os.PathLike):
        return agent_from_function(agent)
    agent = os.fspath(agent)
    # Names come before paths: a folder of the same name must not replace a bundled agent.
    if not is_program(agent):
        entry = None if trained_folder(agent) else _entry_points().get(agent)
        if entry is not None:
            return _load_entry_point(entry)
        folder = trained_folder(agent) or _policy_folder(agent)
        if folder is not None:
            return _load_policy(folder)
    return agent_from_source(*read(agent))


def is_program(agent: str) -> bool:
    """Whether an agent is given as a Python file, by its path or by a bundled name."""
    return split_class(agent)[0].endswith(".py") or agent in _bundled_names()


def is_bundled(path: Path) -> bool:
    """Whether a file is one of the bundled controllers."""
    return path.resolve().is_relative_to(bundled("agents").resolve())


def find(agent: str | os.PathLike[str]) -> Path:
    """The file of a bundled controller, or of a path.

    Raises:
        AgentError: there is no such file.
    """
    agent = os.fspath(agent)
    path = Path(agent)
    if path.suffix != ".py" and agent in _bundled_names():
        return bundled("agents") / f"{agent}.py"
    if path.suffix != ".py" or not os.path.isfile(path):  # unlike Path.is_file, never raises
        raise AgentError(
            f"there is no agent {agent!r}: give the path of a .py file, or one of "
            f"{', '.join([*names(), *trained()])}"
        )
    return path.resolve()


def read(agent: str | os.PathLike[str]) -> tuple[Path, bytes, str]:
    """Read the file of ``NAME``, ``PATH`` or ``PATH:CLASS``.

    Returns:
        The file, its content, and the class name (empty if none is given).

    Raises:
        AgentError: there is no such file, or it cannot be read.
    """
    location, program = split_class(os.fspath(agent))
    path = find(location)
    try:
        check_regular(path, _MAX_FILE)
        return path, path.read_bytes(), program
    except OSError as error:
        raise AgentError(f"{path}: cannot be read: {error.strerror or error}") from error


def split_class(agent: str) -> tuple[str, str]:
    """Split ``PATH:CLASS`` into path and class name; the latter is empty if none is given."""
    location, colon, program = agent.rpartition(":")
    return (location, program) if colon and program.isidentifier() else (agent, "")


def _bundled_names() -> list[str]:
    folder = bundled("agents")
    files = (file for glob in ("*.py", "evolved/*.py") for file in folder.glob(glob))
    return [
        file.relative_to(folder).with_suffix("").as_posix()
        for file in files
        if not file.stem.startswith("_")
    ]


def _entry_points() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _load_entry_point(entry: EntryPoint) -> Agent:
    try:
        value = entry.load()
    except Exception as error:  # whatever the other package raises
        raise AgentError(
            f"{entry.name} ({entry.value}): cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    return value if isinstance(value, Agent) else agent_from_function(value, entry.name)


def trained_folder(agent: str) -> Path | None:
    """Folder of a bundled policy, given as ``ppo/NAME``; None for other agents."""
    return bundled("agents") / agent if agent in trained() else None


def _policy_folder(agent: str) -> Path | None:
    """Folder of a trained policy, given by its path; None for other agents."""
    folder = Path(agent)
    return folder.resolve() if os.path.isfile(folder / "policy.safetensors") else None


def _load_policy(folder: Path) -> Agent:
    try:
        from autotts_gym.controllers.policy_agent import load as load_policy
    except ImportError as error:
        raise AgentError(
            f"{folder} is a trained policy, which needs torch ({error}): "
            "pip install 'autotts-gym[rl]'"
        ) from error
    return load_policy(folder)
