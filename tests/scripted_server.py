"""An OpenAI-compatible server with a scripted model and injected faults.

It implements the part of vLLM's API that ``ServerEngine`` uses. Its output is a function of the
tokens so far, so that continuing a prefix gives the same tokens as an uninterrupted generation. It
counts every generated token, so that tests can detect repeated work.

A prompt is a question and a line break. The first word of the question selects the output:

=========  =====================================================================================
``plain``  some reasoning, ``</think>``, an answer, noise, the end; so do other words
``silent`` some reasoning and the end, without an answer
``empty``  only the end
``never``  endless reasoning; an answer after a probe closes it
``mute``   endless reasoning; no answer after a probe closes it
=========  =====================================================================================
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Final

#: Token ids are code points, and these two.
CLOSE: Final = 0x110001
END: Final = 0x110002

#: Protocol of the scripted model.
PROTOCOL: Final[dict[str, Any]] = {
    "models": ["*scripted*"],
    "prompt": {"text": "q:{question}\n"},
    "close": "</think>",
    "probe": {"suffix": "</think>answer:", "max_tokens": 6},
    "answers": ["regex:answer:([0-9]+)"],
}

#: Faults before anything is generated.
REFUSALS: Final = ("429", "500", "503", "drop", "stall")
#: Faults after a part was generated or sent.
BREAKS: Final = ("drop-mid", "reset-mid", "stall-mid", "no-end", "error-chunk")
#: Invalid responses.
GARBAGE: Final = ("not-json", "wrong-shape", "wrong-count", "bad-ids", "bad-finish")
FAULTS: Final = (*REFUSALS, *BREAKS, *GARBAGE, "bad-logprobs")

#: With line separators of Unicode that are not line breaks in JSON and server-sent events, and a
#: character beyond 16 bits.
_LETTERS: Final = "abcdefgh ijklmnop qrstuvwxyz.,+=()0123456789é…\u2028\x85𝛽"


def encode(text: str) -> list[int]:
    parts = re.split("(</think>|<end>)", text)
    special = {"</think>": [CLOSE], "<end>": [END]}
    return [token for part in parts for token in special.get(part) or map(ord, part)]


def piece(token: int) -> str:
    return {CLOSE: "</think>", END: "<end>"}.get(token) or chr(token)


def _hash(*parts: object) -> int:
    return zlib.crc32("|".join(map(str, parts)).encode())


class Script:
    """Generates the tokens after a prefix one by one.

    Attributes:
        question: the question.
        depth: tokens of reasoning so far.
        after: tokens since the reasoning was closed; None before.
    """

    def __init__(self, tokens: Iterable[int], salt: object = "") -> None:
        text = list(tokens)
        end = text.index(ord("\n"))
        self.question = "".join(map(chr, text[:end])).removeprefix("q:")
        self.kind = self.question.partition(" ")[0]
        self.salt = salt
        written = text[end + 1 :]
        closed = written.index(CLOSE) if CLOSE in written else None
        self.depth = len(written) if closed is None else closed
        self.after = None if closed is None else len(written) - closed - 1

    @property
    def place(self) -> tuple[Any, ...]:
        return self.question, self.salt, self.depth, self.after

    def write(self) -> int:
        if self.after is not None:
            tail = self._tail()
            token = tail[min(self.after, len(tail) - 1)]
            self.after += 1
            return token
        reasoning = {"plain": 3 + _hash("r", self.question, self.salt) % 150, "silent": 60}
        reasoning |= {"empty": 0, "never": 10**9, "mute": 10**9}
        if self.depth < reasoning.get(self.kind, reasoning["plain"]):
            self.depth += 1
            return ord(_LETTERS[_hash(self.question, self.salt, self.depth) % len(_LETTERS)])
        if self.kind in ("silent", "empty"):
            return END
        self.after = 0
        return CLOSE

    def _tail(self) -> list[int]:
        answer = str(_hash("a", self.question, self.depth) % 300)
        if self.kind in ("mute", "silent"):
            answer = "?"
        return [*encode(f"answer:{answer}. 77"), END]


def trace(question: str, most: int) -> list[int]:
    """The tokens of a question's trace."""
    script = Script(encode(f"q:{question}\n"))
    tokens: list[int] = []
    while len(tokens) < most and END not in tokens[-1:]:
        tokens.append(script.write())
    return tokens


