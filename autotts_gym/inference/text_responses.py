"""Validation of generations without token ids: of text completions and of chat completions.

A token is a *piece* of text here: what the server names a token in its log-probabilities, or else
what it sends at once. Its id is made of its text, so that ids need no table and can be recorded.
"""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

from autotts_gym.inference.engine import EngineError, Generated
from autotts_gym.inference.http_responses import TransientError, are_logprobs, shorten
from autotts_gym.inference.token_confidence import token_confidence

#: First byte of an id, so that the empty text has one and leading zeros survive.
_MARK: Final = b"\x01"
#: A text without names of tokens that is longer is divided into words, characters.
_LONGEST_PIECE: Final = 32
_WORD: Final = re.compile(r"\s*\S+|\s+")


def piece_id(text: str) -> int:
    """The id of a piece of text."""
    return int.from_bytes(_MARK + text.encode("utf-8", "replace"))


def piece_text(token: int) -> str:
    """The text of an id."""
    size = (token.bit_length() + 7) // 8
    return token.to_bytes(size)[1:].decode("utf-8", "replace")


class _Token(NamedTuple):
    """A token as a server names it.

    Attributes:
        text: its text.
        logprob: its log-probability.
        top: log-probabilities of the likeliest tokens at its position.
    """

    text: str
    logprob: float
    top: list[float]


def read_generation(content: dict[str, Any], url: str, top_tokens: int = 0) -> Generated:
    """Return the generation, or the part of one, in a response.

    Args:
        content: a response of ``/completions`` or ``/chat/completions``, or a chunk of a stream.
        url: where it came from.
        top_tokens: number of likeliest tokens whose log-probabilities were requested.

    Returns:
        Tokens are pieces of text. Log-probabilities, texts of tokens and confidences are empty if
        the server gives none.

    Raises:
        TransientError: the response is invalid.
        EngineError: the server sends the reasoning apart from the text.
    """
    choices = content.get("choices")
    choice = choices[0] if isinstance(choices, list) and len(choices) == 1 else None
    if not isinstance(choice, dict):
        raise TransientError(f"{url}: answered not 1 choice: {shorten(content)}")
    text, finish = _text_of(choice, url), choice.get("finish_reason")
    if not isinstance(finish, str | None):
        raise TransientError(f"{url}: a choice's finish_reason is {finish!r:.80}")
    tokens = _tokens_of(choice.get("logprobs"), url)
    if tokens is None:
        pieces = _guessed_pieces(text, content.get("usage"))
    else:
        pieces = [token.text for token in tokens]
        if "".join(pieces) != text:  # some tokens are parts of a character
            pieces = _spread(text, len(pieces))
    generated = Generated([piece_id(piece) for piece in pieces], text)
    if finish:
        generated.finish = "length" if finish == "length" else "stop"
    if tokens:
        generated.logprobs = [token.logprob for token in tokens]
        generated.pieces = [token.text for token in tokens]
        top_tokens = min(top_tokens, *(len(token.top) for token in tokens))
        if top_tokens:
            generated.confidences = [token_confidence(token.top, top_tokens) for token in tokens]
            generated.top_tokens = top_tokens
    return generated


def _text_of(choice: dict[str, Any], url: str) -> str:
    message = choice.get("delta", choice.get("message"))
    if isinstance(message, dict):
        for name in ("reasoning_content", "reasoning"):
            if message.get(name):
                raise EngineError(
                    f"{url}: sends the reasoning apart from the text, so that it cannot be cut and "
                    "continued: turn the server's reasoning parser off"
                )
        text = message.get("content")
    else:
        text = choice.get("text")
    if not isinstance(text, str | None):
        raise TransientError(f"{url}: a choice has no text: {shorten(choice)}")
    return text or ""


def _tokens_of(logprobs: Any, url: str) -> list[_Token] | None:
    """The tokens in a choice's log-probabilities, in the form of either endpoint; None without."""
    if not isinstance(logprobs, dict):
        return None
    if isinstance(logprobs.get("content"), list):
        rows = [_chat_row(entry) for entry in logprobs["content"]]
    elif isinstance(logprobs.get("tokens"), list):
        rows = _completion_rows(logprobs)
    else:
        return None
    if not all(isinstance(name, str) and are_logprobs([value, *top]) for name, value, top in rows):
        raise TransientError(f"{url}: invalid log-probabilities: {shorten(logprobs)}")
    return [_Token(name, float(value), [float(x) for x in top]) for name, value, top in rows]


def _chat_row(entry: Any) -> tuple[Any, Any, list[Any]]:
    """Text, log-probability and those of the likeliest tokens, of a chat; None where invalid."""
    if not isinstance(entry, dict):
        return None, None, []
    top = entry.get("top_logprobs") or []
    if not isinstance(top, list):
        return None, None, []
    values = [item.get("logprob") if isinstance(item, dict) else None for item in top]
    return entry.get("token"), entry.get("logprob"), values


def _completion_rows(logprobs: dict[str, Any]) -> list[tuple[Any, Any, list[Any]]]:
    """The same of text completions."""
    names, values = logprobs["tokens"], logprobs.get("token_logprobs")
    tops = logprobs.get("top_logprobs") or [None] * len(names)
    if not isinstance(values, list) or not isinstance(tops, list):
        return [(None, None, [])]
    if not len(names) == len(values) == len(tops):
        return [(None, None, [])]
    return [
        (name, value, list(top.values()) if isinstance(top, dict) else [])
        for name, value, top in zip(names, values, tops, strict=True)
    ]


def _guessed_pieces(text: str, usage: Any) -> list[str]:
    """The text as pieces, where the server does not name its tokens."""
    count = usage.get("completion_tokens") if isinstance(usage, dict) else None
    if type(count) is int and 0 < count <= len(text.encode("utf-8", "replace")):
        return _spread(text, count)
    pieces = [text] if len(text) <= _LONGEST_PIECE else _WORD.findall(text)
    return [piece for piece in pieces if piece]


def _spread(text: str, count: int) -> list[str]:
    """The text as a number of pieces, all but the first of which are empty."""
    return [text, *[""] * (count - 1)][:count]
