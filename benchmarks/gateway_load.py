"""Load on a gateway, as clients see it.

* ``scripted``: a scripted upstream, whose branches take a known time. Many requests at once: each
  must get its own answer or status 429, and no question may be answered twice. Then rounds of the
  same, between which the memory of the gateway is measured; and a number of clients with at most
  eight branches each, whose time beyond that of the branches is the overhead of the gateway.
* ``vllm``: real vLLM with a bundled tiny model behind two addresses, which are closed, stalled and
  opened again while clients ask. Every request must end with an answer or a documented error.

Figures depend on the machine and on its other work; the time that a timer of the client is late
by is printed for comparison.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import gateway_upstream
import httpx
from rich.console import Console

from autotts_gym.tinylm.bundled_envs import (
    SEARCH_SET,
    SERVER_ARGUMENTS,
    collection_questions,
    set_cpu_defaults,
)

HERE = Path(__file__).parent
BRANCHES = 8
#: Seconds of a branch of the scripted upstream.
BRANCH_SECONDS = gateway_upstream.PARTS * gateway_upstream.PAUSE
OVERHEAD_ROUNDS = 10

console = Console()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends; it begins when ``ready`` can be fetched."""
    with log.open("wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, cwd=HERE)
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(ready, trust_env=False).status_code == 200:
                    break
            if child.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[2:5]} does not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait(90)


def serve_command(port: int, upstreams: list[str], *options: str) -> list[str]:
    command = [sys.executable, "-m", "autotts_gym", "serve", "--port", str(port)]
    for url in upstreams:
        command += ["--upstream", url]
    return [*command, *options]


def resident_mib(pid: int) -> float:
    """Memory of a process, MiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} has gone")


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def make_client(base_url: str, connections: int) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    return httpx.AsyncClient(base_url=base_url, timeout=600, limits=limits, trust_env=False)


# --- scripted ------------------------------------------------------------------------------------


async def ask(client: httpx.AsyncClient, number: int) -> tuple[int, str, float]:
    """Ask a question; returns status, answer and seconds."""
    body = {
        "model": "scripted",
        "messages": [{"role": "user", "content": f"load {number}"}],
    }
    start = time.monotonic()
    response = await client.post("/chat/completions", json=body)
    seconds = time.monotonic() - start
    if response.status_code == 429:
        assert int(response.headers["retry-after"]) >= 1
        return 429, "", seconds
    if response.status_code != 200:
        return response.status_code, response.text, seconds
    reply = response.json()
    assert reply["choices"][0]["message"]["content"] == f"answer:{reply['autotts']['answer']}"
    return 200, reply["autotts"]["answer"], seconds


async def flood(url: str, first: int, count: int) -> Counter[int]:
    """Ask ``count`` questions at once; returns the number of replies with each status."""
    async with make_client(url, count) as client:
        replies = await asyncio.gather(*(ask(client, first + k) for k in range(count)))
    assert len(replies) == count
    for k, (status, answer, _) in enumerate(replies):
        if status == 200:
            assert answer == gateway_upstream.answer(f"load {first + k}"), (k, answer)
    return Counter(status for status, _, _ in replies)


async def late_timers(stop: asyncio.Event, late: list[float]) -> None:
    """How late the timers of this process are, seconds: a measure of the machine's other work."""
    while not stop.is_set():
        start = time.monotonic()
        await asyncio.sleep(0.05)
        late.append(time.monotonic() - start - 0.05)


async def overheads(url: str, clients: int, first: int) -> tuple[list[float], list[float]]:
    """Seconds of every request beyond those of its branches, and how late timers are."""
    found: list[float] = []
    late: list[float] = []
    stop = asyncio.Event()
    timing = asyncio.create_task(late_timers(stop, late))

    async def run(client: httpx.AsyncClient, k: int) -> None:
        await asyncio.sleep(random.uniform(0, BRANCH_SECONDS))
        for round_ in range(OVERHEAD_ROUNDS):
            status, text, seconds = await ask(client, first + k * OVERHEAD_ROUNDS + round_)
            assert status == 200, text
            found.append(seconds - BRANCH_SECONDS)

    async with make_client(url, clients) as client:
        await asyncio.gather(*(run(client, k) for k in range(clients)))
    stop.set()
    await timing
    return found, late


