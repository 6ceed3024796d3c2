"""The search / held-out split of a set of environments.

A set is a folder of environments. Its ``set.yaml`` says which of them a controller may be searched,
tuned or trained on, and which are kept to measure what was found::

    search: ["*/aime24"]
    held-out: ["*/aime25", "*/hmmt25"]

Entries are paths of environments relative to the folder, with ``*`` as in a shell. An environment
that no entry matches, or that lies in no such folder, has no split.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

import yaml

from autotts_gym.traces.store import TraceError

#: The file that defines the split of the environments below its folder.
SET: Final = "set.yaml"

SEARCH: Final = "search"
HELD_OUT: Final = "held-out"

#: Folders above an environment in which its set is looked for.
_LEVELS: Final = 3


def split_of(path: Path | None) -> str:
    """``"search"``, ``"held-out"``, or nothing for the environment in a folder.

    Raises:
        TraceError: the set's file is damaged, or has the environment in both splits.
    """
    if path is None:
        return ""
    path = path.resolve()
    for folder in list(path.parents)[:_LEVELS]:
        file = folder / SET
        if file.is_file():
            name = path.relative_to(folder).as_posix()
            found = [
                split
                for split, patterns in _read(file).items()
                if any(fnmatchcase(name, pattern) for pattern in patterns)
            ]
            if len(found) > 1:
                raise TraceError(f"{file}: has {name} both in {' and in '.join(found)}")
            return found[0] if found else ""
    return ""


def dump(search: Sequence[str], held_out: Sequence[str]) -> str:
    """The text of a ``set.yaml``."""
    text: str = yaml.safe_dump({SEARCH: list(search), HELD_OUT: list(held_out)}, sort_keys=False)
    return text


def _read(file: Path) -> dict[str, list[str]]:
    try:
        content: Any = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TraceError(f"{file}: cannot be read: {error}") from error
    good = isinstance(content, dict) and all(
        key in (SEARCH, HELD_OUT)
        and isinstance(value, list)
        and all(isinstance(entry, str) for entry in value)
        for key, value in content.items()
    )
    if not good:
        raise TraceError(
            f"{file}: must say which environments are for the search and which are held out, as "
            f"in `{SEARCH}: [a, b/*]` and `{HELD_OUT}: [c]`"
        )
    found: dict[str, list[str]] = content
    return found
