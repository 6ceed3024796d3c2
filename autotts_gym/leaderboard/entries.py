"""The results folders of a leaderboard: where they are found, and what is read from them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from autotts_gym.evaluation.results import Results
from autotts_gym.utils.bounded_files import LARGE_FILE, open_regular

#: The file by which a folder is known to hold results.
_MANIFEST: Final = "benchmark.json"
#: Number of folder levels that are searched for results.
_MAX_LEVELS: Final = 4


class RefusalError(ValueError):
    """A results folder that does not belong on a leaderboard; the message says why."""


@dataclass(frozen=True)
class Entry:
    """A results folder that was handed in.

    Attributes:
        name: its name on the leaderboard.
        folder: where it is.
        results: what it holds.
        digest: sha256 of its ``episodes.parquet``.
    """

    name: str
    folder: Path
    results: Results
    digest: str

    @classmethod
    def load(cls, name: str, folder: Path) -> Entry:
        """Read a results folder.

        Raises:
            RefusalError: a file is missing or damaged, or no row is complete.
        """
        try:
            results = Results.load(folder)
            with open_regular(folder / "episodes.parquet", LARGE_FILE) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (OSError, ValueError) as error:
            raise RefusalError(str(error)) from error
        if not results.runs:
            raise RefusalError("it has no complete row")
        return cls(name, folder, results, digest)


def find_folders(places: Iterable[str | os.PathLike[str]]) -> dict[str, Path]:
    """Find results folders.

    Args:
        places: results folders, and folders that contain some.

    Returns:
        The folders by name, in order. A name is the path below the place, or the name of a place
        that is itself a results folder.

    Raises:
        ValueError: a place is no folder, or contains no results, or two names are equal.
    """
    found: dict[str, Path] = {}
    for place in map(Path, places):
        if not place.is_dir():
            raise ValueError(f"there is no folder {place}")
        below = list(_below(place, _MAX_LEVELS))
        if not below:
            raise ValueError(
                f"{place} contains no benchmark results: `autotts benchmark --out` writes them"
            )
        for folder in below:
            name = place.resolve().name if folder == place else folder.relative_to(place).as_posix()
            if name in found and found[name].resolve() != folder.resolve():
                raise ValueError(
                    f"{found[name]} and {folder} would both be called {name!r}: rename one"
                )
            found[name] = folder
    return found


def _below(folder: Path, levels: int) -> Iterator[Path]:
    """The results folders in a folder, itself included; links are not followed below it."""
    if os.path.lexists(folder / _MANIFEST) or os.path.lexists(folder / "episodes.parquet"):
        yield folder
    elif levels:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.is_symlink() and not child.name.startswith("."):
                yield from _below(child, levels - 1)
