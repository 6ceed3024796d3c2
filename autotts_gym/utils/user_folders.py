"""The user's folder for caches, where the user has one."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path | None:
    """Folder of caches: ``AUTOTTS_CACHE``, or the user's cache folder; None without either."""
    chosen = os.environ.get("AUTOTTS_CACHE")
    if chosen:
        return Path(chosen)
    try:
        folder = user_cache_path("autotts_gym", appauthor=False)
    except (RuntimeError, KeyError, OSError):
        return None
    return folder if folder.is_absolute() else None  # "~" without a home folder
