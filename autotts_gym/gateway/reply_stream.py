"""Replies as server-sent events: progress first, then the reply."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from autotts_gym.deployment.solver import Solution
from autotts_gym.gateway.api_errors import ApiError, json_text
from autotts_gym.gateway.replies import Bill, finish_reason, usage

#: Most characters of a delta.
_DELTA: Final = 4096
DONE: Final = b"data: [DONE]\n\n"


class ChunkWriter:
    """Writes the chunks of one reply.

    Args:
        head: ``id``, ``created`` and ``model`` of the reply.
        is_chat: whether it is a chat completion.
        include_usage: whether a chunk with the usage comes at the end.
    """

    def __init__(self, head: dict[str, Any], is_chat: bool, include_usage: bool) -> None:
        self._is_chat = is_chat
        self._include_usage = include_usage
        kind = "chat.completion.chunk" if is_chat else "text_completion"
        self._head = {**head, "object": kind}

    def start(self) -> bytes:
        """The first chunk."""
        return self._chunk(role="assistant") if self._is_chat else b""

    def progress(self, facts: dict[str, Any]) -> bytes:
        """A chunk without text, with the state of the episode in ``autotts.progress``."""
        return self._chunk(autotts={"progress": facts})

    def reply(self, solution: Solution, made: Bill) -> Iterator[bytes]:
        """The chunks of the reply, and the end of the stream."""
        if self._is_chat:
            for part in _parts(solution.reasoning.strip("\n")):
                yield self._chunk(reasoning_content=part)
        for part in _parts(solution.text.strip("\n")):
            yield self._chunk(content=part) if self._is_chat else self._chunk(text=part)
        yield self._chunk(finish=finish_reason(solution), autotts=made.model_dump())
        if self._include_usage:
            total = {"choices": [], "usage": usage(solution).model_dump()}
            yield _event({**self._head, **total})
        yield DONE

    def error(self, error: ApiError) -> Iterator[bytes]:
        """An error after the start of the stream, and its end."""
        yield _event(error.body())
        yield DONE

    def _chunk(
        self, finish: str | None = None, autotts: dict[str, Any] | None = None, **delta: str
    ) -> bytes:
        content = {"delta": delta} if self._is_chat else {"text": delta.get("text", "")}
        choice = {"index": 0, **content, "finish_reason": finish, "logprobs": None}
        chunk = {**self._head, "choices": [choice]}
        if self._include_usage:
            chunk["usage"] = None
        if autotts is not None:
            chunk["autotts"] = autotts
        return _event(chunk)


def _parts(text: str) -> Iterator[str]:
    for at in range(0, len(text), _DELTA):
        yield text[at : at + _DELTA]


def _event(content: dict[str, Any]) -> bytes:
    return f"data: {json_text(content)}\n\n".encode("ascii")
