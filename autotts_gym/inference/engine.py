"""What generates text: the interface that collection and live episodes share.

An engine works on token ids, so that a reasoning trace can be cut, continued and probed exactly
where it was. Two of them exist: :class:`autotts_gym.inference.vllm_engine.LocalEngine` runs vLLM in this
process, :class:`autotts_gym.inference.http_engine.ServerEngine` asks OpenAI-compatible servers.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple


class EngineError(OSError):
    """An engine that cannot be reached or used; the message says which, and what it answered."""


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Attributes:
        temperature: 0 takes the likeliest token.
        top_p: smallest probability mass that is drawn from; 1 is all of it.
        top_k: number of likeliest tokens that are drawn from; 0 is all.

    Raises:
        ValueError: names what is out of range, and the range.
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

    def facts(self) -> dict[str, Any]:
        """The parameters by name, for cards."""
        return asdict(self)


GREEDY = Sampling(temperature=0.0)


class Request(NamedTuple):
    """What is to be generated.

    Attributes:
        prompt: token ids.
        max_tokens: most tokens that are generated; at least 1.
        sampling: how they are drawn.
        seed: of the draw; None leaves it to the engine.
        stop: strings at which generation ends.
    """

    prompt: Sequence[int]
    max_tokens: int
    sampling: Sampling = GREEDY
    seed: int | None = None
    stop: tuple[str, ...] = ()


@dataclass
class Generated:
    """What was generated, or a part of it.

    Attributes:
        tokens: token ids, the one that ended it included.
        text: their text; without an end-of-sequence token's.
        finish: ``"stop"`` where the model or a stop string ended it, ``"length"`` where
            ``max_tokens`` did; empty while it goes on.
        logprobs: log-probability of each token, where they were asked for.
        pieces: text of each token, where log-probabilities were asked for.
    """

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    finish: Literal["stop", "length", ""] = ""
    logprobs: list[float] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)

    def append(self, more: Generated) -> None:
        """Take in what was generated next."""
        self.tokens += more.tokens
        self.text += more.text
        self.finish = more.finish
        self.logprobs += more.logprobs
        self.pieces += more.pieces


class Engine(abc.ABC):
    """A language model that generates.

    Every method but :meth:`close` may raise :class:`EngineError`. Methods are called from one
    event loop. Cancelling a call ends what it generates.

    Attributes:
        concurrency: traces that a collection has under way at once, unless told otherwise.
    """

    concurrency: int = 256

    @abc.abstractmethod
    async def encode(self, text: str) -> list[int]:
        """Token ids of a text, without tokens that a tokenizer adds by itself."""

    @abc.abstractmethod
    async def encode_chat(
        self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]
    ) -> list[int]:
        """Token ids of a conversation up to where the model answers, by its own chat template.

        Args:
            messages: each with ``role`` and ``content``.
            arguments: further arguments of the template, as ``enable_thinking``.
        """

    @abc.abstractmethod
    async def decode(self, tokens: Sequence[int]) -> str:
        """The text of token ids, special tokens included."""

    @abc.abstractmethod
    def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        """Generate, and tell what has come about every ``every`` tokens; the last has a finish."""

    @abc.abstractmethod
    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        """Generate for several prompts at once, with log-probabilities.

        All of them have the same ``max_tokens``, ``sampling`` and ``stop``; seeds are not used.
        """

    @abc.abstractmethod
    async def facts(self) -> dict[str, Any]:
        """What it is: ``engine``, ``engine_version``, ``model``, ``max_model_len`` (tokens)."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Let go of what it holds; never raises, and can be called again."""