def probe(question: str, most: int, depth: int) -> list[int]:
    """The tokens of a probe of that trace at a depth."""
    written = trace(question, most)[:depth]
    if CLOSE in written:
        written = written[: written.index(CLOSE)]
    prompt = [*encode(f"q:{question}\n"), *written, *encode(PROTOCOL["probe"]["suffix"])]
    script = Script(prompt)
    tokens: list[int] = []
    while len(tokens) < PROTOCOL["probe"]["max_tokens"] and END not in tokens[-1:]:
        tokens.append(script.write())
    return tokens


def likeliest(place: tuple[Any, ...], top_tokens: int) -> list[float]:
    """Log-probabilities of the likeliest tokens at a place, the largest first."""
    first = (1 + _hash("t", *place) % 99) / 100
    return [-first * (rank + 1) for rank in range(top_tokens)]


def confidences(question: str, most: int, top_tokens: int = 20) -> list[float]:
    """The confidence of every token of a question's trace."""
    script = Script(encode(f"q:{question}\n"))
    values = []
    for _ in trace(question, most):
        values.append(-sum(likeliest(script.place, top_tokens)) / top_tokens)
        script.write()
    return values


def _scores(tokens: list[int], places: list[tuple[Any, ...]], top_tokens: int) -> dict[str, Any]:
    """Log-probabilities of a part of a stream, with names of tokens as vLLM gives ids."""
    top = []
    for token, place in zip(tokens, places, strict=True):
        values = likeliest(place[1:], top_tokens)
        # The sampled token first; at every second place it is none of the likeliest.
        sampled = values[0] if _hash("s", *place) % 2 else values[-1] - 1
        names = [f"token_id:{(token + rank + 1)}" for rank in range(top_tokens)]
        if sampled == values[0]:
            names[0] = f"token_id:{token}"
        top.append({f"token_id:{token}": sampled} | dict(zip(names, values, strict=True)))
    return {
        "tokens": [f"token_id:{token}" for token in tokens],
        "token_logprobs": [entry[f"token_id:{t}"] for t, entry in zip(tokens, top, strict=True)],
        "top_logprobs": top,
    }


def protocol_file(folder: Path) -> str:
    """Write the protocol to a file; returns its path."""
    path = folder / "scripted.yaml"
    path.write_text(json.dumps(PROTOCOL), "utf-8")  # JSON is YAML
    return str(path)


@dataclass(frozen=True)
class Asked:
    """A request.

    Attributes:
        number: number of earlier requests.
        path: path of the URL.
        kind: ``"trace"`` for a stream, ``"probe"`` for another completion, otherwise empty.
        question: question of a completion.
        start: number of tokens of the trace in the prompt.
        body: JSON body.
    """

    number: int
    path: str
    kind: str = ""
    question: str = ""
    start: int = 0
    body: dict[str, Any] = field(default_factory=dict)


Plan = Callable[[Asked], "str | None"]


def healthy(_: Asked) -> None:
    """No faults."""


def at_random(seed: int, faults: Iterable[str], probability: float = 0.25) -> Plan:
    """Faults at random completions, of the kinds that fit the request."""
    random, wanted = Random(seed), tuple(faults)

    def plan(asked: Asked) -> str | None:
        fitting = [f for f in wanted if f != "bad-logprobs" or asked.kind == "probe"]
        if not asked.kind or not fitting or random.random() >= probability:
            return None
        return random.choice(fitting)

    return plan


def at(numbers: Iterable[int], fault: str, kind: str = "trace") -> Plan:
    """A fault at the requests of a kind with these numbers, from 0."""
    wanted, seen = set(numbers), iter(range(10**9))

    def plan(asked: Asked) -> str | None:
        return fault if asked.kind == kind and next(seen) in wanted else None

    return plan


