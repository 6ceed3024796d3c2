"""Engines behind HTTP: OpenAI-compatible completion servers, as ``vllm serve`` starts them.

Prompts and results are token ids, which vLLM's server returns when asked (``return_token_ids``,
since 0.10.2), and which its ``/tokenize`` makes of text; no tokenizer is needed on this side.
"""

from __future__ import annotations

import contextlib
import functools
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeGuard, TypeVar

import httpx
import tenacity

from autotts_gym.inference.engine import Engine, EngineError, Generated, Request

#: Answers that may be different next time.
_TRANSIENT: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

_FINISHES: Final = ("stop", "length")

T = TypeVar("T")


class TransientError(EngineError):
    """A failure that may not happen again.

    Attributes:
        retry_after: seconds that the server asks to wait, or 0.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


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
        stall: seconds without a sign of life after which a request counts as failed.
        patience: seconds over which a request is tried again before it is given up.
        concurrency: most requests under way at once.

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
        if not urls:
            raise ValueError("give at least one base URL, as http://127.0.0.1:8000/v1")
        for url in urls:
            if not url.startswith(("http://", "https://")):
                raise ValueError(
                    f"{url!r} is no base URL: it must start with http://, as "
                    "http://127.0.0.1:8000/v1"
                )
        for name, value in (("stall", stall), ("patience", patience)):
            if not value > 0:
                raise ValueError(f"{name} must be above 0 seconds, got {value!r}")
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._servers = [
            _Server(url.rstrip("/"), headers, stall, concurrency) for url in dict.fromkeys(urls)
        ]
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
        found = await self._ask("/detokenize", {"tokens": list(tokens)}, root=True)
        if not isinstance(found.get("prompt"), str):
            raise EngineError(f"{self}: /detokenize answered without a text: {_short(found)}")
        return str(found["prompt"])

    async def _tokenize(self, body: dict[str, Any]) -> list[int]:
        found = await self._ask("/tokenize", body, root=True)
        if not _are_ids(found.get("tokens")):
            raise EngineError(f"{self}: /tokenize answered without token ids: {_short(found)}")
        return list(found["tokens"])

    async def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """See :meth:`Engine.stream`."""
        prompt, left, seed = list(request.prompt), request.max_tokens, request.seed
        patience = _Patience(self._patience)
        async for attempt in self._retrying(patience):
            with attempt:
                if left <= 0:  # nothing was missing but the word that it is over
                    yield Generated(finish="length")
                    return
                if seed is not None and attempt.retry_state.attempt_number > 1:
                    seed = (seed + len(prompt)) % 2**63  # not the same random numbers once more
                body = {
                    **await self._body(request._replace(max_tokens=left, seed=seed)),
                    "prompt": prompt,
                    "stream": True,
                    # Servers that do not know it send every token by itself.
                    "stream_interval": every,
                }
                server = self._choose()
                async for part in server.stream("/completions", body):
                    patience.renew()
                    prompt += part.tokens
                    left -= len(part.tokens)
                    yield part
                    if part.finish:
                        return
                raise TransientError(f"{server.url}: the answer broke off")

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

    async def facts(self) -> dict[str, Any]:
        models = await self._ask("/models", None)
        served = models.get("data")
        if not isinstance(served, list) or not all(
            isinstance(model, dict) and isinstance(model.get("id"), str) for model in served
        ):
            raise EngineError(f"{self}: /models answered no list of models: {_short(models)}")
        names = [model["id"] for model in served]
        if self._model is None and len(names) != 1:
            raise EngineError(f"{self}: serves {', '.join(names) or 'no model'}: name one of them")
        self._model = self._model or names[0]
        if self._model not in names:
            raise EngineError(f"{self}: serves {', '.join(names)}, not {self._model!r}")
        entry = served[names.index(self._model)]
        try:
            version = (await self._ask("/version", None, root=True)).get("version", "unknown")
        except EngineError:
            version = "unknown"  # not vLLM, or it does not tell
        return {
            "engine": f"{entry.get('owned_by', 'unknown')} server",
            "engine_version": str(version),
            "model": str(entry.get("root") or self._model),
            "max_model_len": entry.get("max_model_len"),
        }

    async def close(self) -> None:
        for server in self._servers:
            with contextlib.suppress(Exception):
                await server.client.aclose()

    def __str__(self) -> str:
        return ", ".join(server.url for server in self._servers)

    # --- trying again ----------------------------------------------------------------------------

    async def _ask(
        self, path: str, body: dict[str, Any] | None, *, root: bool = False
    ) -> dict[str, Any]:
        """A small request to any of the servers."""
        if body is not None:
            body = {"model": await self._name(), **body}
        async for attempt in self._retrying(_Patience(self._patience)):
            with attempt:
                return await self._choose().post(path, body, _as_it_is, root=root)
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
        """The server with the fewest failures of late, then the fewest requests under way."""
        return min(self._servers, key=lambda server: (server.failures, server.under_way))

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
        """Seconds before the next attempt: none where another server does better."""
        failures = [server.failures for server in self._servers]
        if min(failures) < max(failures):
            return 0.0
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, TransientError) else 0.0
        return max(_BACKOFF(state), min(asked, self._patience))


_BACKOFF: Final = tenacity.wait_random_exponential(multiplier=0.2, max=30)


class _Patience:
    """Says when to stop trying: so many seconds after the last sign of progress."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.renew()

    def renew(self) -> None:
        self._end = time.monotonic() + self._seconds

    def __call__(self, state: tenacity.RetryCallState) -> bool:
        return time.monotonic() >= self._end


