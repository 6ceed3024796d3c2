"""How soon branches end on vLLM after the client of a gateway has gone.

Real vLLM serves a bundled tiny model, and a client asks the gateway one question, whose branches
are read whole. When the model has generated for a moment, the client closes its connection. From
then on, vLLM's own metrics are read every 50 ms, until no request runs or waits. Both kinds of
clients are tried in turn: those that read a stream, and those that wait for a whole reply.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
from gateway_load import console, free_port, make_client, process, serve_command

from autotts_gym.inference.vllm_server import serve
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import (
    SEARCH_SET,
    SERVER_ARGUMENTS,
    collection_questions,
    set_cpu_defaults,
)

SIZE = "medium"
#: Seconds between two readings of the metrics.
POLL = 0.05
#: Seconds for which the branches run before the client goes.
STAY = 0.02
_METRIC = re.compile(
    r"^vllm:(num_requests_running|num_requests_waiting|generation_tokens_total)\{[^}]*\} (\S+)",
    re.MULTILINE,
)


async def read_metrics(client: aiohttp.ClientSession, server: str) -> dict[str, float]:
    """The requests in progress on vLLM, and the tokens that it has generated."""
    async with client.get(server.removesuffix("/v1") + "/metrics") as response:
        found = dict(_METRIC.findall(await response.text()))
    return {
        "requests": float(found["num_requests_running"]) + float(found["num_requests_waiting"]),
        "tokens": float(found["generation_tokens_total"]),
    }


async def leave(gateway: str, server: str, question: str, stream: bool) -> dict[str, Any]:
    """Ask a question and go away; returns what the server then did."""
    async with make_client() as watcher:
        before = await read_metrics(watcher, server)
        body = {
            "model": f"tinylm-{SIZE}:self_consistency",
            "messages": [{"role": "user", "content": question}],
            "stream": stream,
        }

        async def ask() -> None:
            async with (
                make_client() as client,
                client.post(f"{gateway}/v1/chat/completions", json=body) as response,
            ):
                async for _ in response.content:
                    pass

        asking = asyncio.create_task(ask())
        while (seen := await read_metrics(watcher, server))["tokens"] == before["tokens"]:
            await asyncio.sleep(0.01)
        await asyncio.sleep(STAY)
        while not (seen := await read_metrics(watcher, server))["requests"]:
            assert not asking.done(), "the episode ended before the client went"
        asking.cancel()  # closes the connection
        gone = time.perf_counter()
        await asyncio.gather(asking, return_exceptions=True)
        while True:
            latest = await read_metrics(watcher, server)
            seconds = time.perf_counter() - gone
            if not latest["requests"]:
                break
            await asyncio.sleep(POLL)
        await asyncio.sleep(1.0)
        settled = await read_metrics(watcher, server)
    assert settled["tokens"] == latest["tokens"], "tokens were generated afterwards"
    return {
        "stream": stream,
        "requests": seen["requests"],
        "seconds": seconds,
        "tokens_after": settled["tokens"] - seen["tokens"],
    }


def measure(server: str, branches: int, repetitions: int) -> list[dict[str, Any]]:
    """Repeat :func:`leave` with a gateway of ``branches`` branches."""
    questions = collection_questions(SEARCH_SET)
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        options = ["--reference", f"tinylm/{SIZE}/{SEARCH_SET}", "--max-branches", str(branches)]
        command = serve_command(port, [server], *options)
        url = f"http://127.0.0.1:{port}"
        with process(command, Path(folder) / "gateway.log", f"{url}/health"):
            return [
                asyncio.run(
                    leave(url, server, questions[k % len(questions)].text, stream=k % 2 == 0)
                )
                for k in range(repetitions)
            ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--branches", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--repetitions", type=int, default=20)
    options = parser.parse_args()
    set_cpu_defaults()
    found = {}
    with serve(model_path(SIZE), served_model_name=f"tinylm-{SIZE}", **SERVER_ARGUMENTS) as server:
        for branches in options.branches:
            found[branches] = runs = measure(server, branches, options.repetitions)
            seconds = [run["seconds"] for run in runs]
            console.print(
                f"{branches} branches, {len(runs)} times: "
                f"{statistics.mean(run['requests'] for run in runs):.0f} requests in progress "
                f"when the client went; none after {statistics.median(seconds):.2f} s (median), "
                f"{max(seconds):.2f} s (all); "
                f"{statistics.mean(run['tokens_after'] for run in runs):.0f} tokens after that"
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
