"""Import of published trace files.

A published file (AutoTTS, arXiv 2605.08083) has the traces of one model on one benchmark::

    [{"question": "Every morning ...", "gold_answer": "204", "probe_freq": 500,
      "each_branch": [[["360", "No", "204"], 1612, "204"], ...],
      "final_answers_trace": ["204", ...]},
     ...]

``probe_freq`` is the interval Δ in tokens. ``each_branch`` has the probes' answers, the tokens and
the final answer of every branch. ``final_answers_trace`` repeats the final answers.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from reprlib import repr as _short  # keeps values in messages short
from typing import Any, Final

from autotts_gym.traces import registry, splits
from autotts_gym.traces.card import check_interval
from autotts_gym.traces.exceptions import TraceError
from autotts_gym.traces.records import NULL_ANSWERS, Branch, Question
from autotts_gym.traces.store import TraceStore
from autotts_gym.traces.store_files import create_store_folder
from autotts_gym.traces.strict_json import parse
from autotts_gym.utils.bounded_files import read_bytes

#: Size of a file, bytes; parsed, it takes up to thirty times as much memory.
_MAX_FILE: Final = 1 << 29

_KEYS: Final = ("question", "gold_answer", "probe_freq", "each_branch", "final_answers_trace")


def read_published(path: str | os.PathLike[str]) -> TraceStore:
    """Read one published file into a store in memory.

    Args:
        path: the file ``<model>/<benchmark>.json``; the card takes both names from the path.

    Raises:
        TraceError: names the file, the question, the branch (both from 0) and the invalid value.
    """
    path = Path(path)
    try:
        content = read_bytes(path, _MAX_FILE)
        entries = _parse_entries(content)
        questions = [_parse_question(entry, f"question {row}") for row, entry in enumerate(entries)]
        return TraceStore.from_branches(
            questions, _common_interval(entries), details=_details(path, content, questions)
        )
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RecursionError:
        raise TraceError(f"{path}: JSON nested too deeply; a trace file has 5 levels") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def import_published(
    source: str | os.PathLike[str],
    name: str,
    folder: str | os.PathLike[str] | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    search: Sequence[str] = (),
) -> dict[str, TraceStore]:
    """Import published files as environments, all of them or none.

    Args:
        source: one file, which becomes the environment ``name``; or a folder of files
            ``<model>/<benchmark>.json``, which become the group ``name/<model>/<benchmark>``
            (hidden files and folders are skipped).
        name: name of the new environment or group.
        folder: target folder; by default, the user's environment folder.
        progress: called after each file with its path, the number of files done, and their total.
        search: patterns such as ``*/aime24`` for the search environments of a group; the others
            are held out (see :mod:`autotts_gym.traces.splits`). By default, there is no split.

    Returns:
        The new environments by name, opened.

    Raises:
        FrozenError: the name is taken. It is checked before any file is read.
        TraceError: a file is invalid, the folder has no files, or ``search`` matches none. Nothing
            is written.
    """
    registry.check_name(name)
    folder = registry.user_folder() if folder is None else Path(folder)
    with create_store_folder(folder / name) as temporary:
        files = _files(Path(source), name)
        for done, (environment, file) in enumerate(files.items(), 1):
            target = temporary / PurePosixPath(environment).relative_to(name)
            target.mkdir(parents=True, exist_ok=True)
            read_published(file).write(target)
            if progress is not None:
                progress(str(file), done, len(files))
        if search:
            members = [environment.removeprefix(f"{name}/") for environment in files]
            (temporary / splits.SET).write_text(_set_text(members, search), "utf-8")
    return {environment: TraceStore.open(folder / environment) for environment in files}


def _set_text(members: Sequence[str], search: Sequence[str]) -> str:
    """Text of the ``set.yaml`` of a group."""
    for pattern in search:
        if not fnmatch.filter(members, pattern):
            raise TraceError(
                f"no environment of the group matches {pattern!r}; it has {', '.join(members)}"
            )
    matching = [m for m in members if any(fnmatch.fnmatchcase(m, pattern) for pattern in search)]
    return splits.dump(matching, [member for member in members if member not in matching])


def _files(source: Path, name: str) -> dict[str, Path]:
    """The files to import, by the name of the new environment."""
    if not source.is_dir():
        return {name: source}
    files: dict[str, Path] = {}
    for file in sorted(source.glob("*/*.json")):
        if file.parent.name.startswith(".") or file.name.startswith(".") or not file.is_file():
            continue
        environment = f"{name}/{file.parent.name}/{file.stem}"
        try:
            registry.check_name(environment)
        except TraceError as error:
            raise TraceError(f"{file}: {error}") from None
        files[environment] = file
    if not files:
        raise TraceError(f"{source}: no trace files; expected files <model>/<benchmark>.json")
    return files


# --- parsing of a file ---------------------------------------------------------------------------


def _parse_entries(content: bytes) -> list[Any]:
    try:
        # json.loads of bytes would guess the encoding and accept encoded surrogates.
        text = content.decode()
        entries = parse(text, "too long for any field of a trace")
    except UnicodeDecodeError as error:
        bad = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        raise TraceError(f"not UTF-8: {bad}: {error.reason}") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        cut = error.msg.startswith("Unterminated string") or not text[error.pos :].strip()
        hint = " (the file ends there: is it complete?)" if cut else ""
        raise TraceError(f"malformed JSON at {at}: {error.msg}{hint}") from None
    if not isinstance(entries, list):
        raise TraceError(f"must be a list of questions, got {_json_type(entries)}")
    if not entries:
        raise TraceError("the list of questions is empty; at least one is needed")
    return entries


def _parse_question(entry: Any, where: str) -> Question:
    """Check what the store's encoder does not: the structure, and the repeated final answers."""
    if not isinstance(entry, dict):
        raise TraceError(
            f"{where}: must be an object with {', '.join(_KEYS)}, got {_json_type(entry)}"
        )
    missing = [key for key in _KEYS if key not in entry]
    if missing:
        raise TraceError(f"{where}: lacks {', '.join(missing)}")
    for key in ("each_branch", "final_answers_trace"):
        if not isinstance(entry[key], list):
            raise TraceError(f"{where}: {key} must be a list, got {_json_type(entry[key])}")
    branches, finals = entry["each_branch"], entry["final_answers_trace"]
    for number, branch in enumerate(branches):
        if not isinstance(branch, list) or len(branch) != 3:
            wanted = "[probe answers, tokens, final answer]"
            raise TraceError(
                f"{where}, branch {number}: must be a list {wanted}, got {_short(branch)}"
            )
    if len(finals) != len(branches):
        raise TraceError(
            f"{where}: final_answers_trace has {len(finals)} answers for {len(branches)} branches"
        )
    for number, (branch, final) in enumerate(zip(branches, finals, strict=True)):
        if branch[2] != final:
            raise TraceError(
                f"{where}, branch {number}: its final answer is {_short(branch[2])}, "
                f"but {_short(final)} in final_answers_trace"
            )
    return Question(
        entry["question"], entry["gold_answer"], [Branch(*branch) for branch in branches]
    )


