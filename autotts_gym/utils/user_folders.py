"""The user's folders for data and for caches, where the user has any."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from platformdirs import user_cache_path, user_data_path

_APPLICATION: Final = "autotts_gym"


def data_folder() -> Path | None:
    """The user's data folder; None without a home folder."""
    try:
        folder = user_data_path(_APPLICATION, appauthor=False)
    except (RuntimeError, KeyError, OSError):
        return None
    return folder if folder.is_absolute() else None  # "~" if there is no home folder


def cache_folder() -> Path | None:
    """Folder of caches: ``AUTOTTS_CACHE``, or the user's cache folder; None without either."""
    chosen = os.environ.get("AUTOTTS_CACHE")
    if chosen:
        return Path(chosen)
    try:
        folder = user_cache_path(_APPLICATION, appauthor=False)
    except (RuntimeError, KeyError, OSError):
        return None
    return folder if folder.is_absolute() else None
