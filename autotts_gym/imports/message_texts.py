r"""Texts of chat messages, in the forms of OpenAI, Inspect and verifiers.

Servers return reasoning apart from the answer. The text of a completion has both, as the model
wrote them: ``<think>\n``, the reasoning, ``\n</think>\n\n``, and the answer.
"""

from __future__ import annotations

import reprlib
from typing import Any, Final

from autotts_gym.imports.json_fields import objects, optional
from autotts_gym.traces.store import TraceError

#: Types of content that are text, and the field that has it.
_TEXT_PARTS: Final = {"text": "text", "input_text": "text", "output_text": "text"}


def with_reasoning(reasoning: str, answer: str) -> str:
    """The text of a completion whose reasoning was recorded apart from its answer."""
    if not reasoning.strip():
        return answer
    return f"<think>\n{reasoning.strip()}\n</think>\n\n{answer.lstrip()}"


def completion_text(message: dict[str, Any]) -> str:
    """Text of an assistant's message with its reasoning.

    Raises:
        TraceError: its content is neither a text nor a list of texts.
    """
    reasoning = optional(message, "reasoning_content", str) or optional(message, "reasoning", str)
    parts = _parts(message.get("content"))
    inline = [_reasoning(part) for part in parts if part.get("type") == "reasoning"]
    answer = "".join(_text(part) for part in parts if part.get("type") != "reasoning")
    return with_reasoning("\n\n".join([reasoning or "", *inline]), answer)


def prompt_text(prompt: object) -> str:
    """Text of a prompt: a text, or the texts of the user's messages, with empty lines between.

    Raises:
        TraceError: it is neither, or a message has something else than text.
    """
    if isinstance(prompt, str):
        return prompt
    if not isinstance(prompt, list):
        raise TraceError(f"the prompt must be a text or messages, got {reprlib.repr(prompt)}")
    messages = objects(prompt, "messages")
    texts = [
        "".join(_text(part) for part in _parts(message.get("content")))
        for message in messages
        if message.get("role") == "user"
    ]
    if not texts:
        raise TraceError("the prompt has no message with the role 'user'")
    return "\n\n".join(texts)


def is_single_turn(messages: list[dict[str, Any]]) -> bool:
    """Whether messages are one answer of the assistant, without calls of tools."""
    (message, *more) = messages or [{}]
    return not more and message.get("role") == "assistant" and not message.get("tool_calls")


def _parts(content: object) -> list[dict[str, Any]]:
    """Content as a list of parts with types."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise TraceError(f"'content' must be a text or a list, got {reprlib.repr(content)}")
    return objects(content, "content")


def _text(part: dict[str, Any]) -> str:
    kind = part.get("type")
    name = _TEXT_PARTS.get(str(kind))
    if name is None:
        raise TraceError(f"content of the type {reprlib.repr(kind)}; only texts can be imported")
    return optional(part, name, str) or ""


def _reasoning(part: dict[str, Any]) -> str:
    """Text of a part with reasoning; only its summary if that is all there is."""
    hidden = optional(part, "redacted", bool)
    return optional(part, "summary" if hidden else "reasoning", str) or ""