def scripted(arguments: argparse.Namespace) -> dict[str, Any]:
    requests, results = arguments.requests, {}
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        protocol = folder / "scripted.yaml"
        protocol.write_text(json.dumps(gateway_upstream.PROTOCOL))
        ports = free_port(), free_port()
        upstream = f"http://127.0.0.1:{ports[0]}"
        command = [sys.executable, "-m", "uvicorn", "gateway_upstream:app", "--port", str(ports[0])]
        command += ["--log-level", "warning", "--backlog", "4096"]
        stack.enter_context(process(command, folder / "upstream.log", f"{upstream}/v1/models"))
        gateway = f"http://127.0.0.1:{ports[1]}"
        options = ["--protocol", str(protocol), "--interval", str(gateway_upstream.PART_TOKENS)]
        options += ["--max-branches", str(BRANCHES), "--controller", "self_consistency"]
        options += ["--max-tokens", str(gateway_upstream.PARTS * gateway_upstream.PART_TOKENS)]
        options += ["--concurrency", "32", "--queue", str(arguments.queue)]
        serve = serve_command(ports[1], [f"{upstream}/v1"], *options)
        child = stack.enter_context(process(serve, folder / "gateway.log", f"{gateway}/health"))
        url = f"{gateway}/v1"
        memory, statuses = [], []
        for round_ in range(arguments.rounds):
            start = time.monotonic()
            statuses.append(asyncio.run(flood(url, round_ * requests, requests)))
            memory.append(resident_mib(child.pid))
            console.print(
                f"{requests} requests at once: {dict(statuses[-1])} in "
                f"{time.monotonic() - start:.1f} s; memory {memory[-1]:.0f} MiB"
            )
        begun = httpx.get(f"{upstream}/counts", trust_env=False).json()
        answered = sum(found[200] for found in statuses)
        if not all(found.keys() <= {200, 429} for found in statuses):
            failed = [
                x for x in (folder / "gateway.log").read_text().splitlines() if "answered" not in x
            ]
            raise RuntimeError("\n".join(failed))
        assert len(begun) == answered, (len(begun), answered)
        assert set(begun.values()) == {BRANCHES}, "a branch was generated twice"
        before = cpu_seconds(child.pid)
        found, late = asyncio.run(overheads(url, arguments.clients, arguments.rounds * requests))
        requests_logged = (folder / "gateway.log").read_text().count('"event": "request"')
        assert requests_logged == arguments.rounds * requests + len(found)
        results = {
            "statuses": [dict(found) for found in statuses],
            "memory_mib": memory,
            "overhead_p50_ms": 1000 * statistics.median(found),
            "overhead_p99_ms": 1000 * percentile(found, 0.99),
            "cpu_ms_per_request": 1000 * (cpu_seconds(child.pid) - before) / len(found),
            "late_timer_p99_ms": 1000 * percentile(late, 0.99),
            "load_average": os.getloadavg()[0],
        }
        console.print(
            f"{arguments.clients} clients, {BRANCHES} branches: overhead "
            f"{results['overhead_p50_ms']:.0f} ms (median), "
            f"{results['overhead_p99_ms']:.0f} ms (99%); "
            f"{results['cpu_ms_per_request']:.0f} ms of CPU a request; timers late by "
            f"{results['late_timer_p99_ms']:.0f} ms (99%)"
        )
    return results


# --- vllm ----------------------------------------------------------------------------------------


class FaultyAddress:
    """An address that forwards connections to a server, unless it is closed or stalled."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def close(self) -> None:
        """Reset all connections and refuse new ones, as a server that is killed."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._writers):
            writer.transport.abort()

    def stall(self) -> None:
        """Forward nothing, as a server that hangs."""
        self._flowing.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.transport.abort()
            return
        pair = {writer, there[1]}
        self._writers |= pair
        copies = [self._copy(reader, there[1]), self._copy(there[0], writer)]
        tasks = [asyncio.ensure_future(copy) for copy in copies]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        for each in pair:
            each.transport.abort()
        self._writers -= pair

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                await self._flowing.wait()
                writer.write(data)
                await writer.drain()


