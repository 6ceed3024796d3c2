"""Load on a gateway, as clients see it.

* ``scripted``: 32 clients in front of a scripted upstream, each with one question after the other,
  and 8 whole branches for each question. First the upstream has a pace, and the overhead of the
  gateway is measured: the time to answer, without the time in which the upstream had at least one
  request of the question to answer. Then the upstream answers at once, and the requests per second
  of one worker are counted.
* ``flood``: more requests at once than the gateway admits, again and again, in front of the same
  upstream. Each must get its own answer or status 429, no branch may be generated twice, and the
  memory of the gateway must not grow.
* ``vllm``: real vLLM with a bundled tiny model behind two addresses, which are closed, stalled and
  opened again while clients ask. Every request must end with an answer or a documented error.

``scripted`` and ``flood`` need the package with its extra ``serve`` only. Figures depend on the
machine and on its other work; the time that a timer of the client is late by is printed for
comparison.
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
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import gateway_upstream
from rich.console import Console
from yarl import URL

HERE = Path(__file__).parent
BRANCHES = 8
#: Δ of the scripted upstream, tokens. A part of a stream has a fourth.
INTERVAL = 128
#: Seconds per token while requests are admitted in ``flood``.
FLOOD_PACE = 0.004

console = Console()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def fetch(url: str, content: Any = None) -> Any:
    """GET a JSON object, or PUT one."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    request = urllib.request.Request(url)
    if content is not None:
        request = urllib.request.Request(url, json.dumps(content).encode(), method="PUT")
        request.add_header("Content-Type", "application/json")
    with opener.open(request, timeout=30) as response:
        return json.load(response)


