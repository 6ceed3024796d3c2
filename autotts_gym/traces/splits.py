"""The search / held-out split of a group of environments.

A group is a folder of environments. Its file ``set.yaml`` assigns environments to two splits:
controllers are searched, tuned or trained on the first and evaluated on the second::

    search: ["*/aime24"]
    held-out: ["*/aime25", "*/hmmt25"]

Entries are paths of environments relative to the folder; ``*`` is a shell wildcard. An environment
that no entry matches has no split.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from autotts_gym.traces.exceptions import TraceError
from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.bounded_files import read_text

#: The file that defines the split of the environments below its folder.
SET: Final = "set.yaml"

SEARCH: Final = "search"
HELD_OUT: Final = "held-out"

#: Number of parent folders of an environment that are searched for a ``set.yaml``.
_MAX_LEVELS: Final = 3


def split_of(path: str | os.PathLike[str] | None) -> str:
    """Return the split of the environment in a folder: ``"search"``, ``"held-out"`` or ``""``.

    Raises:
        TraceError: the ``set.yaml`` is invalid, or the environment is in both splits.
    """
    if path is None:
        return ""
    path = Path(path).resolve()
    for folder in list(path.parents)[:_MAX_LEVELS]:
        file = folder / SET
        if file.is_file():
            name = path.relative_to(folder).as_posix()
            matching = [
                split
                for split, patterns in _read(file).items()
                if any(fnmatchcase(name, pattern) for pattern in patterns)
            ]
            if len(matching) > 1:
                raise TraceError(f"{file}: has {name} both in {' and in '.join(matching)}")
            return matching[0] if matching else ""
    return ""


def dump(search: Sequence[str], held_out: Sequence[str]) -> str:
    """Return the text of a ``set.yaml``."""
    return bounded_yaml.dump({SEARCH: list(search), HELD_OUT: list(held_out)})


def _read(file: Path) -> dict[str, list[str]]:
    try:
        content: Any = bounded_yaml.load(read_text(file))
    except (OSError, ValueError) as error:
        raise TraceError(f"{file}: cannot be read: {error}") from error
    valid = isinstance(content, dict) and all(
        key in (SEARCH, HELD_OUT)
        and isinstance(value, list)
        and all(isinstance(entry, str) for entry in value)
        for key, value in content.items()
    )
    if not valid:
        raise TraceError(
            f"{file}: must list the environments for the search and the held-out ones, such as "
            f"`{SEARCH}: [a, b/*]` and `{HELD_OUT}: [c]`"
        )
    splits: dict[str, list[str]] = content
    return splits