class _Server:
    """One server: its connections, how many requests it has, and how often it failed of late."""

    def __init__(self, url: str, headers: dict[str, str], stall: float, concurrency: int) -> None:
        self.url = url
        self.root = url.removesuffix("/v1")
        self.under_way = 0
        self.failures = 0
        self.client = httpx.AsyncClient(
            headers=headers,
            # The pool's queue is ours, so that waiting in it is no stall.
            timeout=httpx.Timeout(stall, connect=min(stall, 10.0), pool=None),
            limits=httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency),
            trust_env=False,
        )

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
                response = await self.client.get(url)
            else:
                response = await self.client.post(url, json=body)
            _check_status(response, url)
            return read(_object(response.text, url), url)

    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[Generated]:
        """The parts of a completion as they come."""
        url = self.url + path
        async with self._watched(url), self.client.stream("POST", url, json=body) as response:
            if response.status_code != 200:
                await response.aread()
            _check_status(response, url)
            async for line in response.aiter_lines():
                if not line.startswith("data:"):
                    continue
                data = line.removeprefix("data:").strip()
                if data == "[DONE]":
                    return
                chunk = _object(data, url)
                if "error" in chunk:
                    raise TransientError(f"{url}: {_reason(chunk)}")
                if chunk.get("choices") == []:
                    continue  # a last word on usage
                yield _choices(chunk, url, 1, partial=True)[0]

    @contextlib.asynccontextmanager
    async def _watched(self, url: str) -> AsyncIterator[None]:
        """Count a request, and how it went; tell what went wrong in our own terms."""
        self.under_way += 1
        try:
            with _told(url):
                yield
        except EngineError:
            self.failures += 1
            raise
        else:
            self.failures = 0
        finally:
            self.under_way -= 1


@contextlib.contextmanager
def _told(url: str) -> Iterator[None]:
    try:
        yield
    except httpx.TimeoutException as error:
        what = "no connection" if isinstance(error, httpx.ConnectTimeout) else "stalled"
        raise TransientError(f"{url}: {what}: nothing came in time") from error
    except httpx.TransportError as error:
        raise TransientError(f"{url}: {type(error).__name__}: {error}") from error
    except httpx.HTTPError as error:
        raise EngineError(f"{url}: {type(error).__name__}: {error}") from error


# --- answers, held to what they must be ----------------------------------------------------------


def _check_status(response: httpx.Response, url: str) -> None:
    code = response.status_code
    if code == 200:
        return
    try:
        reason = _reason(json.loads(response.text))
    except ValueError:
        reason = _short(response.text)
    message = f"{url}: status {code}: {reason}"
    if code in _TRANSIENT:
        after = response.headers.get("retry-after", "")
        raise TransientError(message, float(after) if after.isdecimal() else 0.0)
    raise EngineError(message)


def _reason(found: Any) -> str:
    error = found.get("error", found) if isinstance(found, dict) else found
    return (
        str(error["message"]) if isinstance(error, dict) and "message" in error else _short(error)
    )


def _object(text: str, url: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise TransientError(f"{url}: answered no JSON object: {_short(text)}")
    return found


def _as_it_is(found: dict[str, Any], url: str) -> dict[str, Any]:
    return found


def _choices(
    found: dict[str, Any], url: str, count: int, *, partial: bool = False
) -> list[Generated]:
    """What was generated for each prompt of a request, in the order of the prompts."""
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
            raise TransientError(f"{url}: a choice's finish_reason is {finish!r}")
        part = Generated(list(tokens), choice["text"], finish or "")
        if choice.get("logprobs"):
            part.logprobs, part.pieces = _logprobs(choice["logprobs"], len(tokens), url)
        by_index[choice.get("index", 0)] = part
    if sorted(by_index) != list(range(count)):
        raise TransientError(f"{url}: its choices are numbered {sorted(by_index)[:8]}")
    return [by_index[index] for index in range(count)]


def _logprobs(found: Any, count: int, url: str) -> tuple[list[float], list[str]]:
    values = found.get("token_logprobs") if isinstance(found, dict) else None
    pieces = found.get("tokens") if isinstance(found, dict) else None
    if (
        not isinstance(values, list)
        or not isinstance(pieces, list)
        or not len(values) == len(pieces) == count
        or not all(isinstance(value, int | float) for value in values)
    ):
        raise TransientError(f"{url}: log-probabilities do not fit {count} tokens: {_short(found)}")
    return [float(value) for value in values], [str(piece) for piece in pieces]


def _are_ids(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(token, int) and not isinstance(token, bool) and token >= 0 for token in value
    )


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
