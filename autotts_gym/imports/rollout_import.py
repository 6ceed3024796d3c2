"""``import_rollouts``: files of completions as an environment.

Without probes, the answer of a branch shows only at its end. The interval of such a store is the
number of tokens of its longest branch: every branch is one interval, which a controller reads to
its end and then probes. :mod:`autotts_gym.collection.text_probing` adds probes.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import autotts_gym
from autotts_gym.answers.answer_pairs import RULES_VERSION
from autotts_gym.answers.extraction import check_extractors
from autotts_gym.collection.branch_confidence import card_entry
from autotts_gym.collection.question_files import read_questions
from autotts_gym.collection.regrading import RULES_ENTRY, classify_answers
from autotts_gym.collection.store_builder import CUT, EMPTY, UNANSWERED
from autotts_gym.imports import mars_tables
from autotts_gym.imports.completions import ReadingOptions
from autotts_gym.imports.file_formats import (
    COMPLETION_FORMATS,
    FORMATS,
    MARS,
    PUBLISHED,
    recognise,
)
from autotts_gym.imports.question_builder import QuestionBuilder, only_model
from autotts_gym.imports.question_groups import group_completions, with_file
from autotts_gym.inference.protocol import Protocol, find_protocol
from autotts_gym.inference.token_confidence import TOP_TOKENS
from autotts_gym.traces import registry
from autotts_gym.traces.store import NULL_ANSWERS, FrozenError, Question, TraceStore
from autotts_gym.utils.bounded_files import ANY_SIZE, open_regular
from autotts_gym.utils.keywords import suggest_keywords

StrPath = str | os.PathLike[str]


@suggest_keywords()
def import_rollouts(
    sources: StrPath | Sequence[StrPath],
    name: str,
    *,
    format: str | None = None,
    extractors: Sequence[str] | None = None,
    protocol: StrPath | None = None,
    tokenizer: str | None = None,
    questions: StrPath | None = None,
    requests: StrPath | None = None,
    id_field: str = "id",
    question_field: str = "question",
    answer_field: str = "answer",
    completion_field: str = "completions",
    tokens_field: str = "tokens",
    interval: int | None = None,
    texts: bool = True,
    model_name: str | None = None,
    benchmark: str | None = None,
    to: StrPath | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TraceStore:
    """Import completions that another program sampled as an environment.

    Args:
        sources: files of one format; completions of the same question are its branches, in order.
        name: name of the environment.
        format: ``lm-eval``, ``batch``, ``verifiers``, ``inspect``, ``completions`` or ``mars``; by
            default recognised by the content of the first file.
        extractors: how final answers are found in texts, in order
            (:mod:`autotts_gym.answers.extraction`). By default ``choice`` if all gold answers are
            letters from A to J, else ``boxed``, ``answer``, ``number``.
        protocol: finds answers as this protocol does, instead of ``extractors``; a name or a file.
        tokenizer: folder or name of the tokenizer that counts the tokens of completions for which
            the file records none.
        questions: a file of questions with gold answers, for batch outputs and traces of MARS.
        requests: the file of requests of batch outputs.
        id_field, question_field, answer_field, completion_field, tokens_field: names of the
            columns of a table; the default names also match other common names. ``answer_field``
            is also the field of gold answers in rollouts of verifiers.
        interval: Δ of the probes of MARS, tokens; 2,048 by default.
        texts: store the texts.
        model_name: name of the model on the card; by default as the file records it.
        benchmark: name of the questions on the card; by default the name of the first file.
        to: parent folder of the environment; the user's environment folder by default.
        progress: called with the number of questions whose answers were compared, and their total.

    Returns:
        The environment's trace store. The entry ``imported`` of its card counts the branches that
        are cut, empty or unanswered, and what was left out.

    Raises:
        FrozenError: the environment exists already.
        TraceError: the name, a file or a value is invalid; the message names the file, its line or
            row, and what would be right. Nothing is written.
        ValueError: arguments do not fit together, or an extractor is invalid.
        TypeError: an unknown keyword argument; the message suggests a similar one.
    """
    target = _target(name, to)
    paths = [Path(s) for s in ([sources] if isinstance(sources, str | os.PathLike) else sources)]
    if not paths:
        raise ValueError("give at least one file")
    kind = format or with_file(paths[0], recognise)
    _check(kind, extractors, protocol, interval)
    options = ReadingOptions(
        id_field,
        question_field,
        answer_field,
        completion_field,
        tokens_field,
        None if requests is None else Path(requests),
        [] if questions is None else read_questions(os.fspath(questions)),
    )
    facts: dict[str, Any] = {}
    if kind == MARS:
        interval = interval or mars_tables.INTERVAL
        made, model = mars_tables.read_mars(paths, options.questions, interval), ""
    else:
        chosen = None if protocol is None else find_protocol(protocol, "")
        made, facts, model = _read(kind, paths, options, extractors, chosen, tokenizer, texts)
        interval = max(branch.tokens for question in made for branch in question.branches)
    stored = []
    for done, question in enumerate(made, 1):
        stored.append(classify_answers(question))
        progress(done, len(made))
    details = {
        "model": model_name or model,
        "benchmark": benchmark or _plain(paths[0].stem),
        "source": [_plain(path.name) for path in paths],
        "source_sha256": [with_file(path, _digest) for path in paths],
        **_figures(stored),
        **(card_entry(TOP_TOKENS) if kind == MARS else {}),
        "null_answers": sorted(NULL_ANSWERS),
        RULES_ENTRY: RULES_VERSION,
        "imported": {
            "format": kind,
            **facts,
            **_flags(stored),
            "left_out": dict(options.left_out),
            "with": f"autotts_gym {autotts_gym.__version__}",
        },
    }
    return TraceStore.from_branches(stored, interval, details=details).save(target)


def _target(name: str, to: StrPath | None) -> Path:
    """Folder of the new environment, which must not exist."""
    registry.check_name(name)
    target = (Path(to) if to is not None else registry.user_folder()) / name
    if os.path.lexists(target):
        raise FrozenError(f"{target} exists already, and stores are frozen: choose another name")
    return target


def _check(
    kind: str, extractors: Sequence[str] | None, protocol: StrPath | None, interval: int | None
) -> None:
    if kind not in FORMATS or kind == PUBLISHED:
        readable = ", ".join(each for each in FORMATS if each != PUBLISHED)
        raise ValueError(f"the format {kind!r} is not one of rollouts: {readable}")
    if extractors is not None and protocol is not None:
        raise ValueError("give extractors or a protocol, not both")
    if extractors is not None:
        check_extractors(extractors)
    if interval is not None and kind != MARS:
        raise ValueError(
            "an interval is for traces with probes (mars); branches without are one interval each"
        )


def _read(
    kind: str,
    paths: Sequence[Path],
    options: ReadingOptions,
    extractors: Sequence[str] | None,
    protocol: Protocol | None,
    tokenizer: str | None,
    texts: bool,
) -> tuple[list[Question], dict[str, Any], str]:
    """Questions of completions, entries of the card about them, and the model that wrote them."""
    groups = group_completions(paths, COMPLETION_FORMATS[kind].read, options)
    builder = QuestionBuilder(groups, extractors, protocol, tokenizer, texts)
    made = builder.build()
    return made, builder.facts(), only_model(groups)


def _figures(questions: Sequence[Question]) -> dict[str, Any]:
    widths = {len(question.branches) for question in questions}
    return {"branches_per_question": widths.pop()} if len(widths) == 1 else {}


def _flags(questions: Sequence[Question]) -> dict[str, int]:
    counts = Counter(flag for q in questions for b in q.branches for flag in b.flags.split())
    return {flag: counts[flag] for flag in (CUT, EMPTY, UNANSWERED)}


def _plain(file_name: str) -> str:
    """A file name as valid Unicode; file names need not be UTF-8."""
    return os.fsencode(file_name).decode("utf-8", "replace")


def _digest(path: Path) -> str:
    with open_regular(path, ANY_SIZE) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
