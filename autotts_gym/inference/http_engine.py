"""An engine for OpenAI-compatible completion servers, such as ``vllm serve``.

Prompts and results are token ids. vLLM's server returns them on request (``return_token_ids``,
since 0.10.2), and its ``/tokenize`` converts text, so that the client needs no tokenizer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from autotts_gym.inference.bounded_body import ServerFaultError
from autotts_gym.inference.engine import Engine, EngineError, Generated, Request
from autotts_gym.inference.http_connection import ServerConnection
from autotts_gym.inference.http_headers import check_base_urls, check_headers
from autotts_gym.inference.http_responses import (
    RefusedError,
    TransientError,
    explained_404,
    fewer_top_tokens,
    read_chat,
    read_choices,
    read_chunk,
    read_models,
    read_text,
    read_tokens,
    read_version,
)
from autotts_gym.inference.request_retries import RequestRetries, backoff
from autotts_gym.inference.token_confidence import TOP_TOKENS
from autotts_gym.utils.redaction import redact

__all__ = ["RefusedError", "ServerEngine", "TransientError"]

T = TypeVar("T")

_VLLM_ONLY: Final = (
    "only vLLM's server has it; other servers take text or messages: choose the API completions "
    "or chat"
)
#: Most tokens in a part of a stream with the likeliest tokens, which take about 600 bytes each.
_MAX_SCORED_PART: Final = 256


class ServerEngine(Engine):
    """One or more OpenAI-compatible servers of the same model.

    A request goes to the server with the fewest active requests. A temporary failure (no
    connection, a stall, an invalid response, or status 408, 409, 425, 429 or 5xx) is retried with
    exponential backoff, on another server if there is one, until ``patience`` has run out. A stream
    that breaks off is continued from its last token; no tokens are generated twice.

    Args:
        base_urls: such as ``http://127.0.0.1:8000/v1``.
        model: name of the model on the servers; by default, the only one that they serve.
        api_key: sent as a bearer token.
        headers: further headers of every request.
        server_headers: further headers of the requests to some of the servers, by base URL.
        stall: seconds without data from a server after which its requests fail, and are sent again.
            A request that waits in the server's queue does not fail while others receive data. The
            time doubles while stalls repeat, up to ``patience``: such a server is slow, not dead.
        patience: seconds for which a failing request is retried.
        concurrency: maximum number of concurrent requests per server.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        base_urls: str | Sequence[str],
        model: str | None = None,
        *,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        server_headers: Mapping[str, Mapping[str, str]] | None = None,
        stall: float = 120.0,
        patience: float = 600.0,
        concurrency: int = 512,
    ) -> None:
        urls = check_base_urls(base_urls)
        for name, value in (("stall", stall), ("patience", patience)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {value!r}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
        sent = check_headers(headers or {})
        if api_key and "authorization" not in map(str.lower, sent):
            sent |= check_headers({"Authorization": f"Bearer {api_key}"})
        own = {u.rstrip("/"): check_headers(h) for u, h in (server_headers or {}).items()}
        if unknown := own.keys() - set(urls):
            shown = ", ".join(map(redact, sorted(unknown)))
            raise ValueError(f"server_headers has {shown}, which is not one of the base URLs")
        self._servers = [
            ServerConnection(url, sent | own.get(url, {}), stall, max(stall, patience), concurrency)
            for url in urls
        ]
        self._model = model
        self._patience = patience
        self._max_top_tokens = TOP_TOKENS
        self._retry_count = 0
        self._last_failure = ""

    async def encode(self, text: str) -> list[int]:
        return await self._tokenize({"prompt": text, "add_special_tokens": False})

    async def encode_chat(
        self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]
    ) -> list[int]:
        return await self._tokenize(
            {"messages": list(messages), "chat_template_kwargs": dict(arguments)}
        )

    async def decode(self, tokens: Sequence[int]) -> str:
        with explained_404(_VLLM_ONLY):
            return await self._request(
                "/detokenize", {"tokens": list(tokens)}, read_text, root=True
            )

    async def _tokenize(self, body: dict[str, Any]) -> list[int]:
        with explained_404(_VLLM_ONLY):
            return await self._request("/tokenize", body, read_tokens, root=True)

    async def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """See :meth:`autotts_gym.inference.engine.Engine.stream`.

        A server decodes the tokens of a continuation on their own, which corrupts a character whose
        bytes were sent before and after a break. After a break, the text is therefore decoded once
        from all tokens, and comes with the last part.
        """
        tokens: list[int] = []
        yielded, withheld = "", ""
        retries = self.new_retries()
        while True:
            try:
                broke, remaining = bool(tokens), request.max_tokens - len(tokens)
                parts = self._stream_rest(request, tokens, remaining, every)
                # Without aclosing, the server would continue to generate after an early exit.
                async with contextlib.aclosing(parts) as stream:
                    async for part in stream:
                        if part.tokens:
                            retries.renew()
                        tokens += part.tokens
                        if broke:
                            withheld, part.text = withheld + part.text, ""
                            if part.finish:
                                text = await self._decode_rest(request, tokens, yielded, part)
                                part.text = withheld if text is None else text
                        yielded += part.text
                        yield part
                        if part.finish:
                            return
            except TransientError as error:
                await retries.pause(error)

    async def _stream_rest(
        self, request: Request, tokens: list[int], remaining: int, every: int
    ) -> AsyncGenerator[Generated, None]:
        """Stream what follows ``tokens``, at most ``remaining`` tokens; one attempt."""
        if remaining <= 0:  # only the finish reason was missing
            yield Generated(finish="length")
            return
        # A continuation needs other random numbers than the first attempt.
        seed = request.seed
        if seed is not None:
            seed = (seed + len(tokens)) % 2**63
        rest = request._replace(prompt=[*request.prompt, *tokens], max_tokens=remaining, seed=seed)
        while True:
            top_tokens = min(request.top_tokens, self._max_top_tokens)
            parts = await self._open_stream(rest._replace(top_tokens=top_tokens), every)
            try:
                async with contextlib.aclosing(parts):
                    async for part in parts:
                        yield part
                return
            except RefusedError as error:
                fewer = fewer_top_tokens(error, top_tokens)
                if fewer is None:
                    raise
                self._max_top_tokens = min(self._max_top_tokens, fewer)

    async def _open_stream(self, request: Request, every: int) -> AsyncGenerator[Generated, None]:
        """The stream of a completion from one server."""
        remaining, top_tokens = request.max_tokens, request.top_tokens
        body = {
            **await self._completion_body(request),
            "prompt": list(request.prompt),
            "stream": True,
            # Servers that do not support this send every token separately.
            "stream_interval": min(every, _MAX_SCORED_PART) if top_tokens else every,
        }
        if top_tokens:
            # Different tokens may have the same text; ids tell them apart.
            body |= {"logprobs": top_tokens, "return_tokens_as_token_ids": True}

        def read(chunk: dict[str, Any], url: str) -> Generated:
            nonlocal remaining
            part = read_chunk(chunk, url, top_tokens)
            _check_length(part, remaining, url)
            remaining -= len(part.tokens)
            return part

        return self._choose_server().stream("/completions", body, read)

    async def _decode_rest(
        self, request: Request, tokens: list[int], yielded: str, last: Generated
    ) -> str | None:
        """The text of ``tokens`` after the part that was yielded; None if it cannot be decoded."""
        try:
            text = await self.decode(tokens)
            if last.finish == "stop":
                stops = [at for stop in request.stop if (at := text.find(stop)) >= 0]
                # Without a stop string, the last token is an end-of-sequence token.
                text = text[: min(stops)] if stops else await self.decode(tokens[:-1])
        except EngineError:  # the server only generates
            return None
        return text[len(yielded) :]

    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        if not requests:
            return []
        body = await self._completion_body(requests[0])
        body |= {"prompt": [list(request.prompt) for request in requests], "logprobs": 0}
        body.pop("seed", None)
        read = functools.partial(read_choices, count=len(requests))
        retries = self.new_retries()
        while True:
            server = self._choose_server()
            try:
                parts = await server.request("/completions", body, read)
            except TransientError as error:
                await retries.pause(error)
                continue
            for request, part in zip(requests, parts, strict=True):
                _check_length(part, request.max_tokens, f"{server.shown_url}/completions")
            return parts

    async def chat(
        self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Request a chat completion; works with any OpenAI-compatible server.

        Args:
            messages: each with a role and a content.
            options: further fields of the request, such as ``max_tokens``.

        Returns:
            The response; its first choice has a message.

        Raises:
            RefusedError: the server rejects the request.
            EngineError: the request still fails after ``patience``.
        """
        body = {"messages": list(messages), **options}
        return await self._request("/chat/completions", body, read_chat)

    async def describe(self) -> dict[str, Any]:
        with explained_404("does the base URL end in /v1, such as http://127.0.0.1:8000/v1?"):
            models = await self._request("/models", None, read_models)
        names = [model["id"] for model in models]
        if self._model is None and len(names) != 1:
            raise EngineError(f"{self}: serves {', '.join(names) or 'no model'}: name one of them")
        self._model = self._model or names[0]
        if self._model not in names:
            raise EngineError(f"{self}: serves {', '.join(names)}, not {self._model!r}")
        entry = models[names.index(self._model)]
        try:
            version = await self._request("/version", None, read_version, root=True)
        except EngineError:
            version = "unknown"  # the server is not vLLM
        return {
            "engine": f"{entry.get('owned_by', 'unknown')} server",
            "engine_version": version,
            "model": str(entry.get("root") or self._model),
            "max_model_len": entry.get("max_model_len"),
        }

    @property
    def retries(self) -> int:
        return self._retry_count

    @property
    def last_failure(self) -> str:
        return self._last_failure

    @property
    def silent_seconds(self) -> float:
        return min(map(ServerConnection.seconds_without_data, self._servers))

    async def check_servers(self, limit: float) -> dict[str, bool]:
        """Ask every server for its models.

        A server that fails gets no other requests for a while, if there is another one; a server
        that answers gets them again.

        Args:
            limit: seconds that a server may take.

        Returns:
            For each base URL, without secrets, whether the server answered.
        """
        answered = await asyncio.gather(*(server.answers(limit) for server in self._servers))
        urls = [server.shown_url for server in self._servers]
        return dict(zip(urls, answered, strict=True))

    async def close(self) -> None:
        for server in self._servers:
            await server.close()

    def __str__(self) -> str:
        return ", ".join(server.shown_url for server in self._servers)

    # --- requests and retries --------------------------------------------------------------------

    async def _request(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[dict[str, Any], str], T],
        *,
        root: bool = False,
    ) -> T:
        """Send a request that is not a completion to any of the servers."""
        if body is not None:
            body = {"model": await self.model_name(), **body}
        retries = self.new_retries()
        while True:
            try:
                return await self._choose_server().request(path, body, read, root=root)
            except TransientError as error:
                await retries.pause(error)

    async def _completion_body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": await self.model_name(),
            "max_tokens": request.max_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "return_token_ids": True,
            "skip_special_tokens": False,
            "spaces_between_special_tokens": False,
        }
        if sampling.top_k:
            body["top_k"] = sampling.top_k
        if request.seed is not None:
            body["seed"] = request.seed
        if request.stop:
            body["stop"] = list(request.stop)
        return body

    async def model_name(self) -> str:
        """The model's name on the servers."""
        if self._model is None:
            await self.describe()
        assert self._model is not None
        return self._model

    def _choose_server(self) -> ServerConnection:
        """The server with the fewest active requests; servers without recent failures first."""
        return min(self._servers, key=lambda server: (server.is_doubtful(), server.active))

    def new_retries(self) -> RequestRetries:
        """The retries of a new request: until it succeeds, fails permanently, or patience ends."""
        return RequestRetries(self._patience, self._record_retry)

    def _record_retry(self, attempts: int, error: TransientError) -> float:
        """Record a failed attempt; returns the seconds before the next one.

        They are 0 if another server may succeed.
        """
        self._retry_count += 1
        self._last_failure = str(error)
        tried_all = attempts % len(self._servers) == 0
        if not tried_all and not all(server.is_doubtful() for server in self._servers):
            return 0.0
        return max(backoff(attempts), min(error.retry_after, self._patience))


def _check_length(part: Generated, limit: int, url: str) -> None:
    if len(part.tokens) > limit:
        raise ServerFaultError(
            f"{url}: sent {len(part.tokens) - limit} tokens more than max_tokens allows"
        )
