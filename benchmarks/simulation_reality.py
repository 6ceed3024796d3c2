"""A simulation against reality: the same arrivals on real vLLM, and simulated.

A bundled tiny model is served by vLLM, and its curve is measured as by ``autotts simulate
--calibrate``. Questions then arrive as a Poisson process, and each is answered by a live episode
of its own, concurrently with the others (:func:`autotts_gym.deployment.solver.solve_async`). The
same arrivals of the same questions are simulated from the recorded traces of the model.

The server, the episodes and everything else share the processors, so measure on an idle machine.
The curve is measured before and after, and their mean is simulated as well: where the two differ,
neither describes the server while the questions were answered. The arrivals are simulated with
many orders of the branches. The load average is printed with the results.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import itertools
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from autotts_gym.controllers.loader import load
from autotts_gym.deployment.solver import Solution, solve_async
from autotts_gym.inference.vllm_server import serve
from autotts_gym.live.connection import connect
from autotts_gym.live.live_model import LiveModel
from autotts_gym.mdp.trace_dataset import EpisodeConfig
from autotts_gym.simulation.arrivals import poisson_arrivals
from autotts_gym.simulation.calibration import measure_curve
from autotts_gym.simulation.request_schedules import Schedules, play_schedules
from autotts_gym.simulation.server_curve import ServerCurve
from autotts_gym.simulation.simulated_load import simulate_load
from autotts_gym.simulation.simulation_plan import Fleet
from autotts_gym.tinylm import model_path
from autotts_gym.tinylm.bundled_envs import (
    SEARCH_SET,
    SERVER_ARGUMENTS,
    collection_questions,
    set_cpu_defaults,
)
from autotts_gym.traces import registry

SIZE = "medium"
REFERENCE = f"tinylm/{SIZE}/{SEARCH_SET}"
#: Seeds of the branch orders that are simulated.
SEEDS = range(20)
#: How often the arrivals are simulated, each time with other orders of the branches.
REPETITIONS = 50


@dataclass(frozen=True)
class LiveRun:
    """Questions that were answered live, one block of those at one rate of arrival.

    Attributes:
        arrivals: float64[Q], seconds.
        rows: int64[Q], which question arrives.
        seconds: float64[Q], times to answer.
        solutions: the answers and their costs.
        loads: load averages of the machine meanwhile.
    """

    arrivals: NDArray[np.float64]
    rows: NDArray[np.int64]
    seconds: NDArray[np.float64]
    solutions: list[Solution]
    loads: list[float]


async def answer_questions(
    live: LiveModel,
    controller: str,
    beta: float,
    width: int,
    rate: float,
    count: int,
    seed: tuple[int, int],
) -> LiveRun:
    """Answer each question when it arrives; ``seed`` is that of the run and the block's number."""
    questions = collection_questions(SEARCH_SET)
    arrivals = poisson_arrivals(rate, count, np.random.default_rng([*seed, 0]))
    rows = np.random.default_rng([*seed, 1]).integers(len(questions), size=count)
    seconds = np.empty(count)
    loads: list[float] = []
    start = time.perf_counter() + 1.0

    async def answer(k: int) -> Solution:
        await asyncio.sleep(start + arrivals[k] - time.perf_counter())
        asked = questions[rows[k]]
        solution = await solve_async(
            asked.text, controller, gold=asked.gold, beta=beta, max_branches=width, live=live
        )
        seconds[k] = time.perf_counter() - start - arrivals[k]
        return solution

    async def watch() -> None:
        while True:
            loads.append(os.getloadavg()[0])
            await asyncio.sleep(10)

    watching = asyncio.create_task(watch())
    solutions = await asyncio.gather(*(answer(k) for k in range(count)))
    watching.cancel()
    return LiveRun(arrivals, rows, seconds, list(solutions), loads)


def mean_curve(curves: Sequence[ServerCurve]) -> ServerCurve:
    """The mean of curves that were measured at different times."""

    def mean(cost: str) -> dict[str, float]:
        costs = [getattr(curve, cost) for curve in curves]
        return {
            name: float(np.mean([getattr(c, name) for c in costs]))
            for name in costs[0].__struct_fields__
        }

    return ServerCurve.create(
        concurrency=curves[0].concurrency,
        tokens_per_second=np.mean([curve.tokens_per_second for curve in curves], 0).tolist(),
        max_sequences=curves[0].max_sequences,
        request=mean("request"),
        probe=mean("probe"),
        text_seconds=float(np.mean([curve.text_seconds for curve in curves])),
    )


def figures_of(seconds: NDArray[np.float64], **means: float) -> dict[str, float]:
    """Percentiles of the time to answer, its mean, and other means."""
    times = {f"p{q}, s": float(np.percentile(seconds, q)) for q in (50, 95, 99)}
    return {**times, "mean, s": float(seconds.mean()), **means}


def live_figures(blocks: Sequence[LiveRun]) -> dict[str, float]:
    solutions = [solution for block in blocks for solution in block.solutions]
    return figures_of(
        np.concatenate([block.seconds for block in blocks]),
        **{
            "tokens": float(np.mean([s.tokens for s in solutions])),
            "generated tokens": float(np.mean([s.generated_tokens for s in solutions])),
            "accuracy, %": 100 * float(np.mean([bool(s.correct) for s in solutions])),
        },
    )