def _common_interval(entries: list[dict[str, Any]]) -> int:
    for row, entry in enumerate(entries):
        interval = entry["probe_freq"]
        try:
            check_interval(interval)
        except TraceError as error:
            raise TraceError(f"question {row}: probe_freq: {error}") from None
        if interval != entries[0]["probe_freq"]:
            raise TraceError(
                f"question {row}: probe_freq is {interval}, but {entries[0]['probe_freq']} in "
                "question 0; a file has one interval"
            )
    return int(entries[0]["probe_freq"])


def _details(path: Path, content: bytes, questions: list[Question]) -> dict[str, Any]:
    """Details of the card. They depend only on the file, not on the machine or the date."""
    # abspath gives the folder of a relative path a name, and does not follow links.
    path = Path(os.path.abspath(path))
    widths = {len(question.branches) for question in questions}
    return {
        "model": _valid_text(path.parent.name),
        "benchmark": _valid_text(path.stem),
        "source": _valid_text(path.name),
        "source_sha256": hashlib.sha256(content).hexdigest(),
        **({"branches_per_question": widths.pop()} if len(widths) == 1 else {}),
        "null_answers": sorted(NULL_ANSWERS),
        "imported_with": _version(),
    }


def _valid_text(file_name: str) -> str:
    """A file name as valid Unicode; file names need not be UTF-8."""
    return os.fsencode(file_name).decode("utf-8", "replace")


def _version() -> str:
    try:
        return metadata.version("autotts_gym")
    except metadata.PackageNotFoundError:
        return "unknown"


def _json_type(value: object) -> str:
    """Type of a JSON value in JSON's terms."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {"dict": "an object", "list": "a list", "str": "a string"}
    return names.get(type(value).__name__, "a number")
