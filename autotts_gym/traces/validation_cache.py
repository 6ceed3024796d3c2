"""A record, in the user's cache folder, of the stores that have been validated."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from autotts_gym.traces.store_tables import Tables
from autotts_gym.traces.table_validation import validate
from autotts_gym.utils.files import write_text
from autotts_gym.utils.user_folders import cache_folder

#: Version of the checks; a store is validated again after they have changed.
_CHECKS: Final = 1


def validate_once(tables: Tables, interval: int, fingerprint: str) -> None:
    """Validate tables, unless tables with this fingerprint have passed before.

    Args:
        tables: the tables.
        interval: Δ, tokens.
        fingerprint: their fingerprint, computed from their present content.

    Raises:
        TraceError: see :func:`~autotts_gym.traces.table_validation.validate`.
    """
    record = _record(fingerprint)
    if record is not None:
        with contextlib.suppress(OSError):
            if record.is_file():
                return
    validate(tables, interval)
    if record is not None:
        with contextlib.suppress(OSError):  # no writable folder: validated again next time
            record.parent.mkdir(parents=True, exist_ok=True)
            write_text(record, "")


def _record(fingerprint: str) -> Path | None:
    folder = cache_folder()
    return None if folder is None else folder / f"validated-{_CHECKS}" / fingerprint
