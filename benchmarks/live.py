"""Figures of collection and of live episodes, on real vLLM and the tiny models that come along.

``make bench-vllm`` prints them all; a name measures one part:

* ``collection``: traces and probes a second through the collector, beside ``vllm.LLM`` generating
  as many traces and probing them, with nothing kept. Both in turn, in processes of their own.
* ``scaling``: seconds to read 1 to 64 branches live, beside one branch.
* ``agreement``: the Confidence Momentum Controller and self-consistency, live and in replay, on all
  questions of the search set, with 95% intervals (questions resampled).

What vLLM itself takes is most of it. Machines differ: trust the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.plan import probe_positions
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.metrics import Estimate
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv
from autotts_gym.inference import protocol
from autotts_gym.inference.vllm_engine import LocalEngine
from autotts_gym.inference.vllm_server import serve
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.rollout.branch_orders import branch_order
from autotts_gym.rollout.rollout import Rollout
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import (
    COLLECTION_PLAN,
    SEARCH_SET,
    SERVER_ARGUMENTS,
    collection_questions,
    set_cpu_defaults,
)
from autotts_gym.traces import registry

SIZE = "medium"
REFERENCE = f"tinylm/{SIZE}/{SEARCH_SET}"
QUESTIONS = 8
ROUNDS = 3
REPLICATES = 2000


def bare() -> dict[str, float]:
    """Generate and probe with vllm.LLM, as plainly as it can be done."""
    from vllm import LLM, SamplingParams

    chosen = protocol.find("tinylm", "")
    model = LLM(str(model_path(SIZE)), enable_prefix_caching=True, **SERVER_ARGUMENTS)
    tokenizer = model.get_tokenizer()
    questions = collection_questions(SEARCH_SET)[:QUESTIONS]
    prompts = [
        tokenizer.encode(chosen.facts["prompt"]["text"].replace("{question}", question.text))
        for question in questions
    ]
    places = [(q, b) for q in range(QUESTIONS) for b in range(COLLECTION_PLAN.branches)]
    started = time.perf_counter()
    sampling = SamplingParams(max_tokens=COLLECTION_PLAN.max_tokens, temperature=0.8)
    asked_for = [{"prompt_token_ids": prompts[q]} for q, _ in places]
    traces = model.generate(asked_for, sampling, use_tqdm=False)
    suffix = tokenizer.encode(chosen.suffix)
    probes = [
        {"prompt_token_ids": [*prompts[q], *trace.outputs[0].token_ids[:cut], *suffix]}
        for (q, _), trace in zip(places, traces, strict=True)
        for cut in probe_positions(len(trace.outputs[0].token_ids), COLLECTION_PLAN.interval)
    ]
    greedy = SamplingParams(max_tokens=chosen.probe_tokens, temperature=0, logprobs=0)
    model.generate(probes, greedy, use_tqdm=False)
    return {
        "seconds": time.perf_counter() - started,
        "traces": len(traces),
        "probes": len(probes),
        "tokens": sum(len(trace.outputs[0].token_ids) for trace in traces),
    }


class _Engine(LocalEngine):
    """Times how long vLLM takes to stop, which is not counted of the other one either."""

    closing = 0.0

    async def close(self) -> None:
        began = time.perf_counter()
        await super().close()
        self.closing += time.perf_counter() - began


def collected() -> dict[str, float]:
    """The same through the collector, from the first request to the frozen store."""
    engine = _Engine(str(model_path(SIZE)), **SERVER_ARGUMENTS)
    started: list[float] = []

    def begin(_: object) -> None:
        if not started:
            started.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        store = collect_store(
            engine,
            collection_questions(SEARCH_SET)[:QUESTIONS],
            COLLECTION_PLAN,
            Path(folder) / "store",
            protocol="tinylm",
            progress=begin,
        )
        seconds = time.perf_counter() - started[0] - engine.closing
    facts = store.card.details["collected"]
    return {
        "seconds": seconds,
        "traces": facts["traces"],
        "probes": facts["probes"],
        "tokens": facts["tokens"],
    }


def apart(what: str) -> dict[str, float]:
    """One of the two in a process of its own; loading the model is not counted."""
    # Not as a script: vLLM's processes would import it, and die of what it imports.
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import live; live.main()"
    command = [sys.executable, "-c", code, what]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    # vLLM has lines of its own there.
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"seconds"'))
    found: dict[str, float] = json.loads(line)
    return found


def collection(console: Console) -> None:
    turns = [(apart("bare"), apart("collected")) for _ in range(ROUNDS)]
    table = _table("collection: 8 questions × 128 traces", "traces/s", "probes/s", "tokens/s")
    for name, column in (("vllm.LLM, nothing kept", 0), ("the collector", 1)):
        row = [
            statistics.median(turn[column][what] / turn[column]["seconds"] for turn in turns)
            for what in ("traces", "probes", "tokens")
        ]
        table.add_row(name, *(f"{x:,.1f}" for x in row))
    ratios = [a["seconds"] / a["tokens"] * b["tokens"] / b["seconds"] for a, b in turns]
    console.print(table)
    console.print(
        f"the collector's rate over the bare one's, in tokens: {statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} turns)\n"
    )


def scaling(console: Console, url: str) -> None:
    table = _table("live: reading branches whole", "seconds", "× one", "tokens", "in sequence")
    first = 0.0
    for width in (1, 2, 4, 8, 16, 32, 64):
        env = AutoTTSLiveEnv(
            url, reference=REFERENCE, questions=collection_questions(SEARCH_SET), max_branches=width
        )
        infos = [load("self_consistency").play(env, question=q) for q in range(5)]
        env.close()
        seconds = statistics.median(info["wall_seconds"] for info in infos)
        first = first or seconds
        table.add_row(
            f"{width}",
            f"{seconds:.2f}",
            f"{seconds / first:.1f}",
            f"{statistics.mean(info['tokens'] for info in infos):,.0f}",
            f"{statistics.mean(info['sequential_tokens'] for info in infos):,.0f}",
        )
    console.print(table)
    console.print()


def agreement(console: Console, url: str) -> None:
    store = next(iter(registry.open_stores(REFERENCE).values()))
    questions = collection_questions(SEARCH_SET)
    env = AutoTTSLiveEnv(url, reference=REFERENCE, questions=questions, beta=0.5)
    rows: dict[str, dict[str, np.ndarray]] = {}
    for name in ("self_consistency", "cmc"):
        agent = load(name)
        seeds = range(10)
        orders = np.array(
            [branch_order("random", s, q, 128)[:64] for s in seeds for q in range(len(questions))]
        )
        played = Rollout(agent, store, EpisodeConfig()).play(
            np.tile(np.arange(len(questions)), len(seeds)), orders, 0.5
        )
        shape = (len(seeds), len(questions))
        rows[f"{name}, replay"] = {
            "correct": played.correct.reshape(shape).mean(axis=0),
            "tokens": played.tokens.reshape(shape).mean(axis=0),
        }
        infos = [agent.play(env, question=q) for q in range(len(questions))]
        rows[f"{name}, live"] = {
            key: np.array([float(info[key]) for info in infos])
            for key in ("correct", "tokens", "generated_tokens", "probe_tokens", "wall_seconds")
        }
    env.close()
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(questions), size=(REPLICATES, len(questions)))

    def estimate(values: np.ndarray, of: Callable[[Any], Any] = np.mean) -> Estimate:
        return Estimate.of(float(of(values)), np.array([of(values[rows]) for rows in drawn]))

    def words(found: Estimate, scale: float = 1.0, form: str = ",.0f") -> str:
        low, value, high = (format(scale * x, form) for x in (found.low, found.value, found.high))
        return f"{value} [{low}, {high}]"

    table = _table("60 questions", "accuracy %", "tokens", "generated", "of probes", "seconds")
    for name, row in rows.items():
        more = [
            f"{row[key].mean():,.1f}" if key in row else ""
            for key in ("generated_tokens", "probe_tokens", "wall_seconds")
        ]
        table.add_row(
            name, words(estimate(row["correct"]), 100, ".1f"), words(estimate(row["tokens"])), *more
        )
    console.print(table)
    for name in ("self_consistency", "cmc"):
        live, replay = rows[f"{name}, live"], rows[f"{name}, replay"]
        accuracy = estimate(live["correct"] - replay["correct"])
        tokens = estimate(live["tokens"] - replay["tokens"])
        console.print(
            f"{name}, live minus replay: {words(accuracy, 100, '+.1f')} points, "
            f"{words(tokens, form='+,.0f')} tokens"
        )
    both = np.stack([rows["cmc, live"]["tokens"], rows["self_consistency, live"]["tokens"]], axis=1)
    share = estimate(both, lambda x: x[:, 0].mean() / x[:, 1].mean())
    gain = estimate(rows["cmc, live"]["correct"] - rows["self_consistency, live"]["correct"])
    console.print(
        f"live, cmc against self_consistency: {words(share, form='.2f')} of the tokens, "
        f"{words(gain, 100, '+.1f')} points"
    )


def _table(what: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(what)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("collection", "scaling", "agreement", "bare", "collected")
    parser.add_argument("part", nargs="*", choices=[*parts, []], help="what is measured")
    wanted = parser.parse_args().part or ["collection", "scaling", "agreement"]
    set_cpu_defaults()
    if wanted in (["bare"], ["collected"]):
        print(json.dumps(bare() if wanted == ["bare"] else collected()))
        return
    console = Console(width=118, highlight=False)
    if "collection" in wanted:
        collection(console)
    if {"scaling", "agreement"} & set(wanted):
        with serve(model_path(SIZE), served_model_name=f"tinylm-{SIZE}", **SERVER_ARGUMENTS) as url:
            if "scaling" in wanted:
                scaling(console, url)
            if "agreement" in wanted:
                agreement(console, url)


if __name__ == "__main__":
    main()
