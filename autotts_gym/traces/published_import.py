"""Importing published trace files.

A published file (AutoTTS, arXiv 2605.08083) holds one model on one benchmark, as a JSON list::

    [{"question": "Every morning ...", "gold_answer": "204", "probe_freq": 500,
      "each_branch": [[["360", "No", "204"], 1612, "204"], ...],
      "final_answers_trace": ["204", ...]},
     ...]

``probe_freq`` is the interval Δ in tokens; ``each_branch`` holds the probes' answers, the tokens
and the final answer of every branch; ``final_answers_trace`` holds the final answers again.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from reprlib import repr as _short  # values in messages: never long, never deep
from typing import Any, Final

from autotts_gym.traces import registry, splits
from autotts_gym.traces.store import (
    NULL_ANSWERS,
    Branch,
    Question,
    TraceError,
    TraceStore,
    check_interval,
    staged,
)
from autotts_gym.traces.strict_json import parse

_KEYS: Final = ("question", "gold_answer", "probe_freq", "each_branch", "final_answers_trace")


def read_published(path: Path) -> TraceStore:
    """Read one published file into a store in memory.

    Args:
        path: the file; its folder's name is taken for the model, its own for the benchmark.

    Raises:
        TraceError: names the file, the question and the branch (counted from 0) that are wrong,
            and what was expected.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
        entries = _entries(content)
        questions = [_question(entry, f"question {row}") for row, entry in enumerate(entries)]
        return TraceStore.from_branches(
            questions, _interval(entries), details=_details(path, content, questions)
        )
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RecursionError:
        raise TraceError(f"{path}: JSON nested too deeply; a trace file has 5 levels") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def import_published(
    source: Path,
    name: str,
    folder: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    *,
    search: Sequence[str] = (),
) -> dict[str, TraceStore]:
    """Import published files as frozen environments, all of them or none.

    Args:
        source: one file, which becomes the environment ``name``; or a folder of
            ``<model>/<benchmark>.json``, which become the group ``name/<model>/<benchmark>``
            (hidden files and folders are passed over).
        name: name of the new environment or group.
        folder: where it is written; the user's environment folder by default.
        progress: called after each file with the file, how many are done and how many there are.
        search: which environments of a group are for the search, as ``*/aime24``; the others are
            held out (see :mod:`autotts_gym.traces.splits`). Without, there is no split.

    Returns:
        The new environments by name, opened from where they were written.

    Raises:
        FrozenError: the name is taken; nothing has been read then.
        TraceError: a file cannot be used, the folder holds none, or ``search`` names none of them;
            nothing is left behind.
    """
    registry.check_name(name)
    folder = registry.user_folder() if folder is None else Path(folder)
    with staged(folder / name) as stage:
        files = _files(Path(source), name)
        for done, (environment, file) in enumerate(files.items(), 1):
            place = stage / PurePosixPath(environment).relative_to(name)
            place.mkdir(parents=True, exist_ok=True)
            read_published(file).write(place)
            if progress is not None:
                progress(str(file), done, len(files))
        if search:
            members = [environment.removeprefix(f"{name}/") for environment in files]
            (stage / splits.SET).write_text(_set(members, search), "utf-8")
    return {environment: TraceStore.open(folder / environment) for environment in files}


def _set(members: Sequence[str], search: Sequence[str]) -> str:
    """The split of a group's members."""
    for pattern in search:
        if not fnmatch.filter(members, pattern):
            raise TraceError(
                f"no environment of the group is called {pattern!r}; there are {', '.join(members)}"
            )
    chosen = [m for m in members if any(fnmatch.fnmatchcase(m, pattern) for pattern in search)]
    return splits.dump(chosen, [member for member in members if member not in chosen])


def _files(source: Path, name: str) -> dict[str, Path]:
    """The files to import, by the names of the environments that they become."""
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
        raise TraceError(f"{source}: holds no trace files; expected <model>/<benchmark>.json in it")
    return files


# --- one file ------------------------------------------------------------------------------------


def _entries(content: bytes) -> list[Any]:
    try:
        # Decoded here, because json.loads lets encoded surrogates pass and guesses encodings.
        text = content.decode()
        entries = parse(text, "no trace holds such a one")
    except UnicodeDecodeError as error:
        bad = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        raise TraceError(f"not UTF-8: {bad}: {error.reason}") from None
    except json.JSONDecodeError as error:
        at = f"line {error.lineno}, column {error.colno}"
        cut = error.msg.startswith("Unterminated string") or not text[error.pos :].strip()
        hint = " (the file ends there: is it complete?)" if cut else ""
        raise TraceError(f"malformed JSON at {at}: {error.msg}{hint}") from None
    if not isinstance(entries, list):
        raise TraceError(f"must be a list of questions, got {_kind(entries)}")
    if not entries:
        raise TraceError("the list of questions is empty; at least one is needed")
    return entries


def _question(entry: Any, where: str) -> Question:
    """Check what the store's encoder cannot: the shape of the file and what it says twice."""
    if not isinstance(entry, dict):
        raise TraceError(f"{where}: must be an object with {', '.join(_KEYS)}, got {_kind(entry)}")
    missing = [key for key in _KEYS if key not in entry]
    if missing:
        raise TraceError(f"{where}: lacks {', '.join(missing)}")
    for key in ("each_branch", "final_answers_trace"):
        if not isinstance(entry[key], list):
            raise TraceError(f"{where}: {key} must be a list, got {_kind(entry[key])}")
    branches, finals = entry["each_branch"], entry["final_answers_trace"]
    for number, branch in enumerate(branches):
        if not isinstance(branch, list) or len(branch) != 3:
            wanted = "[probe answers, tokens, final answer]"
            raise TraceError(
                f"{where}, branch {number}: must be a list {wanted}, got {_short(branch)}"
            )
    if len(finals) != len(branches):
        raise TraceError(
            f"{where}: final_answers_trace holds {len(finals)} answers for {len(branches)} branches"
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


def _interval(entries: list[dict[str, Any]]) -> int:
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
    """What the card says of an import: the same for the same file, on any machine and any day."""
    # abspath, so that the folder of a relative path has a name, and a link keeps its own.
    path = Path(os.path.abspath(path))
    widths = {len(question.branches) for question in questions}
    return {
        "model": _text(path.parent.name),
        "benchmark": _text(path.stem),
        "source": _text(path.name),
        "source_sha256": hashlib.sha256(content).hexdigest(),
        **({"branches_per_question": widths.pop()} if len(widths) == 1 else {}),
        "null_answers": sorted(NULL_ANSWERS),
        "imported_with": _version(),
    }


def _text(file_name: str) -> str:
    """A file name as text that can be written: names need not be UTF-8."""
    return os.fsencode(file_name).decode("utf-8", "replace")


def _version() -> str:
    try:
        return metadata.version("autotts_gym")
    except metadata.PackageNotFoundError:
        return "unknown"


def _kind(value: object) -> str:
    """A JSON value's kind, as JSON calls it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {"dict": "an object", "list": "a list", "str": "a string"}
    return kinds.get(type(value).__name__, "a number")
