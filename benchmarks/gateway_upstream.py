"""A scripted model server for ``gateway_load.py``: fast, and with a known time for every branch.

It has the part of vLLM's API that the gateway uses. Tokens are code points. A branch has
``PARTS`` parts, with a pause before each; its answer is a function of the question.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

PARTS = 4
PART_TOKENS = 32
PAUSE = float(os.environ.get("GATEWAY_LOAD_PAUSE", "0.5"))
CLOSE, END = 0x110001, 0x110002

#: Protocol of the scripted model.
PROTOCOL: dict[str, Any] = {
    "prompt": {"text": "q:{question}\n"},
    "close": "</think>",
    "probe": {"suffix": "</think>answer:", "max_tokens": 8},
    "answers": ["regex:answer:([0-9]+)"],
}

#: Number of branches that were begun, by question.
begun: Counter[str] = Counter()


def answer(question: str) -> str:
    """The answer of a question such as ``load 12``."""
    return str(int(question.rpartition(" ")[2]) * 7 % 1000)


def tokens_of(text: str) -> list[int]:
    before, close, after = text.partition("</think>")
    return [*map(ord, before), *([CLOSE] if close else []), *map(ord, after)]


def text_of(tokens: list[int]) -> str:
    return "".join({CLOSE: "</think>", END: "<end>"}.get(t) or chr(t) for t in tokens)


async def models(_: Request) -> Response:
    card = {"id": "scripted", "owned_by": "vllm", "max_model_len": 100_000}
    return JSONResponse({"object": "list", "data": [card]})


async def version(_: Request) -> Response:
    return JSONResponse({"version": "0.0.0"})


async def tokenize(request: Request) -> Response:
    tokens = tokens_of((await request.json())["prompt"])
    return JSONResponse({"count": len(tokens), "max_model_len": 100_000, "tokens": tokens})


async def detokenize(request: Request) -> Response:
    return JSONResponse({"prompt": text_of((await request.json())["tokens"])})


async def counts(_: Request) -> Response:
    return JSONResponse(begun)


def _choice(tokens: list[int], finish: str | None, index: int = 0) -> dict[str, Any]:
    text = text_of([token for token in tokens if token != END])
    names = [f"token_id:{token}" for token in tokens]
    values = [-0.1] * len(tokens)
    return {
        "index": index,
        "text": text,
        "token_ids": tokens,
        "finish_reason": finish,
        "logprobs": {"tokens": names, "token_logprobs": values, "top_logprobs": None},
    }


async def completions(request: Request) -> Response:
    body = await request.json()
    if not body.get("stream"):
        choices = []
        for index, prompt in enumerate(body["prompt"]):
            question = text_of(prompt).partition("\n")[0].removeprefix("q:")
            choices.append(_choice([*tokens_of(answer(question)), END], "stop", index))
        return JSONResponse({"choices": choices})
    question, _, written = text_of(body["prompt"]).partition("\n")
    question = question.removeprefix("q:")
    if not written:
        begun[question] += 1
    parts = range(len(written) // PART_TOKENS, PARTS)[: body["max_tokens"] // PART_TOKENS]
    return StreamingResponse(_stream(question, parts), media_type="text/event-stream")


async def _stream(question: str, parts: range) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(PAUSE)
        tokens = [ord("x")] * PART_TOKENS
        last = part == PARTS - 1
        if last:
            tokens = [CLOSE, *tokens_of(f"answer:{answer(question)}"), END]
        finish = "stop" if last else "length" if part == parts[-1] else None
        chunk = {"choices": [{**_choice(tokens, finish), "logprobs": None}]}
        yield f"data: {json.dumps(chunk)}\n\n".encode()
    yield b"data: [DONE]\n\n"


app = Starlette(
    routes=[
        Route("/v1/models", models),
        Route("/version", version),
        Route("/tokenize", tokenize, methods=["POST"]),
        Route("/detokenize", detokenize, methods=["POST"]),
        Route("/v1/completions", completions, methods=["POST"]),
        Route("/counts", counts),
    ]
)
