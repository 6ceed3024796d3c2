"""The interface of inference engines, which collection and live episodes use.

Engines work on token ids, so that a reasoning trace can be cut, continued and probed at an exact
token. :class:`autotts_gym.inference.vllm_engine.LocalEngine` runs vLLM in this process;
:class:`autotts_gym.inference.http_engine.ServerEngine` uses OpenAI-compatible servers.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple


class EngineError(OSError):
    """An engine cannot be reached or used. The message names it and has its response."""


@dataclass(frozen=True)
class Sampling:
    """Sampling parameters.

    Attributes:
        temperature: from 0 to 100; 0 selects the most likely token.
        top_p: cumulative probability of the tokens to sample from; 1 for all.
        top_k: number of the most likely tokens to sample from; 0 for all.

    Raises:
        ValueError: a parameter is out of range.
    """

    temperature: float = 0.7
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature <= 100:
            raise ValueError(f"temperature must be from 0 to 100, got {self.temperature!r}")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be above 0 and at most 1, got {self.top_p!r}")
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 0:
            raise ValueError(f"top_k must be an integer of at least 0, got {self.top_k!r}")

    def to_dict(self) -> dict[str, Any]:
        """The parameters by name, for cards."""
        return asdict(self)


GREEDY = Sampling(temperature=0.0)


class Request(NamedTuple):
    """A request to generate tokens.

    Attributes:
        prompt: token ids.
        max_tokens: maximum number of generated tokens; at least 1.
        sampling: sampling parameters.
        seed: random seed; by default, the engine chooses one.
        stop: strings at which generation ends.
        top_tokens: number of the likeliest tokens at each position from which :meth:`Engine.stream`
            computes token confidences; fewer where the engine gives fewer, none if 0.
    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = GREEDY
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_tokens: int = 0


@dataclass
class Generated:
    """A generation, or a part of one.

    Attributes:
        tokens: token ids, including an end-of-sequence token.
        text: their text, without that of an end-of-sequence token.
        finish: ``"stop"`` if the model or a stop string ended the generation, ``"length"`` if
            ``max_tokens`` did; empty if it continues.
        logprobs: log-probability of each token; empty if not requested.
        pieces: text of each token; empty if log-probabilities were not requested.
        confidences: confidence of each token (:mod:`autotts_gym.inference.token_confidence`); empty
            if not requested, or if the engine gives none.
        top_tokens: number of likeliest tokens at each position that these come from, or 0.
        restarts: whether the generation starts again; earlier parts are void.
    """

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: Literal["stop", "length", ""] = ""
    logprobs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    top_tokens: int = 0
    restarts: bool = False

    def append(self, more: Generated) -> None:
        """Append the next part, without its token confidences."""
        self.tokens += more.tokens
        self.text += more.text
        self.finish = more.finish
        self.logprobs += more.logprobs
        self.pieces += more.pieces


class Engine(abc.ABC):
    """Base class of inference engines.

    Every method except :meth:`close` may raise :class:`EngineError`. Methods must be called from
    one event loop. Cancelling a call aborts its generation.

    Attributes:
        concurrency: default number of traces that a collection samples concurrently.
        has_end_token: whether the tokens of a generation that the model ended include an
            end-of-sequence token.
        can_continue: whether a generation can be continued from its tokens, and probed.
    """

    concurrency: int = 256

    has_end_token: bool = True
    can_continue: bool = True

    @property
    def retries(self) -> int:
        """Number of times that a request was sent again so far."""
        return 0

    @property
    def last_failure(self) -> str:
        """Why a request was sent again the last time; empty if none was."""
        return ""

    @property
    def silent_seconds(self) -> float:
        """Seconds since anything came, with requests in progress; to be read on the event loop."""
        return 0.0

    @abc.abstractmethod
    async def encode(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens that the tokenizer adds."""

    @abc.abstractmethod
    async def encode_chat(
        self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]
    ) -> list[int]:
        """Token ids of a conversation with the generation prompt, by the model's chat template.

        Args:
            messages: each with ``role`` and ``content``.
            arguments: further arguments of the template, such as ``enable_thinking``.
        """

    @abc.abstractmethod
    async def decode(self, tokens: Sequence[int]) -> str:
        """Text of token ids, including special tokens."""

    def find(self, tokens: Sequence[int], marker: Sequence[int]) -> int | None:
        """Index of the token in which a marker starts first; None if there is none.

        Args:
            tokens: token ids of a generation.
            marker: token ids of the marker; not empty.
        """
        n = len(marker)
        for at, token in enumerate(tokens):
            if token == marker[0] and list(tokens[at : at + n]) == list(marker):
                return at
        return None

    @abc.abstractmethod
    def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """Generate in parts of about ``every`` tokens; the last part has a ``finish``."""

    @abc.abstractmethod
    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        """Generate for several prompts at once, with log-probabilities.

        The requests must have the same ``max_tokens``, ``sampling`` and ``stop``; their seeds are
        not used.
        """

    @abc.abstractmethod
    async def describe(self) -> dict[str, Any]:
        """Return ``engine``, ``engine_version``, ``model`` and ``max_model_len`` (tokens)."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Release all resources; never raises, and can be called repeatedly."""
