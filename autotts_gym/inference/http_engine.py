"""Engines behind HTTP: OpenAI-compatible completion servers, as ``vllm serve`` starts them.

Prompts and results are token ids, which vLLM's server returns when asked (``return_token_ids``,
since 0.10.2), and which its ``/tokenize`` makes of text; no tokenizer is needed on this side.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import math
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, Final, TypeGuard, TypeVar

import httpx
import tenacity

from autotts_gym.inference.engine import Engine, EngineError, Generated, Request

#: Answers that may be different next time.
_TRANSIENT: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

_FINISHES: Final = ("stop", "length")

#: Connections of a pool: httpx looks at all of a pool's for every request.
_POOL: Final = 32

#: Longest time for which a silent request waits while its server sends to others, in stalls.
_QUEUED: Final = 10

T = TypeVar("T")


class TransientError(EngineError):
    """A failure that may not happen again.

    Attributes:
        retry_after: seconds that the server asks to wait, or 0.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(EngineError):
    """A request that a server refuses, and will again.

    Attributes:
        status: of its answer.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class ServerEngine(Engine):
    """One or several OpenAI-compatible servers of the same model.

    A request goes to the server that has the fewest under way. One that fails in a way that may
    pass (no connection, a stall, a broken answer, status 408, 409, 425, 429 or 5xx) is tried again
    with exponential backoff, on another server where there is one, until ``patience`` has run out.
    A stream that breaks off goes on from the tokens that have come: they are not generated again.

    Args:
        base_urls: as ``http://127.0.0.1:8000/v1``.
        model: the model's name on the servers; the only one that they serve by default.
        api_key: sent as a bearer token.
        stall: seconds without a sign of life from a server after which its requests count as
            failed. A request that waits in the server's queue is silent, and is not cut off while
            others get answers.
        patience: seconds over which a failing request is tried again before it is given up.
        concurrency: most requests under way at once, of each server.

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self,
        base_urls: str | Sequence[str],
        model: str | None = None,
        *,
        api_key: str | None = None,
        stall: float = 120.0,
        patience: float = 600.0,
        concurrency: int = 512,
    ) -> None:
        urls = [base_urls] if isinstance(base_urls, str) else list(base_urls)
        urls = list(dict.fromkeys(url.rstrip("/") for url in urls))
        if not urls:
            raise ValueError("give at least one base URL, as http://127.0.0.1:8000/v1")
        for url in urls:
            if not _is_url(url):
                raise ValueError(f"{url!r} is no base URL; give one as http://127.0.0.1:8000/v1")
        for name, value in (("stall", stall), ("patience", patience)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {value!r}")
        if concurrency < 1:
            raise ValueError(f"concurrency must be at least 1, got {concurrency!r}")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._servers = [_Server(url, headers, stall, concurrency) for url in urls]
        self._model = model
        self._patience = patience
        self.retries = 0

    async def encode(self, text: str) -> list[int]:
        return await self._tokenize({"prompt": text, "add_special_tokens": False})

    async def encode_chat(
        self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]
    ) -> list[int]:
        return await self._tokenize(
            {"messages": list(messages), "chat_template_kwargs": dict(arguments)}
        )

    async def decode(self, tokens: Sequence[int]) -> str:
        return await self._ask("/detokenize", {"tokens": list(tokens)}, _prompt, root=True)

    async def _tokenize(self, body: dict[str, Any]) -> list[int]:
        return await self._ask("/tokenize", body, _tokens, root=True)

    async def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """See :meth:`autotts_gym.inference.engine.Engine.stream`."""
        prompt, left = list(request.prompt), request.max_tokens
        patience = _Patience(self._patience)
        async for attempt in self._retrying(patience):
            with attempt:
                if left <= 0:  # nothing was missing but the word that it is over
                    yield Generated(finish="length")
                    return
                # Where tokens have come, not the same random numbers once more.
                seed = request.seed
                if seed is not None:
                    seed = (seed + request.max_tokens - left) % 2**63
                body = {
                    **await self._body(request._replace(max_tokens=left, seed=seed)),
                    "prompt": prompt,
                    "stream": True,
                    # Servers that do not know it send every token by itself.
                    "stream_interval": every,
                }
                server = self._choose()
                # Closed here and now, or the server goes on for one that nobody listens to.
                async with contextlib.aclosing(server.stream("/completions", body)) as parts:
                    async for part in parts:
                        patience.renew()
                        prompt += part.tokens
                        left -= len(part.tokens)
                        yield part
                        if part.finish:
                            return
                raise TransientError(f"{server.url}/completions: the answer broke off")

    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        if not requests:
            return []
        body = await self._body(requests[0])
        body |= {"prompt": [list(request.prompt) for request in requests], "logprobs": 0}
        body.pop("seed", None)
        async for attempt in self._retrying(_Patience(self._patience)):
            with attempt:
                read = functools.partial(_choices, count=len(requests))
                return await self._choose().post("/completions", body, read)
        raise AssertionError("retrying ends with a result or an error")

    async def chat(
        self, messages: Sequence[Mapping[str, str]], options: Mapping[str, Any]
    ) -> dict[str, Any]:
        """One answer to a conversation, as text; any OpenAI-compatible server can give it.

        Args:
            messages: each with a role and a content.
            options: further fields of the request, as ``max_tokens``.

        Returns:
            The server's whole answer; its first choice has a message.

        Raises:
            EngineError: there is none, after ``patience``; :class:`RefusedError` at once.
        """
        body = {"messages": list(messages), **options}
        return await self._ask("/chat/completions", body, _chat)

    async def facts(self) -> dict[str, Any]:
        served = await self._ask("/models", None, _models)
        names = [model["id"] for model in served]
        if self._model is None and len(names) != 1:
            raise EngineError(f"{self}: serves {', '.join(names) or 'no model'}: name one of them")
        self._model = self._model or names[0]
        if self._model not in names:
            raise EngineError(f"{self}: serves {', '.join(names)}, not {self._model!r}")
        entry = served[names.index(self._model)]
        try:
            version = await self._ask("/version", None, _version, root=True)
        except EngineError:
            version = "unknown"  # not vLLM, or it does not tell
        return {
            "engine": f"{entry.get('owned_by', 'unknown')} server",
            "engine_version": version,
            "model": str(entry.get("root") or self._model),
            "max_model_len": entry.get("max_model_len"),
        }

    async def close(self) -> None:
        for server in self._servers:
            await server.close()

    def __str__(self) -> str:
        return ", ".join(server.url for server in self._servers)

    # --- trying again ----------------------------------------------------------------------------

    async def _ask(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[dict[str, Any], str], T],
        *,
        root: bool = False,
    ) -> T:
        """A small request to any of the servers."""
        if body is not None:
            body = {"model": await self._name(), **body}
        async for attempt in self._retrying(_Patience(self._patience)):
            with attempt:
                return await self._choose().post(path, body, read, root=root)
        raise AssertionError("retrying ends with a result or an error")

    async def _body(self, request: Request) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": await self._name(),
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

    async def _name(self) -> str:
        if self._model is None:
            await self.facts()
        assert self._model is not None
        return self._model

    def _choose(self) -> _Server:
        """The server with the fewest requests under way, of those that do well."""
        return min(self._servers, key=lambda server: (server.is_doubtful(), server.under_way))

    def _retrying(self, patience: _Patience) -> tenacity.AsyncRetrying:
        """Attempts, until one fails for good or patience has run out."""

        def count(state: tenacity.RetryCallState) -> None:
            self.retries += 1

        return tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(TransientError),
            wait=self._wait,
            stop=patience,
            before_sleep=count,
            reraise=True,
        )

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: none where another server may do better."""
        tried_all = state.attempt_number % len(self._servers) == 0
        if not tried_all and not all(server.is_doubtful() for server in self._servers):
            return 0.0
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientError) else 0.0
        return max(_BACKOFF(state), min(asked, self._patience))


_BACKOFF: Final = tenacity.wait_random_exponential(multiplier=0.2, max=30)


class _Patience:
    """Says when to stop trying: so many seconds after the first failure since the last progress."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        self._end = math.inf

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        now = time.monotonic()
        if self._end == math.inf:
            self._end = now + self._seconds
        return now >= self._end


