"""Validation of the responses of OpenAI-compatible servers."""

from __future__ import annotations

import json
from typing import Any, Final, TypeGuard

import httpx

from autotts_gym.inference.engine import EngineError, Generated

#: Status codes of failures that may be temporary.
_TRANSIENT_STATUS: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})

#: Largest token id, and largest number of tokens that a server may report.
_MAX_TOKEN: Final = 2**31 - 1

_FINISH_REASONS: Final = ("stop", "length")


class TransientError(EngineError):
    """A failure that may be temporary.

    Attributes:
        retry_after: seconds that the server asks to wait, or 0.
    """

    def __init__(self, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(EngineError):
    """A request that the server rejects permanently.

    Attributes:
        status: HTTP status of the response.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def check_status(response: httpx.Response, url: str) -> None:
    """Raise an error unless the status is 200; the body must have been read.

    Raises:
        TransientError: the status may be temporary.
        RefusedError: any other status.
    """
    code = response.status_code
    if code == 200:
        return
    try:
        reason = error_message(json.loads(response.text))
    except (ValueError, RecursionError):
        reason = _short(response.text)
    message = f"{url}: status {code}: {reason}"
    if code in _TRANSIENT_STATUS:
        after = response.headers.get("retry-after", "")
        raise TransientError(message, float(after[:9]) if after.isdecimal() else 0.0)
    raise RefusedError(message, code)


def error_message(content: Any) -> str:
    """Return the message in an error response."""
    error = content.get("error", content) if isinstance(content, dict) else content
    return _short(error["message"] if isinstance(error, dict) and "message" in error else error)


def parse_object(text: str, url: str) -> dict[str, Any]:
    """Parse a JSON object; raises ``TransientError`` if the text is not one."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise TransientError(f"{url}: answered no JSON object: {_short(text)}")
    return content


def read_tokens(content: dict[str, Any], url: str) -> list[int]:
    """Return the token ids of a response of ``/tokenize``."""
    tokens = content.get("tokens")
    if not _are_token_ids(tokens):
        raise TransientError(f"{url}: answered without token ids: {_short(content)}")
    return list(tokens)


def read_text(content: dict[str, Any], url: str) -> str:
    """Return the text of a response of ``/detokenize``."""
    if not isinstance(content.get("prompt"), str):
        raise TransientError(f"{url}: answered without a text: {_short(content)}")
    return str(content["prompt"])


def read_chat(content: dict[str, Any], url: str) -> dict[str, Any]:
    """Return a response of ``/chat/completions`` if its first choice has a message."""
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(choice, dict) or not isinstance(choice.get("message"), dict):
        reason = error_message(content) if "error" in content else _short(content)
        raise TransientError(f"{url}: answered no message: {reason}")
    usage = content.get("usage")
    for name, count in usage.items() if isinstance(usage, dict) else ():
        if isinstance(count, int | float) and not abs(count) <= _MAX_TOKEN:
            raise EngineError(f"{url}: reports an impossible number of {name!r:.80}")
    return content


def read_version(content: dict[str, Any], url: str) -> str:
    """Return the version in a response of ``/version``, or ``"unknown"``."""
    return _short(content.get("version", "unknown"))


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
        raise TransientError(f"{url}: answered no list of models: {_short(content)}")
    return models


def read_choices(
    content: dict[str, Any], url: str, count: int, *, partial: bool = False
) -> list[Generated]:
    """Return the generations in a response of ``/completions``, in the order of the prompts.

    Args:
        content: the response, or a chunk of a stream.
        url: where it came from.
        count: number of prompts.
        partial: whether it is a chunk of a stream, which has no log-probabilities.

    Raises:
        TransientError: the response is invalid.
        EngineError: the server does not return token ids or log-probabilities.
    """
    choices = content.get("choices")
    if not isinstance(choices, list) or len(choices) != count:
        raise TransientError(f"{url}: answered not {count} choices: {_short(content)}")
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
        if not _are_token_ids(tokens):
            raise TransientError(f"{url}: a choice has invalid token ids: {_short(tokens)}")
        if finish not in _FINISH_REASONS and not (partial and finish is None):
            raise TransientError(f"{url}: a choice's finish_reason is {finish!r:.80}")
        generated = Generated(list(tokens), choice["text"], finish or "")
        if not partial:
            generated.logprobs, generated.pieces = _read_logprobs(
                choice.get("logprobs"), len(tokens), url
            )
        index = choice.get("index")
        if not isinstance(index, int):
            raise TransientError(f"{url}: a choice's index is {index!r:.80}")
        by_index[index] = generated
    if by_index.keys() != set(range(count)):
        raise TransientError(f"{url}: {count} choices are numbered {sorted(by_index)[:8]}")
    return [by_index[index] for index in range(count)]


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
        or not all(isinstance(value, int | float) and abs(value) < 1e9 for value in values)
    ):
        shown = _short(content)
        raise TransientError(f"{url}: log-probabilities do not fit {count} tokens: {shown}")
    return [float(value) for value in values], [str(piece) for piece in pieces]


def _are_token_ids(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(
        isinstance(token, int) and not isinstance(token, bool) and 0 <= token <= _MAX_TOKEN
        for token in value
    )


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= 200 else f"{text[:200]}..."
