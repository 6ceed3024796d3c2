r"""How a family of models is asked and probed: a protocol, which is data.

A protocol is a YAML file; those that come along are in ``protocols/``::

    description: Qwen3 in thinking mode.
    models: ["*qwen3*"]             # names of models that it is meant for, as in a shell
    prompt:
      messages:                     # rendered by the model's own chat template, or
        - {role: user, content: "{question}"}
      arguments: {enable_thinking: true}
    # text: "q:{question}"          # the text itself, in place of messages
    open: "<think>\n"               # begins the reasoning where the prompt does not; optional
    close: "</think>"               # ends the reasoning; left out where there is none
    probe:
      suffix: "\n</think>\n\n**Final Answer**\n\\boxed{"
      max_tokens: 20                # greedy
      stop: []                      # strings at which a probe ends; optional
    answers: [boxed]                # how answers are found, see autotts_gym.inference.answer_extraction

A *probe* makes the model answer early: the reasoning so far, then the suffix (a forced close of the
reasoning and an answer prefix), then a few greedy tokens (Dynasor, arXiv 2412.20993; AutoTTS, arXiv
2605.08083). Where the reasoning had been closed already, it is probed as it was then.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from autotts_gym.inference import answer_extraction
from autotts_gym.inference.engine import Engine, EngineError, Generated, Request
from autotts_gym.traces.store import NULL_ANSWERS, TraceError

FOLDER: Final = Path(__file__).with_name("protocols")

#: What stands for the question in a prompt.
QUESTION: Final = "{question}"

_KEYS: Final = {
    "description": str,
    "models": list,
    "prompt": dict,
    "open": str,
    "close": str,
    "probe": dict,
    "answers": list,
}


class Probe(NamedTuple):
    """What a probe showed.

    Attributes:
        answer: normalised; a null answer where it shows none.
        confidence: geometric mean of the probabilities of the answer's tokens, 0 to 1: the
            exponential of their mean log-probability.
        tokens: tokens that it generated.
    """

    answer: str
    confidence: float
    tokens: int


@dataclass(frozen=True)
class Protocol:
    """A protocol; see the module.

    Attributes:
        name: the file's name without ``.yaml``.
        facts: the file's content.
    """

    name: str
    facts: dict[str, Any]

    @property
    def close(self) -> str:
        return str(self.facts.get("close", ""))

    @property
    def suffix(self) -> str:
        return str(self.facts["probe"]["suffix"])

    @property
    def probe_tokens(self) -> int:
        """Most tokens that a probe generates."""
        return int(self.facts["probe"]["max_tokens"])

    @property
    def digest(self) -> str:
        """sha256 of what it says."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, path: Path) -> Protocol:
        """Read a protocol from a file.

        Raises:
            TraceError: it cannot be read, or an entry is missing, unknown or of the wrong kind.
        """
        try:
            facts = yaml.safe_load(path.read_text("utf-8"))
        except (
            OSError,
            ValueError,
            RecursionError,
            yaml.YAMLError,
        ) as error:  # ValueError: month 13
            raise TraceError(f"{path}: cannot be read: {error}") from error
        try:
            return cls.of(path.stem, facts)
        except TraceError as error:
            raise TraceError(f"{path}: {error}") from None

    @classmethod
    def of(cls, name: str, facts: Any) -> Protocol:
        """A protocol from its content; raises ``TraceError`` as :meth:`load`."""
        if not isinstance(facts, dict):
            raise TraceError(f"must be a mapping with {', '.join(_KEYS)}")
        unknown = sorted(map(str, facts.keys() - _KEYS.keys()))
        if unknown:
            raise TraceError(f"unknown entries {', '.join(unknown)}; there are {', '.join(_KEYS)}")
        for key, kind in _KEYS.items():
            if key in facts and not isinstance(facts[key], kind):
                raise TraceError(f"{key} must be a {kind.__name__}, got {facts[key]!r:.80}")
        try:
            json.dumps(facts, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise TraceError(f"must be what JSON can say, as texts and numbers: {error}") from None
        if not all(isinstance(pattern, str) for pattern in facts.get("models", [])):
            raise TraceError("models must be a list of strings")
        _check_prompt(facts.get("prompt"))
        _check_probe(facts.get("probe"))
        extractors = facts.get("answers")
        if not extractors:
            raise TraceError("answers must list at least one way to find an answer, as [boxed]")
        try:
            answer_extraction.find("", extractors)
        except (ValueError, TypeError) as error:
            raise TraceError(f"answers: {error}") from None
        return cls(name, facts)

    def read(self, generated: Generated) -> Probe:
        """What a probe showed."""
        text = self.suffix + generated.text
        found = answer_extraction.find(text, self.facts["answers"], first=True)
        end = len(text) if found.end is None else found.end
        left = end - len(self.suffix)
        logprobs: list[float] = []
        for logprob, piece in zip(generated.logprobs, generated.pieces, strict=True):
            if left <= 0 and logprobs:
                break
            logprobs.append(logprob)
            left -= len(piece)
        mean = math.fsum(logprobs) / len(logprobs) if logprobs else 0.0
        # Rounding can leave a probability slightly above 1.
        return Probe(found.answer, math.exp(min(mean, 0.0)), len(generated.tokens))

    def final(self, text: str) -> str:
        """The answer that a whole trace gives by itself; a null answer where it gives none."""
        if self.close and self.close in text:
            text = text.rpartition(self.close)[2]
        return answer_extraction.find(text, self.facts["answers"]).answer


def _check_prompt(prompt: Any) -> None:
    if not isinstance(prompt, dict) or ("text" in prompt) == ("messages" in prompt):
        raise TraceError("prompt must have either text or messages")
    _check_unknown("prompt", prompt, ("text", "messages", "arguments"))
    parts = [prompt["text"]] if "text" in prompt else prompt["messages"]
    if "messages" in prompt:
        good = isinstance(parts, list) and all(
            isinstance(part, dict) and {"role", "content"} == part.keys() for part in parts
        )
        if not good:
            raise TraceError("prompt: messages must be a list of {role: ..., content: ...}")
        if not isinstance(prompt.get("arguments", {}), dict):
            raise TraceError("prompt: arguments must be a mapping")
        if not all(isinstance(part["role"], str) for part in parts):
            raise TraceError("prompt: roles must be strings")
        parts = [part["content"] for part in parts]
    if not all(isinstance(part, str) for part in parts):
        raise TraceError("prompt: texts must be strings")
    if not any(QUESTION in part for part in parts):
        raise TraceError(f"prompt: {QUESTION} must stand where the question belongs")


def _check_probe(probe: Any) -> None:
    if not isinstance(probe, dict) or not isinstance(probe.get("suffix"), str):
        raise TraceError("probe must have a suffix (a string)")
    _check_unknown("probe", probe, ("suffix", "max_tokens", "stop"))
    most = probe.get("max_tokens")
    if isinstance(most, bool) or not isinstance(most, int) or most < 1:
        raise TraceError(f"probe: max_tokens must be an integer of at least 1, got {most!r}")
    stop = probe.get("stop", [])
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise TraceError("probe: stop must be a list of strings")


def _check_unknown(what: str, entry: dict[str, Any], known: Sequence[str]) -> None:
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise TraceError(
            f"{what}: unknown entries {', '.join(unknown)}; there are {', '.join(known)}"
        )


def known() -> dict[str, Path]:
    """The protocols that come along, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def find(wanted: str | None, model: str) -> Protocol:
    """A protocol by name or by the path of its file; without one, the one meant for a model.

    Raises:
        TraceError: there is none.
    """
    there = known()
    if wanted is not None:
        if wanted in there:
            return Protocol.load(there[wanted])
        if Path(wanted).suffix in (".yaml", ".yml"):
            return Protocol.load(Path(wanted))
        raise TraceError(
            f"there is no protocol {wanted!r}: give the path of a .yaml file, or one of "
            f"{', '.join(there)}"
        )
    name = model.rstrip("/").lower()
    for path in there.values():
        protocol = Protocol.load(path)
        if any(fnmatch.fnmatchcase(name, p) for p in protocol.facts.get("models", [])):
            return protocol
    raise TraceError(
        f"no protocol is meant for the model {model!r}; choose one with --protocol: "
        f"{', '.join(there)}, or the path of a .yaml file"
    )


class Prober:
    """A protocol at work on an engine; make it with :meth:`on`.

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
        longest: int | None,
    ) -> None:
        self.engine = engine
        self.protocol = protocol
        self._opening = opening
        self._closing = closing
        self._suffix = suffix
        self._longest = longest

    @classmethod
    async def on(cls, engine: Engine, protocol: Protocol) -> Prober:
        """Encode what the protocol adds to prompts; raises ``EngineError``."""
        texts = (protocol.facts.get("open", ""), protocol.close, protocol.suffix)
        opening, closing, suffix = [await engine.encode(text) if text else [] for text in texts]
        longest = (await engine.facts()).get("max_model_len")
        return cls(engine, protocol, opening, closing, suffix, longest)

    async def prompt(self, question: str) -> list[int]:
        """Token ids of the prompt for a question."""
        prompt = self.protocol.facts["prompt"]
        if "text" in prompt:
            tokens = await self.engine.encode(prompt["text"].replace(QUESTION, question))
        else:
            messages = [
                {**message, "content": message["content"].replace(QUESTION, question)}
                for message in prompt["messages"]
            ]
            tokens = await self.engine.encode_chat(messages, prompt.get("arguments", {}))
        n = len(self._opening)
        if n and tokens[-n:] != self._opening:  # some templates open the reasoning themselves
            tokens = [*tokens, *self._opening]
        return tokens

    def room(self, prompt: Sequence[int], most: int) -> int:
        """Tokens that a trace can have: at most ``most``, and what the model holds with a probe.

        Raises:
            EngineError: there is no room at all.
        """
        if self._longest is None:
            return most
        left = self._longest - len(prompt) - len(self._suffix) - self.protocol.probe_tokens
        if left < 1:
            raise EngineError(
                f"the prompt has {len(prompt)} tokens, and the model holds {self._longest}: with a "
                "probe there is no room for a trace"
            )
        return min(most, left)

    async def look(
        self, prompt: Sequence[int], trace: Sequence[int], cuts: Sequence[int]
    ) -> list[Generated]:
        """Probe a trace at several of its depths.

        Args:
            prompt: token ids of its prompt.
            trace: its token ids.
            cuts: how many of them the model had written when it is probed.

        Returns:
            What each probe generated, with log-probabilities; equal probes are asked once.
        """
        probe = self.protocol.facts["probe"]
        end = self._reasoning(trace)
        ends = [min(cut, end) for cut in cuts]
        asked = list(dict.fromkeys(ends))
        found = await self.engine.complete(
            [
                Request(
                    prompt=[*prompt, *trace[:at], *self._suffix],
                    max_tokens=self.protocol.probe_tokens,
                    stop=tuple(probe.get("stop", ())),
                )
                for at in asked
            ]
        )
        by_end = dict(zip(asked, found, strict=True))
        return [by_end[at] for at in ends]

    def _reasoning(self, trace: Sequence[int]) -> int:
        """How many tokens of a trace come before its reasoning is closed."""
        n = len(self._closing)
        if n:
            first = self._closing[0]
            for at, token in enumerate(trace):
                if token == first and list(trace[at : at + n]) == self._closing:
                    return at
        return len(trace)


def is_null(answer: str) -> bool:
    """Whether an answer means that none was found."""
    return answer in NULL_ANSWERS
