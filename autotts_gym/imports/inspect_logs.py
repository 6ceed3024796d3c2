"""Logs of Inspect: ``.eval`` files, which are ZIP archives of JSON, and ``.json`` files.

A sample has ``id``, ``epoch``, ``input``, ``target``, ``messages``, ``output`` (choices, usage and
``stop_reason``) and ``scores``. Its question is what the user's messages say, so that the options
of a multiple-choice task are part of it. The archives are read here rather than by inspect_ai,
because files of strangers need bounds; their members are stored, deflated or compressed with zstd.
"""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from autotts_gym.imports.completions import Completion, NumberedCompletion, ReadingOptions
from autotts_gym.imports.json_fields import objects, optional, required, scalar_text, token_count
from autotts_gym.imports.message_texts import completion_text, prompt_text
from autotts_gym.traces.store import TraceError
from autotts_gym.traces.strict_json import parse
from autotts_gym.utils.bounded_files import LARGE_FILE, open_regular, read_bytes

FAILED, SEVERAL_TURNS = "samples with errors", "samples with several turns or calls of tools"

#: Bytes of a JSON document, and of all members of an archive.
_MAX_DOCUMENT: Final = 1 << 28
_MAX_ARCHIVE: Final = 1 << 32
_MAX_MEMBERS: Final = 1 << 20
#: Compression methods of ZIP that the standard library reads, and zstd.
_STANDARD: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ZSTD: Final = 93
#: What reading a damaged archive raises.
_DAMAGE: Final = (
    *(zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError),
    *(NotImplementedError, struct.error),
)
_CUT: Final = ("max_tokens", "model_length")
_ATTACHMENT: Final = "attachment://"


def read_inspect(path: Path, options: ReadingOptions) -> Iterator[NumberedCompletion]:
    """Read a log; see :data:`~autotts_gym.imports.completions.CompletionReader`."""
    with open_regular(path, LARGE_FILE) as file:
        is_archive = file.read(4) == b"PK\x03\x04"
    samples = _archived_samples(path) if is_archive else _listed_samples(path)
    for where, model, sample in samples:
        try:
            for completion in _completions(sample, model, options):
                yield NumberedCompletion(where, completion)
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None


