"""Token confidences: their definition, their sums by interval, and how servers give them."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator
from typing import Any

import pytest
import scripted_server
from hypothesis import given
from hypothesis import strategies as st
from scripted_server import ScriptedServer, at

from autotts_gym.inference.engine import EngineError, Generated, Request
from autotts_gym.inference.http_engine import ServerEngine
from autotts_gym.inference.http_responses import RefusedError, fewer_top_tokens, read_choices
from autotts_gym.inference.token_confidence import (
    ConfidenceSums,
    TraceConfidence,
    interval_counts,
    token_confidence,
)

TOP_20 = st.lists(st.floats(-50, 0), min_size=20, max_size=21)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with ScriptedServer() as scripted:
        yield scripted


def test_confidence_of_a_token() -> None:
    assert token_confidence([-1.0, -2.0, -3.0], 3) == 2
    assert token_confidence([-9.0, -1.0, -2.0], 2) == 1.5  # the sampled token is not one of two
    assert token_confidence([0.0, -math.inf], 2) == 9999 / 2
    assert math.copysign(1, token_confidence([0.0], 1)) == 1


@given(TOP_20)
def test_sure_tokens_have_high_confidence(logprobs: list[float]) -> None:
    value = token_confidence(logprobs, 20)
    assert value == pytest.approx(-sum(sorted(logprobs)[-20:]) / 20)
    surer = [logprobs[0], *(x - 1 for x in logprobs[1:])]
    assert token_confidence(surer, 20) >= value


@given(st.lists(st.floats(0, 100), max_size=60), st.integers(1, 20), st.lists(st.integers(1, 9)))
def test_sums_by_interval(values: list[float], interval: int, sizes: list[int]) -> None:
    sums = ConfidenceSums(interval)
    rest = list(values)
    for size in [*sizes, len(values)]:
        part, rest = rest[:size], rest[size:]
        sums.add(Generated([0] * len(part), confidences=part, top_tokens=20 if part else 0))
    if not values:
        assert sums.result is None
        return
    parts = [values[k : k + interval] for k in range(0, len(values), interval)]
    assert sums.result is not None
    assert sums.result.top_tokens == 20
    assert sums.result.sums == pytest.approx([sum(part) for part in parts])
    assert interval_counts(len(values), interval) == [len(part) for part in parts]


@pytest.mark.parametrize("second", [{}, {"confidences": [1.0], "top_tokens": 5}])
def test_a_part_without_the_same_number_of_likeliest_tokens(second: dict[str, Any]) -> None:
    sums = ConfidenceSums(4)
    sums.add(Generated([1], confidences=[2.0], top_tokens=20))
    assert sums.result == TraceConfidence(20, [2.0])
    sums.add(Generated([2], **second))
    sums.add(Generated([3], confidences=[2.0], top_tokens=20))
    assert sums.result is None


# --- servers -------------------------------------------------------------------------------------


def generate(
    server: ScriptedServer, *questions: str, top_tokens: int = 20, every: int = 20
) -> list[list[Generated]]:
    """Generate traces one after another with one engine; returns their parts."""

    async def main() -> list[list[Generated]]:
        engine = ServerEngine(server.url, patience=20)
        try:
            results = []
            for question in questions:
                prompt = scripted_server.encode(f"q:{question}\n")
                asked = Request(prompt, 120, top_tokens=top_tokens)
                results.append([part async for part in engine.stream(asked, every)])
            return results
        finally:
            await engine.close()

    return asyncio.run(main())


@pytest.mark.parametrize("question", ["plain 1", "empty", "never"])
def test_confidences_of_a_stream(server: ScriptedServer, question: str) -> None:
    (parts,) = generate(server, question)
    values = [value for part in parts for value in part.confidences]
    assert values == pytest.approx(scripted_server.confidences(question, 120))
    assert all(part.top_tokens == 20 for part in parts)
    assert all(len(part.confidences) == len(part.tokens) for part in parts)
    assert not any(part.logprobs or part.pieces for part in parts)
    body = server.asked[-1].body
    assert (body["logprobs"], body["return_tokens_as_token_ids"]) == (20, True)


def test_no_confidences_unless_requested(server: ScriptedServer) -> None:
    (parts,) = generate(server, "plain 1", top_tokens=0)
    assert not any(part.confidences or part.top_tokens for part in parts)
    assert "logprobs" not in server.asked[-1].body


def test_a_part_is_short_if_it_has_the_likeliest_tokens(server: ScriptedServer) -> None:
    generate(server, "plain 1", every=5000)
    assert server.asked[-1].body["stream_interval"] == 256
    generate(server, "plain 1", every=5000, top_tokens=0)
    assert server.asked[-1].body["stream_interval"] == 5000


@pytest.mark.parametrize(("most", "asked"), [(5, [20, 5, 5]), (12, [20, 12, 12]), (0, [20, 10, 5])])
def test_a_server_that_gives_fewer(server: ScriptedServer, most: int, asked: list[int]) -> None:
    server.most_top_tokens = most
    for question, parts in zip(
        ("never", "plain 1"), generate(server, "never", "plain 1"), strict=True
    ):
        values = [value for part in parts for value in part.confidences]
        wanted = scripted_server.confidences(question, 120, most) if most else []
        assert values == pytest.approx(wanted)
        assert {part.top_tokens for part in parts} == {most}
    bodies = [request.body for request in server.asked if request.kind == "trace"]
    assert [body.get("logprobs") for body in bodies][:3] == asked
    assert set(server.paid.values()) == {1}


def test_a_refusal_for_another_reason(server: ScriptedServer) -> None:
    server.longest = 10
    with pytest.raises(RefusedError, match="maximum context length"):
        generate(server, "plain 1")
    assert sum(request.kind == "trace" for request in server.asked) == 1


def test_a_continued_stream_has_every_confidence(server: ScriptedServer) -> None:
    server.plan = at([0, 1], "drop-mid")
    (parts,) = generate(server, "never")
    values = [value for part in parts for value in part.confidences]
    assert values == pytest.approx(scripted_server.confidences("never", 120))


@pytest.mark.parametrize(
    ("message", "fewer"),
    [
        ("logprobs of 20 is greater than max allowed: 7", 7),
        ("Invalid value for 'logprobs': must be less than or equal to 5.", 5),
        ("logprobs is not supported by gpt-4o-2024-05-13", 10),
        ("the prompt has 5 tokens too many", None),
    ],
)
def test_limits_in_messages(message: str, fewer: int | None) -> None:
    error = RefusedError(f"http://h:8000/v1/completions: status 400: {message}", 400)
    assert fewer_top_tokens(error, 20) == fewer
    assert fewer_top_tokens(RefusedError("u: no logprobs", 400), 2) == 0
    assert fewer_top_tokens(error, 0) is None


@pytest.mark.parametrize(
    "top",
    [5, [{"a": -1.0}], [{"a": -1.0}, None], [{"a": -1.0}, {"b": "x"}], [{"a": float("nan")}] * 2],
)
def test_malformed_likeliest_tokens(top: Any) -> None:
    choice = {"index": 0, "text": "ab", "token_ids": [1, 2], "finish_reason": None}
    chunk = {"choices": [choice | {"logprobs": {"top_logprobs": top}}]}
    with pytest.raises(EngineError, match="likeliest tokens do not fit 2 tokens"):
        read_choices(chunk, "u", 1, partial=True, top_tokens=20)


@pytest.mark.parametrize("logprobs", [None, {}, {"top_logprobs": None}, {"top_logprobs": [{}, {}]}])
def test_absent_likeliest_tokens(logprobs: Any) -> None:
    choice = {"index": 0, "text": "ab", "token_ids": [1, 2], "finish_reason": None}
    chunk = {"choices": [choice | {"logprobs": logprobs}]}
    (part,) = read_choices(chunk, "u", 1, partial=True, top_tokens=20)
    assert (part.confidences, part.top_tokens) == ([], 0)
