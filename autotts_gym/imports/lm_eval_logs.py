"""Logs of samples of lm-evaluation-harness: ``samples_TASK_DATE.jsonl`` (``--log_samples``).

A line has one document of a task::

    {"doc_id": 0, "doc": {...}, "target": "4", "arguments": {"gen_args_0": {"arg_0": PROMPT, ...}},
     "resps": [[TEXT, ...]], "filter": "none", "metrics": ["exact_match"], "exact_match": 1.0, ...}

``resps`` has a text for each of the task's ``repeats``. A task with several filters repeats its
documents for each; they are read once. Tokens are not recorded.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotts_gym.collection.table_readers import read_jsonl
from autotts_gym.imports.completions import Completion, NumberedCompletion, ReadingOptions
from autotts_gym.imports.json_fields import optional, required, scalar_text
from autotts_gym.imports.message_texts import prompt_text
from autotts_gym.traces.store import TraceError
from autotts_gym.traces.strict_json import parse
from autotts_gym.utils.bounded_files import LARGE_FILE


def read_lm_eval(path: Path, options: ReadingOptions) -> Iterator[NumberedCompletion]:
    """Read a log of samples; see :data:`~autotts_gym.imports.completions.CompletionReader`."""
    first_filter: str | None = None
    for number, row in read_jsonl(path, limit=LARGE_FILE, constants=True):
        where = f"line {number}"
        try:
            name = optional(row, "filter", str) or ""
            if first_filter is None:
                first_filter = name
            if name == first_filter:
                for completion in _completions(row):
                    yield NumberedCompletion(where, completion)
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None


def _completions(row: dict[str, Any]) -> Iterator[Completion]:
    texts = _texts(required(row, "resps", list))
    question = _question(row)
    gold = scalar_text(row.get("target"), "target")
    # A score of several texts is one of what the task's filters made of them.
    right = _is_right(row) if len(texts) == 1 else None
    for text in texts:
        yield Completion(
            question, gold, text, id=scalar_text(row.get("doc_id"), "doc_id"), right=right
        )


def _texts(resps: list[Any]) -> list[str]:
    if len(resps) == 1 and isinstance(resps[0], list):
        texts: list[str] = [text for text in resps[0] if isinstance(text, str)]
        if texts and len(texts) == len(resps[0]):
            return texts
    raise TraceError(
        f"'resps' must be one list of texts, got {reprlib.repr(resps)}; only tasks with "
        "output_type: generate_until have texts (the others rank given answers)"
    )


def _question(row: dict[str, Any]) -> str:
    """The prompt: a text, or a chat as JSON in a list of one text."""
    arguments = required(row, "arguments.gen_args_0", dict)
    prompt = arguments.get("arg_0")
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        try:
            prompt = parse(prompt[0], "no message has one")
        except ValueError as error:
            raise TraceError(f"'arguments.gen_args_0.arg_0' is not a chat: {error}") from None
    return prompt_text(prompt)


def _is_right(row: dict[str, Any]) -> bool | None:
    for metric in optional(row, "metrics", list) or []:
        score = row.get(metric) if isinstance(metric, str) else None
        if isinstance(score, bool | int | float):
            return score == 1
    return None
