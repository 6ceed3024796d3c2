"""Clients: OpenAI's package, curl, and requests made from the description of the API."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import openai
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from running_gateway import Gateway
from schemathesis import GenerationMode

pytestmark = pytest.mark.slow


@pytest.fixture
def client(gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=gateway.url, api_key="none", max_retries=0) as made:
        yield made


def test_openai_chat(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(
        model="scripted:cmc@0.3",
        messages=[{"role": "user", "content": "plain 1"}],
        extra_body={"autotts": {"beta": 0.2, "timeout": 60.0}},
    )
    bill = reply.model_extra["autotts"]  # type: ignore[index]
    assert bill["beta"] == 0.2
    assert bill["answer"] in (reply.choices[0].message.content or "")
    assert reply.usage is not None
    assert reply.usage.completion_tokens == bill["generated_tokens"] + bill["probe_tokens"]


def test_openai_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": "plain 2"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    content = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert content.startswith("answer:")
    assert chunks[-1].usage is not None


def test_openai_completion_and_models(client: openai.OpenAI) -> None:
    reply = client.completions.create(model="scripted", prompt="plain 3")
    assert reply.choices[0].text.startswith("answer:")
    assert next(model.id for model in client.models.list()) == "scripted"
    assert client.models.retrieve("scripted:cmc").id == "scripted:cmc"


def test_openai_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="cannot be honoured") as refused:
        client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "plain 1"}], n=2
        )
    assert refused.value.param == "n"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.completions.create(model="other", prompt="plain 1")
    assert unknown.value.code == "model_not_found"


def test_openai_async(gateway: Gateway) -> None:
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=gateway.url, api_key="none") as client:

            async def ask(k: int) -> str:
                stream = await client.chat.completions.create(
                    model="scripted",
                    messages=[{"role": "user", "content": f"plain {k}"}],
                    stream=True,
                )
                return "".join([text async for text in contents(stream)])

            return await asyncio.gather(*map(ask, range(8)))

    async def contents(stream: openai.AsyncStream[object]) -> AsyncIterator[str]:
        async for chunk in stream:
            yield chunk.choices[0].delta.content or ""  # type: ignore[attr-defined]

    assert all(text.startswith("answer:") for text in asyncio.run(main()))


def test_curl(gateway: Gateway) -> None:
    body = {"model": "scripted", "messages": [{"role": "user", "content": "plain 1"}]}
    done = subprocess.run(
        ["curl", "-s", f"{gateway.url}/chat/completions", "--json", json.dumps(body)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_of_the_described_api_fails(gateway: Gateway, mode: GenerationMode) -> None:
    """Requests made from the OpenAPI description, half of them for a model that exists."""
    schema = schemathesis.openapi.from_url(gateway.url.removesuffix("/v1") + "/openapi.json")
    statuses: Counter[tuple[str, int]] = Counter()

    def check(case: schemathesis.Case, is_known: bool) -> None:
        if is_known and isinstance(case.body, dict) and "model" in case.body:
            case.body["model"] = "scripted"
        response = case.call(timeout=60)
        statuses[case.operation.path, response.status_code] += 1
        assert response.status_code < 500, response.text

    for result in schema.get_all_operations():
        operation = result.ok()
        test = given(operation.as_strategy(generation_mode=mode), st.booleans())(check)
        with contextlib.suppress(Unsatisfiable):  # nothing is invalid without parameters
            settings(max_examples=40, database=None, suppress_health_check=list(HealthCheck))(
                test
            )()
    expected = {"/v1/chat/completions", "/v1/completions"}
    if mode is GenerationMode.POSITIVE:
        expected |= {"/v1/models", "/v1/models/{model}", "/health", "/metrics"}
    assert {path for path, _ in statuses} == expected
    assert statuses["/v1/chat/completions", 400] > 0
