"""A server of text and chat completions without token ids, with the model of ``scripted_server``.

It has the part of the API of llama.cpp's server and of hosted ones that ``TextEngine`` uses, and
neither ``/tokenize`` nor token ids. It counts every generated token.
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

from scripted_server import CLOSE, END, Script, encode, likeliest, piece


class TextServer(ThreadingHTTPServer):
    """The server in a thread; a context manager.

    Attributes:
        top_tokens: most likeliest tokens whose log-probabilities may be requested; -1 if it refuses
            to give log-probabilities.
        break_after: parts after which the next stream breaks off; None for none.
        reasoning: name of a field in which it sends the text apart from the content.
        whole: whether it is a server of whole chats: it refuses to continue a message, and sends
            the text before ``</think>`` in the field ``reasoning_content``.
        bodies: all requests for a generation.
        paid: count of each generated token, by (question, depth, after).
    """

    daemon_threads = True

    def __init__(self, top_tokens: int = 5) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.top_tokens = top_tokens
        self.break_after: int | None = None
        self.reasoning = ""
        self.whole = False
        self.bodies: list[dict[str, Any]] = []
        self.paid: Counter[tuple[Any, ...]] = Counter()
        self._thread = Thread(target=self.serve_forever, daemon=True)

    def __enter__(self) -> TextServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: TextServer

    def log_message(self, *_: object) -> None:
        pass

    def _send(self, status: int, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        if self.path == "/v1/models":
            self._send(200, {"data": [{"id": "scripted", "owned_by": "llamacpp"}]})
        else:
            self._send(404, {"error": {"message": "Not Found"}})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        is_chat = self.path == "/v1/chat/completions"
        if not is_chat and self.path != "/v1/completions":
            self._send(404, {"error": {"message": "Not Found"}})
            return
        self.server.bodies.append(body)
        wanted = body.get("top_logprobs", 0) if is_chat else body.get("logprobs", 0)
        limit = self.server.top_tokens
        if body.get("logprobs") and (limit < 0 or wanted > limit):
            message = f"logprobs must be at most {limit}" if limit > 0 else "no logprobs here"
            self._send(400, {"error": {"message": message}})
            return
        if is_chat:
            messages = body["messages"]
            if self.server.whole and messages[-1]["role"] == "assistant":
                self._send(400, {"error": {"message": "the last message must be the user's"}})
                return
            prompt = "".join(m["content"] for m in messages if m["role"] == "user") + "\n"
            prompt += messages[-1]["content"] if messages[-1]["role"] == "assistant" else ""
        else:
            prompt = body["prompt"]
        parts = self._generate(prompt, body)
        if body.get("stream"):
            self._stream(parts, is_chat, body, wanted)
        else:
            self._complete(list(parts), is_chat, body, wanted)

    def _generate(self, prompt: str, body: dict[str, Any]) -> Iterator[tuple[int, Any, str]]:
        script = Script(encode(prompt))
        for count in range(1, body["max_tokens"] + 1):
            place = script.place
            self.server.paid[place] += 1
            token = script.write()
            finish = "stop" if token == END else "length" if count == body["max_tokens"] else ""
            yield token, place, finish
            if finish:
                return

    def _choice(
        self, parts: list[tuple[int, Any, str]], is_chat: bool, key: str, body: Any, top: int
    ) -> dict[str, Any]:
        shown = [(token, place) for token, place, _ in parts if token != END]
        text = "".join(piece(token) for token, _ in shown)
        finish = parts[-1][2] or None
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish}
        names = [piece(token) for token, _ in shown]
        tops = [likeliest(place, max(top, 1)) for _, place in shown]
        if is_chat:
            choice[key] = {self.server.reasoning or "content": text}
            if self.server.whole:
                choice[key] = _split(shown)
            if body.get("logprobs"):
                choice["logprobs"] = {
                    "content": [
                        {"token": n, "logprob": t[0], "top_logprobs": [{"logprob": x} for x in t]}
                        for n, t in zip(names, tops, strict=True)
                    ]
                }
        else:
            choice["text"] = text
            if body.get("logprobs"):
                choice["logprobs"] = {
                    "tokens": names,
                    "token_logprobs": [t[0] for t in tops],
                    "top_logprobs": [
                        dict(zip(map(str, range(len(t))), t, strict=True)) for t in tops
                    ],
                }
        return choice

    def _complete(self, parts: list[Any], is_chat: bool, body: Any, top: int) -> None:
        usage = {"completion_tokens": sum(token != END for token, _, _ in parts)}
        choice = self._choice(parts, is_chat, "message", body, top)
        self._send(200, {"choices": [choice], "usage": usage})

    def _stream(self, parts: Iterator[Any], is_chat: bool, body: Any, top: int) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        left, self.server.break_after = self.server.break_after, None
        with contextlib.suppress(ConnectionError):
            for part in parts:
                if left == 0:
                    self.server.paid[part[1]] -= 1  # it was not sent
                    return
                left = None if left is None else left - 1
                choice = self._choice([part], is_chat, "delta", body, top)
                self.wfile.write(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
            self.wfile.write(b"data: [DONE]\n\n")


def _split(shown: list[tuple[int, Any]]) -> dict[str, str]:
    """The text before the end of the reasoning, and that after it."""
    before = "".join(piece(token) for token, place in shown if place[3] is None and token != CLOSE)
    after = "".join(piece(token) for token, place in shown if place[3] is not None)
    return {"reasoning_content": before, "content": after}


def _named(ranked: tuple[int, float]) -> tuple[str, float]:
    return f"token {ranked[0]}", ranked[1]