def simulated_figures(
    blocks: Sequence[LiveRun], curves: Sequence[ServerCurve], schedules: Schedules, questions: int
) -> dict[str, float]:
    """The same of the simulated arrivals, each block with its curve.

    They are means over random orders of the branches.
    """
    seeds = len(schedules) // questions
    found = []
    for repetition in range(REPETITIONS):
        generator = np.random.default_rng([2, repetition])
        drawn = [b.rows + questions * generator.integers(seeds, size=len(b.rows)) for b in blocks]
        results = [
            simulate_load(Fleet(curve), schedules, block.arrivals, rows)
            for block, curve, rows in zip(blocks, curves, drawn, strict=True)
        ]
        rows = np.concatenate(drawn)
        figures = figures_of(
            np.concatenate([result.seconds for result in results]),
            **{
                "tokens": float(schedules.tokens[rows].mean()),
                "generated tokens": sum(r.generated_tokens for r in results) / len(rows),
                "accuracy, %": 100 * float(schedules.correct[rows].mean()),
            },
        )
        found.append(figures)
    return {name: float(np.mean([figures[name] for figures in found])) for name in found[0]}


def print_curve(console: Console, title: str, curve: ServerCurve) -> None:
    console.print(title)
    for count, each in zip(curve.concurrency, curve.tokens_per_second, strict=True):
        console.print(f"{count:4} sequences: {each:8.1f} tokens/s each, {count * each:8,.0f}")
    console.print(
        f"a request: {1000 * curve.request.seconds:.1f} ms and {curve.request.tokens:.1f} tokens; "
        f"a probe: {1000 * curve.probe.seconds:.1f} ms and {curve.probe.tokens:.1f} tokens; "
        f"text: {1000 * curve.text_seconds:.1f} ms\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--controller", default="cmc")
    parser.add_argument("--beta", type=float, default=0.0)
    parser.add_argument("--width", type=int, default=64, help="N, maximum number of branches")
    parser.add_argument("--rates", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--questions", type=int, default=600)
    parser.add_argument("--blocks", type=int, default=6, help="of questions, at each rate")
    parser.add_argument("--seconds", type=float, default=40.0, help="of each calibration")
    parser.add_argument("--max-sequences", type=int, default=256)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--base-url", help="a running server of the model; else one is started")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args(arguments)
    set_cpu_defaults()
    console = Console(width=118, highlight=False)
    server = (
        contextlib.nullcontext(options.base_url)
        if options.base_url
        else serve(model_path(SIZE), served_model_name=f"tinylm-{SIZE}", **SERVER_ARGUMENTS)
    )
    texts = [question.text for question in collection_questions(SEARCH_SET)]
    stores = registry.open_stores(REFERENCE)
    # Calibrations are too short for long branches, so theirs begin in the middle.
    (context,) = (round(store.card.mean_tokens / 2) for store in stores.values())
    curves: list[ServerCurve] = []
    runs: list[list[LiveRun]] = []
    with server as url, connect(url, reference=REFERENCE) as live:
        # What was loaded so far stays. A collection that visits it stops all episodes.
        gc.collect()
        gc.freeze()

        def calibrate() -> None:
            curve = measure_curve(
                live,
                texts,
                max_sequences=options.max_sequences,
                seconds=options.seconds,
                context=context,
            )
            curves.append(curve)
            print_curve(console, f"curve {len(curves)}", curve)

        calibrate()
        for rate in options.rates:
            blocks = []
            for block in range(options.blocks):
                count = options.questions * (block + 1) // options.blocks
                count -= options.questions * block // options.blocks
                answered = answer_questions(
                    live, options.controller, options.beta, options.width, rate, count,
                    (options.seed, block),
                )  # fmt: skip
                blocks.append(asyncio.run(answered))
                calibrate()
            runs.append(blocks)
    means = [mean_curve(pair) for pair in itertools.pairwise(curves)]
    config = EpisodeConfig(max_branches=options.width)
    schedules = play_schedules(load(options.controller), stores, SEEDS, options.beta, config)
    results = []
    for k, (rate, blocks) in enumerate(zip(options.rates, runs, strict=True)):
        used = means[k * options.blocks : (k + 1) * options.blocks]
        real = live_figures(blocks)
        simulated = simulated_figures(blocks, used, schedules, len(texts))
        count = sum(len(block.rows) for block in blocks)
        title = f"{options.controller} β={options.beta:g}, {rate:g}/s, {count} questions"
        table = Table(box=None, pad_edge=False)
        table.add_column(title)
        for heading in ("live", "simulated", "ratio"):
            table.add_column(heading, justify="right")
        for name, value in real.items():
            ratio = simulated[name] / value
            table.add_row(name, f"{value:,.2f}", f"{simulated[name]:,.2f}", f"{ratio:.3f}")
        console.print(table)
        by_block = [
            (live_figures([block]), simulated_figures([block], [curve], schedules, len(texts)))
            for block, curve in zip(blocks, used, strict=True)
        ]
        console.print(
            "mean by block, simulated / live:",
            *(f"{theirs['mean, s'] / ours['mean, s']:.2f}" for ours, theirs in by_block),
        )
        failed = [s.error for block in blocks for s in block.solutions if s.error]
        loads = [load for block in blocks for load in block.loads]
        console.print(
            f"{len(failed)} failed; load average {min(loads):.1f} to {max(loads):.1f}, "
            f"mean {np.mean(loads):.1f}\n"
        )
        results.append(
            {"title": title, "live": real, "simulated": simulated, "blocks": by_block,
             "loads": loads, "failed": failed[:3]}
        )  # fmt: skip
    if options.out:
        content = {"curves": [msgspec.to_builtins(curve) for curve in curves], "runs": results}
        options.out.write_text(json.dumps(content, indent=1), "utf-8")


if __name__ == "__main__":
    main()
