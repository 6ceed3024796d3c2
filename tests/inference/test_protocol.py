"""Protocols: validation, answers, prompts and probes."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_server import CLOSE, PROTOCOL, encode, piece

from autotts_gym.inference.engine import Engine, EngineError, Generated, Request
from autotts_gym.inference.prober import Prober
from autotts_gym.inference.protocol import Protocol, bundled_protocols, find_protocol
from autotts_gym.traces.store import TraceError


class Recorder(Engine):
    """An engine that records requests and generates the number of the request."""

    def __init__(
        self, template: str = "<{role}>{content}", max_model_len: int | None = None
    ) -> None:
        self.template = template
        self.max_model_len = max_model_len
        self.chats: list[Any] = []
        self.completed: list[list[Request]] = []

    async def encode(self, text: str) -> list[int]:
        return encode(text)

    async def encode_chat(
        self, messages: Sequence[Mapping[str, str]], arguments: Mapping[str, Any]
    ) -> list[int]:
        self.chats.append((list(messages), dict(arguments)))
        return encode("".join(self.template.format(**message) for message in messages))

    async def decode(self, tokens: Sequence[int]) -> str:
        return "".join(map(piece, tokens))

    async def stream(self, request: Request, every: int) -> AsyncIterator[Generated]:
        yield Generated(finish="stop")

    async def complete(self, requests: Sequence[Request]) -> list[Generated]:
        self.completed.append(list(requests))
        return [Generated([n], str(n), "stop", [0.0], [str(n)]) for n in range(len(requests))]

    async def describe(self) -> dict[str, Any]:
        return {"model": "recorder", "max_model_len": self.max_model_len}

    async def close(self) -> None:
        pass


def protocol(**changes: Any) -> Protocol:
    return Protocol.from_dict("changed", {**PROTOCOL, **changes})


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in PROTOCOL.items() if k != key}


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", bundled_protocols())
def test_bundled_protocols(name: str) -> None:
    bundled = find_protocol(name, "any model")
    assert bundled.name == name
    assert bundled == Protocol.load(bundled_protocols()[name])
    assert bundled.probe_tokens >= 1
    assert len(bundled.digest) == 64


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-0.6B", "qwen3"),
        ("models/Qwen3-4B/", "qwen3"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", "deepseek-r1"),
        ("meta-llama/Llama-3.2-1B-Instruct", "chat"),
        ("tinylm-small", "tinylm"),
    ],
)
def test_protocol_of_a_model(model: str, name: str) -> None:
    assert find_protocol(None, model).name == name


def test_no_such_protocol() -> None:
    with pytest.raises(TraceError, match="matches the model 'gpt2'; choose one with --protocol"):
        find_protocol(None, "gpt2")
    with pytest.raises(
        TraceError, match=r"no protocol 'qwen'.* or one of answer-examples, answer, c"
    ):
        find_protocol("qwen", "Qwen3-4B")


def test_protocol_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(PROTOCOL), "utf-8")
    assert find_protocol(str(path), "any") == Protocol("mine", PROTOCOL)
    changed = {**PROTOCOL, "close": "</end>"}
    assert (
        Protocol.from_dict("a", PROTOCOL).digest == Protocol.from_dict("b", dict(PROTOCOL)).digest
    )
    assert Protocol.from_dict("a", PROTOCOL).digest != Protocol.from_dict("a", changed).digest


@pytest.mark.parametrize(
    "content",
    [
        b"probe: [",
        b"\xff\xfe\xfa",
        b"when: 2020-13-01",
        b"[" * 5000,
        None,
    ],
)
def test_unreadable_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TraceError, match=r"bad\.yaml: cannot be read: "):
        find_protocol(str(path), "any")


_PROBE = PROTOCOL["probe"]
_CHAT = {"role": "user", "content": "{question}"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "must be a mapping with description, models, prompt, open, close, probe, answers"),
        ({**PROTOCOL, "probes": 1, 2: 3}, "unknown entries 2, probes; there are description, mod"),
        ({**PROTOCOL, "open": 1}, "open must be a str, got 1"),
        ({**PROTOCOL, "models": "*"}, r"models must be a list, got '\*'"),
        ({**PROTOCOL, "models": ["*", 3]}, "models must be a list of strings"),
        (without("prompt"), "prompt must have either text or messages"),
        ({**PROTOCOL, "prompt": {}}, "prompt must have either text or messages"),
        ({**PROTOCOL, "prompt": {"text": "", "messages": []}}, "prompt must have either text or"),
        ({**PROTOCOL, "prompt": {"text": "{question}", "x": 1}}, "prompt: unknown entries x; the"),
        ({**PROTOCOL, "prompt": {"text": None}}, "prompt: texts must be strings"),
        ({**PROTOCOL, "prompt": {"text": "q:"}}, r"prompt: \{question\} must mark the"),
        ({**PROTOCOL, "prompt": {"messages": {}}}, r"messages must be a list of \{role: "),
        ({**PROTOCOL, "prompt": {"messages": ["q"]}}, r"messages must be a list of \{role: "),
        ({**PROTOCOL, "prompt": {"messages": [{**_CHAT, "x": 1}]}}, "messages must be a list of"),
        ({**PROTOCOL, "prompt": {"messages": [{**_CHAT, "role": 1}]}}, "roles must be strings"),
        ({**PROTOCOL, "prompt": {"messages": [{**_CHAT, "content": 1}]}}, "texts must be strings"),
        ({**PROTOCOL, "prompt": {"messages": []}}, r"prompt: \{question\} must mark the"),
        ({**PROTOCOL, "prompt": {"messages": [_CHAT], "arguments": 1}}, "arguments must be a map"),
        (without("probe"), r"probe must have a suffix \(a string\)"),
        ({**PROTOCOL, "probe": {"suffix": 1, "max_tokens": 2}}, "probe must have a suffix"),
        ({**PROTOCOL, "probe": {**_PROBE, "max_tokens": 0}}, "integer of at least 1, got 0"),
        ({**PROTOCOL, "probe": {**_PROBE, "max_tokens": True}}, "integer of at least 1, got True"),
        ({**PROTOCOL, "probe": {"suffix": ""}}, "integer of at least 1, got None"),
        ({**PROTOCOL, "probe": {**_PROBE, "stop": "}"}}, "stop must be a list of strings"),
        ({**PROTOCOL, "probe": {**_PROBE, "stop": [""]}}, "stop must be a list of strings"),
        ({**PROTOCOL, "probe": {**_PROBE, "stops": []}}, "unknown entries stops; there are suff"),
        (without("answers"), "answers must list at least one extractor, such as"),
        ({**PROTOCOL, "answers": []}, "answers must list at least one extractor"),
        ({**PROTOCOL, "answers": ["box"]}, "answers: no extractor is called 'box'; there are box"),
        ({**PROTOCOL, "answers": ["regex:("]}, "answers: extractor 'regex:.': not a regular expr"),
        ({**PROTOCOL, "answers": [["boxed"]]}, "answers: "),
        ({**PROTOCOL, "description": "\ud800"}, "must have only JSON values"),
        (
            {**PROTOCOL, "prompt": {"messages": [_CHAT], "arguments": {"on": object()}}},
            "must have only JSON values, such as strings and numbers: ",
        ),
        (
            {**PROTOCOL, "prompt": {"messages": [_CHAT], "arguments": {1: 2, "a": 3}}},
            "must have only JSON values, such as strings and numbers: ",
        ),
    ],
)
def test_invalid_protocol(content: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        Protocol.from_dict("bad", content)


_PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
_JUNK = st.recursive(
    _PLAIN | st.dates() | st.just("{question}") | st.just("boxed") | st.just("regex:("),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["text", "messages", "arguments", "role", "content", "suffix"])
            | st.sampled_from(["max_tokens", "stop"])
            | _PLAIN,
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(PROTOCOL)) | _PLAIN, _JUNK, max_size=2),
    st.sets(st.sampled_from(sorted(PROTOCOL))),
)
def test_any_content_is_rejected_or_usable(junk: dict[Any, Any], kept: set[str]) -> None:
    content = {**junk, **{key: PROTOCOL[key] for key in kept}}
    try:
        fuzzed = Protocol.from_dict("junk", content)
    except TraceError:
        return
    assert len(fuzzed.digest) == 64
    assert isinstance(fuzzed.final_answer("answer:7").answer, str)
    prober = asyncio.run(Prober.create(Recorder(), fuzzed))
    assert asyncio.run(prober.prompt("what?"))


# --- answers -------------------------------------------------------------------------------------


def generated(text: str, *logprobs: float) -> Generated:
    pieces = list(text)
    return Generated(list(map(ord, pieces)), text, "stop", list(logprobs), pieces)


def test_confidence_of_the_answer() -> None:
    read_probe = protocol().read_probe
    result = read_probe(generated("57. 9", -0.5, -0.1, -9, -9, -9))
    assert (result.answer, result.tokens) == ("57", 5)
    assert result.confidence == pytest.approx(math.exp(-0.3))
    # The closing brace is part of the answer; the text after it is not.
    boxed = protocol(probe={"suffix": r"\boxed{", "max_tokens": 9}, answers=["boxed"]).read_probe
    result = boxed(generated("57} so", -0.2, -0.4, -0.6, -9, -9, -9))
    assert (result.answer, result.tokens) == ("57", 6)
    assert result.confidence == pytest.approx(math.exp(-0.4))


def test_confidence_without_an_answer_uses_all_tokens() -> None:
    result = protocol().read_probe(generated("?!", -1.0, -3.0))
    assert result == ("No", pytest.approx(math.exp(-2.0)), 2, True)
    assert protocol().read_probe(Generated(finish="stop")) == ("No", 1.0, 0, True)


def test_confidence_is_at_most_one() -> None:
    assert protocol().read_probe(generated("5", 1e-7)).confidence == 1.0
    assert protocol().read_probe(generated("5", 9000.0)).confidence == 1.0
    assert protocol().read_probe(generated("5", -9999.0)).confidence == 0.0


@settings(deadline=None)
@given(st.lists(st.floats(-50, 0), min_size=1, max_size=6), st.text("0123456789 .", max_size=5))
def test_confidence_is_within_the_range_of_its_tokens(logprobs: list[float], text: str) -> None:
    text = (text + "......")[: len(logprobs)]
    confidence = protocol().read_probe(generated(text, *logprobs)).confidence
    tolerance = 1 + 1e-9
    assert math.exp(min(logprobs)) / tolerance <= confidence <= math.exp(max(logprobs)) * tolerance


def test_final_answer_follows_the_reasoning() -> None:
    def final(text: str) -> str:
        return protocol().final_answer(text).answer

    assert final("so answer:5 or</think>answer:6.") == "6"
    assert final("answer:5</think>none") == "No"
    assert final("a</think>answer:5</think>answer:6") == "6"
    assert final("never closed, answer:5") == "5"
    assert final("") == ""
    assert protocol(close="").final_answer("answer:1 answer:2").answer == "2"
    # A second end of the reasoning does not hide the answer behind the first.
    assert final("answer:3</think>answer:4</think>") == "4"
    assert final("answer:3</think>answer:4</think>answer:5") == "5"
    assert protocol().final_answer("answer:3</think>").null


def test_a_probe_that_stops_at_the_brace() -> None:
    """Engines leave the stop string out of the text; other ends do not close the box."""
    probe = {"suffix": "\\boxed{", "max_tokens": 9, "stop": ["}"]}
    boxed = protocol(probe=probe, answers=["boxed"])
    assert boxed.read_probe(Generated([1], "5", "stop", [0.0], ["5"])).answer == "5"
    cut = boxed.read_probe(Generated([1], "5", "length", [0.0], ["5"]))
    assert (cut.answer, cut.null) == ("ERR", True)
    plain = protocol(probe={**probe, "stop": []}, answers=["boxed"])
    assert plain.read_probe(Generated([1], "5", "stop", [0.0], ["5"])).answer == "ERR"


# --- prompts and probes --------------------------------------------------------------------------


def make_prober(recorder: Recorder, used: Protocol) -> Prober:
    return asyncio.run(Prober.create(recorder, used))


def prompt(recorder: Recorder, used: Protocol, question: str) -> str:
    return asyncio.run(recorder.decode(asyncio.run(make_prober(recorder, used).prompt(question))))


def test_text_prompt() -> None:
    assert prompt(Recorder(), protocol(), "what {question}?") == "q:what {question}?\n"


def test_chat_prompt() -> None:
    recorder = Recorder()
    used = protocol(
        prompt={
            "messages": [
                {"role": "system", "content": "Think."},
                {"role": "user", "content": "{question}!"},
            ],
            "arguments": {"enable_thinking": True},
        }
    )
    assert prompt(recorder, used, "a {b}") == "<system>Think.<user>a {b}!"
    messages, arguments = recorder.chats[0]
    assert [message["content"] for message in messages] == ["Think.", "a {b}!"]
    assert arguments == {"enable_thinking": True}


@pytest.mark.parametrize("template", ["<{role}>{content}", "<{role}>{content}<think>\n"])
def test_reasoning_is_opened_once(template: str) -> None:
    used = protocol(prompt={"messages": [_CHAT]}, open="<think>\n")
    assert prompt(Recorder(template), used, "5") == "<user>5<think>\n"


def probe(used: Protocol, trace: str, cuts: list[int]) -> tuple[list[str], list[str]]:
    """The prompts of probes at several depths, and their outputs."""
    recorder = Recorder()
    outputs = asyncio.run(make_prober(recorder, used).probe(encode("P"), encode(trace), cuts))
    (requests,) = recorder.completed
    assert all(one.max_tokens == 6 and one.sampling.temperature == 0 for one in requests)
    return ["".join(map(piece, one.prompt)) for one in requests], [one.text for one in outputs]


def test_probes_at_several_depths() -> None:
    prompts, outputs = probe(protocol(), "abcdef", [2, 4, 6])
    assert prompts == [f"P{part}</think>answer:" for part in ("ab", "abcd", "abcdef")]
    assert outputs == ["0", "1", "2"]
    assert probe(protocol(), "abc", []) == ([], [])


def test_closed_reasoning_is_probed_at_its_end_and_once() -> None:
    prompts, outputs = probe(protocol(), "abc</think>answer:5.", [2, 3, 4, 9, 12])
    assert prompts == ["Pab</think>answer:", "Pabc</think>answer:"]
    assert outputs == ["0", "1", "1", "1", "1"]
    # The first close counts; a close of several tokens needs all of them.
    assert probe(protocol(), "a</think>b</think>c", [5])[0] == ["Pa</think>answer:"]
    multi_token = protocol(close="END", probe={"suffix": "!", "max_tokens": 6})
    assert probe(multi_token, "EEENDEND", [1, 2, 7])[0] == ["PE!", "PEE!"]
    assert probe(multi_token, "EEN", [3])[0] == ["PEEN!"]


def test_without_a_close_a_trace_is_probed_to_its_end() -> None:
    prompts, _ = probe(protocol(close=""), "a</think>b", [1, 2, 3])
    assert prompts == [f"P{part}</think>answer:" for part in ("a", "a</think>", "a</think>b")]


def test_stop_strings_are_passed() -> None:
    recorder = Recorder()
    used = protocol(probe={**_PROBE, "stop": ["}", "\n"]})
    asyncio.run(make_prober(recorder, used).probe([1], [CLOSE + 9], [1]))
    assert recorder.completed[0][0].stop == ("}", "\n")


def test_max_trace_tokens() -> None:
    suffix = len(encode(PROTOCOL["probe"]["suffix"]))
    assert make_prober(Recorder(), protocol()).max_trace_tokens([1] * 9, 500) == 500
    prober = make_prober(Recorder(max_model_len=100), protocol())
    assert prober.max_trace_tokens([1] * 10, 500) == 100 - 10 - suffix - 6
    assert prober.max_trace_tokens([1] * 10, 20) == 20
    assert prober.max_trace_tokens([1] * (99 - suffix - 6), 20) == 1
    with pytest.raises(EngineError, match="prompt has 86 tokens and the model's context 100: "):
        prober.max_trace_tokens([1] * (100 - suffix - 6), 20)
