"""Collection with real vLLM: in this process, and through its server."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from autotts_gym.collection.asked_question import AskedQuestion
from autotts_gym.collection.collection_journal import JOURNAL
from autotts_gym.collection.pipeline import work_folder
from autotts_gym.controllers.loader import load
from autotts_gym.inference.processor_dtype import processor_dtype
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import set_cpu_defaults
from autotts_gym.traces.store import TraceStore

pytestmark = [pytest.mark.vllm, pytest.mark.xdist_group("vllm")]

BRANCHES = 8


@pytest.fixture
def asked(tmp_path: Path, chain: list[AskedQuestion]) -> Path:
    path = tmp_path / "questions.jsonl"
    rows = [{"id": q.id, "question": q.text, "answer": q.gold} for q in chain[::12]]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def command(asked: Path, *arguments: str) -> list[str]:
    """Command line of ``autotts collect`` for a tiny model."""
    set_cpu_defaults()
    options = ["--interval", "16", "--max-tokens", "512", "--temperature", "0.8", "--to", "."]
    fixed = ["--questions", str(asked), "--protocol", "tinylm", "--branches", str(BRANCHES)]
    return [sys.executable, "-m", "autotts_gym", "collect", *fixed, *options, *arguments]


def check(store: TraceStore, engine: str) -> None:
    """Check that a store has the requested shape and the accuracy of the model."""
    assert store.card.questions == 5
    assert store.card.branches == 5 * BRANCHES
    assert not store.card.synthetic
    details = store.card.details
    assert engine in details["engine"]
    assert details["engine_version"][0].isdigit()
    assert len(details["model_sha256"]) == 64
    assert details["collected"]["traces"] == 5 * BRANCHES
    assert details["collected"]["probes"] >= store.card.probes
    assert details["collected"]["tokens"] >= store.tables.tokens.sum() * 0.9
    answered = [b for q in range(5) for b in store.question(q).branches if not b.flags]
    assert len(answered) > 0.9 * 5 * BRANCHES
    for branch in answered:
        assert len(branch.probes) == (branch.tokens - 1) // 16
        assert branch.final.isdecimal()
        assert all(0 < c <= 1 for c in branch.confidences or ())
    # Every generated token has a confidence: that of 20 of the model's 64 tokens.
    assert details["generation_confidence"] == {"top_tokens": 20}
    sums, counts = store.tables.confidence_sums, store.tables.confidence_tokens
    assert sums is not None
    assert counts is not None
    assert counts.sum() == details["collected"]["tokens"]
    assert (sums[counts > 0] / counts[counts > 0] > np.log(64)).all()
    correct = [
        branch.final == store.tables.golds[q]
        for q in range(5)
        for branch in store.question(q).branches
    ]
    assert sum(correct) > 0.2 * len(correct)  # chance is 1%


@pytest.mark.slow
def test_in_process(asked: Path, tmp_path: Path) -> None:
    engine = "max_model_len=1024 max_num_seqs=64 max_num_batched_tokens=4096 enforce_eager=true"
    options = [word for pair in engine.split() for word in ("--engine", pair)]
    done = subprocess.run(
        command(asked, "--model", str(model_path("medium")), "--name", "local", *options),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "collected local: 5 questions, 40 branches" in done.stdout
    check(TraceStore.open(tmp_path / "local"), "vllm in process")


SCRIPT = """
import sys
from pathlib import Path

# Imports llvmlite, which makes vLLM's processes crash if they import this script.
import autotts_gym.gym_envs.autotts_env
from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.plan import CollectionPlan
from autotts_gym.inference.vllm_engine import LocalEngine
from autotts_gym.inference.processor_dtype import processor_dtype
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import SERVER_ARGUMENTS, collection_questions

engine = LocalEngine(str(model_path("small")), **SERVER_ARGUMENTS)
plan = CollectionPlan(branches=4, interval=16, max_tokens=512)
questions = collection_questions("chain")[:2]
store = collect_store(engine, questions, plan, Path("scripted"), protocol="tinylm")
print(store.card.branches, "branches")
"""


CONFIDENCES = """
import asyncio
import numpy as np

from autotts_gym.inference.engine import GREEDY, Request
from autotts_gym.inference.vllm_engine import LocalEngine
from autotts_gym.inference.processor_dtype import processor_dtype
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import SERVER_ARGUMENTS, collection_questions


