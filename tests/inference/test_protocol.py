"""Protocols: what they may say, how answers are read, and what is asked of a model."""

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
from autotts_gym.inference.protocol import Prober, Protocol, find, known
from autotts_gym.traces.store import TraceError


class Recorder(Engine):
    """An engine that writes down what it is asked, and answers with the number of the request."""

    def __init__(self, template: str = "<{role}>{content}", longest: int | None = None) -> None:
        self.template = template
        self.longest = longest
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

    async def facts(self) -> dict[str, Any]:
        return {"model": "recorder", "max_model_len": self.longest}

    async def close(self) -> None:
        pass


def protocol(**changes: Any) -> Protocol:
    return Protocol.of("changed", {**PROTOCOL, **changes})


def without(key: str) -> dict[str, Any]:
    return {k: v for k, v in PROTOCOL.items() if k != key}


# --- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", known())
def test_those_that_come_along(name: str) -> None:
    found = find(name, "whatever")
    assert found.name == name
    assert found == Protocol.load(known()[name])
    assert found.probe_tokens >= 1
    assert len(found.digest) == 64


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
def test_the_one_meant_for_a_model(model: str, name: str) -> None:
    assert find(None, model).name == name


def test_none_is_meant_for_it() -> None:
    with pytest.raises(TraceError, match="meant for the model 'gpt2'; choose one with --protocol"):
        find(None, "gpt2")
    with pytest.raises(TraceError, match=r"no protocol 'qwen'.*a \.yaml file, or one of chat, c"):
        find("qwen", "Qwen3-4B")


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(PROTOCOL), "utf-8")
    assert find(str(path), "any") == Protocol("mine", PROTOCOL)
    changed = {**PROTOCOL, "close": "</end>"}
    assert Protocol.of("a", PROTOCOL).digest == Protocol.of("b", dict(PROTOCOL)).digest
    assert Protocol.of("a", PROTOCOL).digest != Protocol.of("a", changed).digest


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
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TraceError, match=r"bad\.yaml: cannot be read: "):
        find(str(path), "any")


_PROBE = PROTOCOL["probe"]
_CHAT = {"role": "user", "content": "{question}"}