async def disturb(addresses: list[FaultyAddress], end: float, faults: Counter[str]) -> None:
    """Close, stall and open the addresses one after the other; one of them always works."""
    for turn in range(1 << 30):
        address = addresses[turn % len(addresses)]
        fault = ("kill", "stall")[turn // len(addresses) % 2]
        await asyncio.sleep(8)
        if time.monotonic() > end:
            return
        if fault == "kill":
            await address.close()
        else:
            address.stall()
        faults[fault] += 1
        await asyncio.sleep(8)
        await address.open()


async def ask_for_minutes(
    url: str, addresses: list[FaultyAddress], clients: int, minutes: float
) -> dict[str, Any]:
    questions = collection_questions(SEARCH_SET)
    end = time.monotonic() + 60 * minutes
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    seconds: list[float] = []

    async def run(client: httpx.AsyncClient, k: int) -> None:
        draw = random.Random(k)
        while time.monotonic() < end:
            question = draw.choice(questions)
            body = {
                "model": "tinylm-medium",
                "messages": [{"role": "user", "content": question.text}],
            }
            start = time.monotonic()
            response = await client.post("/chat/completions", json=body)
            seconds.append(time.monotonic() - start)
            if response.status_code == 200:
                outcomes["degraded" if response.json()["autotts"]["error"] else "answered"] += 1
                outcomes["correct"] += response.json()["autotts"]["answer"] == question.gold
            else:
                outcomes[str(response.status_code)] += 1
                assert "error" in response.json()

    for address in addresses:
        await address.open()
    async with make_client(url, clients) as client:
        disturbing = asyncio.create_task(disturb(addresses, end, faults))
        await asyncio.gather(*(run(client, k) for k in range(clients)))
        await disturbing
    return {
        "outcomes": dict(outcomes),
        "faults": dict(faults),
        "median_seconds": statistics.median(seconds),
        "p99_seconds": percentile(seconds, 0.99),
    }


@contextlib.asynccontextmanager
async def opened(addresses: list[FaultyAddress]) -> AsyncIterator[None]:
    for address in addresses:
        await address.open()
    yield
    for address in addresses:
        await address.close()


def vllm(arguments: argparse.Namespace) -> dict[str, Any]:
    from autotts_gym.inference.vllm_server import serve
    from autotts_gym.tinylm import model_path

    set_cpu_defaults()
    name = "tinylm-medium"
    with (
        serve(model_path("medium"), served_model_name=name, **SERVER_ARGUMENTS) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        target = httpx.URL(server).port or 0

        async def main() -> dict[str, Any]:
            addresses = [FaultyAddress(free_port(), target) for _ in range(2)]
            async with opened(addresses):
                port = free_port()
                urls = [f"http://127.0.0.1:{address.port}/v1" for address in addresses]
                options = ["--reference", "tinylm/medium/chain", "--max-branches", str(BRANCHES)]
                options += ["--patience", "15", "--controller", "cmc"]
                command = serve_command(port, urls, *options)
                url = f"http://127.0.0.1:{port}"
                starting = process(command, Path(folder) / "gateway.log", f"{url}/health")
                child = await asyncio.to_thread(starting.__enter__)
                try:
                    before = resident_mib(child.pid)
                    results = await ask_for_minutes(
                        f"{url}/v1", addresses, arguments.clients, arguments.minutes
                    )
                    memory = [before, resident_mib(child.pid)]
                finally:
                    await asyncio.to_thread(starting.__exit__, None, None, None)
                return {**results, "memory_mib": memory}

        results = asyncio.run(main())
    console.print(results)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description="Load on a gateway.")
    kinds = parser.add_subparsers(required=True, dest="kind")
    kind = kinds.add_parser("scripted")
    kind.add_argument("--requests", type=int, default=1000)
    kind.add_argument("--queue", type=int, default=600)
    kind.add_argument("--rounds", type=int, default=4)
    kind.add_argument("--clients", type=int, default=32)
    kind.set_defaults(run=scripted)
    kind = kinds.add_parser("vllm")
    kind.add_argument("--minutes", type=float, default=3.0)
    kind.add_argument("--clients", type=int, default=32)
    kind.set_defaults(run=vllm)
    arguments = parser.parse_args()
    print(json.dumps(arguments.run(arguments)))


if __name__ == "__main__":
    main()
