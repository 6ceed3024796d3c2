"""Benchmarks of collection and live episodes, on real vLLM and a bundled tiny model.

``make bench-vllm`` runs all of them; the command line selects some:

* ``collection``: traces and probes per second of the collector, compared with ``vllm.LLM``
  generating and probing as many traces without recording anything; with the log-probabilities of
  the 20 likeliest tokens (generation confidence), and without. All run in turn, in separate
  processes.
* ``scaling``: seconds to read 1 to 64 whole branches live, relative to one branch.
* ``agreement``: the Confidence Momentum Controller and self-consistency, live and in replay, on all
  questions of the search set, with 95% confidence intervals (questions resampled).

Most of the time is spent in vLLM. Absolute figures depend on the machine; compare the ratios.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from autotts_gym.collection.pipeline import collect_store
from autotts_gym.collection.plan import probe_positions
from autotts_gym.controllers.loader import load
from autotts_gym.evaluation.bootstrap import Estimate
from autotts_gym.gym_envs.live_env import AutoTTSLiveEnv
from autotts_gym.inference.protocol import find_protocol
from autotts_gym.inference.token_confidence import TOP_TOKENS
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


def run_bare_vllm(top_tokens: int = 0) -> dict[str, float]:
    """Generate and probe with ``vllm.LLM`` directly."""
    from vllm import LLM, SamplingParams

    chosen = find_protocol("tinylm", "")
    model = LLM(str(model_path(SIZE)), enable_prefix_caching=True, **SERVER_ARGUMENTS)
    tokenizer = model.get_tokenizer()
    questions = collection_questions(SEARCH_SET)[:QUESTIONS]
    prompts = [
        tokenizer.encode(chosen.content["prompt"]["text"].replace("{question}", question.text))
        for question in questions
    ]
    keys = [(q, b) for q in range(QUESTIONS) for b in range(COLLECTION_PLAN.branches)]
    started = time.perf_counter()
    sampling = SamplingParams(
        max_tokens=COLLECTION_PLAN.max_tokens, temperature=0.8, logprobs=top_tokens or None
    )
    requests = [{"prompt_token_ids": prompts[q]} for q, _ in keys]
    traces = model.generate(requests, sampling, use_tqdm=False)
    suffix = tokenizer.encode(chosen.suffix)
    probes = [
        {"prompt_token_ids": [*prompts[q], *trace.outputs[0].token_ids[:position], *suffix]}
        for (q, _), trace in zip(keys, traces, strict=True)
        for position in probe_positions(len(trace.outputs[0].token_ids), COLLECTION_PLAN.interval)
    ]
    greedy = SamplingParams(max_tokens=chosen.probe_tokens, temperature=0, logprobs=0)
    model.generate(probes, greedy, use_tqdm=False)
    return {
        "seconds": time.perf_counter() - started,
        "traces": len(traces),
        "probes": len(probes),
        "tokens": sum(len(trace.outputs[0].token_ids) for trace in traces),
    }


class _TimedEngine(LocalEngine):
    """Measures the time that vLLM takes to stop, which the bare run does not include."""

    closing_seconds = 0.0

    async def close(self) -> None:
        started = time.perf_counter()
        await super().close()
        self.closing_seconds += time.perf_counter() - started


def run_collector(generation_confidence: bool = False) -> dict[str, float]:
    """Collect the same traces, from the first request to the written store."""
    engine = _TimedEngine(str(model_path(SIZE)), **SERVER_ARGUMENTS)
    started: list[float] = []

    def start_clock(_: object) -> None:
        if not started:
            started.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        store = collect_store(
            engine,
            collection_questions(SEARCH_SET)[:QUESTIONS],
            COLLECTION_PLAN,
            Path(folder) / "store",
            protocol="tinylm",
            generation_confidence=generation_confidence,
            progress=start_clock,
        )
        seconds = time.perf_counter() - started[0] - engine.closing_seconds
    facts = store.card.details["collected"]
    return {
        "seconds": seconds,
        "traces": facts["traces"],
        "probes": facts["probes"],
        "tokens": facts["tokens"],
    }


#: Runs that need their own process, by command-line name.
RUNS: dict[str, Callable[[], dict[str, float]]] = {
    "bare": run_bare_vllm,
    "collected": run_collector,
    "bare-confidence": lambda: run_bare_vllm(TOP_TOKENS),
    "collected-confidence": lambda: run_collector(generation_confidence=True),
}


def run_in_subprocess(name: str) -> dict[str, float]:
    """Run one of ``RUNS`` in its own process; loading the model is not part of its time."""
    # Not as a script: vLLM's processes would import the script and crash on its imports.
    folder = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import live; live.main()"
    command = [sys.executable, "-c", code, name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    # vLLM prints lines of its own.
    (line,) = (line for line in done.stdout.splitlines() if line.startswith('{"seconds"'))
    result: dict[str, float] = json.loads(line)
    return result


def bench_collection(console: Console) -> None:
    rounds = [tuple(run_in_subprocess(name) for name in RUNS) for _ in range(ROUNDS)]
    table = _make_table("collection: 8 questions × 128 traces", "traces/s", "probes/s", "tokens/s")
    titles = (
        "vllm.LLM, nothing recorded",
        "the collector",
        "vllm.LLM, with 20 log-probabilities",
        "the collector, with confidence",
    )
    for column, title in enumerate(titles):
        row = [
            statistics.median(runs[column][what] / runs[column]["seconds"] for runs in rounds)
            for what in ("traces", "probes", "tokens")
        ]
        table.add_row(title, *(f"{x:,.1f}" for x in row))
    console.print(table)
    for what, base, other in (
        ("the collector relative to vllm.LLM", 0, 1),
        ("the same with confidence", 2, 3),
        ("the collector with confidence relative to without", 1, 3),
    ):
        ratios = [
            runs[base]["seconds"] / runs[base]["tokens"]
            * runs[other]["tokens"] / runs[other]["seconds"]
            for runs in rounds
        ]  # fmt: skip
        console.print(
            f"tokens per second of {what}: {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f} in {ROUNDS} rounds)"
        )
    console.print()


def bench_scaling(console: Console, url: str) -> None:
    table = _make_table("live: reading whole branches", "seconds", "× one", "tokens", "sequential")
    first = 0.0
    questions = collection_questions(SEARCH_SET)
    for width in (1, 2, 4, 8, 16, 32, 64):
        env = AutoTTSLiveEnv(url, reference=REFERENCE, questions=questions, max_branches=width)
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


#: Mean result per question, by column name.
Columns = dict[str, np.ndarray]


def play_live_and_replay(url: str, names: Sequence[str]) -> dict[str, Columns]:
    """Play controllers live and in replay; returns the means of every question."""
    store = next(iter(registry.open_stores(REFERENCE).values()))
    questions = collection_questions(SEARCH_SET)
    env = AutoTTSLiveEnv(url, reference=REFERENCE, questions=questions, beta=0.5)
    seeds = range(10)
    shape = (len(seeds), len(questions))
    orders = np.array(
        [branch_order("random", s, q, 128)[:64] for s in seeds for q in range(len(questions))]
    )
    rows: dict[str, Columns] = {}
    for name in names:
        agent = load(name)
        played = Rollout(agent, store, EpisodeConfig()).play(
            np.tile(np.arange(len(questions)), len(seeds)), orders, 0.5
        )
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
    return rows


def bench_agreement(console: Console, url: str) -> None:
    names = ("self_consistency", "cmc")
    rows = play_live_and_replay(url, names)
    count = len(rows["cmc, live"]["correct"])
    resampled = np.random.default_rng(0).integers(count, size=(REPLICATES, count))

    def estimate(values: np.ndarray, statistic: Callable[[Any], Any] = np.mean) -> Estimate:
        replicates = np.array([statistic(values[rows]) for rows in resampled])
        return Estimate.from_replicates(float(statistic(values)), replicates)

    def show(interval: Estimate, scale: float = 1.0, form: str = ",.0f") -> str:
        low, value, high = (
            format(scale * x, form) for x in (interval.low, interval.value, interval.high)
        )
        return f"{value} [{low}, {high}]"

    table = _make_table("60 questions", "accuracy %", "tokens", "generated", "of probes", "seconds")
    for name, row in rows.items():
        more = [
            f"{row[key].mean():,.1f}" if key in row else ""
            for key in ("generated_tokens", "probe_tokens", "wall_seconds")
        ]
        table.add_row(
            name, show(estimate(row["correct"]), 100, ".1f"), show(estimate(row["tokens"])), *more
        )
    console.print(table)
    for name in names:
        live, replay = rows[f"{name}, live"], rows[f"{name}, replay"]
        accuracy = estimate(live["correct"] - replay["correct"])
        tokens = estimate(live["tokens"] - replay["tokens"])
        console.print(
            f"{name}, live minus replay: {show(accuracy, 100, '+.1f')} points, "
            f"{show(tokens, form='+,.0f')} tokens"
        )
    both = np.stack([rows["cmc, live"]["tokens"], rows["self_consistency, live"]["tokens"]], axis=1)
    ratio = estimate(both, lambda x: x[:, 0].mean() / x[:, 1].mean())
    gain = estimate(rows["cmc, live"]["correct"] - rows["self_consistency, live"]["correct"])
    console.print(
        f"live, cmc relative to self_consistency: {show(ratio, form='.2f')} of the tokens, "
        f"{show(gain, 100, '+.1f')} points"
    )


def _make_table(title: str, *headings: str) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column(title)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    benchmarks = ("collection", "scaling", "agreement")
    parser.add_argument(
        "part", nargs="*", choices=[*benchmarks, *RUNS, []], help="benchmarks to run; default all"
    )
    parts = parser.parse_args().part or benchmarks
    set_cpu_defaults()
    if parts[0] in RUNS:
        print(json.dumps(RUNS[parts[0]]()))
        return
    console = Console(width=118, highlight=False)
    if "collection" in parts:
        bench_collection(console)
    if {"scaling", "agreement"} & set(parts):
        with serve(model_path(SIZE), served_model_name=f"tinylm-{SIZE}", **SERVER_ARGUMENTS) as url:
            if "scaling" in parts:
                bench_scaling(console, url)
            if "agreement" in parts:
                bench_agreement(console, url)


if __name__ == "__main__":
    main()
