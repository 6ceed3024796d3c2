"""Gateways and plain voting side by side, on one vLLM server, one model and the same questions.

* one request with ``n = 64`` whose answers the client counts;
* OptiLLM's majority voting of 64 answers (its server);
* its_hub's adaptive self-consistency of up to 64 answers (its library);
* ``autotts serve`` with controllers.

Every question is asked with each of them in turn, one at a time, so that other work of the machine
affects all alike. The tokens are those that vLLM itself counts. Accuracy and tokens have 95%
intervals over questions. OptiLLM and its_hub need environments of their own::

    python3 -m venv build/optillm && build/optillm/bin/pip install optillm
    python3 -m venv build/its_hub && build/its_hub/bin/pip install 'its_hub[lm]'
    OPTILLM=build/optillm/bin/python ITS_HUB=build/its_hub/bin/python
    python benchmarks/side_by_side.py --optillm $OPTILLM --its-hub $ITS_HUB

Replies are kept in a file; if the benchmark is interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import openai
from gateway_load import free_port, process, serve_command
from rich.console import Console
from rich.table import Table
from yarl import URL

from autotts_gym.answers.answer_pairs import answers_equal
from autotts_gym.evaluation.bootstrap import Estimate, resample
from autotts_gym.inference.protocol import find_protocol
from autotts_gym.inference.vllm_server import serve
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import (
    COLLECTION_PLAN,
    SERVER_ARGUMENTS,
    collection_questions,
    set_cpu_defaults,
)

HERE = Path(__file__).parent
SAMPLES = 64
MAX_TOKENS = COLLECTION_PLAN.max_tokens
TEMPERATURE = COLLECTION_PLAN.sampling.temperature
CONTROLLERS = ("cmc", "evolved/widening")
#: The chat form of the prompt that the gateway and the traces have: the last message alone, without
#: the word that OptiLLM puts before it, which the tiny models have not learned.
TEMPLATE = "q:{{ messages[-1]['content'].replace('User: ', '') }}"
PATTERN = "answer:([0-9]+)"

PROTOCOL = find_protocol("tinylm", "")

#: Asks a question, and returns the text of the reply.
Ask = Callable[[str], str]


@contextlib.contextmanager
def its_hub(python: str, url: str, model: str) -> Iterator[Ask]:
    settings = {
        "url": url,
        "model": model,
        "pattern": PATTERN,
        "samples": SAMPLES,
        "max_tokens": MAX_TOKENS,
        "temperature": TEMPERATURE,
    }
    command = [python, str(HERE / "its_hub_worker.py"), json.dumps(settings)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None

        def ask(question: str) -> str:
            print(json.dumps(question), file=child.stdin)
            line = child.stdout.readline()  # type: ignore[union-attr]
            if not line:
                raise RuntimeError("its_hub ended")
            return str(json.loads(line))

        yield ask
        child.stdin.close()


def vote(texts: Sequence[str]) -> str:
    """The text with the most frequent answer."""
    answers = [PROTOCOL.final_answer(text) for text in texts]
    counts = Counter(found.answer for found in answers if not found.null)
    if not counts:
        return ""
    winner = counts.most_common(1)[0][0]
    return next(t for t, a in zip(texts, answers, strict=True) if a.answer == winner)


def chat(client: openai.OpenAI, model: str, **options: Any) -> Ask:
    """Ask by chat completions; several choices are voted on."""

    def ask(question: str) -> str:
        reply = client.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": question}],
            max_tokens=MAX_TOKENS,
            temperature=TEMPERATURE,
            **options,
        )
        return vote([choice.message.content or "" for choice in reply.choices])

    return ask


class Meter:
    """Tokens that a vLLM server has generated."""

    def __init__(self, url: str) -> None:
        self._url = url.removesuffix("/v1") + "/metrics"

    def _value(self, name: str) -> float:
        with urllib.request.urlopen(self._url, timeout=10) as response:
            text = response.read().decode()
        lines = [line for line in text.splitlines() if line.startswith(f"{name}{{")]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    def read(self) -> int:
        """Tokens so far, once nothing is being generated."""
        while self._value("vllm:num_requests_running") + self._value("vllm:num_requests_waiting"):
            time.sleep(0.02)
        return int(self._value("vllm:generation_tokens_total"))


def open_methods(
    stack: contextlib.ExitStack, url: str, model: str, options: argparse.Namespace, logs: Path
) -> dict[str, Ask]:
    """Start the gateways, and return the methods by title."""

    def start(command: list[str], port: int, name: str) -> None:
        ready = f"http://127.0.0.1:{port}/health"
        stack.enter_context(process(command, logs / name, ready))

    def connect(port: int) -> openai.OpenAI:
        base_url = f"http://127.0.0.1:{port}/v1"
        client = openai.OpenAI(base_url=base_url, api_key="none", max_retries=0, timeout=600)
        return stack.enter_context(client)

    methods = {
        f"n = {SAMPLES}, counted by the client": chat(connect(URL(url).port), model, n=SAMPLES)
    }
    if options.optillm:
        port = free_port()
        command = [options.optillm, "-m", "optillm.server", "--base-url", url]
        command += ["--port", str(port), "--approach", "majority_voting", "--host", "127.0.0.1"]
        start(command, port, "optillm")
        extra = {"k": SAMPLES}
        methods["OptiLLM, majority voting"] = chat(connect(port), model, extra_body=extra)
    if options.its_hub:
        ask = stack.enter_context(its_hub(options.its_hub, url, model))
        methods["its_hub, adaptive self-consistency"] = ask
    port = free_port()
    command = serve_command(port, [url], "--max-branches", str(SAMPLES))
    command += ["--reference", f"tinylm/{options.size}/{options.questions}"]
    for controller in ("self_consistency", *options.controller):
        command += ["--controller", controller]
    start(command, port, "gateway")
    client = connect(port)
    methods["autotts serve, self_consistency"] = chat(client, f"{model}:self_consistency")
    for controller in options.controller:
        for beta, weight in itertools.product(options.beta, options.latency_weight):
            title = f"autotts serve, {controller}, β = {beta:g}"
            title += f", w = {weight:g}" if weight else ""
            extra = {"autotts": {"latency_weight": weight}}
            methods[title] = chat(client, f"{model}:{controller}@{beta:g}", extra_body=extra)
    return methods


def measure(methods: dict[str, Ask], url: str, options: argparse.Namespace) -> None:
    """Ask what has not been asked yet, and add it to the file."""
    meter = Meter(url)
    done = {(row["method"], row["question"]) for row in read_rows(options.out)}
    questions = collection_questions(options.questions)[: options.count]
    for number, question in enumerate(questions):
        # In another order each time, so that none always follows the same one.
        titles = list(methods)
        for title in titles[number % len(titles) :] + titles[: number % len(titles)]:
            if (title, number) in done:
                continue
            before, start = meter.read(), time.perf_counter()
            found = PROTOCOL.final_answer(methods[title](question.text))
            seconds = time.perf_counter() - start
            row = {
                "method": title,
                "question": number,
                "correct": answers_equal(question.gold, found.answer, question.equality),
                "tokens": meter.read() - before,
                "seconds": seconds,
            }
            with options.out.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{number + 1} of {len(questions)} questions", file=sys.stderr)


def read_rows(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Print the table, of questions that every method has answered."""
    by_method: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_method.setdefault(row["method"], {})[row["question"]] = row
    common = sorted(set.intersection(*(set(found) for found in by_method.values())))
    tables = {
        title: {
            "seed": np.zeros(len(common), np.int64),
            "question": np.array(common),
            "correct": np.array([float(found[q]["correct"]) for q in common]),
            "tokens": np.array([float(found[q]["tokens"]) for q in common]),
        }
        for title, found in by_method.items()
    }
    table = Table(box=None, pad_edge=False)
    table.add_column(f"{len(common)} questions")
    for heading in ("accuracy %", "tokens", "seconds: median", "90%"):
        table.add_column(heading, justify="right")
    for title, means in resample(tables, metrics=("correct", "tokens")).items():
        accuracy, tokens = (
            Estimate.from_replicates(means.value[name], means.replicates[name])
            for name in ("correct", "tokens")
        )
        seconds = sorted(by_method[title][q]["seconds"] for q in common)
        table.add_row(
            title,
            f"{accuracy.value:.1%} [{accuracy.low:.1%}, {accuracy.high:.1%}]".replace("%", ""),
            f"{tokens.value:,.0f} [{tokens.low:,.0f}, {tokens.high:,.0f}]",
            f"{statistics.median(seconds):.2f}",
            f"{seconds[int(0.9 * len(seconds))]:.2f}",
        )
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--optillm", metavar="PYTHON", help="interpreter with OptiLLM")
    parser.add_argument("--its-hub", metavar="PYTHON", help="interpreter with its_hub")
    parser.add_argument("--size", default="medium", help="size of the tiny model")
    parser.add_argument("--questions", default="chain", help="set of questions")
    parser.add_argument("--count", type=int, default=60, help="number of questions")
    parser.add_argument("--controller", action="append", help="controllers of the gateway")
    parser.add_argument("--beta", type=float, action="append", help="β of the controllers")
    parser.add_argument("--latency-weight", type=float, action="append", help="w, likewise")
    parser.add_argument("--out", type=Path, default=Path("side-by-side.jsonl"))
    options = parser.parse_args(arguments)
    options.controller = options.controller or list(CONTROLLERS)
    options.beta = options.beta or [0.5]
    options.latency_weight = options.latency_weight or [0.0]
    set_cpu_defaults()
    os.environ.setdefault("OPENAI_API_KEY", "none")  # OptiLLM does not start without one
    model = f"tinylm-{options.size}"
    with contextlib.ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="side-by-side-")))
        (logs / "template").write_text(TEMPLATE)
        url = stack.enter_context(
            serve(
                model_path(options.size),
                served_model_name=model,
                chat_template=logs / "template",
                **SERVER_ARGUMENTS,
            )
        )
        methods = open_methods(stack, url, model, options, logs)
        measure(methods, url, options)
    show(read_rows(options.out), Console(width=120, highlight=False))


if __name__ == "__main__":
    main()
