"""Lookup of environments by name or by path.

A name is looked up in the folders listed in the environment variable ``AUTOTTS_ENVS``, then in the
user's folder, then among the bundled environments, then among those of other installed packages
(:mod:`autotts_gym.traces.installed_envs`). Names may contain slashes. The name of a folder with
several stores (``published`` with ``published/Qwen3-4B/aime24`` in it) selects all of them.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from functools import cache
from importlib import util
from pathlib import Path
from typing import Final

from platformdirs import user_data_path

from autotts_gym.traces.card import CARD
from autotts_gym.traces.exceptions import TraceError
from autotts_gym.traces.installed_envs import entry_point_folders
from autotts_gym.traces.store import TraceStore

#: The bundled environment that is used by default.
DEFAULT: Final = "qwen2.5-coder-0.5b/problems"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)*")


def bundled(folder: str) -> Path:
    """Folder of the bundled ``envs`` or ``agents``: in the package, or at the top of a checkout."""
    spec = util.find_spec(f"autotts_gym.{folder}")
    if spec is not None and spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(__file__).parents[2] / folder


def user_folder() -> Path:
    """The user's environment folder, the default target of imports and collections.

    Raises:
        TraceError: the user has no home folder.
    """
    try:
        folder = user_data_path("autotts_gym", appauthor=False)
    except (RuntimeError, KeyError):
        folder = Path("~")  # as elsewhere without a home folder
    if not folder.is_absolute():
        raise TraceError(
            "there is no folder for your environments, because there is no home folder: set HOME "
            "or XDG_DATA_HOME, or give a target folder"
        )
    return folder / "envs"


def folders() -> list[Path]:
    """Folders in which names are looked up, in order of precedence."""
    extra = os.environ.get("AUTOTTS_ENVS", "").split(os.pathsep)
    listed = [Path(folder) for folder in extra if folder]
    with contextlib.suppress(TraceError):  # no home folder
        listed.append(user_folder())
    return [*listed, bundled("envs")]


def _search_path() -> Iterator[Path]:
    """All folders in order of precedence; entry points are read only if nothing else matches."""
    yield from folders()
    yield from entry_point_folders()


def check_name(name: str) -> None:
    """Raise ``TraceError`` unless ``name`` is a valid name of an environment."""
    if not _NAME.fullmatch(name):
        raise TraceError(
            f"{name!r} is not a valid environment name: use letters, digits, '.', '_' and '-', "
            "with '/' between the parts of a group"
        )


def _stores_below(folder: Path) -> Iterator[Path]:
    if (folder / CARD).is_file():
        yield folder
        return
    if folder.is_dir():
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith((".", "_")):
                yield from _stores_below(child)


def listing() -> dict[str, Path]:
    """Name and folder of every environment, in the order of lookup."""
    environments: dict[str, Path] = {}
    for folder in _search_path():
        for path in _stores_below(folder):
            environments.setdefault(path.relative_to(folder).as_posix(), path)
    return environments


def resolve(environment: str | os.PathLike[str]) -> dict[str, Path]:
    """Names and folders of the stores that a name or a path selects.

    Raises:
        TraceError: there is no such environment; the message lists the known names.
    """
    wanted = os.fsdecode(environment)
    if _NAME.fullmatch(wanted):
        for folder in _search_path():
            paths = list(_stores_below(folder / wanted))
            if paths:
                return {path.relative_to(folder).as_posix(): path for path in paths}
    # A path may be a group too, but not the root folder: that would search the whole disk.
    below = Path(wanted)
    paths = list(_stores_below(below)) if wanted and below.resolve().name else []
    if not paths:
        known = ", ".join(listing()) or "none"
        raise TraceError(f"there is no environment {wanted!r}, by name or by path; known: {known}")
    return {path.as_posix(): path for path in paths}


@cache
def _open(path: Path, stamp: int) -> TraceStore:
    return TraceStore.open(path)


def open_store(environment: str | os.PathLike[str]) -> TraceStore:
    """Open the store of one environment.

    Raises:
        TraceError: there is no such environment, or it is a folder with several.
    """
    stores = open_stores(environment)
    if len(stores) > 1:
        raise TraceError(
            f"{os.fspath(environment)!r} names {len(stores)} environments: {', '.join(stores)}; "
            "give one of them (load_envs loads all)"
        )
    return next(iter(stores.values()))


def open_stores(*environments: str | os.PathLike[str]) -> dict[str, TraceStore]:
    """Open the stores that names or paths select. Each store is loaded once per process.

    Raises:
        TraceError: there is no such environment, or it is not a store.
    """
    return {
        name: _open(path.resolve(), (path / CARD).stat().st_mtime_ns)
        for environment in environments
        for name, path in resolve(environment).items()
    }