@pytest.mark.parametrize(
    ("facts", "message"),
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
        ({**PROTOCOL, "prompt": {"text": "q:"}}, r"prompt: \{question\} must stand where"),
        ({**PROTOCOL, "prompt": {"messages": {}}}, r"messages must be a list of \{role: "),
        ({**PROTOCOL, "prompt": {"messages": ["q"]}}, r"messages must be a list of \{role: "),
        ({**PROTOCOL, "prompt": {"messages": [{**_CHAT, "x": 1}]}}, "messages must be a list of"),
        ({**PROTOCOL, "prompt": {"messages": [{**_CHAT, "role": 1}]}}, "roles must be strings"),
        ({**PROTOCOL, "prompt": {"messages": [{**_CHAT, "content": 1}]}}, "texts must be strings"),
        ({**PROTOCOL, "prompt": {"messages": []}}, r"prompt: \{question\} must stand where"),
        ({**PROTOCOL, "prompt": {"messages": [_CHAT], "arguments": 1}}, "arguments must be a map"),
        (without("probe"), r"probe must have a suffix \(a string\)"),
        ({**PROTOCOL, "probe": {"suffix": 1, "max_tokens": 2}}, "probe must have a suffix"),
        ({**PROTOCOL, "probe": {**_PROBE, "max_tokens": 0}}, "integer of at least 1, got 0"),
        ({**PROTOCOL, "probe": {**_PROBE, "max_tokens": True}}, "integer of at least 1, got True"),
        ({**PROTOCOL, "probe": {"suffix": ""}}, "integer of at least 1, got None"),
        ({**PROTOCOL, "probe": {**_PROBE, "stop": "}"}}, "stop must be a list of strings"),
        ({**PROTOCOL, "probe": {**_PROBE, "stop": [""]}}, "stop must be a list of strings"),
        ({**PROTOCOL, "probe": {**_PROBE, "stops": []}}, "unknown entries stops; there are suff"),
        (without("answers"), "answers must list at least one way to find an answer, as"),
        ({**PROTOCOL, "answers": []}, "answers must list at least one way"),
        ({**PROTOCOL, "answers": ["box"]}, "answers: no extractor is called 'box'; there are box"),
        ({**PROTOCOL, "answers": ["regex:("]}, "answers: extractor 'regex:.': not a regular expr"),
        ({**PROTOCOL, "answers": [["boxed"]]}, "answers: "),
        ({**PROTOCOL, "description": "\ud800"}, "must be what JSON can say"),
        (
            {**PROTOCOL, "prompt": {"messages": [_CHAT], "arguments": {"on": object()}}},
            "must be what JSON can say, as texts and numbers: ",
        ),
        (
            {**PROTOCOL, "prompt": {"messages": [_CHAT], "arguments": {1: 2, "a": 3}}},
            "must be what JSON can say, as texts and numbers: ",
        ),
    ],
)
def test_what_a_protocol_may_not_say(facts: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        Protocol.of("bad", facts)


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
def test_junk_is_refused_or_usable(junk: dict[Any, Any], kept: set[str]) -> None:
    facts = {**junk, **{key: PROTOCOL[key] for key in kept}}
    try:
        made = Protocol.of("junk", facts)
    except TraceError:
        return
    assert len(made.digest) == 64
    assert isinstance(made.final("answer:7"), str)
    prober = asyncio.run(Prober.on(Recorder(), made))
    assert asyncio.run(prober.prompt("what?"))


# --- reading -------------------------------------------------------------------------------------


def generated(text: str, *logprobs: float) -> Generated:
    pieces = list(text)
    return Generated(list(map(ord, pieces)), text, "stop", list(logprobs), pieces)


def test_confidence_is_that_of_the_answer() -> None:
    read = protocol().read
    shown = read(generated("57. 9", -0.5, -0.1, -9, -9, -9))
    assert (shown.answer, shown.tokens) == ("57", 5)
    assert shown.confidence == pytest.approx(math.exp(-0.3))
    # What ends the box belongs to the answer, what follows does not.
    boxed = protocol(probe={"suffix": r"\boxed{", "max_tokens": 9}, answers=["boxed"]).read
    shown = boxed(generated("57} so", -0.2, -0.4, -0.6, -9, -9, -9))
    assert (shown.answer, shown.tokens) == ("57", 6)
    assert shown.confidence == pytest.approx(math.exp(-0.4))


def test_without_an_answer_all_that_was_said_counts() -> None:
    shown = protocol().read(generated("?!", -1.0, -3.0))
    assert shown == ("No", pytest.approx(math.exp(-2.0)), 2)
    assert protocol().read(Generated(finish="stop")) == ("No", 1.0, 0)


def test_a_probability_is_at_most_one() -> None:
    assert protocol().read(generated("5", 1e-7)).confidence == 1.0
    assert protocol().read(generated("5", 9000.0)).confidence == 1.0
    assert protocol().read(generated("5", -9999.0)).confidence == 0.0


@settings(deadline=None)
@given(st.lists(st.floats(-50, 0), min_size=1, max_size=6), st.text("0123456789 .", max_size=5))
def test_confidence_is_within_that_of_its_tokens(logprobs: list[float], text: str) -> None:
    text = (text + "......")[: len(logprobs)]
    confidence = protocol().read(generated(text, *logprobs)).confidence
    slack = 1 + 1e-9
    assert math.exp(min(logprobs)) / slack <= confidence <= math.exp(max(logprobs)) * slack


def test_the_final_answer_stands_behind_the_reasoning() -> None:
    final = protocol().final
    assert final("so answer:5 or</think>answer:6.") == "6"
    assert final("answer:5</think>none") == "No"
    assert final("a</think>answer:5</think>answer:6") == "6"
    assert final("never closed, answer:5") == "5"
    assert final("") == ""
    assert protocol(close="").final("answer:1 answer:2") == "2"


# --- asking --------------------------------------------------------------------------------------


def on(recorder: Recorder, made: Protocol) -> Prober:
    return asyncio.run(Prober.on(recorder, made))


def prompt(recorder: Recorder, made: Protocol, question: str) -> str:
    return asyncio.run(recorder.decode(asyncio.run(on(recorder, made).prompt(question))))


def test_a_prompt_of_text() -> None:
    assert prompt(Recorder(), protocol(), "what {question}?") == "q:what {question}?\n"


def test_a_prompt_by_the_chat_template() -> None:
    recorder = Recorder()
    made = protocol(
        prompt={
            "messages": [
                {"role": "system", "content": "Think."},
                {"role": "user", "content": "{question}!"},
            ],
            "arguments": {"enable_thinking": True},
        }
    )
    assert prompt(recorder, made, "a {b}") == "<system>Think.<user>a {b}!"
    messages, arguments = recorder.chats[0]
    assert [message["content"] for message in messages] == ["Think.", "a {b}!"]
    assert arguments == {"enable_thinking": True}


@pytest.mark.parametrize("template", ["<{role}>{content}", "<{role}>{content}<think>\n"])
def test_the_reasoning_is_opened_once(template: str) -> None:
    made = protocol(prompt={"messages": [_CHAT]}, open="<think>\n")
    assert prompt(Recorder(template), made, "5") == "<user>5<think>\n"


def look(made: Protocol, trace: str, cuts: list[int]) -> tuple[list[str], list[str]]:
    """What is asked at several depths, and the texts of what was answered."""
    recorder = Recorder()
    found = asyncio.run(on(recorder, made).look(encode("P"), encode(trace), cuts))
    (asked,) = recorder.completed
    assert all(one.max_tokens == 6 and one.sampling.temperature == 0 for one in asked)
    return ["".join(map(piece, one.prompt)) for one in asked], [one.text for one in found]


def test_probes_a_trace_where_it_stood() -> None:
    asked, found = look(protocol(), "abcdef", [2, 4, 6])
    assert asked == [f"P{part}</think>answer:" for part in ("ab", "abcd", "abcdef")]
    assert found == ["0", "1", "2"]
    assert look(protocol(), "abc", []) == ([], [])


def test_closed_reasoning_is_probed_as_it_was_and_once() -> None:
    asked, found = look(protocol(), "abc</think>answer:5.", [2, 3, 4, 9, 12])
    assert asked == ["Pab</think>answer:", "Pabc</think>answer:"]
    assert found == ["0", "1", "1", "1", "1"]
    # The first close counts; and one of several tokens is found where all of them stand.
    assert look(protocol(), "a</think>b</think>c", [5])[0] == ["Pa</think>answer:"]
    many = protocol(close="END", probe={"suffix": "!", "max_tokens": 6})
    assert look(many, "EEENDEND", [1, 2, 7])[0] == ["PE!", "PEE!"]
    assert look(many, "EEN", [3])[0] == ["PEEN!"]


def test_without_a_close_a_trace_is_probed_to_its_end() -> None:
    asked, _ = look(protocol(close=""), "a</think>b", [1, 2, 3])
    assert asked == [f"P{part}</think>answer:" for part in ("a", "a</think>", "a</think>b")]


def test_stops_go_along() -> None:
    recorder = Recorder()
    made = protocol(probe={**_PROBE, "stop": ["}", "\n"]})
    asyncio.run(on(recorder, made).look([1], [CLOSE + 9], [1]))
    assert recorder.completed[0][0].stop == ("}", "\n")


def test_how_much_room_there_is() -> None:
    suffix = len(encode(PROTOCOL["probe"]["suffix"]))
    assert on(Recorder(), protocol()).room([1] * 9, 500) == 500
    prober = on(Recorder(longest=100), protocol())
    assert prober.room([1] * 10, 500) == 100 - 10 - suffix - 6
    assert prober.room([1] * 10, 20) == 20
    assert prober.room([1] * (99 - suffix - 6), 20) == 1
    with pytest.raises(EngineError, match="prompt has 86 tokens, and the model holds 100: "):
        prober.room([1] * (100 - suffix - 6), 20)