async def main():
    folder = str(model_path("small"))
    engine = LocalEngine(folder, **SERVER_ARGUMENTS)
    prompt = await engine.encode("q:" + collection_questions("chain")[0].text)
    tokens, confidences, kept = [], [], 0
    async for part in engine.stream(Request(prompt, 200, GREEDY, top_tokens=20), 8):
        assert part.top_tokens == 20 and len(part.tokens) == len(part.confidences)
        tokens += part.tokens
        confidences += part.confidences
        states = engine._thread.engine.output_processor.request_states.values()
        kept = max([kept, *(len(state.logprobs_processor.logprobs) for state in states)])
    plain = [part async for part in engine.stream(Request(prompt, 200, GREEDY), 8)]
    assert [token for part in plain for token in part.tokens] == tokens
    assert not any(part.confidences for part in plain)
    await engine.close()
    print(len(tokens), "tokens", kept, "kept")

    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        logits = model(torch.tensor([[*prompt, *tokens]])).logits[0, len(prompt) - 1 : -1]
    top = torch.log_softmax(logits.double(), -1).topk(20).values
    print("difference", np.abs(-top.mean(-1).numpy() - confidences).max())


if __name__ == "__main__":
    asyncio.run(main())
"""


def run_script(text: str, folder: Path) -> str:
    """Run a Python script in a process of its own; returns what it prints."""
    set_cpu_defaults()
    (folder / "script.py").write_text(text, "utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_confidences_equal_those_of_transformers(tmp_path: Path) -> None:
    """Recomputed from the same weights; and vLLM keeps no log-probabilities that were read."""
    printed = run_script(CONFIDENCES, tmp_path)
    match = re.search(r"(\d+) tokens (\d+) kept", printed)
    assert match
    assert int(match[1]) > 40
    assert int(match[2]) <= 16  # two parts
    difference = re.search(r"difference (\S+)", printed)
    assert difference
    # In bfloat16, log-probabilities have about three digits.
    assert float(difference[1]) < (1e-3 if processor_dtype() == "float32" else 0.2)


@pytest.mark.slow
def test_from_a_script(tmp_path: Path) -> None:
    """A script without an ``if __name__`` guard, which runs once."""
    printed = run_script(SCRIPT, tmp_path)
    assert printed.count("8 branches") == 1


@pytest.mark.slow
def test_through_a_server_killed_and_resumed(asked: Path, tmp_path: Path, vllm_url: str) -> None:
    """Killed repeatedly: finished traces are never sampled again."""
    rng = random.Random(0)
    arguments = command(asked, "--base-url", vllm_url, "--name", "served", "--concurrency", "8")
    journal = work_folder(tmp_path / "served") / JOURNAL
    kept: list[bytes] = []
    kills = 0
    while True:
        process = subprocess.Popen(
            arguments, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if kills < 3:
            before = journal.stat().st_size if journal.exists() else 0
            end = time.monotonic() + 60
            while process.poll() is None and time.monotonic() < end:
                if journal.exists() and journal.stat().st_size > before + 200:
                    break
                time.sleep(0.02)
            time.sleep(rng.uniform(0, 0.4))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
                process.communicate()
                lines = journal.read_bytes().splitlines(keepends=True)
                whole = [line for line in lines if line.endswith(b"\n")]
                assert whole[: len(kept)] == kept
                kept = whole
                continue
        _, errors = process.communicate(timeout=900)
        assert process.returncode == 0, errors[-3000:]
        break
    assert kills
    lines = journal.read_bytes().splitlines(keepends=True)
    assert lines[: len(kept)] == kept
    traces = [tuple(r["trace"]) for r in map(json.loads, lines) if "trace" in r]
    assert len(traces) == len(set(traces)) == 5 * BRANCHES
    store = TraceStore.open(tmp_path / "served")
    check(store, "vllm server")
    assert store.card.details["collected"]["sessions"] == kills + 1
    # The store can be played.
    import gymnasium as gym

    env = gym.make("AutoTTS-v0", env=str(tmp_path / "served"), max_branches=BRANCHES)
    assert load("cmc").play(env, seed=0)["tokens"] > 0