class ScriptedServer:
    """The server in a thread; a context manager.

    Attributes:
        plan: the fault of each request; may be changed at any time.
        pace: seconds per part of a stream.
        chat: response to a chat completion, as an object or text; None for status 404.
        messages: server-sent events of ``/v1/messages``; None for status 404.
        retry_after: header of status 429.
        refusal: error message of scripted statuses; by default, it names the status.
        without: fields that are left out of completions.
        most_top_tokens: most likeliest tokens whose log-probabilities a stream may request; more
            are refused.
        asked: all requests.
        faults: count of each fault.
        paid: count of each generated token, by (kind, question, seed, depth, after).
        lost: those of ``paid`` that may not have reached the client, because of a fault.
        left: number of streams whose client disconnected.
        connections: number of connections that were accepted.
        headers: headers of the last request.
        request_ids: values of ``X-Request-Id`` so far.
        under_way, most_under_way: current and maximum number of completions in progress.
    """

    def __init__(
        self,
        plan: Plan = healthy,
        *,
        names: tuple[str, ...] = ("scripted",),
        longest: int = 10_000,
        api_key: str | None = None,
        pace: float = 0.0,
    ) -> None:
        self.plan = plan
        self.names = names
        self.longest = longest
        self.api_key = api_key
        self.pace = pace
        self.chat: Callable[[Asked], Any] | None = None
        self.messages: Callable[[Asked], str] | None = None
        self.retry_after = "0"
        self.refusal = ""
        self.without: set[str] = set()
        self.most_top_tokens = 20
        self.asked: list[Asked] = []
        self.faults: Counter[str] = Counter()
        self.paid: Counter[tuple[Any, ...]] = Counter()
        self.lost: Counter[tuple[Any, ...]] = Counter()
        self.left = 0
        self.connections = 0
        self.headers: dict[str, str] = {}
        self.request_ids: list[str] = []
        self.under_way = 0
        self.most_under_way = 0
        self._open: set[asyncio.Transport] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._listener: socket.socket | None = None
        self._connecting: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    def __enter__(self) -> ScriptedServer:
        self._thread.start()
        self._call(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self.die()
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def die(self) -> None:
        """Close all connections and stop listening."""
        self._call(self._die())

    def wait_until_left(self) -> None:
        """Wait until all clients have disconnected; what they had sent was read before."""
        self._call(self._wait_until_left())

    async def _wait_until_left(self) -> None:
        await asyncio.sleep(0.02)  # connections that wait are accepted
        while self._open or self._connecting:
            await asyncio.sleep(0.01)

    def die_soon(self) -> None:
        """Call :meth:`die` from a plan."""
        self._keep(self._loop.create_task(self._die()))

    def restart_soon(self, seconds: float) -> None:
        """Call :meth:`die` from a plan, and listen at the same address after a pause."""

        async def restart() -> None:
            await self._die()
            await asyncio.sleep(seconds)
            await self._listen()

        self._keep(self._loop.create_task(restart()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _call(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        self._loop.add_reader(self._listener, self._accept, self._listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accept a connection.

        ``asyncio.start_server`` and ``loop.sock_accept`` leak the socket of a connection that they
        accept while they are closed or cancelled.
        """
        with contextlib.suppress(BlockingIOError, ConnectionError):
            connection, _ = listener.accept()
            self.connections += 1
            connection.setblocking(False)
            task = self._loop.create_task(self._connect(connection))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, connection: socket.socket) -> None:
        protocol = asyncio.StreamReaderProtocol(asyncio.StreamReader(), self._serve)
        transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, connection)
        if not transport.is_closing():
            self._open.add(transport)

    async def _die(self) -> None:
        if self._listener is not None:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._connecting:
            await asyncio.wait(self._connecting)
        for transport in list(self._open):
            transport.abort()

    async def _end(self) -> None:
        """Wait until all connections and their tasks have ended."""
        while self._open or asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.sleep(0.01)

    # --- HTTP --------------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                while head := await _head(reader):
                    path, headers = head
                    body = await reader.readexactly(int(headers.get("content-length", 0)))
                    if not await self._answer(path, headers, body, reader, writer):
                        break
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            self._open.discard(writer.transport)

    async def _answer(
        self,
        path: str,
        headers: dict[str, str],
        content: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Answer a request; returns whether to keep the connection."""
        self.headers = headers
        if "x-request-id" in headers:
            self.request_ids.append(headers["x-request-id"])
        body = json.loads(content) if content else {}
        asked = self._asked(path, body)
        self.asked.append(asked)
        fault = self.plan(asked)
        if fault is not None:
            self.faults[fault] += 1
        if fault == "drop":
            return False
        if fault == "stall":
            await _gone(reader)
            return False
        if fault is not None and fault.isdecimal():
            message = self.refusal or f"scripted {fault}"
            _send(writer, int(fault), _error(message, int(fault)), self.retry_after)
            return True
        if self.api_key and headers.get("authorization") != f"Bearer {self.api_key}":
            _send(writer, 401, {"error": "Unauthorized"})
            return True
        if path.startswith("/v1/completions"):
            refused = self._refuse(body)
            if refused is not None:
                _send(writer, refused["error"]["code"], refused)
                return True
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
            try:
                if asked.kind == "trace":
                    return await self._stream(asked, fault, reader, writer)
                return await self._complete(body, fault, reader, writer)
            finally:
                self.under_way -= 1
        answers: dict[str, Callable[[dict[str, Any]], Any]] = {
            "/v1/models": self._models,
            "/version": self._version,
            "/tokenize": self._tokenize,
            "/detokenize": self._detokenize,
        }
        if path == "/v1/chat/completions" and self.chat is not None:
            _send(writer, 200, "<html>" if fault == "not-json" else self.chat(asked))
        elif path.partition("?")[0] == "/v1/messages" and self.messages is not None:
            _send(writer, 200, self.messages(asked), kind="text/event-stream")
        elif path not in answers:
            _send(writer, 404, {"detail": "Not Found"})
        elif fault == "not-json":
            _send(writer, 200, "<html>")
        elif fault == "wrong-shape":
            _send(writer, 200, {"tokens": "none", "data": 1, "prompt": []})
        else:
            _send(writer, 200, answers[path](body))
        return True

    def _asked(self, path: str, body: dict[str, Any]) -> Asked:
        number = len(self.asked)
        if path != "/v1/completions":
            return Asked(number, path, body=body)
        prompt = body["prompt"] if body.get("stream") else body["prompt"][0]
        script = Script(prompt)
        start = script.depth + (0 if script.after is None else script.after + 1)
        kind = "trace" if body.get("stream") else "probe"
        return Asked(number, path, kind, script.question, start, body)

    def _refuse(self, body: dict[str, Any]) -> dict[str, Any] | None:
        if body["model"] not in self.names:
            return _error(f"The model `{body['model']}` does not exist.", 404)
        prompts = [body["prompt"]] if body.get("stream") else body["prompt"]
        need = max(map(len, prompts)) + body["max_tokens"]
        if need > self.longest:
            return _error(f"This model's maximum context length is {self.longest} tokens.", 400)
        top_tokens = body.get("logprobs") or 0
        if top_tokens > self.most_top_tokens:
            return _error(
                f"Requested sample logprobs of {top_tokens}, which is greater than max allowed: "
                f"{self.most_top_tokens}",
                400,
            )
        return None

    def _models(self, _: dict[str, Any]) -> dict[str, Any]:
        card = {"object": "model", "owned_by": "vllm", "max_model_len": self.longest}
        return {"object": "list", "data": [{"id": n, "root": n, **card} for n in self.names]}

    def _version(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"version": "0.32.0"}

    def _tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        text = body.get("prompt")
        if text is None:
            text = "".join(f"<{m['role']}>{m['content']}" for m in body["messages"])
            text += "<think>" if body.get("chat_template_kwargs", {}).get("enable_thinking") else ""
        tokens = encode(text)
        return {"count": len(tokens), "max_model_len": self.longest, "tokens": tokens}

    def _detokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"prompt": "".join(map(piece, body["tokens"]))}

    # --- completions ---------------------------------------------------------------------------

    def _write(
        self, kind: str, prompt: list[int], body: dict[str, Any]
    ) -> Iterator[tuple[int, tuple[Any, ...], str]]:
        """Yield tokens with their keys in ``paid`` and the finish reason, and count them."""
        script = Script(prompt, body.get("seed", "") if body["temperature"] > 0 else "")
        text = ""
        for count in range(1, body["max_tokens"] + 1):
            place = (kind, *script.place)
            token = script.write()
            self.paid[place] += 1
            text += "" if token == END else piece(token)
            stopped = token == END or text.endswith(tuple(body.get("stop", ())) or "\0")
            finish = "stop" if stopped else "length" if count == body["max_tokens"] else ""
            yield token, place, finish
            if finish:
                return

    def _choice(
        self,
        index: int,
        tokens: list[int],
        finish: str,
        logprobs: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        choice = {
            "index": index,
            "text": "".join(piece(token) for token in tokens if token != END),
            "logprobs": logprobs,
            "finish_reason": finish or None,
            "token_ids": tokens,
        }
        return {key: value for key, value in choice.items() if key not in self.without}

    async def _stream(
        self,
        asked: Asked,
        fault: str | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        # It breaks before one of the first four parts.
        breaks_at = _hash("break", asked.number) % 4
        sent: list[tuple[Any, ...]] = []
        parts = self._parts(asked, int(asked.body.get("stream_interval", 1)))
        async for number, (tokens, places, finish) in _numbered(parts):
            if self.pace:
                await asyncio.sleep(self.pace)
            if reader.at_eof() or writer.is_closing():
                self.left += 1
                self.lost.update([*sent, *places])
                return False
            top_tokens = asked.body.get("logprobs") or 0
            scored = _scores(tokens, places, top_tokens) if top_tokens else None
            if fault is not None and (number == breaks_at or finish):
                if fault == "no-end" and finish == "length":  # only the finish reason is missing
                    choice = self._choice(0, tokens, "", scored)
                    _send_event(writer, json.dumps({"choices": [choice]}))
                    places = []
                self.lost.update(places)
                if fault == "reset-mid":
                    self.lost.update(sent)  # unread data is discarded
                return await self._break(fault, tokens, reader, writer)
            chunk = {"id": "cmpl", "object": "text_completion", "model": self.names[0]}
            chunk["choices"] = [self._choice(0, tokens, finish, scored)]  # type: ignore[assignment]
            _send_event(writer, json.dumps(chunk, ensure_ascii=False))
            sent += places
            with contextlib.suppress(ConnectionError):  # detected at the next part
                await writer.drain()
        _send_event(writer, "[DONE]")
        _send_chunk(writer, b"")
        return True

    async def _parts(
        self, asked: Asked, every: int
    ) -> AsyncIterator[tuple[list[int], list[tuple[Any, ...]], str]]:
        """The first token separately, as vLLM does, then parts of ``every`` tokens."""
        tokens: list[int] = []
        places: list[tuple[Any, ...]] = []
        size = 1
        for token, place, finish in self._write("trace", asked.body["prompt"], asked.body):
            tokens.append(token)
            places.append(place)
            if finish or len(tokens) >= size:
                yield tokens, places, finish
                tokens, places, size = [], [], every
                await asyncio.sleep(0)

    async def _break(
        self,
        fault: str | None,
        tokens: list[int],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        """Send a fault instead of the next part of a stream."""
        choice = self._choice(0, tokens, "")
        wrong: dict[str, Any] = {
            "error-chunk": _error("scripted error", 500),
            "wrong-shape": {"choices": "none"},
            "wrong-count": {"choices": [choice, {**choice, "index": 1}]},
            "bad-ids": {"choices": [{**choice, "token_ids": ["12", 1.5, None]}]},
            "bad-finish": {"choices": [{**choice, "finish_reason": "abort"}]},
        }
        if fault == "reset-mid":
            writer.transport.abort()
        elif fault == "stall-mid":
            await _gone(reader)
        elif fault == "drop-mid":
            await writer.drain()  # earlier parts arrive
        elif fault == "no-end":
            _send_chunk(writer, b"")
            return True
        else:
            _send_event(writer, json.dumps(wrong[fault]) if fault in wrong else '{"choices": [{')
            _send_event(writer, "[DONE]")
            _send_chunk(writer, b"")
            return True
        return False

    async def _complete(
        self,
        body: dict[str, Any],
        fault: str | None,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> bool:
        choices, places = [], []
        for index, prompt in enumerate(body["prompt"]):
            written = list(self._write("probe", prompt, body))
            tokens = [token for token, _, _ in written]
            places += [place for _, place, _ in written]
            choice = self._choice(index, tokens, written[-1][2])
            if "logprobs" in choice and body.get("logprobs") is not None:
                choice["logprobs"] = {
                    "token_logprobs": [-(_hash("l", t) % 100) / 50 for t in tokens],
                    "tokens": [piece(token) for token in tokens],
                }
            choices.append(choice)
        if self.pace:
            await asyncio.sleep(self.pace)
        if reader.at_eof() or fault is not None:
            self.lost.update(places)
        if fault == "stall-mid":
            await _gone(reader)
            return False
        if fault in ("drop-mid", "reset-mid"):
            head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n"
            writer.write(head + b'{"choices": [')
            await writer.drain()
            if fault == "reset-mid":
                writer.transport.abort()
            return False
        # Choices are not in order, and any one may be invalid.
        at = _hash("wrong", len(self.asked)) % len(choices)
        if fault == "bad-ids":
            choices[at]["token_ids"] = [-1, "x"]
        elif fault == "bad-logprobs":
            choices[at]["logprobs"]["token_logprobs"].pop()
        elif fault == "bad-finish":
            choices[at]["finish_reason"] = None
        elif fault == "wrong-count":
            choices.append(choices[at])
        content: Any = {"object": "text_completion", "choices": choices[::-1]}
        if fault == "wrong-shape":
            content = [1, 2]
        elif fault == "error-chunk":
            content = _error("scripted error", 500)
        elif fault in ("not-json", "no-end"):
            content = json.dumps(content)[:-5]
        _send(writer, 200, content)
        return True


async def _numbered(parts: AsyncIterator[Any]) -> AsyncIterator[tuple[int, Any]]:
    number = 0
    async for part in parts:
        yield number, part
        number += 1


async def _head(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    """Path and headers of a request; None if the connection was closed."""
    try:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    except asyncio.IncompleteReadError:
        return None
    headers = dict(line.split(": ", 1) for line in lines[1:] if line)
    return lines[0].split(" ")[1], {name.lower(): value for name, value in headers.items()}


async def _gone(reader: asyncio.StreamReader) -> None:
    """Wait until the client disconnects."""
    await reader.read()


def _send(
    writer: asyncio.StreamWriter,
    status: int,
    content: Any,
    retry_after: str = "0",
    kind: str = "application/json",
) -> None:
    body = (
        content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
    ).encode()
    after = f"retry-after: {retry_after}\r\n" if status == 429 else ""
    head = f"HTTP/1.1 {status} X\r\n{after}content-type: {kind}\r\n"
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)


def _send_event(writer: asyncio.StreamWriter, data: str) -> None:
    _send_chunk(writer, f"data: {data}\n\n".encode())


def _send_chunk(writer: asyncio.StreamWriter, content: bytes) -> None:
    writer.write(f"{len(content):x}\r\n".encode() + content + b"\r\n")


def _error(message: str, code: int) -> dict[str, Any]:
    return {"error": {"message": message, "type": "Scripted", "code": code}}
