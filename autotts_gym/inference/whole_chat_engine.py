"""An engine for servers of chat completions that cannot continue a message, such as hosted ones.

A branch is one completion, which cannot be probed or continued. Its reasoning may come apart from
its text; it is joined to it by the text that ends reasoning.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from autotts_gym.inference.engine import EngineError, Generated, Request
from autotts_gym.inference.http_responses import TransientError
from autotts_gym.inference.text_engine import TextEngine
from autotts_gym.inference.text_responses import read_generation

#: Fields in which servers send the reasoning.
_REASONING = ("reasoning_content", "reasoning")


class WholeChatEngine(TextEngine):
    """One or more servers of the same model whose chat completions are used as they are.

    Args:
        base_urls, model, options: as for :class:`~autotts_gym.inference.http_engine.ServerEngine`.

    Attributes:
        reasoning_end: text between the reasoning and the rest, where the server sends them apart.
    """

    can_continue = False

    def __init__(
        self, base_urls: str | Sequence[str], model: str | None = None, **options: Any
    ) -> None:
        super().__init__(base_urls, model, chat=True, **options)
        self.reasoning_end = "</think>"

    async def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """See :meth:`autotts_gym.inference.engine.Engine.stream`.

        A stream that breaks off starts again; the first part then has ``restarts``.
        """
        begun = False
        retries = self.new_retries()
        while True:
            try:
                if begun:
                    yield Generated(restarts=True)
                parts = self._stream_rest(request, [], request.max_tokens, every)
                async with contextlib.aclosing(parts) as stream:
                    async for part in stream:
                        begun = True
                        yield part
                        if part.finish:
                            return
            except TransientError as error:
                await retries.pause(error)

    def _stream_reader(self, top_tokens: int) -> Callable[[dict[str, Any], str], Generated]:
        join = _ReasoningJoiner(self.reasoning_end)
        read = functools.partial(read_generation, top_tokens=top_tokens)
        return lambda content, url: read(join(content), url)

    def _prompt(self, tokens: Sequence[int]) -> dict[str, Any]:
        if len(tokens) > 1:
            raise EngineError(f"{self}: a chat completion cannot be continued or probed")
        return super()._prompt(tokens)


class _ReasoningJoiner:
    """Moves the reasoning of the chunks of a stream to their content.

    Args:
        end: text after the reasoning.
    """

    def __init__(self, end: str) -> None:
        self._end = end
        self._reasons = False

    def __call__(self, content: dict[str, Any]) -> dict[str, Any]:
        choices = content.get("choices")
        choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
        delta = choice.get("delta") if isinstance(choice, dict) else None
        if not isinstance(choice, dict) or not isinstance(delta, dict):
            return content  # is refused later
        text = delta.get("content") or ""
        reasoning = next((delta[name] for name in _REASONING if delta.get(name)), "")
        if not isinstance(text, str) or not isinstance(reasoning, str):
            return content
        if self._reasons and text:
            text = self._end + text
            self._reasons = False
        elif reasoning:
            text = reasoning + (self._end + text if text else "")
            self._reasons = not delta.get("content")
        return {**content, "choices": [{**choice, "delta": {"content": text}}]}