def _listed_samples(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    log = _parse(read_bytes(path, _MAX_DOCUMENT))
    model = optional(log, "eval.model", str) or ""
    for index, sample in enumerate(objects(required(log, "samples", list), "samples")):
        yield f"sample {index}", model, sample


def _archived_samples(path: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    with open_regular(path, LARGE_FILE) as file:
        try:
            members = zipfile.ZipFile(file).NameToInfo  # the last of several of a name
        except _DAMAGE as error:
            raise TraceError(f"a damaged archive (is it complete?): {error}") from None
        total = sum(member.file_size for member in members.values())
        if len(members) > _MAX_MEMBERS or total > _MAX_ARCHIVE:
            raise TraceError(
                f"{len(members):,} members of {total:,} bytes; at most {_MAX_MEMBERS:,} of "
                f"{_MAX_ARCHIVE:,} are read"
            )
        names = sorted((n for n in members if re.fullmatch(r"samples/.+\.json", n)), key=_natural)
        if not names:
            raise TraceError("has no members samples/*.json: not a log of Inspect, or unfinished")
        model = ""
        for name in ("header.json", "_journal/start.json"):
            if name in members:
                header = _parse_member(file, members[name])
                model = optional(header, "eval.model", str) or ""
                break
        for name in names:
            yield name, model, _parse_member(file, members[name])


def _natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts ``2`` before ``10``."""
    return [
        (int(part), "") if part.isdecimal() and len(part) < 20 else (-1, part)
        for part in re.split(r"(\d+)", name)
    ]


def _parse_member(file: BinaryIO, member: zipfile.ZipInfo) -> dict[str, Any]:
    if member.file_size > _MAX_DOCUMENT:
        raise TraceError(
            f"{member.filename}: {member.file_size:,} bytes; at most {_MAX_DOCUMENT:,} are read"
        )
    try:
        return _parse(_decompress(file, member))
    except TraceError as error:
        raise TraceError(f"{member.filename}: {error}") from None


def _decompress(file: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """Content of a member, no longer than its directory says."""
    import pyarrow as pa

    try:
        if member.compress_type in _STANDARD:
            with zipfile.ZipFile(file) as archive, archive.open(member) as content:
                return content.read(member.file_size)
        if member.compress_type == _ZSTD and not member.flag_bits & 1:
            compressed = _compressed(file, member)
            return bytes(pa.Codec("zstd").decompress(compressed, member.file_size, asbytes=True))
    except (*_DAMAGE, pa.ArrowException) as error:
        raise TraceError(f"damaged: {error}") from None
    raise TraceError(f"compressed in a way that is not read ({member.compress_type}) or encrypted")


def _compressed(file: BinaryIO, member: zipfile.ZipInfo) -> bytes:
    """Data of a member, behind 30 bytes that end with the lengths of a name and extra fields."""
    file.seek(member.header_offset)
    header = file.read(30)
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    file.seek(member.header_offset + 30 + lengths)
    return file.read(member.compress_size)


def _parse(content: bytes) -> dict[str, Any]:
    try:
        log = parse(content.decode(), "too long", constants=True)
    except UnicodeDecodeError as error:
        raise TraceError(f"not UTF-8 at offset {error.start}: {error.reason}") from None
    except json.JSONDecodeError as error:
        raise TraceError(
            f"malformed JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from None
    if not isinstance(log, dict):
        raise TraceError("must be a JSON object")
    return log


def _completions(
    sample: dict[str, Any], model: str, options: ReadingOptions
) -> Iterator[Completion]:
    if sample.get("error") is not None:
        options.left_out[FAILED] += 1
        return
    attachments = optional(sample, "attachments", dict) or {}
    messages = objects(_resolved(optional(sample, "messages", list) or [], attachments), "messages")
    choices = objects(
        _resolved(optional(sample, "output.choices", list) or [], attachments), "output.choices"
    )
    turns = [message for message in messages if message.get("role") == "assistant"]
    if len(turns) > 1 or any(required(c, "message", dict).get("tool_calls") for c in choices):
        options.left_out[SEVERAL_TURNS] += 1
        return
    if not choices:
        options.left_out[FAILED] += 1
        return
    asked = [message for message in messages if message.get("role") != "assistant"]
    question = prompt_text(asked or _resolved(sample.get("input"), attachments))
    usage = optional(sample, "output.usage", dict) or {}
    tokens = token_count(usage.get("output_tokens"), "output.usage.output_tokens")
    for choice in choices:
        yield Completion(
            question,
            _target(sample.get("target")),
            completion_text(required(choice, "message", dict)),
            (tokens or None) if len(choices) == 1 else None,
            id=scalar_text(sample.get("id"), "id"),
            cut=optional(choice, "stop_reason", str) in _CUT,
            right=_is_right(sample),
            model=model,
        )


def _resolved(value: Any, attachments: dict[str, Any]) -> Any:
    """A value with the texts that are stored as attachments in their places."""
    if isinstance(value, str) and value.startswith(_ATTACHMENT):
        return attachments.get(value.removeprefix(_ATTACHMENT), value)
    if isinstance(value, list):
        return [_resolved(each, attachments) for each in value]
    if isinstance(value, dict):
        return {key: _resolved(each, attachments) for key, each in value.items()}
    return value


def _target(target: object) -> str:
    """The gold answer; the first of several that are right."""
    if isinstance(target, list):
        target = target[0] if target else ""
    return scalar_text(target, "target")


def _is_right(sample: dict[str, Any]) -> bool | None:
    """The verdict of the first scorer: C or I, or 1 or 0."""
    scores = objects(list((optional(sample, "scores", dict) or {}).values()), "scores")
    value = scores[0].get("value") if scores else None
    verdicts: dict[object, bool] = {"C": True, "I": False, 1: True, 0: False}
    return verdicts.get(value) if isinstance(value, str | int | float) else None
