"""``source.json``: where the files of a model's folder come from.

:func:`~autotts_gym.model_files.gguf_conversion.convert_gguf` writes it, and a collection copies it
to the card of the environment. Other tools may write one as well: a JSON object of strings, numbers
and short lists of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Final

from autotts_gym.traces.exceptions import TraceError
from autotts_gym.traces.strict_json import parse
from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.bounded_files import read_text

SOURCE: Final = "source.json"
#: Largest size of a file, bytes: a card has room for a few lines.
_MAX_SIZE: Final = 1 << 14


def read_source(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Read a file of sources.

    Args:
        path: the file, such as ``MODEL/source.json``.

    Returns:
        Its entries; None if there is no such file.

    Raises:
        TraceError: the file cannot be read, or is not a JSON object.
    """
    path = Path(path)
    try:
        entries = parse(read_text(path, _MAX_SIZE), "write it as a string")
        bounded_yaml.load(bounded_yaml.dump(entries))  # a card must be able to hold it
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise TraceError(f"{path}: cannot be read: {error}") from error
    if not isinstance(entries, dict):
        raise TraceError(f"{path}: must be a JSON object, got {entries!r:.60}")
    return entries


def dump(entries: dict[str, Any]) -> str:
    """Return the text of a file of sources."""
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n"
