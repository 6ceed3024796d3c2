"""Validation of the responses of OpenAI-compatible servers."""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Collection, Iterator
from typing import Any, Final, TypeGuard

import msgspec

from autotts_gym.inference.engine import EngineError, Generated
from autotts_gym.inference.token_confidence import token_confidence

#: Status codes of failures that may be temporary.
_TRANSIENT_STATUS: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

#: Largest token id, and largest number of tokens that a server may report.
_MAX_TOKEN: Final = 2**31 - 1

#: Limits of servers to the number of likeliest tokens. One token says the opposite of several: its
#: log-probability is high where the model is sure.
_COMMON_LIMITS: Final = (10, 5, 2)
_LEAST_TOP_TOKENS: Final = 2
_NUMBER: Final = re.compile(r"(?<![\w.-])\d{1,3}(?![\w-]|\.\d)")

_FINISH_REASONS: Final = ("stop", "length")


class TransientError(EngineError):
    """A failure that may be temporary.

    Attributes:
        retry_after: seconds that the server asks to wait, or 0.
        stalled: seconds that were waited for data that did not come, or 0.
    """

    def __init__(self, message: str, retry_after: float = 0.0, stalled: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.stalled = stalled


class RefusedError(EngineError):
    """A request that the server rejects permanently.

    Attributes:
        status: HTTP status of the response.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@contextlib.contextmanager
def explained_404(hint: str) -> Iterator[None]:
    """Add a hint to a refusal with status 404, which often says no more than that."""
    try:
        yield
    except RefusedError as error:
        if error.status == 404:
            error.args = (f"{error}; {hint}",)
        raise


def status_error(code: int, text: str, retry_after: str, url: str) -> EngineError:
    """The error of a response with another status than 200.

    Args:
        code: the status.
        text: the body.
        retry_after: the header ``Retry-After``, or empty.
        url: where it came from.

    Returns:
        A ``TransientError`` if the status may be temporary, else a ``RefusedError``.
    """
    try:
        reason = error_message(json.loads(text))
    except (ValueError, RecursionError):
        reason = shorten(text)
    message = f"{url}: status {code}: {reason}"
    if code in _TRANSIENT_STATUS:
        after = float(retry_after[:9]) if retry_after.isdecimal() else 0.0
        return TransientError(message, after)
    return RefusedError(message, code)


def error_message(content: Any) -> str:
    """Return the message in an error response."""
    error = content.get("error", content) if isinstance(content, dict) else content
    return shorten(error["message"] if isinstance(error, dict) and "message" in error else error)


def stream_error(chunk: dict[str, Any], url: str) -> EngineError:
    """The error that a chunk of a stream reports; permanent if its code says so."""
    message = f"{url}: {error_message(chunk)}"
    error = chunk["error"]
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, int) and 400 <= code < 500 and code not in _TRANSIENT_STATUS:
        return RefusedError(message, code)
    return TransientError(message)


def fewer_top_tokens(error: RefusedError, asked: int) -> int | None:
    """A number of likeliest tokens that a server may accept after it refused ``asked``.

    Args:
        error: the refusal.
        asked: the number of likeliest tokens whose log-probabilities were requested.

    Returns:
        The limit that the message names, or a common one; 0 to request none; None if the refusal
        has another reason.
    """
    message = str(error).partition(": ")[2]  # without the URL
    if not asked or "logprob" not in message.lower():
        return None
    named = [
        n for word in _NUMBER.findall(message) if _LEAST_TOP_TOKENS <= (n := int(word)) < asked
    ]
    common = [n for n in _COMMON_LIMITS if n < asked]
    return max(named or common or [0])


def parse_object(text: str | bytes, url: str) -> dict[str, Any]:
    """Parse a JSON object; raises ``TransientError`` if the text is not one."""
    try:
        content = msgspec.json.decode(text)
    except (ValueError, RecursionError):
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        content = _lenient_value(text)
    if not isinstance(content, dict):
        raise TransientError(f"{url}: answered no JSON object: {shorten(text)}")
    return content


def _lenient_value(text: str) -> Any:
    """A JSON value, also with NaN or lone surrogates, which msgspec refuses; None if invalid."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def read_tokens(content: dict[str, Any], url: str) -> list[int]:
    """Return the token ids of a response of ``/tokenize``."""
    tokens = content.get("tokens")
    if not _are_token_ids(tokens):
        raise TransientError(f"{url}: answered without token ids: {shorten(content)}")
    return list(tokens)


def read_text(content: dict[str, Any], url: str) -> str:
    """Return the text of a response of ``/detokenize``."""
    if not isinstance(content.get("prompt"), str):
        raise TransientError(f"{url}: answered without a text: {shorten(content)}")
    return str(content["prompt"])


def read_chat(content: dict[str, Any], url: str) -> dict[str, Any]:
    """Return a response of ``/chat/completions`` if its first choice has a message."""
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        reason = error_message(content) if "error" in content else shorten(content)
        raise TransientError(f"{url}: answered no message: {reason}")
    usage = content.get("usage")
    for name, count in usage.items() if isinstance(usage, dict) else ():
        if isinstance(count, int | float) and not abs(count) <= _MAX_TOKEN:
            raise EngineError(f"{url}: reports an impossible number of {name!r:.80}")
    return content


def read_version(content: dict[str, Any], url: str) -> str:
    """Return the version in a response of ``/version``, or ``"unknown"``."""
    return shorten(content.get("version", "unknown"))


def read_models(content: dict[str, Any], url: str) -> list[dict[str, Any]]:
    """Return the models in a response of ``/models``."""
    models = content.get("data")
    if not isinstance(models, list) or not all(
        isinstance(model, dict)
        and isinstance(model.get("id"), str)
        and isinstance(model.get("max_model_len"), int | None)
        and 0 <= (model.get("max_model_len") or 0) <= _MAX_TOKEN
        for model in models
    ):
        raise TransientError(f"{url}: answered no list of models: {shorten(content)}")
    return models


def read_choices(
    content: dict[str, Any], url: str, count: int, *, partial: bool = False, top_tokens: int = 0
) -> list[Generated]:
    """Return the generations in a response of ``/completions``, in the order of the prompts.

    Args:
        content: the response, or a chunk of a stream.
        url: where it came from.
        count: number of prompts.
        partial: whether it is a chunk of a stream. Its log-probabilities are not returned.
        top_tokens: number of likeliest tokens whose log-probabilities were requested for the token
            confidences of a chunk.

    Raises:
        TransientError: the response is invalid.
        EngineError: the server does not return token ids or log-probabilities.
    """
    choices = content.get("choices")
    if not isinstance(choices, list) or len(choices) != count:
        raise TransientError(f"{url}: answered not {count} choices: {shorten(content)}")
    by_index: dict[int, Generated] = {}
    for choice in choices:
        if not isinstance(choice, dict) or not isinstance(choice.get("text"), str):
            raise TransientError(f"{url}: a choice has no text: {shorten(choice)}")
        if choice.get("token_ids") is None:
            raise EngineError(
                f"{url}: its completions have no token ids; vLLM's server of version 0.10.2 or "
                "later returns them"
            )
        tokens, finish = choice.get("token_ids"), choice.get("finish_reason")
        if not _are_token_ids(tokens):
            raise TransientError(f"{url}: a choice has invalid token ids: {shorten(tokens)}")
        if finish not in _FINISH_REASONS and not (partial and finish is None):
            raise TransientError(f"{url}: a choice's finish_reason is {finish!r:.80}")
        generated = Generated(list(tokens), choice["text"], finish or "")
        if not partial:
            generated.logprobs, generated.pieces = _read_logprobs(
                choice.get("logprobs"), len(tokens), url
            )
        elif top_tokens and tokens:
            generated.confidences, generated.top_tokens = _read_confidences(
                choice.get("logprobs"), len(tokens), top_tokens, url
            )
        index = choice.get("index")
        if not isinstance(index, int):
            raise TransientError(f"{url}: a choice's index is {index!r:.80}")
        by_index[index] = generated
    if by_index.keys() != set(range(count)):
        raise TransientError(f"{url}: {count} choices are numbered {sorted(by_index)[:8]}")
    return [by_index[index] for index in range(count)]


def read_chunk(content: dict[str, Any], url: str, top_tokens: int) -> Generated:
    """Return the part of a generation in a chunk of a stream of ``/completions``.

    Args:
        content: the chunk.
        url: where it came from.
        top_tokens: number of likeliest tokens whose log-probabilities were requested.

    Raises:
        EngineError: as :func:`read_choices`.
    """
    return read_choices(content, url, 1, partial=True, top_tokens=top_tokens)[0]


def _read_logprobs(content: Any, count: int, url: str) -> tuple[list[float], list[str]]:
    """Return the log-probability and the text of each token."""
    if content is None:
        raise EngineError(f"{url}: its completions have no log-probabilities")
    values = content.get("token_logprobs") if isinstance(content, dict) else None
    pieces = content.get("tokens") if isinstance(content, dict) else None
    if (
        not isinstance(values, list)
        or not isinstance(pieces, list)
        or not len(values) == len(pieces) == count
        or not are_logprobs(values)
    ):
        shown = shorten(content)
        raise TransientError(f"{url}: log-probabilities do not fit {count} tokens: {shown}")
    return [float(value) for value in values], [str(piece) for piece in pieces]


def _read_confidences(
    content: Any, count: int, top_tokens: int, url: str
) -> tuple[list[float], int]:
    """Return the confidence of each token, and from how many likeliest tokens it is.

    A server may give fewer than ``top_tokens``, or none.
    """
    positions = content.get("top_logprobs") if isinstance(content, dict) else None
    if positions is None:
        return [], 0
    # Besides the likeliest tokens, there is the sampled one.
    if (
        not isinstance(positions, list)
        or len(positions) != count
        or not all(isinstance(entry, dict) for entry in positions)
        or not all(are_logprobs(entry.values()) for entry in positions)
    ):
        shown = shorten(content)
        raise TransientError(f"{url}: likeliest tokens do not fit {count} tokens: {shown}")
    top_tokens = min(top_tokens, *map(len, positions))
    if not top_tokens:
        return [], 0
    return [token_confidence(entry.values(), top_tokens) for entry in positions], top_tokens


def are_logprobs(values: Collection[Any]) -> bool:
    """Whether all values are log-probabilities, or at least finite numbers."""
    if set(map(type, values)) - {float, int}:
        return False
    within = not values or (min(values) > -1e9 and max(values) < 1e9)
    return within and not math.isnan(sum(values))


def _are_token_ids(value: Any) -> TypeGuard[list[int]]:
    if not isinstance(value, list) or set(map(type, value)) - {int}:
        return False
    return not value or (min(value) >= 0 and max(value) <= _MAX_TOKEN)


def shorten(value: object) -> str:
    """A value of a response as one line of at most 203 characters, for messages."""
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
