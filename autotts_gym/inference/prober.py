"""Prompting and probing of an engine with a protocol."""

from __future__ import annotations

from collections.abc import Sequence

from autotts_gym.inference.engine import Engine, EngineError, Generated, Request
from autotts_gym.inference.protocol import QUESTION, Protocol


class PromptTooLongError(EngineError):
    """A prompt leaves no room for a trace in the model's context."""


class Prober:
    """Prompts and probes an engine with a protocol; create it with :meth:`create`.

    Attributes:
        engine: the engine.
        protocol: the protocol.
    """

    def __init__(
        self,
        engine: Engine,
        protocol: Protocol,
        opening: list[int],
        closing: list[int],
        suffix: list[int],
        max_model_len: int | None,
    ) -> None:
        self.engine = engine
        self.protocol = protocol
        self._opening = opening
        self._closing = closing
        self._suffix = suffix
        self._max_model_len = max_model_len

    @classmethod
    async def create(cls, engine: Engine, protocol: Protocol) -> Prober:
        """Create a prober; encodes the texts of the protocol and may raise ``EngineError``."""
        texts = (protocol.content.get("open", ""), protocol.close, protocol.suffix)
        opening, closing, suffix = [await engine.encode(text) if text else [] for text in texts]
        max_model_len = (await engine.describe()).get("max_model_len")
        return cls(engine, protocol, opening, closing, suffix, max_model_len)

    async def prompt(self, question: str, history: Sequence[tuple[str, str]] = ()) -> list[int]:
        """Token ids of the prompt for a question.

        Args:
            question: its text.
            history: role and content of messages of a conversation before it.

        Raises:
            EngineError: the engine failed, or the protocol's prompt is a text, and there is a
                history.
        """
        prompt = self.protocol.content["prompt"]
        if "text" in prompt:
            if history:
                raise EngineError(
                    f"the question is a list of messages, and the prompt of the protocol "
                    f"{self.protocol.name!r} is a text: choose a protocol with messages"
                )
            tokens = await self.engine.encode(prompt["text"].replace(QUESTION, question))
        else:
            earlier = [{"role": role, "content": content} for role, content in history]
            messages = earlier + [
                {**message, "content": message["content"].replace(QUESTION, question)}
                for message in prompt["messages"]
            ]
            tokens = await self.engine.encode_chat(messages, prompt.get("arguments", {}))
        n = len(self._opening)
        if n and tokens[-n:] != self._opening:  # some templates start the reasoning
            tokens = [*tokens, *self._opening]
        return tokens

    def max_trace_tokens(self, prompt: Sequence[int], limit: int) -> int:
        """Maximum length of a trace, such that the model's context has room for a probe.

        Args:
            prompt: token ids of the prompt.
            limit: upper bound of the result, tokens.

        Raises:
            PromptTooLongError: the context has no room for a trace.
        """
        if self._max_model_len is None:
            return limit
        room = self._max_model_len - len(prompt) - len(self._suffix) - self.protocol.probe_tokens
        if room < 1:
            raise PromptTooLongError(
                f"the prompt has {len(prompt)} tokens and the model's context "
                f"{self._max_model_len}: with a probe there is no room for a trace"
            )
        return min(limit, room)

    async def probe(
        self, prompt: Sequence[int], trace: Sequence[int], cuts: Sequence[int]
    ) -> list[Generated]:
        """Probe a trace at several depths.

        Args:
            prompt: token ids of the prompt.
            trace: token ids of the trace.
            cuts: for each probe, the number of tokens of the trace before it.

        Returns:
            The output of each probe, with log-probabilities. Equal probes are generated once.
        """
        probe = self.protocol.content["probe"]
        end = self.reasoning_length(trace)
        ends = [min(cut, end) for cut in cuts]
        distinct = list(dict.fromkeys(ends))
        generated = await self.engine.complete(
            [
                Request(
                    prompt=[*prompt, *trace[:at], *self._suffix],
                    max_tokens=self.protocol.probe_tokens,
                    stop=tuple(probe.get("stop", ())),
                )
                for at in distinct
            ]
        )
        by_end = dict(zip(distinct, generated, strict=True))
        return [by_end[at] for at in ends]

    def reasoning_length(self, trace: Sequence[int]) -> int:
        """Number of tokens of a trace before the end of its reasoning."""
        end = self.engine.find(trace, self._closing) if self._closing else None
        return len(trace) if end is None else end