@contextlib.contextmanager
def process(command: list[str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends; it begins when ``ready`` can be fetched."""
    with log.open("wb") as file:
        child = subprocess.Popen(command, stdout=file, stderr=file, cwd=HERE)
    try:
        end = time.monotonic() + 120
        while True:
            with contextlib.suppress(OSError):
                fetch(ready)
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
    """CPU time of a process and of its workers so far, seconds."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return own + sum(cpu_seconds(int(child)) for child in children)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[min(int(share * len(values)), len(values) - 1)]


def make_client() -> aiohttp.ClientSession:
    timeout = aiohttp.ClientTimeout(total=600)
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)


# --- scripted and flood --------------------------------------------------------------------------


class Gateway(NamedTuple):
    """A gateway in front of a scripted upstream.

    Attributes:
        url: base URL of the gateway.
        upstream: URL of the upstream, without ``/v1``.
        pid: process id of the gateway.
        log: its log.
    """

    url: str
    upstream: str
    pid: int
    log: Path

    def set_pace(self, seconds_per_token: float) -> None:
        fetch(f"{self.upstream}/pace", {"seconds_per_token": seconds_per_token})


@contextlib.contextmanager
def scripted_gateway(queue: int, core: int | None = None, workers: int = 1) -> Iterator[Gateway]:
    """Run a gateway in front of a scripted upstream, perhaps bound to one core.

    Then clients and upstream are bound to the other cores, as if they were other machines.
    """
    if core is not None:
        os.sched_setaffinity(0, os.sched_getaffinity(0) - {core})
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        protocol = folder / "scripted.yaml"
        protocol.write_text(json.dumps(gateway_upstream.PROTOCOL))
        ports = free_port(), free_port()
        upstream = f"http://127.0.0.1:{ports[0]}"
        command = [sys.executable, "gateway_upstream.py", str(ports[0])]
        stack.enter_context(process(command, folder / "upstream.log", f"{upstream}/v1/models"))
        gateway = f"http://127.0.0.1:{ports[1]}"
        options = ["--protocol", str(protocol), "--interval", str(INTERVAL)]
        options += ["--max-branches", str(BRANCHES), "--controller", "self_consistency"]
        options += ["--max-tokens", str(gateway_upstream.LONGEST)]
        options += ["--concurrency", "32", "--queue", str(queue), "--workers", str(workers)]
        serve = serve_command(ports[1], [f"{upstream}/v1"], *options)
        if core is not None:
            serve = ["taskset", "-c", str(core), *serve]
        log = folder / "gateway.log"
        child = stack.enter_context(process(serve, log, f"{gateway}/health"))
        yield Gateway(f"{gateway}/v1", upstream, child.pid, log)


class Reply(NamedTuple):
    """A reply of the gateway.

    Attributes:
        question: the question.
        status: HTTP status.
        answer: the answer, or the message of an error.
        seconds: time until the reply was read.
    """

    question: str
    status: int
    answer: str
    seconds: float


async def ask(client: aiohttp.ClientSession, url: str, number: int) -> Reply:
    """Ask a question."""
    question = f"load {number}"
    body = {"model": "scripted", "messages": [{"role": "user", "content": question}]}
    start = time.monotonic()
    async with client.post(f"{url}/chat/completions", json=body) as response:
        text = await response.text()
        seconds = time.monotonic() - start
        if response.status == 429:
            assert int(response.headers["retry-after"]) >= 1
    if response.status != 200:
        return Reply(question, response.status, text, seconds)
    reply = json.loads(text)
    found = reply["autotts"]["answer"]
    assert reply["choices"][0]["message"]["content"] == f"answer:{found}"
    assert found == gateway_upstream.answer(question), (question, found)
    return Reply(question, 200, found, seconds)


async def late_timers(stop: asyncio.Event, late: list[float]) -> None:
    """How late the timers of this process are, seconds: a measure of the machine's other work."""
    while not stop.is_set():
        start = time.monotonic()
        await asyncio.sleep(0.05)
        late.append(time.monotonic() - start - 0.05)


async def ask_for_seconds(
    url: str, clients: int, first: int, seconds: float, spread: float
) -> tuple[list[Reply], list[float]]:
    """Clients that ask one question after the other; returns replies, and how late timers are.

    Args:
        url: base URL of the gateway.
        clients: number of clients.
        first: number of the first question.
        seconds: time for which they ask.
        spread: time within which they begin, seconds.
    """
    replies: list[Reply] = []
    late: list[float] = []
    stop = asyncio.Event()
    timing = asyncio.create_task(late_timers(stop, late))
    end = time.monotonic() + seconds
    numbers = iter(range(first, 1 << 60))

    async def run(client: aiohttp.ClientSession) -> None:
        await asyncio.sleep(random.uniform(0, spread))
        while time.monotonic() < end:
            replies.append(await ask(client, url, next(numbers)))

    async with make_client() as client:
        await asyncio.gather(*(run(client) for _ in range(clients)))
    stop.set()
    await timing
    assert {reply.status for reply in replies} == {200}, replies
    return replies, late


def scripted(arguments: argparse.Namespace) -> dict[str, Any]:
    clients, token_seconds = arguments.clients, arguments.token_ms / 1000
    branch_seconds = gateway_upstream.LONGEST * token_seconds
    with scripted_gateway(clients, arguments.core, arguments.workers) as gateway:
        gateway.set_pace(token_seconds)
        # The first questions are not counted.
        asyncio.run(ask_for_seconds(gateway.url, clients, 0, branch_seconds, branch_seconds))
        before, start = cpu_seconds(gateway.pid), time.monotonic()
        paced, late = asyncio.run(
            ask_for_seconds(gateway.url, clients, 10_000, arguments.seconds, branch_seconds)
        )
        used, passed = cpu_seconds(gateway.pid) - before, time.monotonic() - start
        records = fetch(f"{gateway.upstream}/records")
        worked = {question: record["worked"] for question, record in records.items()}
        overheads = [reply.seconds - worked[reply.question] for reply in paced]
        gateway.set_pace(0)
        before, start = cpu_seconds(gateway.pid), time.monotonic()
        saturated, _ = asyncio.run(
            ask_for_seconds(gateway.url, clients, 100_000, arguments.seconds / 4, 0.0)
        )
        saturated_used = cpu_seconds(gateway.pid) - before
        results = {
            "clients": clients,
            "token_ms": arguments.token_ms,
            "requests": len(paced),
            "overhead_p50_ms": 1000 * statistics.median(overheads),
            "overhead_p99_ms": 1000 * percentile(overheads, 0.99),
            "overhead_max_ms": 1000 * max(overheads),
            "cpu_ms_per_request": 1000 * used / len(paced),
            "cpu_share": used / passed,
            "upstream_requests": sum(records[r.question]["requests"] for r in paced) / len(paced),
            "saturated_per_second": len(saturated) / (time.monotonic() - start),
            "saturated_cpu_ms_per_request": 1000 * saturated_used / len(saturated),
            "late_timer_p99_ms": 1000 * percentile(late, 0.99),
            "load_average": os.getloadavg()[0],
        }
    console.print(
        f"{clients} clients, {BRANCHES} branches, {arguments.token_ms:g} ms per token: "
        f"{len(paced)} requests, overhead {results['overhead_p50_ms']:.1f} ms (median), "
        f"{results['overhead_p99_ms']:.1f} ms (99%), {results['overhead_max_ms']:.1f} ms (all); "
        f"{results['cpu_ms_per_request']:.1f} ms of CPU a request, "
        f"{results['cpu_share']:.0%} of a core; "
        f"{results['upstream_requests']:.1f} streams a request; "
        f"timers late by {results['late_timer_p99_ms']:.1f} ms (99%)\n"
        f"without a pace: {results['saturated_per_second']:.1f} requests/s, "
        f"{results['saturated_cpu_ms_per_request']:.1f} ms of CPU a request"
    )
    return results


async def ask_at_once(url: str, first: int, count: int) -> list[Reply]:
    async with make_client() as client:
        return await asyncio.gather(*(ask(client, url, first + k) for k in range(count)))


def flood(arguments: argparse.Namespace) -> dict[str, Any]:
    requests = arguments.requests
    memory: list[float] = []
    statuses: list[Counter[int]] = []
    with scripted_gateway(arguments.queue) as gateway:
        gateway.set_pace(FLOOD_PACE)
        for round_ in range(arguments.rounds):
            start = time.monotonic()
            replies = asyncio.run(ask_at_once(gateway.url, round_ * requests, requests))
            statuses.append(Counter(reply.status for reply in replies))
            memory.append(resident_mib(gateway.pid))
            console.print(
                f"{requests} requests at once: {dict(statuses[-1])} in "
                f"{time.monotonic() - start:.1f} s; memory {memory[-1]:.0f} MiB"
            )
        if not all(found.keys() <= {200, 429} for found in statuses):
            lines = gateway.log.read_text().splitlines()
            raise RuntimeError("\n".join(line for line in lines if "answered" not in line))
        records = fetch(f"{gateway.upstream}/records")
        answered = sum(found[200] for found in statuses)
        assert len(records) == answered, (len(records), answered)
        branches = {record["branches"] for record in records.values()}
        assert branches == {BRANCHES}, "a branch was generated twice"
        logged = gateway.log.read_text().count('"event": "request"')
        assert logged == arguments.rounds * requests, logged
    return {"statuses": [dict(found) for found in statuses], "memory_mib": memory}


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
    from autotts_gym.tinylm.bundled_envs import SEARCH_SET, collection_questions

    questions = collection_questions(SEARCH_SET)
    end = time.monotonic() + 60 * minutes
    outcomes: Counter[str] = Counter()
    faults: Counter[str] = Counter()
    seconds: list[float] = []

    async def run(client: aiohttp.ClientSession, k: int) -> None:
        draw = random.Random(k)
        while time.monotonic() < end:
            question = draw.choice(questions)
            body = {
                "model": "tinylm-medium",
                "messages": [{"role": "user", "content": question.text}],
            }
            start = time.monotonic()
            async with client.post(f"{url}/chat/completions", json=body) as response:
                reply = await response.json()
            seconds.append(time.monotonic() - start)
            if response.status == 200:
                outcomes["degraded" if reply["autotts"]["error"] else "answered"] += 1
                outcomes["correct"] += reply["autotts"]["answer"] == question.gold
            else:
                outcomes[str(response.status)] += 1
                assert "error" in reply

    for address in addresses:
        await address.open()
    async with make_client() as client:
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
    from autotts_gym.tinylm.bundled_envs import SERVER_ARGUMENTS, set_cpu_defaults

    set_cpu_defaults()
    name = "tinylm-medium"
    with (
        serve(model_path("medium"), served_model_name=name, **SERVER_ARGUMENTS) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        target = URL(server).port or 0

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
    kind.add_argument("--clients", type=int, default=32)
    kind.add_argument("--seconds", type=float, default=40.0)
    kind.add_argument("--token-ms", type=float, default=5.0, help="of the upstream, per token")
    kind.add_argument("--core", type=int, help="a core for the gateway alone (Linux)")
    kind.add_argument("--workers", type=int, default=1, help="processes of the gateway")
    kind.set_defaults(run=scripted)
    kind = kinds.add_parser("flood")
    kind.add_argument("--requests", type=int, default=1000)
    kind.add_argument("--queue", type=int, default=600)
    kind.add_argument("--rounds", type=int, default=4)
    kind.set_defaults(run=flood)
    kind = kinds.add_parser("vllm")
    kind.add_argument("--minutes", type=float, default=3.0)
    kind.add_argument("--clients", type=int, default=32)
    kind.set_defaults(run=vllm)
    arguments = parser.parse_args()
    print(json.dumps(arguments.run(arguments)))


if __name__ == "__main__":
    main()
