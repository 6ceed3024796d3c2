"""Formats of files with completions: their readers, and how a file's format is recognised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.collection.table_readers import READERS, read_jsonl
from autotts_gym.imports.batch_outputs import read_batch
from autotts_gym.imports.completion_tables import COMPLETION_FIELDS, read_completions
from autotts_gym.imports.completions import CompletionReader
from autotts_gym.imports.inspect_logs import read_inspect
from autotts_gym.imports.lm_eval_logs import read_lm_eval
from autotts_gym.imports.mars_tables import COLUMNS
from autotts_gym.imports.verifiers_rollouts import read_verifiers
from autotts_gym.traces.store import TraceError
from autotts_gym.utils.bounded_files import ANY_SIZE, LARGE_FILE, open_regular
from autotts_gym.utils.parquet import column_names

PUBLISHED: Final = "published"
MARS: Final = "mars"
#: Bytes of the beginning of a JSON file by which its format is recognised.
_BEGINNING: Final = 1 << 16


class FileFormat(NamedTuple):
    """A format whose files are read as completions.

    Attributes:
        read: its reader.
        matches: whether the first object of a JSON Lines file is of this format.
    """

    read: CompletionReader
    matches: Callable[[dict[str, Any]], bool]


#: Formats of completions by name, in the order in which they are tried.
COMPLETION_FORMATS: Final[dict[str, FileFormat]] = {
    "lm-eval": FileFormat(read_lm_eval, lambda row: {"doc_id", "doc", "resps"} <= row.keys()),
    "batch": FileFormat(read_batch, lambda row: {"custom_id", "response"} <= row.keys()),
    "verifiers": FileFormat(
        read_verifiers,
        lambda row: (
            ("task" in row and bool({"traces", "nodes"} & row.keys()))
            or {"example_id", "prompt", "completion"} <= row.keys()
        ),
    ),
    "inspect": FileFormat(read_inspect, lambda row: False),  # not JSON Lines
    "completions": FileFormat(read_completions, lambda row: True),
}

#: Names of all formats: published traces (of AutoTTS) and those of MARS have probes.
FORMATS: Final = (PUBLISHED, *COMPLETION_FORMATS, MARS)


def recognise(path: Path) -> str:
    """Name of the format of a file or folder, by its content.

    Raises:
        TraceError: it is of no known format, or cannot be read.
        OSError: it cannot be read.
        RecursionError: its first line is nested too deeply.
    """
    if path.is_dir():
        return PUBLISHED
    suffix = path.suffix.lower()
    with open_regular(path, ANY_SIZE) as file:
        beginning = file.read(_BEGINNING)
    if suffix == ".eval" or beginning.startswith(b"PK\x03\x04"):
        return "inspect"
    if suffix == ".json":
        return _recognise_json(beginning.lstrip())
    if suffix == ".parquet":
        try:
            return MARS if set(COLUMNS) <= set(column_names(path)) else "completions"
        except ValueError as error:
            raise TraceError(f"cannot be read as Parquet: {error}") from error
    if suffix == ".jsonl":
        _, row = next(iter(read_jsonl(path, limit=LARGE_FILE, constants=True)), (0, {}))
        return next(name for name, each in COMPLETION_FORMATS.items() if each.matches(row))
    if suffix in READERS:
        return "completions"
    raise TraceError(
        f"the format of a file {suffix or 'without a suffix'!r} is not known: expected "
        f"{', '.join((*READERS, '.eval'))}, or name it with --format: {', '.join(FORMATS)}"
    )


def _recognise_json(beginning: bytes) -> str:
    """A log of Inspect is an object; the others are lists of objects.

    What is none of them is left to the reader of published traces, whose messages say what is
    wrong.
    """
    if beginning.startswith(b"{"):
        return "inspect"
    published = b'"each_branch"' in beginning or b'"probe_freq"' in beginning
    table = any(f'"{name}"'.encode() in beginning for name in COMPLETION_FIELDS)
    return "completions" if table and not published else PUBLISHED
