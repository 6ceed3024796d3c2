r"""Protocols: how a family of models is prompted and probed, as data.

A protocol is a YAML file; the bundled ones are in ``protocols/``::

    description: Qwen3 in thinking mode.
    models: ["*qwen3*"]             # names of matching models, as shell patterns
    prompt:
      messages:                     # rendered with the model's chat template
        - {role: user, content: "{question}"}
      arguments: {enable_thinking: true}
    # text: "q:{question}"          # instead of messages: the prompt itself
    open: "<think>\n"               # optional: starts the reasoning if the prompt does not
    close: "</think>"               # optional: ends the reasoning
    probe:
      suffix: "\n</think>\n\n**Final Answer**\n\\boxed{"
      max_tokens: 20                # decoded greedily
      stop: []                      # optional: strings at which a probe ends
    answers: [boxed]                # extractors, see autotts_gym.answers.extraction

A *probe* forces an early answer: the reasoning so far, the suffix (it closes the reasoning and
starts an answer), and a few greedy tokens (Dynasor, arXiv 2412.20993; AutoTTS, arXiv 2605.08083).
A probe after the end of the reasoning is the probe at its end.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from autotts_gym.answers.extraction import ExtractedAnswer, check_extractors, extract_answer
from autotts_gym.inference.engine import Generated
from autotts_gym.inference.token_alignment import token_starts
from autotts_gym.traces.exceptions import TraceError
from autotts_gym.utils import bounded_yaml
from autotts_gym.utils.bounded_files import read_text

FOLDER: Final = Path(__file__).with_name("protocols")

#: Placeholder of the question in a prompt.
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
    """Result of a probe.

    Attributes:
        answer: the answer, as it stands in the output; if ``null`` is set, why there is none.
        confidence: geometric mean of the probabilities of the answer's tokens, from 0 to 1; −1 if
            they are not known.
        tokens: number of generated tokens.
        null: whether there is no answer.
    """

    answer: str
    confidence: float
    tokens: int
    null: bool = False


@dataclass(frozen=True)
class Protocol:
    """A protocol; see the module for its entries.

    Attributes:
        name: file name without ``.yaml``.
        content: the entries of the file.
    """

    name: str
    content: dict[str, Any]

    @property
    def close(self) -> str:
        return str(self.content.get("close", ""))

    @property
    def suffix(self) -> str:
        return str(self.content["probe"]["suffix"])

    @property
    def probe_tokens(self) -> int:
        """Maximum number of tokens of a probe."""
        return int(self.content["probe"]["max_tokens"])

    @property
    def extractors(self) -> list[str]:
        """Extractors of the answer, in order."""
        return list(self.content["answers"])

    @property
    def digest(self) -> str:
        """sha256 of the content."""
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Protocol:
        """Read a protocol from a file.

        Raises:
            TraceError: the file cannot be read, or an entry is missing, unknown or invalid.
        """
        path = Path(path)
        try:
            content = bounded_yaml.load(read_text(path))
        except (OSError, ValueError) as error:
            raise TraceError(f"{path}: cannot be read: {error}") from error
        try:
            return cls.from_dict(path.stem, content)
        except TraceError as error:
            raise TraceError(f"{path}: {error}") from None

    @classmethod
    def from_dict(cls, name: str, content: Any) -> Protocol:
        """Create a protocol from its entries; raises ``TraceError`` as :meth:`load`."""
        if not isinstance(content, dict):
            raise TraceError(f"must be a mapping with {', '.join(_KEYS)}")
        unknown = sorted(map(str, content.keys() - _KEYS.keys()))
        if unknown:
            raise TraceError(f"unknown entries {', '.join(unknown)}; there are {', '.join(_KEYS)}")
        for key, kind in _KEYS.items():
            if key in content and not isinstance(content[key], kind):
                raise TraceError(f"{key} must be a {kind.__name__}, got {content[key]!r:.80}")
        try:
            json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False).encode()
        except (ValueError, TypeError, RecursionError) as error:
            raise TraceError(
                f"must have only JSON values, such as strings and numbers: {error}"
            ) from None
        if not all(isinstance(pattern, str) for pattern in content.get("models", [])):
            raise TraceError("models must be a list of strings")
        _check_prompt(content.get("prompt"))
        _check_probe(content.get("probe"))
        extractors = content.get("answers")
        if not extractors:
            raise TraceError("answers must list at least one extractor, such as [boxed]")
        try:
            check_extractors(extractors)
        except (ValueError, TypeError) as error:
            raise TraceError(f"answers: {error}") from None
        return cls(name, content)

    def read_probe(self, generated: Generated) -> Probe:
        """Extract the answer and its confidence from the output of a probe."""
        text = self.suffix + generated.text + self._brace_of_stop(generated)
        extracted = extract_answer(text, self.extractors, first=True)
        end = len(text) if extracted.end is None else extracted.end
        answer_end = end - len(self.suffix)
        if generated.tokens and not generated.logprobs:
            return Probe(extracted.answer, -1.0, len(generated.tokens), extracted.null)
        starts = token_starts(generated.text, generated.pieces)
        pairs = list(zip(generated.logprobs, starts, strict=True))
        # At least the first token, even if the answer is empty.
        logprobs = [x for k, (x, start) in enumerate(pairs) if start < answer_end or not k]
        mean = math.fsum(logprobs) / len(logprobs) if logprobs else 0.0
        # Rounding can leave a probability slightly above 1.
        confidence = math.exp(min(mean, 0.0))
        return Probe(extracted.answer, confidence, len(generated.tokens), extracted.null)

    def probe_text(self, generated: Generated) -> str:
        """The suffix and the output of a probe, without what follows the answer."""
        text = self.suffix + generated.text + self._brace_of_stop(generated)
        return text[: extract_answer(text, self.extractors, first=True).end]

    def split_reasoning(self, text: str) -> tuple[str, str]:
        """Split the text of a branch at the end of its reasoning.

        Returns:
            The reasoning, and what follows it. Without ``close``, everything is the latter; if
            ``close`` does not occur in the text, everything is reasoning.
        """
        if not self.close:
            return "", text
        reasoning, _, rest = text.partition(self.close)
        return reasoning.removeprefix(self.content.get("open", "")), rest

    def _brace_of_stop(self, generated: Generated) -> str:
        """The brace that ended a probe: engines leave the string out at which they stop."""
        stops = self.content["probe"].get("stop", ())
        closed = any(stop.startswith("}") for stop in stops) and generated.finish == "stop"
        opened = self.suffix.count("{") > self.suffix.count("}")
        return "}" if closed and opened and "}" not in generated.text else ""

    def final_answer(self, text: str, extractors: Sequence[str] | None = None) -> ExtractedAnswer:
        """Extract the final answer of a whole trace.

        It stands behind the end of the reasoning. If the text has several ends, the last one with
        an answer behind it counts.

        Args:
            text: text of the trace.
            extractors: instead of those of the protocol.
        """
        extractors = extractors or self.extractors
        parts = text.split(self.close) if self.close else [text]
        found = extract_answer(parts[-1], extractors)
        for part in reversed(parts[1:-1]):
            if not found.null:
                break
            earlier = extract_answer(part, extractors)
            found = found if earlier.null else earlier
        return found


def _check_prompt(prompt: Any) -> None:
    if not isinstance(prompt, dict) or ("text" in prompt) == ("messages" in prompt):
        raise TraceError("prompt must have either text or messages")
    _check_unknown("prompt", prompt, ("text", "messages", "arguments"))
    parts = [prompt["text"]] if "text" in prompt else prompt["messages"]
    if "messages" in prompt:
        valid = isinstance(parts, list) and all(
            isinstance(part, dict) and {"role", "content"} == part.keys() for part in parts
        )
        if not valid:
            raise TraceError("prompt: messages must be a list of {role: ..., content: ...}")
        if not isinstance(prompt.get("arguments", {}), dict):
            raise TraceError("prompt: arguments must be a mapping")
        if not all(isinstance(part["role"], str) for part in parts):
            raise TraceError("prompt: roles must be strings")
        parts = [part["content"] for part in parts]
    if not all(isinstance(part, str) for part in parts):
        raise TraceError("prompt: texts must be strings")
    if not any(QUESTION in part for part in parts):
        raise TraceError(f"prompt: {QUESTION} must mark the place of the question")


def _check_probe(probe: Any) -> None:
    if not isinstance(probe, dict) or not isinstance(probe.get("suffix"), str):
        raise TraceError("probe must have a suffix (a string)")
    _check_unknown("probe", probe, ("suffix", "max_tokens", "stop"))
    limit = probe.get("max_tokens")
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise TraceError(f"probe: max_tokens must be an integer of at least 1, got {limit!r}")
    stop = probe.get("stop", [])
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise TraceError("probe: stop must be a list of strings")


def _check_unknown(what: str, entry: dict[str, Any], known: Sequence[str]) -> None:
    unknown = [key for key in entry if key not in known]
    if unknown:
        raise TraceError(
            f"{what}: unknown entries {', '.join(unknown)}; there are {', '.join(known)}"
        )


def bundled_protocols() -> dict[str, Path]:
    """Files of the bundled protocols by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.yaml"))}


def find_protocol(selected: str | os.PathLike[str] | None, model: str) -> Protocol:
    """Find a protocol.

    Args:
        selected: name of a bundled protocol, or path of a file; None to search by model.
        model: name of the model; selects the first bundled protocol whose ``models`` match it.

    Raises:
        TraceError: there is no such protocol.
    """
    bundled = bundled_protocols()
    if selected is not None:
        wanted = os.fspath(selected)
        if wanted in bundled:
            return Protocol.load(bundled[wanted])
        if Path(wanted).suffix in (".yaml", ".yml"):
            return Protocol.load(wanted)
        raise TraceError(
            f"there is no protocol {wanted!r}: give the path of a .yaml file, or one of "
            f"{', '.join(bundled)}"
        )
    name = model.rstrip("/").lower()
    for path in bundled.values():
        protocol = Protocol.load(path)
        if any(fnmatch.fnmatchcase(name, p) for p in protocol.content.get("models", [])):
            return protocol
    raise TraceError(
        f"no protocol matches the model {model!r}; choose one with --protocol: "
        f"{', '.join(bundled)}, or the path of a .yaml file"
    )
