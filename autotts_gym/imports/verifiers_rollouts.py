"""Rollouts of verifiers and of prime-rl, which saves those of verifiers.

A line of the file is one of these:

- an episode with its traces: ``traces.jsonl`` of verifiers since 0.2;
- a trace: ``rollouts/step_N/train_rollouts.jsonl`` of prime-rl;
- a row with ``prompt``, ``completion`` and ``answer``: ``results.jsonl`` of verifiers 0.1, and
  rollouts of prime-rl of that time.

Only rollouts with a single answer of the model have one text; the others are left out, as are
rollouts with errors.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotts_gym.collection.table_readers import read_jsonl
from autotts_gym.imports.completions import Completion, NumberedCompletion, ReadingOptions
from autotts_gym.imports.json_fields import objects, optional, required, scalar_text, token_count
from autotts_gym.imports.message_texts import completion_text, is_single_turn, prompt_text
from autotts_gym.traces.store import TraceError
from autotts_gym.utils.bounded_files import LARGE_FILE

FAILED, SEVERAL_TURNS = "rollouts with errors", "rollouts with several turns or calls of tools"


def read_verifiers(path: Path, options: ReadingOptions) -> Iterator[NumberedCompletion]:
    """Read rollouts; see :data:`~autotts_gym.imports.completions.CompletionReader`."""
    for number, row in read_jsonl(path, limit=LARGE_FILE, constants=True):
        where = f"line {number}"
        try:
            if "traces" in row:
                traces = objects(required(row, "traces", list), "traces")
                if not traces:
                    options.left_out[FAILED] += 1
                found = [_of_trace(trace, options) for trace in traces]
            elif "nodes" in row:
                found = [_of_trace(row, options)]
            else:
                found = [_of_row(row, options)]
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None
        yield from (NumberedCompletion(where, each) for each in found if each is not None)


def _of_row(row: dict[str, Any], options: ReadingOptions) -> Completion | None:
    """Completion of a row of version 0.1."""
    if row.get("error") is not None:
        options.left_out[FAILED] += 1
        return None
    text: object = row.get("completion")
    if isinstance(text, list):
        messages = objects(text, "completion")
        if not is_single_turn(messages):
            options.left_out[SEVERAL_TURNS] += 1
            return None
        text = completion_text(messages[0])
    if not isinstance(text, str):
        raise TraceError("'completion' must be a text or messages")
    usage = optional(row, "token_usage", dict) or {}
    return Completion(
        prompt_text(row.get("prompt")),
        _gold(row, options.answer_field, ""),
        text,
        token_count(usage.get("output_tokens"), "token_usage.output_tokens"),
        cut=optional(row, "is_truncated", bool) or False,
    )


def _of_trace(trace: dict[str, Any], options: ReadingOptions) -> Completion | None:
    """Completion of a trace: a graph of messages, those that a model wrote with ``sampled``."""
    if optional(trace, "errors", list) or optional(trace, "ok", bool) is False:
        options.left_out[FAILED] += 1
        return None
    nodes = objects(required(trace, "nodes", list), "nodes")
    sampled = [n for n, node in enumerate(nodes) if optional(node, "sampled", bool)]
    written = [required(nodes[n], "message", dict) for n in sampled]
    if not is_single_turn(written):
        options.left_out[SEVERAL_TURNS] += 1
        return None
    data = required(trace, "task.data", dict)
    node = nodes[sampled[0]]
    call = _call(trace, sampled[0]) or node  # nodes of verifiers 0.2 have it themselves
    prompt = [required(node, "message", dict) for node in nodes[: sampled[0]]]
    return Completion(
        prompt_text(prompt),
        _gold(data, options.answer_field, "task.data."),
        completion_text(written[0]),
        _trace_tokens(call, node),
        cut=optional(call, "finish_reason", str) == "length",
        model=optional(call, "model", str) or "",
    )


def _call(trace: dict[str, Any], node: int) -> dict[str, Any]:
    """The call of the model that wrote a message; empty if it is not recorded."""
    calls = objects(optional(trace, "calls", list) or [], "calls")
    return next((call for call in calls if call.get("node") == node), {})


def _trace_tokens(call: dict[str, Any], node: dict[str, Any]) -> int | None:
    """Tokens by the provider's report, or by the mask of sampled tokens."""
    usage = optional(call, "usage", dict) or {}
    count = token_count(usage.get("completion_tokens"), "calls.usage.completion_tokens")
    mask = optional(node, "mask", list) or []
    return count or sum(flag is True for flag in mask) or None


def _gold(data: dict[str, Any], name: str, place: str) -> str:
    if data.get(name) is None:
        raise TraceError(
            f"lacks the gold answer '{place}{name}'; name its field with --answer-field: "
            f"{', '.join(data)}"
        )
    return scalar_text(data[name], f"{place}{name}")
