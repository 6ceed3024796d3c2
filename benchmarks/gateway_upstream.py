"""A scripted model server for ``gateway_load.py``: cheap, and with a known time for every token.

It has the part of vLLM's API that the gateway uses. Tokens are code points. The answer of a branch
is a function of the question, and its length of the question and of its number, with which it
begins. As vLLM, it sends the first token alone, and then parts of ``stream_interval`` tokens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import uvloop
from aiohttp import web

#: Tokens of the shortest and of the longest branch. Branches of a model do not end at the same
#: moment, and clients whose questions took equally long would ask at the same moment again and
#: again, or never.
SHORTEST, LONGEST = 256, 768
CLOSE, END = 0x110001, 0x110002

#: Protocol of the scripted model.
PROTOCOL: dict[str, Any] = {
    "prompt": {"text": "q:{question}\n"},
    "close": "</think>",
    "probe": {"suffix": "</think>answer:", "max_tokens": 8},
    "answers": ["regex:answer:([0-9]+)"],
}


class Record:
    """What happened to a question.

    Attributes:
        branches: number of branches that were begun.
        requests: number of streams.
        worked: time in which the server had at least one request to answer, seconds.
    """

    def __init__(self) -> None:
        self.branches = self.requests = 0
        self.worked = 0.0
        self._active = 0
        self._since = 0.0

    @contextlib.contextmanager
    def request(self) -> Iterator[None]:
        """A request, until its last byte is written."""
        if not self._active:
            self._since = time.monotonic()
        self._active += 1
        try:
            yield
        finally:
            self._active -= 1
            if not self._active:
                self.worked += time.monotonic() - self._since


records: defaultdict[str, Record] = defaultdict(Record)
pace = {"seconds_per_token": 0.0}


def answer(question: str) -> str:
    """The answer of a question such as ``load 12``."""
    return str(int(question.rpartition(" ")[2]) * 7 % 1000)


def question_of(prompt: str) -> str:
    """The question of a prompt, which what is written so far may follow."""
    return prompt.partition("\n")[0].removeprefix("q:")


def branch(question: str, name: int) -> list[int]:
    """The tokens of a branch, the first of which is its name."""
    end = [CLOSE, *tokens_of(f"answer:{answer(question)}"), END]
    length = random.Random(f"{name} {question}").randint(SHORTEST, LONGEST)
    return [name, *[ord("x")] * (length - len(end) - 1), *end]


def tokens_of(text: str) -> list[int]:
    before, close, after = text.partition("</think>")
    return [*map(ord, before), *([CLOSE] if close else []), *map(ord, after)]


def text_of(tokens: list[int]) -> str:
    return "".join({CLOSE: "</think>", END: "<end>"}.get(t) or chr(t) for t in tokens)


async def models(_: web.Request) -> web.Response:
    card = {"id": "scripted", "owned_by": "vllm", "max_model_len": 100_000}
    return web.json_response({"object": "list", "data": [card]})


async def version(_: web.Request) -> web.Response:
    return web.json_response({"version": "0.0.0"})


async def tokenize(request: web.Request) -> web.Response:
    text = (await request.json())["prompt"]
    with (
        records[question_of(text)].request() if text.startswith("q:") else contextlib.nullcontext()
    ):
        tokens = tokens_of(text)
        content = {"count": len(tokens), "max_model_len": 100_000, "tokens": tokens}
        return web.json_response(content)


async def detokenize(request: web.Request) -> web.Response:
    return web.json_response({"prompt": text_of((await request.json())["tokens"])})


async def show_records(_: web.Request) -> web.Response:
    names = "branches", "requests", "worked"
    return web.json_response(
        {q: {name: getattr(found, name) for name in names} for q, found in records.items()}
    )


async def set_pace(request: web.Request) -> web.Response:
    pace.update(await request.json())
    return web.json_response(pace)


def _choice(tokens: list[int], finish: str | None, index: int = 0) -> dict[str, Any]:
    text = text_of([token for token in tokens if token != END])
    return {"index": index, "text": text, "token_ids": tokens, "finish_reason": finish}


async def completions(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if not body.get("stream"):
        choices = []
        for index, prompt in enumerate(body["prompt"]):
            question = question_of(text_of(prompt))
            tokens = [*tokens_of(answer(question)), END]
            names = [f"token_id:{token}" for token in tokens]
            logprobs = {"tokens": names, "token_logprobs": [-0.1] * len(tokens)}
            choices.append({**_choice(tokens, "stop", index), "logprobs": logprobs})
        return web.json_response({"choices": choices})
    prompt = text_of(body["prompt"])
    question, written = question_of(prompt), prompt.partition("\n")[2]
    record = records[question]
    record.requests += 1
    name = ord(written[0]) if written else ord("a") + record.branches
    record.branches += not written
    tokens = branch(question, name)[len(tokens_of(written)) :][: body["max_tokens"]]
    with record.request():
        return await _write(request, tokens, body["stream_interval"])


async def _write(request: web.Request, tokens: list[int], interval: int) -> web.StreamResponse:
    """Write a stream of tokens at the pace."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    begun, at, size = time.monotonic(), 0, 1
    while at < len(tokens):
        part = tokens[at : at + size]
        at += len(part)
        if pace["seconds_per_token"]:
            due = begun + at * pace["seconds_per_token"]
            await asyncio.sleep(due - time.monotonic())
        finish = "stop" if part[-1] == END else "length" if at == len(tokens) else None
        content = json.dumps({"choices": [_choice(part, finish)]})
        end = "data: [DONE]\n\n" if finish else ""
        await response.write(f"data: {content}\n\n{end}".encode())
        size = interval
    await response.write_eof()
    return response


def main() -> None:
    parser = argparse.ArgumentParser(description="A scripted model server.")
    parser.add_argument("port", type=int)
    app = web.Application()
    app.add_routes(
        [
            web.get("/v1/models", models),
            web.get("/version", version),
            web.post("/tokenize", tokenize),
            web.post("/detokenize", detokenize),
            web.post("/v1/completions", completions),
            web.get("/records", show_records),
            web.put("/pace", set_pace),
        ]
    )
    port = parser.parse_args().port
    loop = uvloop.new_event_loop()
    options: dict[str, Any] = {"print": None, "access_log": None, "backlog": 4096}
    web.run_app(app, host="127.0.0.1", port=port, loop=loop, **options)


if __name__ == "__main__":
    main()
