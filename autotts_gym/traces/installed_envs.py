"""Environments of other installed packages, found by entry points.

A package registers a folder of trace stores under the entry-point group ``autotts_gym.envs``::

    [project.entry-points."autotts_gym.envs"]
    my_package = "my_package.envs"          # a module or package: its folder
    more = "my_package.paths:TRACE_FOLDER"  # a path

A store at ``my_package/envs/small/aime24`` is then called ``small/aime24``.
"""

from __future__ import annotations

import os
import warnings
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Final

from autotts_gym.traces.exceptions import TraceError

#: Entry-point group of folders that hold trace stores.
ENTRY_POINT_GROUP: Final = "autotts_gym.envs"


def entry_point_folders() -> list[Path]:
    """Folders of trace stores that other packages register, by the names of the entry points.

    Warns about an entry point that cannot be loaded, or is neither a module nor a path, and leaves
    it out: one broken package must not hide all environments.
    """
    folders = []
    for entry in sorted(entry_points(group=ENTRY_POINT_GROUP), key=lambda entry: entry.name):
        try:
            folders.append(_folder(entry))
        except TraceError as error:
            warnings.warn(str(error), stacklevel=2)
    return folders


def _folder(entry: EntryPoint) -> Path:
    try:
        value = entry.load()
    except Exception as error:  # whatever the other package raises
        raise TraceError(
            f"entry point {entry.name} ({entry.value}): cannot be loaded: "
            f"{type(error).__name__}: {error}"
        ) from error
    if isinstance(value, str | os.PathLike):
        return Path(value)
    if isinstance(value, ModuleType):
        if hasattr(value, "__path__"):  # a package, perhaps without __init__.py
            return Path(next(iter(value.__path__)))
        if value.__file__:
            return Path(value.__file__).parent
    raise TraceError(
        f"entry point {entry.name} ({entry.value}): must be a module or a folder's path, got "
        f"{type(value).__name__}"
    )
