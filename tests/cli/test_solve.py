"""``autotts solve``: on a real vLLM server, and without a server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
import time

import pytest

from autotts_gym.collection.asked_question import AskedQuestion

TINY = ("--protocol", "tinylm", "--interval", "16", "--max-tokens", "512", "--temperature", "0.8")


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_prints_the_answer_and_the_cost(autotts, vllm_url: str, chain: list[AskedQuestion]) -> None:
    question = chain[0]
    done = autotts(
        "solve", question.text, "--base-url", vllm_url, "--gold", question.gold, *TINY,
        "--max-branches", 16,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert question.text in done.out
    assert re.search(r"\d+ (correct|incorrect)", done.out)
    assert re.search(r"\d+ branches, \d+ probes; votes: \d+ × \d+", done.out)
    assert re.search(r"billed +[\d,]+ +[\d,]+ +\d+\.\d", done.out)


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
@pytest.mark.parametrize("agent", ["cmc", "self_consistency"])
def test_json(autotts, vllm_url: str, chain: list[AskedQuestion], agent: str) -> None:
    done = autotts(
        "solve", chain[1].text, "--agent", agent, "--base-url", vllm_url, *TINY,
        "--max-branches", 8, "--reference", "tinylm/medium/chain", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["answer"].isdecimal()
    assert found["correct"] is None
    assert found["error"] == ""
    assert found["self_consistency_tokens"] > found["tokens"] / 8 > 0
    assert sum(found["votes"].values()) <= found["branches"] <= 8


@pytest.mark.slow
@pytest.mark.vllm
@pytest.mark.xdist_group("vllm")
def test_shows_the_running_episode_on_a_terminal(vllm_url: str, chain: list[AskedQuestion]) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "autotts_gym", "solve", chain[2].text, "--base-url", vllm_url),
            *(*TINY, "--max-branches", "8"),
        ],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"},
    )
    os.close(slave)
    seen = b""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if select.select([master], [], [], 0.2)[0]:
            try:
                part = os.read(master, 65536)
            except OSError:
                break
            if not part:
                break
            seen += part
    os.close(master)
    assert process.wait(10) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "tokens generated" in text  # the live view
    assert "vote" in text
    assert "billed" in text  # the cost


def test_an_unreachable_server_is_named(autotts) -> None:
    done = autotts(
        "solve", "1+1?", "--base-url", "http://127.0.0.1:9/v1", "--patience", "0.5", *TINY
    )
    assert done.code == 1
    assert "http://127.0.0.1:9/v1/models" in done.err
    assert len(done.err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["1+1?"], "give base_url"),
        (["1+1?", "--base-url", "nowhere"], "is not a base URL"),
        (["1+1?", "--base-url", "http://127.0.0.1:9/v1", "--reference", "nothing"], "nothing"),
        (["1+1?", "--base-url", "http://127.0.0.1:9/v1", "--protocol", "x"], "no protocol 'x'"),
        (["1+1?", "--base-url", "http://127.0.0.1:9/v1", "--agent", "x"], "no agent 'x'"),
        (["1+1?", "--base-url", "http://127.0.0.1:9/v1", "--temperature", "-1"], "temperature"),
        (["1+1?", "--engine", "x"], "give an argument as"),
    ],
)
def test_errors(autotts, arguments: list[str], message: str) -> None:
    done = autotts("solve", *arguments)
    assert done.code == 1
    assert message in done.err
    assert "Traceback" not in done.err
    assert len(done.err.strip().splitlines()) == 1
