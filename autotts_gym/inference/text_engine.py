"""An engine for OpenAI-compatible servers that are not vLLM's: text instead of token ids.

``/completions`` takes a text and continues it. ``/chat/completions`` takes messages and continues
the last one, if it is the assistant's; llama.cpp, vLLM and SGLang do that, OpenAI does not.

What cannot be had: the number of tokens of a prompt, so that a prompt that is too long is noticed
by the server only; and, from servers without log-probabilities, the confidence of probes, the
generation confidence, and exact numbers of tokens. Then a token is what a server sends at once.
"""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Final

from autotts_gym.inference.bounded_body import ServerFaultError
from autotts_gym.inference.engine import EngineError, Generated, Request
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.http_responses import RefusedError
from autotts_gym.inference.text_responses import piece_id, piece_text, read_generation

#: First byte of the token that represents the messages of a prompt.
_MESSAGES: Final = b"\x02"
#: Pieces for each token of ``max_tokens`` after which a stream is a server's fault.
_MOST_PIECES: Final = 8


class TextEngine(ServerEngine):
    """One or more servers of the same model that take text or messages.

    Args:
        base_urls, model, options: as for :class:`~autotts_gym.inference.http_engine.ServerEngine`.
        chat: use ``/chat/completions`` instead of ``/completions``.
    """

    has_end_token = False

    def __init__(
        self,
        base_urls: str | Sequence[str],
        model: str | None = None,
        *,
        chat: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(base_urls, model, **options)
        self._chat = chat
        self._asks_for_logprobs = True

    async def encode(self, text: str) -> list[int]:
        return [piece_id(text)] if text else []

    async def encode_chat(
        self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]
    ) -> list[int]:
        if not self._chat:
            raise EngineError(
                f"{self}: the protocol's prompt is a list of messages, which a server of text "
                "completions cannot render: use the API chat, or a protocol with a text"
            )
        content = json.dumps({"messages": list(messages), "arguments": dict(arguments)})
        return [int.from_bytes(_MESSAGES + content.encode())]

    async def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(piece_text, tokens))

    def find(self, tokens: Sequence[int], marker: Sequence[int]) -> int | None:
        """See :meth:`autotts_gym.inference.engine.Engine.find`; compares texts."""
        wanted = "".join(map(piece_text, marker))
        pieces = list(map(piece_text, tokens))
        start = "".join(pieces).find(wanted)
        if start < 0:
            return None
        end = 0
        for at, piece in enumerate(pieces):
            end += len(piece)
            if start < end:
                return at
        return None

    async def _open_stream(self, request: Request, every: int) -> AsyncGenerator[Generated, None]:
        body = {**await self._text_body(request), "stream": True}
        if request.top_tokens:
            body |= self._logprob_fields(request.top_tokens)
        read_part = self._stream_reader(request.top_tokens)
        left = _MOST_PIECES * request.max_tokens

        def read(chunk: dict[str, Any], url: str) -> Generated:
            nonlocal left
            part = read_part(chunk, url)
            left -= len(part.tokens)
            if left < 0:
                raise ServerFaultError(f"{url}: sends more than max_tokens")
            part.logprobs, part.pieces = [], []
            return part

        return self._choose_server().stream(self._path, body, read)

    def _stream_reader(self, top_tokens: int) -> Callable[[dict[str, Any], str], Generated]:
        """What reads the chunks of one stream."""
        return functools.partial(read_generation, top_tokens=top_tokens)

    async def _decode_rest(
        self, request: Request, tokens: list[int], yielded: str, last: Generated
    ) -> None:
        """Texts come from the server as they are."""

    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        return list(await asyncio.gather(*map(self._complete_one, requests)))

    async def _complete_one(self, request: Request) -> Generated:
        body = await self._text_body(request._replace(seed=None))
        while True:
            fields = self._logprob_fields(0) if self._asks_for_logprobs else {}
            try:
                return await self._request(self._path, {**body, **fields}, read_generation)
            except RefusedError as error:
                if not fields or "logprob" not in str(error).lower():
                    raise
                self._asks_for_logprobs = False

    async def describe(self) -> dict[str, Any]:
        facts = await super().describe()
        kind = "messages" if self._chat else "text"
        return {**facts, "engine": f"{facts['engine']}, asked with {kind}"}

    # --- requests ----------------------------------------------------------------------------

    @property
    def _path(self) -> str:
        return "/chat/completions" if self._chat else "/completions"

    def _logprob_fields(self, top_tokens: int) -> dict[str, Any]:
        if self._chat:
            return {"logprobs": True} | ({"top_logprobs": top_tokens} if top_tokens else {})
        return {"logprobs": max(top_tokens, 1)}

    async def _text_body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": await self.model_name(),
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            **self._prompt(request.prompt),
        }
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if request.seed is not None:
            body["seed"] = request.seed % 2**31
        if request.stop:
            body["stop"] = list(request.stop)
        return body

    def _prompt(self, tokens: Sequence[int]) -> dict[str, Any]:
        """The fields of a request that hold a prompt and what was generated so far."""
        if not self._chat:
            return {"prompt": "".join(map(piece_text, tokens))}
        first = tokens[0].to_bytes((tokens[0].bit_length() + 7) // 8) if tokens else b""
        if not first.startswith(_MESSAGES):
            raise EngineError(
                f"{self}: the protocol's prompt is a text, which a chat cannot take: use the API "
                "completions, or a protocol with messages"
            )
        prompt = json.loads(first[1:])
        fields: dict[str, Any] = {"messages": prompt["messages"]}
        if prompt["arguments"]:
            fields["chat_template_kwargs"] = prompt["arguments"]
        begun = "".join(map(piece_text, tokens[1:]))
        if begun:
            fields["messages"] = [*prompt["messages"], {"role": "assistant", "content": begun}]
            fields |= {"continue_final_message": True, "add_generation_prompt": False}
        return fields
