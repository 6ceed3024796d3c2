"""The command, in front of a real vLLM server, with real clients."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import httpx
import openai
import pytest
from running_gateway import PATIENCE, wait_until

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.live.connection import reference_card

pytestmark = [pytest.mark.vllm, pytest.mark.slow, pytest.mark.xdist_group("vllm")]


@contextlib.contextmanager
def serving(log: Path, *arguments: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run ``autotts serve``; yields its base URL and its process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "autotts_gym", "serve", "--port", str(port), *arguments],
            stderr=file,
            env={**os.environ, "AUTOTTS_API_KEY": "a-key-of-clients", "TMPDIR": str(log.parent)},
        )

    def is_ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{url}/health", timeout=5).status_code == 200
        return process.poll() is not None

    try:
        assert wait_until(is_ready)
        assert process.poll() is None, log.read_text()
        yield f"{url}/v1", process
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture(scope="module")
def url(vllm_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    log = tmp_path_factory.mktemp("gateway") / "log"
    arguments = ["--upstream", vllm_url, "--reference", "tinylm/medium/chain"]
    arguments += ["--max-branches", "16", "--controller", "cmc", "--controller", "self_consistency"]
    with serving(log, *arguments, "--controller", "ppo/chain") as (made, _):
        yield made


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="a-key-of-clients", max_retries=0) as made:
        yield made


@pytest.mark.parametrize("controller", ["cmc@0.5", "self_consistency", "ppo/chain@0.5"])
def test_controllers_answer(
    client: openai.OpenAI, chain: list[AskedQuestion], controller: str
) -> None:
    reply = client.chat.completions.create(
        model=f"tinylm-medium:{controller}",
        messages=[{"role": "user", "content": chain[0].text}],
    )
    bill = reply.model_extra["autotts"]  # type: ignore[index]
    message = reply.choices[0].message
    assert message.content == f"answer:{bill['answer']}"
    assert re.fullmatch("[0-9]{2}", bill["answer"])
    assert message.model_extra is not None
    assert "so " in message.model_extra["reasoning_content"]
    assert reply.usage is not None
    assert reply.usage.completion_tokens == bill["generated_tokens"] + bill["probe_tokens"]
    assert reply.usage.prompt_tokens > 10
    assert bill["self_consistency_tokens"] - bill["tokens"] == bill["saved_tokens"]
    if not controller.startswith("self"):
        assert bill["saved_tokens"] > 0


def test_streams_at_once(url: str, chain: list[AskedQuestion]) -> None:
    async def main() -> list[str]:
        async with openai.AsyncOpenAI(base_url=url, api_key="a-key-of-clients") as client:

            async def ask(question: AskedQuestion) -> str:
                stream = await client.chat.completions.create(
                    model="tinylm-medium",
                    messages=[{"role": "user", "content": question.text}],
                    stream=True,
                )
                deltas = [c.choices[0].delta.content or "" async for c in stream]
                return "".join(deltas)

            return await asyncio.gather(*map(ask, chain[:8]))

    texts = asyncio.run(main())
    assert all(re.fullmatch("answer:[0-9]{2}", text) for text in texts)


def test_passing_through(client: openai.OpenAI, chain: list[AskedQuestion]) -> None:
    """vLLM's own completion of the protocol's prompt, with fields that only vLLM honours."""
    reply = client.completions.with_raw_response.create(
        model="tinylm-medium",
        prompt=f"q:{chain[0].text}",
        max_tokens=4,
        logprobs=1,
        n=2,
        extra_body={"autotts": {"protocol": "none"}},
    )
    assert reply.headers["x-autotts-protocol"] == "none"
    parsed = reply.parse()
    assert len(parsed.choices) == 2
    assert parsed.usage is not None
    assert parsed.usage.completion_tokens == 8


def test_what_vllm_refuses(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(
            model="tinylm-medium", messages=[{"role": "user", "content": "a" * 2000}]
        )
    assert refused.value.code == "context_length_exceeded"
    with pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=str(client.base_url), api_key="wrong").models.list()


def metrics_text(server: str) -> str:
    return httpx.get(server.removesuffix("/v1") + "/metrics", timeout=PATIENCE).text


def sum_of_metric(server: str, name: str) -> float:
    """The sum of a metric of vLLM over all its labels."""
    text = metrics_text(server)
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
    assert lines, text
    return sum(float(line.rpartition(" ")[2]) for line in lines)


def tokens_generated(server: str) -> float:
    return sum_of_metric(server, "vllm:generation_tokens_total")


def test_clients_that_go_away_stop_the_generation(
    url: str, vllm_url: str, chain: list[AskedQuestion]
) -> None:
    """Clients ask for 480 branches, and leave when the first tokens are generated."""
    questions = chain[:30]

    async def ask_and_leave() -> None:
        headers = {"Authorization": "Bearer a-key-of-clients"}
        async with (
            aiohttp.ClientSession(headers=headers) as client,
            contextlib.AsyncExitStack() as stack,
        ):
            for question in questions:
                body = {
                    "model": "tinylm-medium:self_consistency",
                    "messages": [{"role": "user", "content": question.text}],
                    "stream": True,
                }
                post = client.post(f"{url}/chat/completions", json=body)
                reply = await stack.enter_async_context(post)  # the stream has begun
                assert reply.status == 200
            assert await asyncio.to_thread(wait_until, lambda: tokens_generated(vllm_url) > before)

    before = tokens_generated(vllm_url)
    asyncio.run(ask_and_leave())
    assert wait_until(lambda: "autotts_running_requests 0.0" in metrics_text(url))
    running = "vllm:num_requests_running", "vllm:num_requests_waiting"
    assert wait_until(lambda: not any(sum_of_metric(vllm_url, name) for name in running))
    generated = tokens_generated(vllm_url)
    time.sleep(2.0)
    assert tokens_generated(vllm_url) == generated
    whole = len(questions) * 16 * reference_card("tinylm/medium/chain").mean_tokens
    # On a busy machine, some branches end before vLLM learns that they left.
    assert 0 < generated - before < whole / 2


def test_several_workers_drain(vllm_url: str, tmp_path: Path, chain: list[AskedQuestion]) -> None:
    """Workers share their metrics, and let running requests end when the signal comes."""
    log = tmp_path / "log"
    arguments = ["--upstream", vllm_url, "--reference", "tinylm/medium/chain", "--workers", "2"]
    with serving(log, *arguments, "--max-branches", "8") as (url, process):

        async def main() -> list[int]:
            headers = {"Authorization": "Bearer a-key-of-clients"}
            async with httpx.AsyncClient(base_url=url, timeout=120, headers=headers) as client:

                async def ask(question: AskedQuestion) -> int:
                    body = {
                        "model": "tinylm-medium",
                        "messages": [{"role": "user", "content": question.text}],
                    }
                    return (await client.post("/chat/completions", json=body)).status_code

                first = await asyncio.gather(*map(ask, chain[:8]))
                metrics = (await client.get(url.removesuffix("/v1") + "/metrics")).text
                assert 'autotts_requests_total{controller="cmc",outcome="answered"} 8.0' in metrics
                assert "autotts_running_requests 0.0" in metrics
                late = [asyncio.ensure_future(ask(question)) for question in chain[8:16]]
                while log.read_text().count('"request"') == len(first) and not late[0].done():
                    await asyncio.sleep(0.01)
                process.send_signal(signal.SIGTERM)
                return [*first, *(await asyncio.gather(*late))]

        assert asyncio.run(main()) == [200] * 16
        assert process.wait(60) == 0
    assert not list(tmp_path.glob("autotts-gateway-*"))
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    requests = [line for line in lines if line["event"] == "request"]
    assert len(requests) == 16
    assert len({line["request_id"] for line in requests}) == 16
    assert sum(line["event"] == "stopped" for line in lines) == 2
    assert "a-key-of-clients" not in log.read_text()
