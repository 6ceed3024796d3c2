"""A record, in the user's cache folder, of the programs that the user has run outside a sandbox.

Results may come from someone else, together with the programs that they name. A report runs such a
program outside a sandbox only if the user has done so before, or asks for it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from autotts_gym.controllers.agent import Agent
from autotts_gym.utils.files import write_text
from autotts_gym.utils.user_folders import cache_folder

_DIGEST: Final = re.compile("[0-9a-f]{64}")


def remember_trusted(agents: Iterable[Agent]) -> None:
    """Record the agents that are about to run outside a sandbox."""
    for agent in agents:
        record = _record(agent.digest)
        if record is not None and not agent.is_untrusted:
            with contextlib.suppress(OSError):  # no writable folder: reports use a sandbox
                record.parent.mkdir(parents=True, exist_ok=True)
                write_text(record, "")


def is_trusted(digest: str) -> bool:
    """Whether the user has run the program with this digest outside a sandbox."""
    record = _record(digest)
    try:
        return record is not None and record.is_file()
    except OSError:
        return False


def _record(digest: str) -> Path | None:
    folder = cache_folder()
    if folder is None or not _DIGEST.fullmatch(digest):
        return None
    return folder / "trusted" / digest
