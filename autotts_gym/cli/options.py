"""Options that several commands share, and parsers of option values."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.redaction import redact

if TYPE_CHECKING:
    from autotts_gym.traces.store import TraceStore

#: Most integers of one option, and the first integer that is too large.
_MAX_INTEGERS: Final = 1_000_000
_INTEGER_LIMIT: Final = 2**63

Environments = Annotated[
    list[str] | None,
    typer.Option("--env", help="Name or path of an environment; repeat for several."),
]


class ServerApi(StrEnum):
    """How a server is asked."""

    tokens = "tokens"
    completions = "completions"
    chat = "chat"
    whole_chat = "whole-chat"


Api = Annotated[
    ServerApi,
    typer.Option(
        "--api",
        help="What servers take: tokens (vLLM), or text (completions) or messages (chat), as other "
        "OpenAI-compatible servers do; whole-chat for servers that cannot continue a message.",
    ),
]
Headers = Annotated[
    list[str] | None,
    typer.Option(
        "--header",
        metavar="'NAME: VALUE'",
        help="A header of every request to the servers; repeatable.",
    ),
]
LatencyWeight = Annotated[
    float,
    typer.Option(
        "--latency-weight",
        help="w, the weight of sequential tokens in the cost: 0 (none) to 1. Controllers can read "
        "it.",
    ),
]
WeakerSandbox = Annotated[
    bool,
    typer.Option(
        "--weaker-sandbox",
        help="Run untrusted programs even if the sandbox of this machine lacks a protection.",
    ),
]


class Order(StrEnum):
    """Branch orders of ``autotts benchmark``."""

    published = "published"
    random = "random"


class Billing(StrEnum):
    """Billing modes: charge generated tokens, or every started interval in full."""

    tokens = "tokens"
    interval = "interval"


def parse_numbers(text: str) -> list[float]:
    """Parse numbers such as ``0,0.5,1``, without duplicates.

    Raises:
        typer.BadParameter: the text is not a list of numbers.
    """
    try:
        return list(dict.fromkeys(float(part) for part in text.split(",")))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a list of numbers such as 0,0.5,1") from None


def parse_integers(text: str) -> list[int]:
    """Parse integers such as ``0-9`` or ``0,3,5-7``, without duplicates.

    Raises:
        typer.BadParameter: the text is not a list of integers, or has too many.
    """
    integers: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if not match:
            raise typer.BadParameter(f"{text!r} is not a list of integers such as 0-9 or 0,3,5-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise typer.BadParameter(f"the range {part!r} is reversed; write {last}-{first}")
        if last >= _INTEGER_LIMIT or len(integers) + last - first >= _MAX_INTEGERS:
            raise typer.BadParameter(
                f"{part!r} is too large: at most {_MAX_INTEGERS:,} integers, each below 2^63"
            )
        integers += range(first, last + 1)
    return list(dict.fromkeys(integers))


def parse_engine_arguments(assignments: Sequence[str] | None) -> dict[str, Any]:
    """Parse arguments such as ``max_model_len=8192``; values are YAML.

    Raises:
        ValueError: an argument has another form, or its value is not YAML.
    """
    arguments = {}
    for assignment in assignments or ():
        key, equals, value = assignment.partition("=")
        if not equals or not key.isidentifier():
            raise ValueError(
                f"{assignment!r}: give an argument as NAME=VALUE, such as max_model_len=8192"
            )
        try:
            arguments[key] = bounded_yaml.load(value)
        except ValueError as error:
            raise ValueError(f"{assignment!r}: the value is not YAML: {error}") from None
    return arguments


def parse_extractors(extractors: str | None) -> list[str] | None:
    """Parse extractors of answers such as ``boxed,number``, or one ``regex:PATTERN``.

    Raises:
        ValueError: there is no such extractor.
    """
    from autotts_gym.answers.extraction import check_extractors

    if extractors is None:
        return None
    regex = extractors.startswith("regex:")
    chosen = [extractors] if regex else [name.strip() for name in extractors.split(",")]
    check_extractors(chosen)
    return chosen


def open_environments(environments: Sequence[str] | None) -> dict[str, TraceStore]:
    """Open the trace stores of ``--env`` by name; the default environment's if none is given."""
    from autotts_gym.traces import registry

    return registry.open_stores(*(environments or [registry.DEFAULT]))


def current_command(out: Path) -> str:
    """Return the current command line without secrets, with ``OUT`` for its output folder."""
    words = ["OUT" if word == str(out) else redact(word) for word in sys.argv[1:]]
    return redact(shlex.join(["autotts", *words]))
