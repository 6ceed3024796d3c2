"""Grouping of completions by question, over all files of an import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from autotts_gym.imports.completions import Completion, CompletionReader, ReadingOptions
from autotts_gym.traces.store import TraceError

_T = TypeVar("_T")


@dataclass
class QuestionGroup:
    """The completions of a question.

    Attributes:
        where: file and place of the first of them, for messages.
        question, gold, id: as in :class:`~autotts_gym.imports.completions.Completion`.
        completions: the completions in order.
    """

    where: str
    question: str
    gold: str
    id: str
    completions: list[Completion] = field(default_factory=list)


def group_completions(
    paths: Sequence[Path], read: CompletionReader, options: ReadingOptions
) -> list[QuestionGroup]:
    """Read files, and group their completions by the id or else the text of their question.

    Returns:
        The questions in the order in which they first occur.

    Raises:
        TraceError: a file is invalid or has no completions, or a question has two texts or two
            gold answers.
    """
    groups: dict[tuple[bool, str], QuestionGroup] = {}
    for path in paths:
        with_file(path, lambda path: _add(groups, path, read, options))
    if not groups:
        left = "; ".join(f"{count:,} {reason}" for reason, count in options.left_out.items())
        files = ", ".join(map(str, paths))
        raise TraceError(f"{files}: no completions" + (f"; left out: {left}" if left else ""))
    return list(groups.values())


def with_file(path: Path, read: Callable[[Path], _T]) -> _T:
    """Return what ``read`` returns, and name the file in the messages of its errors.

    Raises:
        TraceError: as ``read``; or it raised ``OSError`` or ``RecursionError``.
    """
    try:
        return read(path)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read: {error.strerror or error}") from error
    except RecursionError:
        raise TraceError(f"{path}: JSON nested too deeply") from None
    except TraceError as error:
        raise TraceError(f"{path}: {error}") from None


def _add(
    groups: dict[tuple[bool, str], QuestionGroup],
    path: Path,
    read: CompletionReader,
    options: ReadingOptions,
) -> None:
    for where, completion in read(path, options):
        try:
            (completion.text + completion.question + completion.gold + completion.id).encode()
        except UnicodeEncodeError:
            raise TraceError(f"{where}: a text is not valid Unicode (a lone surrogate)") from None
        named = bool(completion.id)
        group = groups.setdefault(
            (named, completion.id if named else completion.question),
            QuestionGroup(f"{path}, {where}", completion.question, completion.gold, completion.id),
        )
        for what, one, other in (
            ("question", group.question, completion.question),
            ("gold answer", group.gold, completion.gold),
        ):
            if one != other:
                same = f"the id {completion.id!r:.80}" if named else "the same question"
                raise TraceError(
                    f"{where}: {same} has another {what} in {group.where}; import files with "
                    "different questions as different environments"
                )
        group.completions.append(completion)
