"""Outputs of OpenAI's batches, and of ``vllm run-batch``, which have the same form.

A line of an output file has ``custom_id`` and ``response`` (``status_code`` and ``body``, a
chat completion, a completion or a response). The questions are in the file of requests, or in a
file of questions with gold answers. A request belongs to the question whose id is its
``custom_id``, or the part of it before a separator and a number (``q7-0``, ``q7/1``); or else to
the question whose text is its prompt. Requests that failed are left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.table_readers import read_jsonl
from autotts_gym.imports.completions import Completion, NumberedCompletion, ReadingOptions
from autotts_gym.imports.json_fields import objects, optional, required, token_count
from autotts_gym.imports.message_texts import completion_text, prompt_text, with_reasoning
from autotts_gym.traces.store import TraceError
from autotts_gym.utils.bounded_files import LARGE_FILE

FAILED, TOOLS = "requests that failed", "responses with calls of tools"

#: Characters of an id that is searched for a number: the time grows with their square.
_LONGEST_ID: Final = 500
_NUMBERED: Final = re.compile(r"(.+?)[-_/:#.@ ]+\w{0,10}?\d+")


def read_batch(path: Path, options: ReadingOptions) -> Iterator[NumberedCompletion]:
    """Read an output file; see :data:`~autotts_gym.imports.completions.CompletionReader`."""
    prompts = _read_prompts(options.requests) if options.requests is not None else {}
    questions = _Questions(options.questions, prompts)
    for number, row in read_jsonl(path, limit=LARGE_FILE, constants=True):
        where = f"line {number}"
        try:
            for completion in _completions(row, questions, options):
                yield NumberedCompletion(where, completion)
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None


def _read_prompts(path: Path) -> dict[str, str]:
    """Prompts of the requests by ``custom_id``."""
    prompts: dict[str, str] = {}
    try:
        for number, row in read_jsonl(path, limit=LARGE_FILE):
            try:
                name = required(row, "custom_id", str)
                body = required(row, "body", dict)
                given = [body[key] for key in ("messages", "prompt", "input") if key in body]
                if len(given) != 1:
                    raise TraceError("'body' must have messages, a prompt or an input")
                prompts[name] = prompt_text(given[0])
            except TraceError as error:
                raise TraceError(f"line {number}: {error}") from None
    except TraceError as error:
        raise TraceError(f"requests {path}: {error}") from None
    return prompts


class _Questions:
    """Finds the question of a request."""

    def __init__(self, questions: list[AskedQuestion], prompts: dict[str, str]) -> None:
        self._prompts = prompts
        self._by_id = {question.id: question for question in questions}
        self._by_text = {question.text.strip(): question for question in questions}

    def find(self, name: str) -> AskedQuestion:
        """The question of a request; without an id if only its prompt is known."""
        numbered = _NUMBERED.fullmatch(name) if len(name) <= _LONGEST_ID else None
        prompt = self._prompts.get(name)
        found = self._by_id.get(name) or (self._by_id.get(numbered[1]) if numbered else None)
        if found is None and prompt is not None:
            found = self._by_text.get(prompt.strip())
        if found is not None:
            return found
        if self._by_id:
            raise TraceError(
                f"custom_id {name!r:.80} fits no question of --questions: it must be the id of "
                "one, alone or with a number behind it (q7-0), or its prompt in --requests must "
                "be the question's text"
            )
        if prompt is None:
            raise TraceError(
                f"the question of custom_id {name!r:.80} is unknown: give the file of requests "
                "with --requests, or the questions with --questions"
            )
        return AskedQuestion("", prompt)


def _completions(
    row: dict[str, Any], questions: _Questions, options: ReadingOptions
) -> Iterator[Completion]:
    name = required(row, "custom_id", str)
    status = optional(row, "response.status_code", int)
    if row.get("error") is not None or row.get("response") is None or status not in (None, 200):
        options.left_out[FAILED] += 1
        return
    body = required(row, "response.body", dict)
    question = questions.find(name)
    model = optional(body, "model", str) or ""
    choices = _choices(body)
    for choice in choices:
        if choice is None:
            options.left_out[TOOLS] += 1
            continue
        text, tokens, cut = choice
        yield Completion(
            question.text, question.gold, text, tokens, question.id, cut=cut, model=model
        )


def _choices(body: dict[str, Any]) -> list[tuple[str, int | None, bool] | None]:
    """Text, tokens and whether it was cut of each choice; None for one that calls a tool."""
    usage = optional(body, "usage", dict) or {}
    if "output" in body:  # a response
        tokens = token_count(usage.get("output_tokens"), "usage.output_tokens")
        return [_response(body, tokens or None)]
    total = token_count(usage.get("completion_tokens"), "usage.completion_tokens")
    choices = objects(required(body, "choices", list), "choices")
    found: list[tuple[str, int | None, bool] | None] = []
    for choice in choices:
        # The usage is that of all choices together.
        tokens = (total or None) if len(choices) == 1 else _count_logprobs(choice)
        cut = optional(choice, "finish_reason", str) == "length"
        if "text" in choice:
            found.append((required(choice, "text", str), tokens, cut))
            continue
        message = required(choice, "message", dict)
        calls = message.get("tool_calls")
        found.append(None if calls else (completion_text(message), tokens, cut))
    return found


def _count_logprobs(choice: dict[str, Any]) -> int | None:
    """Number of tokens for which log-probabilities were recorded."""
    logprobs = optional(choice, "logprobs", dict) or {}
    tokens = optional(logprobs, "content", list) or optional(logprobs, "tokens", list)
    return len(tokens) if tokens else None


def _response(body: dict[str, Any], tokens: int | None) -> tuple[str, int | None, bool] | None:
    """The text of a response: its messages, and its reasoning as far as it is shown."""
    items = objects(required(body, "output", list), "output")
    if any(str(item.get("type")).endswith("_call") for item in items):
        return None
    reasoning = [
        optional(part, "text", str) or ""
        for item in items
        if item.get("type") == "reasoning"
        for key in ("content", "summary")
        for part in objects(optional(item, key, list) or [], key)
    ]
    answers = [completion_text(item) for item in items if item.get("type") == "message"]
    cut = optional(body, "status", str) == "incomplete"
    return with_reasoning("\n\n".join(reasoning), "".join(answers)), tokens, cut