class _Server:
    """One server: its connections, how many requests it has, and how it does."""

    def __init__(self, url: str, headers: dict[str, str], stall: float, concurrency: int) -> None:
        self.url = url
        self.root = url.removesuffix("/v1")
        self.under_way = 0
        self._failures = 0  # in a row
        self._rests_until = 0.0
        self._heard = 0.0  # when something came last
        self._stall = stall
        pools = -(-concurrency // _POOL)
        size = -(-concurrency // pools)
        self._clients = [
            httpx.AsyncClient(
                headers=headers,
                # Silence is told by _alive; waiting in the pool's queue, ours, is none.
                timeout=httpx.Timeout(None, connect=min(stall, 10.0), write=stall),
                limits=httpx.Limits(max_connections=size, max_keepalive_connections=size),
                trust_env=False,
            )
            for _ in range(pools)
        ]
        self._turns = itertools.cycle(self._clients)

    async def close(self) -> None:
        """Close its connections."""
        for client in self._clients:
            with contextlib.suppress(Exception):
                await client.aclose()

    def is_doubtful(self) -> bool:
        """Whether it failed of late: after a rest, one request at a time is tried on it."""
        resting = time.monotonic() < self._rests_until
        return self._failures > 0 and (resting or self.under_way > 0)

    async def post(
        self,
        path: str,
        body: dict[str, Any] | None,
        read: Callable[[dict[str, Any], str], T],
        *,
        root: bool = False,
    ) -> T:
        """POST a body (GET without one); what ``read`` makes of the object that was answered."""
        url = (self.root if root else self.url) + path
        async with self._watched(url):
            if body is None:
                response = await self._alive(next(self._turns).get(url))
            else:
                response = await self._alive(next(self._turns).post(url, json=body))
            _check_status(response, url)
            found = read(_object(response.text, url), url)
            self._hear()
            return found

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncGenerator[Generated, None]:
        """The parts of a completion as they come."""
        url = self.url + path
        async with self._watched(url), contextlib.AsyncExitStack() as stack:
            opening = stack.enter_async_context(next(self._turns).stream("POST", url, json=body))
            response = await self._alive(opening)
            if response.status_code != 200:
                await self._alive(response.aread())
            _check_status(response, url)
            coming, rest = response.aiter_bytes(), b""
            while piece := await self._alive(anext(coming, b"")):
                # Not aiter_lines: it also breaks lines at U+2028 and its like, within texts.
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    if not line.startswith(b"data:"):
                        continue
                    data = line.removeprefix(b"data:").decode(errors="replace").strip()
                    if data == "[DONE]":
                        return
                    chunk = _object(data, url)
                    if "error" in chunk:
                        raise TransientError(f"{url}: {_reason(chunk)}")
                    if chunk.get("choices") == []:
                        continue  # a last word on usage
                    part = _choices(chunk, url, 1, partial=True)[0]
                    self._hear()
                    yield part

    def _hear(self) -> None:
        """It does well."""
        self._heard = asyncio.get_running_loop().time()
        self._failures = 0

    async def _alive(self, coming: Awaitable[T]) -> T:
        """Wait for something, for as long as the server shows signs of life."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        watch: asyncio.TimerHandle

        def look() -> None:
            nonlocal watch
            due = min(max(begun, self._heard) + self._stall, begun + _QUEUED * self._stall)
            if loop.time() >= due:
                timer.reschedule(due)
            else:
                watch = loop.call_at(due, look)

        async with asyncio.timeout(None) as timer:
            watch = loop.call_later(self._stall, look)
            try:
                return await coming
            finally:
                watch.cancel()

    @contextlib.asynccontextmanager
    async def _watched(self, url: str) -> AsyncIterator[None]:
        """Count a request, and how it went; tell what went wrong in our own terms."""
        self.under_way += 1
        try:
            with _told(url, self._stall):
                yield
        except TransientError as error:
            self._failures += 1
            rest = max(error.retry_after, 0.2 * 2 ** min(self._failures, 8))
            self._rests_until = time.monotonic() + min(rest, 30.0)
            raise
        finally:
            self.under_way -= 1


@contextlib.contextmanager
def _told(url: str, stall: float) -> Iterator[None]:
    try:
        yield
    except httpx.ConnectTimeout as error:
        raise TransientError(f"{url}: no connection: nothing came in time") from error
    except (TimeoutError, httpx.TimeoutException) as error:
        raise TransientError(f"{url}: stalled: nothing came for {stall:g} s") from error
    except (httpx.LocalProtocolError, httpx.UnsupportedProtocol) as error:  # of our making
        raise EngineError(f"{url}: {type(error).__name__}: {error}") from error
    except httpx.RequestError as error:  # no connection, a lost one, an answer that is no HTTP
        raise TransientError(f"{url}: {type(error).__name__}: {error}") from error


# --- answers, held to what they must be ----------------------------------------------------------


def _check_status(response: httpx.Response, url: str) -> None:
    code = response.status_code
    if code == 200:
        return
    try:
        reason = _reason(json.loads(response.text))
    except (ValueError, RecursionError):
        reason = _short(response.text)
    message = f"{url}: status {code}: {reason}"
    if code in _TRANSIENT:
        after = response.headers.get("retry-after", "")
        raise TransientError(message, float(after) if after.isdecimal() else 0.0)
    raise RefusedError(message, code)


def _reason(found: Any) -> str:
    error = found.get("error", found) if isinstance(found, dict) else found
    return (
        str(error["message"]) if isinstance(error, dict) and "message" in error else _short(error)
    )


def _object(text: str, url: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise TransientError(f"{url}: answered no JSON object: {_short(text)}")
    return found


def _tokens(found: dict[str, Any], url: str) -> list[int]:
    tokens = found.get("tokens")
    if not _are_ids(tokens):
        raise TransientError(f"{url}: answered without token ids: {_short(found)}")
    return list(tokens)


def _prompt(found: dict[str, Any], url: str) -> str:
    if not isinstance(found.get("prompt"), str):
        raise TransientError(f"{url}: answered without a text: {_short(found)}")
    return str(found["prompt"])


def _chat(found: dict[str, Any], url: str) -> dict[str, Any]:
    choices = found.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        reason = _reason(found) if "error" in found else _short(found)
        raise TransientError(f"{url}: answered no message: {reason}")
    return found


def _version(found: dict[str, Any], url: str) -> str:
    return str(found.get("version", "unknown"))


def _models(found: dict[str, Any], url: str) -> list[dict[str, Any]]:
    served = found.get("data")
    if not isinstance(served, list) or not all(
        isinstance(model, dict)
        and isinstance(model.get("id"), str)
        and isinstance(model.get("max_model_len"), int | None)
        for model in served
    ):
        raise TransientError(f"{url}: answered no list of models: {_short(found)}")
    return served


def _choices(
    found: dict[str, Any], url: str, count: int, *, partial: bool = False
) -> list[Generated]:
    """What was generated for each prompt of a request, in the order of the prompts.

    A partial one is a chunk of a stream, which has no log-probabilities.
    """
    choices = found.get("choices")
    if not isinstance(choices, list) or len(choices) != count:
        raise TransientError(f"{url}: answered not {count} choices: {_short(found)}")
    by_index: dict[int, Generated] = {}
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
            raise TransientError(f"{url}: a choice has no text: {_short(choice)}")
        if choice.get("token_ids") is None:
            raise EngineError(
                f"{url}: its completions have no token ids; vLLM's server of version 0.10.2 or "
                "later returns them"
            )
        tokens, finish = choice.get("token_ids"), choice.get("finish_reason")
        if not _are_ids(tokens):
            raise TransientError(f"{url}: a choice's token ids are none: {_short(tokens)}")
        if finish not in _FINISHES and not (partial and finish is None):
            raise TransientError(f"{url}: a choice's finish_reason is {finish!r:.80}")
        part = Generated(list(tokens), choice["text"], finish or "")
        if not partial:
            part.logprobs, part.pieces = _logprobs(choice.get("logprobs"), len(tokens), url)
        index = choice.get("index")
        if not isinstance(index, int):
            raise TransientError(f"{url}: a choice's index is {index!r:.80}")
        by_index[index] = part
    if by_index.keys() != set(range(count)):
        raise TransientError(f"{url}: {count} choices are numbered {sorted(by_index)[:8]}")
    return [by_index[index] for index in range(count)]


def _logprobs(found: Any, count: int, url: str) -> tuple[list[float], list[str]]:
    if found is None:
        raise EngineError(f"{url}: its completions have no log-probabilities")
    values = found.get("token_logprobs") if isinstance(found, dict) else None
    pieces = found.get("tokens") if isinstance(found, dict) else None
    if (
        not isinstance(values, list)
        or not isinstance(pieces, list)
        or not len(values) == len(pieces) == count
        or not all(isinstance(value, int | float) and abs(value) < 1e9 for value in values)
    ):
        raise TransientError(f"{url}: log-probabilities do not fit {count} tokens: {_short(found)}")
    return [float(value) for value in values], [str(piece) for piece in pieces]


def _are_ids(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in value
    )


def _is_url(url: str) -> bool:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return False
    port = 80 if parsed.port is None else parsed.port
    return parsed.scheme in ("http", "https") and bool(parsed.host) and 0 < port < 65536


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
